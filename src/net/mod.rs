//! Sockets and threads: what the library fetches for itself, never on the way of a request.

pub mod http;
