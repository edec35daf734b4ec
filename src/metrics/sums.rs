//! All shards added up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, fence};

use super::histogram::{BOUNDS, FIRST, SUM};
use super::series::{Meaning, Series, status};
use super::{HEAD, Names, OTHER, OTHER_DURATION, OTHER_REQUESTS, OTHER_UPSTREAM, RESERVED, SLOT, head};

/// How often a shard is read anew whose owner sweeps it meanwhile …
const RETRIES: u32 = 1_000;

/// … and how often where nothing moves, as the owner sleeps or died.
const STUCK: u32 = 64;

/// Sum and buckets of a histogram slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Durations {
    pub micros: u64,
    pub buckets: [u64; BOUNDS.len() + 1],
}

/// Label values borrow from `Names`, so nothing is allocated for a series that is known already.
#[derive(Default)]
pub(super) struct Sums<'n> {
    /// By route, method and status; no status: those of [`OTHER`] that are not common.
    pub requests: BTreeMap<(&'n str, &'n str, Option<u16>), u64>,
    /// By route and method.
    pub durations: BTreeMap<(&'n str, &'n str), Durations>,
    /// By upstream and peer.
    pub upstreams: BTreeMap<(&'n str, &'n str), Durations>,
    /// By route and variant: answered, failed, microseconds to the answers.
    pub variants: BTreeMap<(&'n str, &'n str), [u64; 3]>,
    /// By route and rule.
    pub limited: BTreeMap<(&'n str, &'n str), u64>,
    /// By route and reason.
    pub shadowed: BTreeMap<(&'n str, &'n str), u64>,
    pub connections: u64,
    pub panics: u64,
    pub config_errors: u64,
}

impl<'n> Sums<'n> {
    pub(super) fn add(&mut self, shard: &[AtomicU64], names: &'n dyn Names) {
        for (index, slot) in copy(shard).chunks_exact(SLOT).enumerate() {
            match index {
                HEAD => {
                    self.connections = self.connections.wrapping_add(at(slot, head::CONNECTIONS));
                    self.panics += at(slot, head::PANICS);
                    self.config_errors += at(slot, head::CONFIG_ERRORS);
                    count(&mut self.requests, (OTHER, OTHER, None), at(slot, head::OTHER_STATUS));
                    count(&mut self.limited, (OTHER, OTHER), at(slot, head::OTHER_LIMITED));
                    let words = [head::OTHER_VARIANT, head::OTHER_VARIANT_ERRORS, head::OTHER_VARIANT_MICROS];
                    variant(&mut self.variants, (OTHER, OTHER), words.map(|word| at(slot, word)));
                    count(&mut self.shadowed, (OTHER, OTHER), at(slot, head::OTHER_SHADOWED));
                }
                OTHER_REQUESTS => self.requests(slot, OTHER, OTHER, 0),
                OTHER_DURATION => add(&mut self.durations, (OTHER, OTHER), slot),
                OTHER_UPSTREAM => add(&mut self.upstreams, (OTHER, OTHER), slot),
                RESERVED.. => self.series(slot, names),
            }
        }
    }

    fn series(&mut self, slot: &[u64], names: &'n dyn Names) {
        let series = Series(at(slot, 0));
        let Some(meaning) = series.meaning() else { return };
        // The same rules as `Shard::sweep` has, so that a swept series changes no sum.
        let labels = series.labels([at(slot, 1), at(slot, 2)], names);
        match (meaning, labels) {
            (Meaning::Requests { group: 0, .. }, None) => self.requests(slot, OTHER, OTHER, 0),
            (Meaning::Requests { .. }, None) => {
                let sum = slot.iter().skip(1).sum();
                count(&mut self.requests, (OTHER, OTHER, None), sum);
            }
            (Meaning::Requests { group, .. }, Some((route, method))) => self.requests(slot, route, method, group),
            (Meaning::Duration { .. }, labels) => add(&mut self.durations, labels.unwrap_or((OTHER, OTHER)), slot),
            (Meaning::Upstream(_), labels) => add(&mut self.upstreams, labels.unwrap_or((OTHER, OTHER)), slot),
            (Meaning::Variant, labels) => {
                let words = [Series::VARIANT_GOOD, Series::VARIANT_ERRORS, Series::VARIANT_MICROS];
                let numbers = words.map(|word| at(slot, word));
                variant(&mut self.variants, labels.unwrap_or((OTHER, OTHER)), numbers);
            }
            (Meaning::Limited, labels) => {
                count(&mut self.limited, labels.unwrap_or((OTHER, OTHER)), at(slot, Series::LIMITED_COUNT));
            }
            (Meaning::Shadowed { .. }, labels) => {
                count(&mut self.shadowed, labels.unwrap_or((OTHER, OTHER)), at(slot, 1));
            }
        }
    }

    fn requests(&mut self, slot: &[u64], route: &'n str, method: &'n str, group: u16) {
        for word in 1..SLOT {
            count(&mut self.requests, (route, method, status(group, word)), at(slot, word));
        }
    }
}

/// The words of a shard at one moment, as far as sweeps go. A sweep moves numbers from slot to slot, and whoever read
/// one before and the other after would count them twice or not at all; [`head::SWEEP`] says that one is under way or
/// was. An owner that died in a sweep leaves it under way: then the last copy must do.
fn copy(shard: &[AtomicU64]) -> Vec<u64> {
    let sweep = || shard.get(head::SWEEP).map_or(0, |word| word.load(Acquire));
    let mut words = Vec::with_capacity(shard.len());
    let mut stuck = 0;
    for _ in 0..RETRIES {
        let before = sweep();
        words.clear();
        for slot in shard.chunks(SLOT) {
            // The writer fills in a new slot before it writes the key.
            words.extend(slot.first().map(|key| key.load(Acquire)));
            words.extend(slot.iter().skip(1).map(|word| word.load(Relaxed)));
        }
        fence(Acquire);
        if before == sweep() {
            stuck += 1;
            if head::swept_slot(before).is_none() || stuck == STUCK {
                break;
            }
        }
        // Rendering is nobody's hot path, and the owner may be waiting for this very core.
        std::thread::yield_now();
    }
    words
}

fn at(slot: &[u64], word: usize) -> u64 {
    slot.get(word).copied().unwrap_or(0)
}

fn variant<K: Ord>(sums: &mut BTreeMap<K, [u64; 3]>, key: K, numbers: [u64; 3]) {
    if numbers != [0; 3] {
        let sum = sums.entry(key).or_default();
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.wrapping_add(number));
    }
}

/// A status that was never answered is no series.
fn count<K: Ord>(sums: &mut BTreeMap<K, u64>, key: K, value: u64) {
    if value > 0 {
        *sums.entry(key).or_default() += value;
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Durations>, key: K, slot: &[u64]) {
    let mut durations = Durations { micros: at(slot, SUM), ..Durations::default() };
    for (index, bucket) in durations.buckets.iter_mut().enumerate() {
        *bucket = at(slot, FIRST + index);
    }
    if durations.buckets.iter().all(|bucket| *bucket == 0) {
        return;
    }
    let sum = sums.entry(key).or_default();
    sum.micros = sum.micros.wrapping_add(durations.micros);
    for (sum, bucket) in sum.buckets.iter_mut().zip(durations.buckets) {
        *sum += bucket;
    }
}
