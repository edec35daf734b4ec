//! Cross-origin resource sharing: which pages of other origins may read what we answer.

mod engine;
mod settings;

pub use engine::{Out, Preflight, is_ours};
pub use settings::{ArchivedCors, Cors, Origins};
