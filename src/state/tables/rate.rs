//! Buckets of all limiters: an open-addressed table of 16-byte slots, shared by all processes without a lock.
//!
//! A slot is two words, **key** and **due**. A key has two homes, groups of 8 slots (two neighbouring cache lines each)
//! chosen by two hashes; it lives in any slot of either, and a new key goes to the group that has fewer live buckets.
//! With two thirds of the slots in use both groups of a key are full once in a million, so a million live keys fit
//! into 24 bytes each without one being pushed out, and no search looks at more than 16 slots.
//!
//! # Charging
//! Read due, see that key still is the right one, compute, and compare-and-swap due alone. That is enough because a
//! slot changes its owner only through its due word: whoever takes a slot over writes a *trial* there first, a word
//! with the top bit set that holds the key of the owner to be. A charge that was computed from the former owner's
//! due time fails, so it is neither lost nor charged to the new owner; and its bucket was full (or evicted), so the
//! charger begins anew elsewhere.
//!
//! # Claiming
//! A slot is taken over in three steps: due to the trial; key to the new key; due to the first charge of the new
//! bucket. A slot whose due word is a trial belongs to nobody. Before the third step the claimer walks the 16 slots:
//! a settled slot of the same key is used instead; another trial of the same key is thrown out when it stands later in
//! the walk, and joined when it stands earlier. Of two trials the one that was written later is followed by a walk that
//! meets the other; so one key has one bucket, however many processes bring it at the same moment, and nobody waits.
//!
//! # A kill
//! Between any two instructions it leaves one of: nothing; a charge whose request never went on; a trial. Trials carry
//! their second, and one of another second than this and the last is free for the taking.
//!
//! # Full
//! Free slots are those never used and those whose bucket is full again (due is past). When neither group has one, the
//! bucket that will be full first is evicted, provided it will be full no later than the newcomer's would; else the newcomer
//! is refused ([`Outcome::TableFull`]), so that a flood of new keys cannot reset the buckets of those that are being
//! limited. Evicting forgives the evicted key at most what it would have got back by the time the newcomer is full.
//!
//! # What is not exact
//! Keys are compared by 56 bits: among a million live keys two share a bucket with a probability of one in 100,000. A
//! process that is stopped inside its three instructions of a takeover, while that very slot goes through 256 owners or
//! the same trial is written again, may on waking split one key over two slots, which is one more burst for that key.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use super::{copies, interleave};
use crate::limiter::{Admitted, Due, Quota, Refused};
use crate::state::atomic::Atomic;
use crate::state::carry::Carried;

/// Slots in a group; a key has two groups.
const GROUP: usize = 8;
/// Words in a group.
const GROUP_WORDS: usize = 2 * GROUP;
/// A trial is judged by its second, which wraps after 16 of them.
const STALE_AFTER: u64 = 2;
/// How often a call that lost a race begins anew. Each loss is another process's gain, so this many in a row mean that
/// something else is wrong.
const ROUNDS: usize = 256;

/// The lower bits of a key word, which identify; the rest counts owners, so that a takeover that comes late fails.
const KEY_MASK: u64 = (1 << 56) - 1;
const OWNER: u64 = 1 << 56;
/// Set in a due word that is a trial.
const TRIAL: u64 = 1 << 63;

/// The table, over words that are zero at first.
pub struct RateTable<'a, W = AtomicU64> {
    groups: &'a [[W; GROUP_WORDS]],
}

/// The answer to a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tokens are taken.
    Taken(Admitted),
    /// They are not, and nothing has changed.
    Refused(Refused),
    /// There is no place for one more bucket; after so many microseconds there may be.
    TableFull {
        /// Microseconds.
        retry: u64,
    },
}

/// How full the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Buckets that are not full, so that their slots are needed.
    pub live: u64,
    /// Slots looked at.
    pub slots: u64,
}

struct Slot<'a, W = AtomicU64> {
    key: &'a W,
    due: &'a W,
}

copies!(RateTable, Slot);

/// What a claimer may do with a slot.
enum Use {
    /// The trial of the same key: take part.
    Join,
    /// Nobody needs it.
    Free,
    /// A bucket that will be full in so many microseconds.
    Live(u64),
    /// A fresh trial of another key.
    Taken,
}

impl<'a, W: Atomic> RateTable<'a, W> {
    /// A table over `words`; what is left behind the last whole group of 16 words stays unused. `words` should begin
    /// at a multiple of 128 bytes.
    #[must_use]
    pub fn new(words: &'a [W]) -> Self {
        let (groups, _) = words.as_chunks();
        // A group is chosen by 32 bits of hash.
        Self { groups: groups.get(..u32::MAX as usize).unwrap_or(groups) }
    }

    /// How many buckets there is room for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.groups.len() * GROUP
    }

    /// Takes `cost` tokens from the bucket of `key` (not 0, from [`crate::limiter::KeyHasher`]) at `now`, microseconds
    /// of the monotonic clock. Cost 0 looks and makes no bucket.
    #[must_use]
    #[inline]
    pub fn take(&self, key: u64, quota: &Quota, cost: i64, now: u64) -> Outcome {
        self.charge(key, now, |due| quota.admit(due, cost, now))
    }

    /// Takes `cost` tokens whether they are there or not ([`Quota::owe`]): for what has happened already. Where the table
    /// has no place for the bucket, the charge is lost.
    pub fn owe(&self, key: u64, quota: &Quota, cost: u32, now: u64) -> Outcome {
        self.charge(key, now, |due| Ok(quota.owe(due, cost, now)))
    }

    /// Whether `cost` tokens could be taken at `now`; takes none and makes no bucket.
    pub fn look(&self, key: u64, quota: &Quota, cost: i64, now: u64) -> Result<Admitted, Refused> {
        let standing = self.peek(key, quota, now);
        quota.admit(standing.due, cost, now).map(|_| standing)
    }

    #[inline]
    fn charge(&self, key: u64, now: u64, charge: impl Fn(Due) -> Result<Admitted, Refused>) -> Outcome {
        let key = key & KEY_MASK;
        for _ in 0..ROUNDS {
            let outcome = match self.find(key) {
                Some(slot) => slot.charge(key, &charge),
                None => self.claim(key, now, &charge),
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::TableFull { retry: crate::types::SECOND }
    }

    /// How the bucket of `key` stands at `now`.
    #[must_use]
    pub fn peek(&self, key: u64, quota: &Quota, now: u64) -> Admitted {
        let key = key & KEY_MASK;
        let due = self.find(key).and_then(|slot| slot.due_of(key)).unwrap_or(Due::rest(now));
        // Looking is never refused.
        quota.admit(due, 0, now).unwrap_or(Admitted { at: now, due, remaining: 0, reset: 0 })
    }

    /// Puts back the `cost` tokens of a charge that was made `at` that time: another limit of the same step refused.
    ///
    /// What has grown back by itself meanwhile is not put back again, so no sequence of charges and returns admits more
    /// than the quota. Says whether tokens went back.
    pub fn give_back(&self, key: u64, quota: &Quota, cost: i64, at: u64, now: u64) -> bool {
        let key = key & KEY_MASK;
        let Some(slot) = self.find(key) else { return false };
        for _ in 0..ROUNDS {
            let Some(due) = slot.due_of(key) else { return false };
            let Some(back) = quota.give_back(due, at, cost, now) else { return false };
            if slot.due.compare_exchange(due.0, back.0, SeqCst, Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// Frees, in groups `from..from + count`, the buckets that were full before `now` already, and says how full the
    /// rest is. The leader walks the whole table so once a day at least: a due time that is 50 days old looks like one
    /// that is to come to whoever asks whether a slot is free.
    pub fn sweep(&self, from: usize, count: usize, now: u64) -> Fill {
        let mut fill = Fill::default();
        for slot in self.groups.iter().skip(from).take(count).flat_map(slots) {
            fill.slots += 1;
            let due = slot.due.load(Acquire);
            if due & TRIAL == 0 && slot.key.load(Acquire) & KEY_MASK != 0 {
                if Due(due).ahead(now).is_some() {
                    fill.live += 1;
                } else {
                    let _ = slot.due.compare_exchange(due, trial(0, now), SeqCst, Relaxed);
                }
            }
        }
        fill
    }

    /// Takes over the buckets of `from` that are not full, into a table that nobody uses yet. Where one has no place, it
    /// goes to the bucket that is full last.
    pub(in crate::state) fn carry(&self, from: RateTable<'_, W>, how: Carried, now: u64) {
        for old in from.groups.iter().flat_map(slots) {
            let (key, due) = (old.key.load(Relaxed) & KEY_MASK, old.due.load(Relaxed));
            let due = Due(due).moved(how.by);
            let Some(mine) = due.ahead(now).filter(|_| key != 0 && old.due.load(Relaxed) & TRIAL == 0) else {
                continue;
            };
            let ahead = |slot: &Slot<'_, W>| match slot.key.load(Relaxed) & KEY_MASK {
                0 => None,
                _ => Due(slot.due.load(Relaxed)).ahead(now),
            };
            let homes = self.homes(key).into_iter().flatten().flat_map(slots);
            let Some(slot) = homes.min_by_key(ahead).filter(|slot| ahead(slot).is_none_or(|least| least < mine)) else {
                continue;
            };
            slot.key.store(key, Relaxed);
            slot.due.store(due.0, Relaxed);
        }
    }

    /// How many groups there are, for [`RateTable::sweep`].
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The settled slot of `key`.
    #[inline]
    fn find(&self, key: u64) -> Option<Slot<'a, W>> {
        self.homes(key)
            .into_iter()
            .flatten()
            .flat_map(slots)
            .find(|slot| slot.key.load(Acquire) & KEY_MASK == key && slot.due.load(Acquire) & TRIAL == 0)
    }

    /// Makes a bucket for `key` and charges it. `None`: another process was faster, look again.
    #[cold]
    fn claim(&self, key: u64, now: u64, charge: &impl Fn(Due) -> Result<Admitted, Refused>) -> Option<Outcome> {
        let fresh = match charge(Due::rest(now)) {
            Ok(admitted) if admitted.due == Due::rest(now) => return Some(Outcome::Taken(admitted)),
            Ok(admitted) => admitted,
            Err(refused) => return Some(Outcome::Refused(refused)),
        };
        let (slot, stands) = match self.place(key, fresh, now) {
            Ok(place) => place,
            Err(Some(retry)) => return Some(Outcome::TableFull { retry }),
            Err(None) => return None,
        };
        // The owner count is read before the trial is seen to stand, so a takeover that happened since fails this.
        interleave();
        let owner = slot.key.load(SeqCst);
        interleave();
        if slot.due.load(SeqCst) != stands {
            return None;
        }
        interleave();
        if owner & KEY_MASK != key {
            let next = (owner & !KEY_MASK).wrapping_add(OWNER) | key;
            if slot.key.compare_exchange(owner, next, SeqCst, SeqCst).is_err_and(|other| other & KEY_MASK != key) {
                return None;
            }
        }
        interleave();
        if !self.alone(key, slot) {
            let _ = slot.due.compare_exchange(stands, trial(0, now), SeqCst, Relaxed);
            return None;
        }
        interleave();
        slot.due.compare_exchange(stands, fresh.due.0, SeqCst, Relaxed).ok().map(|_| Outcome::Taken(fresh))
    }

    /// A slot with a trial of `key`, and the trial: one that stands, or a new one in the best place. `Err`: no place
    /// for so many microseconds, or another process was faster.
    fn place(&self, key: u64, fresh: Admitted, now: u64) -> Result<(Slot<'a, W>, u64), Option<u64>> {
        let mut free: Option<(usize, Slot<'a, W>, u64)> = None;
        let mut oldest: Option<(u64, Slot<'a, W>, u64)> = None;
        for group in self.homes(key).into_iter().flatten() {
            let (mut live, mut first_free) = (0, None);
            for slot in slots(group) {
                let due = slot.due.load(SeqCst);
                match slot.usable(key, due, now) {
                    Use::Join => return Ok((slot, due)),
                    Use::Free => first_free = first_free.or(Some((slot, due))),
                    Use::Taken => live += 1,
                    Use::Live(ahead) => {
                        live += 1;
                        if oldest.is_none_or(|(least, ..)| ahead < least) {
                            oldest = Some((ahead, slot, due));
                        }
                    }
                }
            }
            if let Some((slot, due)) = first_free
                && free.is_none_or(|(least, ..)| live < least)
            {
                free = Some((live, slot, due));
            }
        }
        let (slot, due) = match (free, oldest) {
            (Some((_, slot, due)), _) => (slot, due),
            (None, Some((ahead, slot, due))) if ahead <= fresh.reset => (slot, due),
            (None, Some((ahead, ..))) => return Err(Some(ahead)),
            (None, None) => return Err(Some(crate::types::SECOND)),
        };
        let stands = trial(key, now);
        interleave();
        match slot.due.compare_exchange(due, stands, SeqCst, Relaxed) {
            Ok(_) => Ok((slot, stands)),
            Err(_) => Err(None),
        }
    }

    /// Whether the trial of `key` in `mine` may be settled: no other slot is the key's, and no earlier one has a trial
    /// of it. Later trials are thrown out.
    fn alone(&self, key: u64, mine: Slot<'a, W>) -> bool {
        let mut earlier = true;
        for slot in self.homes(key).into_iter().flatten().flat_map(slots) {
            if std::ptr::eq(slot.due, mine.due) {
                earlier = false;
                continue;
            }
            interleave();
            let due = slot.due.load(SeqCst);
            if is_trial_of(key, due) {
                if earlier || slot.due.compare_exchange(due, due & !KEY_MASK, SeqCst, Relaxed).is_err() {
                    return false;
                }
            } else if due & TRIAL == 0 && slot.key.load(SeqCst) & KEY_MASK == key {
                return false;
            }
        }
        true
    }

    /// The groups where `key` may live, always in the same order.
    #[inline]
    fn homes(&self, key: u64) -> [Option<&'a [W; GROUP_WORDS]>; 2] {
        let groups = self.groups.len() as u64;
        let one = ((key & 0xffff_ffff) * groups) >> 32;
        // Of the bits that the first home leaves unused, spread over all.
        let two = ((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * groups) >> 32;
        let two = if one == two { one + 1 } else { two };
        let two = match groups {
            0 | 1 => None,
            _ => self.groups.get((if two == groups { 0 } else { two }) as usize),
        };
        [self.groups.get(one as usize), two]
    }
}

impl<W: Atomic> Slot<'_, W> {
    /// Charges the bucket of `key` in this slot. `None`: the slot is no longer the key's.
    #[inline]
    fn charge(self, key: u64, charge: &impl Fn(Due) -> Result<Admitted, Refused>) -> Option<Outcome> {
        for _ in 0..ROUNDS {
            interleave();
            let due = self.due_of(key)?;
            let admitted = match charge(due) {
                Ok(admitted) => admitted,
                Err(refused) => return Some(Outcome::Refused(refused)),
            };
            interleave();
            if admitted.due == due || self.due.compare_exchange_weak(due.0, admitted.due.0, SeqCst, Relaxed).is_ok() {
                return Some(Outcome::Taken(admitted));
            }
        }
        None
    }

    /// The due time, if the slot is settled and `key`'s. Due is read first: the key that is read after it is the
    /// owner to whom it belongs, or due has changed since and can no longer be swapped.
    #[inline]
    fn due_of(self, key: u64) -> Option<Due> {
        let due = self.due.load(Acquire);
        (due & TRIAL == 0 && self.key.load(Acquire) & KEY_MASK == key).then_some(Due(due))
    }

    fn usable(self, key: u64, due: u64, now: u64) -> Use {
        if due & TRIAL != 0 {
            return match due & KEY_MASK {
                0 => Use::Free,
                owner if owner == key => Use::Join,
                _ if (second(now).wrapping_sub(due >> 59) & 0xf) >= STALE_AFTER => Use::Free,
                _ => Use::Taken,
            };
        }
        match Due(due).ahead(now) {
            Some(ahead) if self.key.load(Acquire) & KEY_MASK != 0 => Use::Live(ahead),
            _ => Use::Free,
        }
    }
}

/// The slots of a group, in order.
#[inline]
fn slots<W>(group: &[W; GROUP_WORDS]) -> impl Iterator<Item = Slot<'_, W>> {
    let (pairs, _) = group.as_chunks::<2>();
    pairs.iter().map(|[key, due]| Slot { key, due })
}

/// A trial of `key` that was begun at `now`: 4 bits of its second and 3 of its microsecond, which tell trials of one
/// key apart.
fn trial(key: u64, now: u64) -> u64 {
    TRIAL | (second(now) & 0xf) << 59 | (now & 0x7) << 56 | key
}

fn is_trial_of(key: u64, due: u64) -> bool {
    due & TRIAL != 0 && due & KEY_MASK == key
}

fn second(now: u64) -> u64 {
    now >> 20
}

#[cfg(test)]
mod tests;
