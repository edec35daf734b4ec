//! The document: read, checked, and turned into what the tree stores.
