//! The decisions of an API gateway as a library.
//!
//! Nothing here opens a socket or reads a clock on the request path: one request makes three calls, [`gateway`]'s
//! `access`, `pick` and `complete`, each a function of the request, the time handed in and one shared [`state`]
//! region. The nginx module, the Lua binding, the simulator and the tests are thin callers of the same functions.
//!
//! A folder imports only what stands above it in this list; `tests/layering.rs` keeps it so.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod types;

pub mod auth;
pub mod balancer;
pub mod breaker;
pub mod cache;
pub mod canary;
pub mod cors;
pub mod limiter;
pub mod lists;
pub mod log;
pub mod metrics;
pub mod overload;
pub mod router;

pub mod config;

#[allow(unsafe_code)]
pub mod state;

pub mod net;

pub mod gateway;

pub mod admin;
