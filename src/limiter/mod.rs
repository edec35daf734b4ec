//! Limits: the token bucket as GCRA, one due time a key.

mod settings;

pub use settings::{ArchivedHeaderStyle, ArchivedKeyPart, ArchivedLimiter, HeaderStyle, KeyPart, Limiter};
