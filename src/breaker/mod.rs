//! Circuit breakers: closed, open, half-open.

mod settings;

pub use settings::{ArchivedBreaker, Breaker};

/// The most probes that may be in flight at once.
pub const PROBES_MAX: u32 = 16;
