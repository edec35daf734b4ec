//! The document: read, checked, and turned into what the tree stores.
#![allow(dead_code)]

mod node;
mod problem;
