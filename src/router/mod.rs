//! Routing: hosts, paths, and which of several routes wins.
//!
//! The tree that answers for a hundred thousand routes lives in `state`. Here stands what surrounds it: what a request's
//! host, path and query must look like before anybody is asked ([`host`], [`path`], [`query`]), what a document's hosts
//! and paths mean ([`pattern`]), which route comes first ([`order`]), and the matcher that is too simple to be wrong
//! ([`naive`]), against which the tree is tested.

pub mod condition;
pub mod headers;
pub mod host;
pub mod naive;
pub mod order;
pub mod path;
pub mod pattern;
pub mod query;
pub mod regex;
mod scan;
pub mod settings;
pub mod template;
