//! Cross-origin resource sharing (the Fetch standard): preflights answered before auth, headers on responses.

mod settings;

pub use settings::{ArchivedCors, ArchivedOrigins, Cors, Origins};
