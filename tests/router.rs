//! Routing from the outside: the order of precedence, the path cases with nginx in front and a lenient server behind,
//! and properties that no input may break.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "router/allocations.rs"]
mod allocations;
#[path = "router/documents.rs"]
mod documents;
#[path = "router/model.rs"]
mod model;
#[path = "router/paths.rs"]
mod paths;
#[path = "router/payloads.rs"]
mod payloads;
#[path = "router/precedence.rs"]
mod precedence;
#[path = "router/properties.rs"]
mod properties;
mod support;
#[path = "router/tree.rs"]
mod tree;
#[path = "router/vectors.rs"]
mod vectors;
