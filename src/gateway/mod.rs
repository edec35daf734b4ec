//! The order of one request: `access`, `pick`, `complete`.
//!
//! A [`Worker`] is one process's way into the region; a [`Ticket`] is what one request carries from call to call. The
//! [`Leader`] does what must be done once for all workers.
//!
//! ```text
//! access(request, now) -> Forward | Reply | Respond | Ask     the ticket keeps route, upstream, permit, tries
//! learn(answer, now), resume(answer, request, now)      what was asked for is there: as access
//! pick(ticket, now)    -> peer                       answered(ticket) at the header, tried(ticket) at the end
//! complete(ticket, outcome, now)                     breaker, statistics, metrics
//! ```

mod access;
mod cache;
mod caller;
mod canary;
mod complete;
mod decision;
mod dump;
mod ejection;
mod explain;
mod expressions;
mod fallback;
mod guesses;
mod hash_key;
mod key_sets;
mod leader;
mod limit;
mod lines;
mod log;
mod metrics;
mod object;
mod overlay;
mod overload;
mod pick;
mod promote;
mod publish;
mod revoke;
mod route;
mod sight;
mod signature;
mod ticket;
mod uuid;
mod worker;

pub use access::Entry;
pub use cache::{CacheRules, Purge};
pub use complete::Outcome;
pub use decision::{Answer, Ask, Challenges, Decision, Question, Reply, Respond};
pub use dump::{DumpError, dump};
pub use explain::{Dry, Notes, Recorder, Silent, Step};
pub use guesses::{GUESSES_BURST, GUESSES_RATE};
pub use key_sets::read_key_files;
pub use leader::{
    CarryError, DOCUMENT_MAX, Event, LAST_GOOD, Leader, Severity, Standing, check_document, read_document,
    read_document_with, read_text,
};
pub use object::{ArchivedPeerEntry, ArchivedRoute, ArchivedUpstream, PeerEntry, Route, Upstream};
pub use overlay::{Overlay, Overlays, node_name};
pub use pick::{Peer, TryEnd};
pub use promote::{CanaryCommand, CanaryError, CanaryStatus};
pub use publish::{PublishError, Published, publish};
pub use revoke::ByHand;
pub use sight::Sight;
pub use ticket::{Passed, Ticket};
pub use uuid::uuid_v7;
pub use worker::{Worker, count_panic};

/// The smallest zone that is of any use, bytes.
pub const ZONE_MIN: usize = 1 << 20;
