//! Routing: hosts, paths, and which of several routes wins.

pub mod pattern;
