//! The words that every other folder speaks: time, ids, methods, the request as the gateway sees it, refusals.

mod accept;
mod id;
mod method;
mod object;
mod reason;
mod request;
mod time;

pub use accept::prefers_html;
pub use id::{ArchivedId, Id};
pub use method::{Method, Methods};
pub use object::{Kind, Object};
pub use reason::Reason;
pub use request::{Certificate, Header, Protocol, Request, Terms};
pub use time::{MILLISECOND, Now, SECOND};

/// The longest name of a route, upstream, limiter or any other named thing, in bytes.
pub const NAME_MAX: usize = 128;
