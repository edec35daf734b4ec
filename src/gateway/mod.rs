//! The order of one request: `access`, `pick`, `complete`.
