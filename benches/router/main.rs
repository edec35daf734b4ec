//! The router beside its peers: `cargo bench --bench router` prints nanoseconds, medians of turns that alternate;
//! `benches/instructions` counts the rows of `COUNTED`. `cargo bench --bench router -- NAME` prints rows with NAME.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod github;
#[path = "../harness/mod.rs"]
mod harness;
mod lookups;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tables;
mod writes;

use harness::{Asked, Listed};

const COUNTED: [Listed; 6] = [
    ("static_130", || lookups::job(&tables::github(false)), 1_000),
    ("param_130", || lookups::job(&tables::github(true)), 1_000),
    ("exact_100k", || lookups::job(&tables::exact(100_000, false)), 1_000),
    ("exact_1m", || lookups::job(&tables::exact(1_000_000, false)), 1_000),
    ("param_100k", || lookups::job(&tables::param(100_000)), 1_000),
    ("build_1k", writes::build_1k, 20),
];

fn main() {
    let Asked::Report(filter) = harness::answer(&COUNTED) else { return };
    let is_asked = |row: &str| filter.as_ref().is_none_or(|filter| row.contains(filter.as_str()));
    harness::head();
    lookups::report(&is_asked);
    writes::report(&is_asked);
}
