//! What may be answered from what was answered before.
//!
//! nginx keeps the answers (`proxy_cache`); here is decided under which key, for how long, and what is not kept at all.
//! Two mistakes make a cache dangerous, and both are ruled out by construction rather than by a list of cases:
//!
//! - *What is not in the key changes the answer* (poisoning). Of path and query the key holds exactly the bytes that are
//!   sent on: where requests that mean the same are brought to one form ([`query`]), that form is forwarded, too. `Host`
//!   is in it as it is forwarded, the headers by which some servers let themselves be talked into another path, host or
//!   method are ([`OVERRIDES`]), and a request with a body is not answered from the cache.
//! - *An answer reaches whom it was not meant for*. Who the caller is stands in the key, and what says of itself that it
//!   is somebody's is not kept ([`control`]).
//!
//! A key is a digest under a secret over fields that begin with what and how long they are ([`KeyHasher`]): nobody can
//! aim two requests at one entry. Among the fields are numbers that a purge makes larger; what was kept under the old
//! ones is never asked for again.

pub mod control;
mod key;
mod query;
mod settings;

pub use key::{Field, Key, KeyHasher, OVERRIDES, bucket};
pub use query::{Canonical, PARAMETERS_MAX, canonical};
pub use settings::{ANY_STATUS, ArchivedCache, ArchivedQuery, BUCKETS, Cache, Query};
