//! From one region into another: when the size changes, or the machine was started anew.
//!
//! The tree is not copied: its document is published again, and every name gets the id that it had ([`Writer::adopt`]),
//! so what tables say of ids goes on to mean the same. The secret is the same, too, and with it all hashes. Tables are
//! carried slot by slot, each in its own way, since a table of another size has another place for everything.
//!
//! Times of the monotonic clock are moved by what the clock jumped at the start of the machine: as long as nothing ran
//! counts as time, by the wall clock, and a wall clock that went back meanwhile as none. What the wall clock counts
//! (revocations, nonces) stays as it is.
//!
//! | | another size | another start of the machine |
//! |---|---|---|
//! | rate keys, breakers, revocations, ejections so far | carried | carried |
//! | statistics of peers, tallies of breakers, retry budgets | carried | begin anew |
//! | nonces | lost, and signatures that are older are refused | carried |
//! | counters of metrics | begin anew | carried |
//! | canaries that are promoted, purges, limits of overload | begin anew | begin anew |
//! | what is in flight | is counted where it began | there is none |

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::tables::breaker;
use super::tables::peers::Peers;
use super::tables::rate::RateTable;
use super::tables::revocations::Revocations;
use super::tables::upstreams::Upstreams;
use super::{Corrupt, Identity, Reader, Region, Writer};
use crate::types::{Id, Kind, Now, SECOND};

/// What is brought over: from whom, and what time it is there and here.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// The names of the policy and their ids begin with this generation.
    pub generation: u32,
    /// Whether the monotonic clock is another one.
    pub booted: bool,
    /// What a time of the old monotonic clock has to be moved by, wrapping.
    pub by: u64,
}

impl Carried {
    /// `booted`: the machine was started anew since `from` was used.
    #[must_use]
    pub fn of(from: &Region, booted: bool, now: Now) -> Self {
        let last = from.stamped();
        let there = if booted { last.plus(now.wall.saturating_sub(last.wall)).mono } else { now.mono };
        Self { generation: from.generation(), booted, by: now.mono.wrapping_sub(there) }
    }

    /// A time of the old clock by the new one.
    #[must_use]
    pub const fn time(self, old: u64) -> u64 {
        old.wrapping_add(self.by)
    }
}

/// The names of a policy, and their ids.
pub type Names = Vec<(Kind, String, Id)>;

/// The names in `from` with their ids, once its tree was found to be whole.
///
/// # Errors
/// The tree is damaged, or nobody more can read it.
pub fn names(from: Region, identity: Identity) -> Result<Names, Corrupt> {
    // Where nobody alive has the lease, this looks at every block.
    drop(Writer::take(from, identity)?);
    let reader = Reader::claim(from, identity).ok_or(Corrupt("every seat is taken"))?;
    let Some(view) = reader.enter() else { return Ok(Vec::new()) };
    let tree = view.tree();
    let of_kind =
        |kind| tree.names(kind).filter_map(move |name| Some((kind, name.to_owned(), tree.id_of(kind, name)?)));
    Ok(Kind::ALL.into_iter().flat_map(of_kind).collect())
}

/// Brings the tables of `from` over into `to`, which nobody uses yet.
pub fn tables(from: &Region, to: &Region, how: Carried, now: Now) {
    for (old, new) in from.counters().iter().zip(to.counters()) {
        new.store(old.load(Relaxed), Relaxed);
    }
    RateTable::new(to.rate_words()).carry(RateTable::new(from.rate_words()), how, now.mono);
    breaker::carry(from.breaker_words(), to.breaker_words(), how);
    let seconds = u32::try_from(now.wall / SECOND).unwrap_or(u32::MAX);
    Revocations::new(to.revocation_words()).carry(Revocations::new(from.revocation_words()), seconds);
    Upstreams::new(to.upstream_words()).carry(Upstreams::new(from.upstream_words()), how.booted);
    if !how.booted {
        Peers::new(to.peer_words()).carry(Peers::new(from.peer_words()));
    }
    same(from.nonce_words(), to.nonce_words());
    for worker in 0..from.workers().min(to.workers()) {
        same(from.shard_words(worker), to.shard_words(worker));
    }
}

/// Whether nonces are carried from the one into the other.
#[must_use]
pub fn keeps_nonces(from: &Region, to: &Region) -> bool {
    from.nonce_words().len() == to.nonce_words().len()
}

/// Copies a table that has the same places.
fn same(from: &[AtomicU64], to: &[AtomicU64]) {
    if from.len() == to.len() {
        for (old, new) in from.iter().zip(to) {
            let word = old.load(Relaxed);
            // What was never written takes no memory.
            if word != 0 {
                new.store(word, Relaxed);
            }
        }
    }
}
