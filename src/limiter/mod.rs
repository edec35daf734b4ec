//! Limits: the token bucket as GCRA, one due time a key.
//!
//! A bucket is one instant, its *due* time: when it will be full again. A full bucket's due lies in the past, a charge
//! of `n` tokens moves it `n` token times ahead of now, and a charge that would move it further ahead than the whole
//! bucket takes to fill is refused. So nothing needs to tick, an idle key costs nothing, and a bucket fits into one
//! word that a single compare-and-swap changes. [`Quota`] is that arithmetic and nothing else: old value in, new value
//! out; `state::tables::rate` keeps the words.

mod due;
mod header;
mod key;
mod lease;
mod quota;
mod settings;

pub use due::Due;
pub use header::{HeaderText, retry_after};
pub use key::KeyHasher;
pub use lease::{Call, Lease, Spent, Terms};
pub use quota::{Admitted, Quota, QuotaError, Refused};
pub use settings::{
    ArchivedCost, ArchivedEvent, ArchivedHeaderStyle, ArchivedKeyPart, ArchivedLimiter, Cost, Event, HeaderStyle,
    KeyPart, Limiter, parse_cost,
};
