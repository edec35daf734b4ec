//! Canaries: who meets which variant.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

#[path = "canary/choice.rs"]
mod choice;
#[path = "canary/promotion.rs"]
mod promotion;
