//! Balancing: which peer gets the next request.
//!
//! A peer's weight is `static weight x 1000 / (latency ms + 1) x (1 - error rate)`, both averages over the last
//! 3 s or so, and its share of the requests is its share of the weights. Two parts share the work so that a pick costs
//! one random number and two or three cache lines however many peers there are:
//!
//! - the leader turns the weights into an alias table ([`PickTable::build`]) at most every [`REBUILD`] microseconds;
//! - a pick draws from that table and then looks at the peer's own statistics: who is worth less by now than when the
//!   table was built is accepted with the quotient as probability, so that a peer that begins to fail loses traffic
//!   with the next request, not with the next table.
//!
//! Three rules keep the formula honest. A failure raises the error rate and leaves the latency alone, and a peer that
//! fails most of its requests is not believed to be faster than its siblings ([`Standing::quality`]): failing fast
//! never looks fast. The error rate decays while nothing is measured, so a healed peer is found again. And nobody
//! falls below [`FLOOR`] of the best, so that a slow one is still measured.

mod alias;
mod budget;
mod crc;
mod ewma;
mod passive;
mod pick;
mod ring;
mod rng;
mod sequence;
mod settings;
mod table;
mod tls;
mod tried;
mod turns;
mod weight;

pub use budget::RetryBudget;
pub use crc::Crc;
pub use ewma::{Errors, Latency, TAU, TICK, Tick};
pub use passive::{Calls, Cause, EJECT_MAX, Ejected, INTERVAL, Streak, ejection, remembered, stands_out};
pub use ring::{Member, WEIGHT_MAX};
pub use rng::Rng;
pub use sequence::CYCLE_MAX;
pub use settings::{
    Algorithm, ArchivedAlgorithm, ArchivedEjection, ArchivedNode, ArchivedPolicy, ArchivedRetries, ArchivedRetryOn,
    ArchivedTimeouts, Ejection, Node, Policy, Retries, RetryOn, Timeouts,
};
pub use table::{PickTable, Seat};
pub use tls::{
    ArchivedClientCertificate, ArchivedTls, ArchivedTlsVersion, ClientCertificate, PrivateKey, Tls, TlsVersion,
    asked_name, connection, server_name,
};
pub use tried::Tried;
pub use weight::{FLOOR, Standing, Statistics};

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::types::{Id, MILLISECOND};

/// The least time between two builds of one pick table, microseconds.
pub const REBUILD: u64 = 250 * MILLISECOND;

/// How one try ended, as statistics see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response that counts as good; microseconds from the start of the try to the response header.
    Latency(u64),
    /// A connect error, a timeout, garbage or a 5xx.
    Failure,
}

/// The key of a peer's statistics: 63 bits over upstream, host and port, never 0. It depends on names and ids alone,
/// so it is the same after every edit of the document that keeps the upstream and the node.
#[must_use]
pub fn key(upstream: Id, host: &str, port: u16) -> u64 {
    // Operators and discovery name peers, not clients: a fixed key will do, and the same one in every process.
    let mut hasher = SipHasher13::new();
    hasher.write(&upstream.word().to_le_bytes());
    hasher.write(&port.to_le_bytes());
    hasher.write(host.as_bytes());
    (hasher.finish() >> 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_peers_apart() {
        let id = |slot, birth| Id { slot, birth };
        let keys = [
            key(id(1, 1), "a", 80),
            key(id(1, 2), "a", 80),
            key(id(2, 1), "a", 80),
            key(id(1, 1), "b", 80),
            key(id(1, 1), "a", 81),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(*one != 0 && one >> 63 == 0);
            assert!(keys.iter().skip(index + 1).all(|other| other != one), "{index}");
        }
        assert_eq!(keys[0], key(id(1, 1), "a", 80));
    }
}
