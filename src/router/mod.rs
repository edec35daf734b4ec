//! Routing: hosts, paths, and which of several routes wins.

pub mod host;
pub mod path;
pub mod pattern;
