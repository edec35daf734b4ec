//! The pick table of one upstream: what the leader writes and every pick reads.
//!
//! Words: a header of [`HEADER`], two hot words a peer, one cold word a peer.
//!
//! | word | what |
//! |---|---|
//! | 0 | zero |
//! | 1 | when the table was built, microseconds; 0 = never |
//! | 2 | mean latency of the peers, f32 ms, and flags |
//! | 3 to 7 | zero |
//! | 8 + 2i | {threshold, alias} of the alias table, u32 each |
//! | 9 + 2i | {what the peer was worth at the build, f32; its statistics slot, u32} |
//! | 8 + 2n + i | {static weight, u32; priority, u8} for the scan when draws fail |
//!
//! The leader overwrites words in place while others read. Every version of an entry names a peer of this upstream,
//! so a reader that meets the old threshold beside the new alias still gets a peer; only its odds are off, for a
//! moment. A table that was never built (all zero) sends everything to the first peer: build before publishing.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::alias::{Cell, cells};
use super::weight::FLOOR;
use super::{REBUILD, Standing, Statistics};

const HEADER: usize = 8;

/// All peers with a weight are ejected, so all are used.
const PANIC: u64 = 1;

/// A peer as the leader knows it when it builds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Static weight; 0 = gets nothing unless all have 0.
    pub weight: u32,
    /// 0 serves first.
    pub priority: u8,
    /// Index of its statistics.
    pub slot: u32,
}

/// What a draw found.
pub(super) struct Drawn {
    pub place: u32,
    /// Quality at the build; negative: latencies were unknown then, and this is the health, negated.
    pub reference: f32,
    pub slot: u32,
}

/// A view of one upstream's pick table.
#[derive(Clone, Copy)]
pub struct PickTable<'a> {
    words: &'a [AtomicU64],
    peers: u32,
}

impl<'a> PickTable<'a> {
    /// How many words a table of `peers` peers takes.
    #[must_use]
    pub const fn words(peers: u32) -> usize {
        HEADER + 3 * peers as usize
    }

    /// A table of `peers` peers over at least [`Self::words`] words; `None` where there are fewer.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [AtomicU64], peers: u32) -> Option<Self> {
        Some(Self { words: words.get(..Self::words(peers))?, peers })
    }

    /// How many peers it has.
    #[must_use]
    #[inline]
    pub const fn len(self) -> u32 {
        self.peers
    }

    /// Whether it has no peer.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.peers == 0
    }

    /// The statistics slot of the peer at `place`.
    #[must_use]
    #[inline]
    pub fn slot(self, place: u32) -> Option<u32> {
        self.at(place).map(|drawn| drawn.slot)
    }

    /// Whether the leader should build it again at `mono`, microseconds.
    #[must_use]
    pub fn is_due(self, mono: u64) -> bool {
        let built = self.load(1);
        built == 0 || mono.saturating_sub(built) >= REBUILD
    }

    /// Builds the table from `seats`, in the order of their places, and their statistics at `mono`, microseconds.
    /// The leader alone calls it. Peers that were never measured get the mean of the others to begin with.
    ///
    /// Only the lowest priority with an available peer gets weight. Each peer's weight is its static weight times
    /// its quality, which counts as at least [`FLOOR`] of the best; where all are worth nothing, all are worth the
    /// same.
    pub fn build(self, seats: impl IntoIterator<Item = Seat>, statistics: &impl Statistics, mono: u64) {
        let mut seats: Vec<(Seat, Standing)> = seats
            .into_iter()
            .take(self.peers as usize)
            .map(|seat| (seat, statistics.standing(seat.slot, mono)))
            .collect();
        if seats.iter().all(|(seat, _)| seat.weight == 0) {
            seats.iter_mut().for_each(|(seat, _)| seat.weight = 1);
        }
        let lowest = |any: bool| {
            let serves = |(seat, standing): &&(Seat, Standing)| seat.weight > 0 && (any || standing.available);
            seats.iter().filter(serves).map(|(seat, _)| seat.priority).min()
        };
        let (group, panic) = match lowest(false) {
            Some(priority) => (priority, false),
            None => (lowest(true).unwrap_or(0), true),
        };
        let mean = mean_latency(&seats);
        if let Some(ms) = mean {
            for (seat, _) in seats.iter().filter(|(_, standing)| standing.latency.is_none()) {
                // Which changes no weight: unknown counts as the mean.
                statistics.seed(seat.slot, ms, mono);
            }
        }
        let siblings = mean.unwrap_or(0.0);
        let serves = |(seat, standing): &(Seat, Standing)| {
            seat.weight > 0 && seat.priority == group && (standing.available || panic)
        };
        let best = seats.iter().filter(|seat| serves(seat)).map(|(_, standing)| standing.quality(siblings));
        let best = best.fold(0.0, f32::max);
        let weights: Vec<f64> = seats
            .iter()
            .map(|seat| match seat {
                seat if !serves(seat) => 0.0,
                _ if best <= 0.0 => 1.0,
                (seat, standing) => f64::from(seat.weight) * f64::from(standing.quality(siblings).max(best * FLOOR)),
            })
            .collect();

        for ((Cell { threshold, alias }, (seat, standing)), place) in cells(&weights).iter().zip(&seats).zip(0..) {
            let reference = if mean.is_some() { standing.quality(siblings) } else { -standing.health() };
            put(self.words.get(hot(place)), u64::from(*threshold) << 32 | u64::from(*alias));
            put(self.words.get(hot(place) + 1), u64::from(reference.to_bits()) << 32 | u64::from(seat.slot));
            put(self.words.get(self.cold(place)), u64::from(seat.weight) << 32 | u64::from(seat.priority));
        }
        put(self.words.get(2), u64::from(siblings.to_bits()) << 32 | if panic { PANIC } else { 0 });
        put(self.words.get(1), mono.max(1));
    }

    /// Draws a peer in proportion to the weights of the last build, and a fraction with what is left of `random`.
    #[inline]
    pub(super) fn draw(self, random: u64) -> Option<(Drawn, f32)> {
        let product = (random >> 32) * u64::from(self.peers);
        let cell = (product >> 32) as u32;
        let odds = self.words.get(hot(cell))?.load(Relaxed);
        // A select and no branch: which way it goes is as hard to predict as it can be.
        let place = if (random as u32) < (odds >> 32) as u32 { cell } else { odds as u32 };
        // Below the cell's number there are as many random bits as it did not need: 18 for 10,000 peers.
        let fraction = (product as u32) as f32 * (1.0 / 4_294_967_296.0);
        self.at(place).map(|drawn| (drawn, fraction))
    }

    /// The peer at `place`; `None` beyond the last, whatever a damaged table says.
    #[inline]
    pub(super) fn at(self, place: u32) -> Option<Drawn> {
        if place >= self.peers {
            return None;
        }
        Some(Drawn::new(place, self.words.get(hot(place) + 1)?.load(Relaxed)))
    }

    /// Static weight and priority of the peer at `place`.
    pub(super) fn settings(self, place: u32) -> (u32, u8) {
        let word = self.words.get(self.cold(place)).map_or(0, |word| word.load(Relaxed));
        ((word >> 32) as u32, word as u8)
    }

    /// Mean latency of the peers at the last build, milliseconds; 0 where none was measured.
    pub(super) fn siblings(self) -> f32 {
        f32::from_bits((self.load(2) >> 32) as u32)
    }

    /// Whether ejections do not count, as everybody is ejected.
    pub(super) fn panics(self) -> bool {
        self.load(2) & PANIC != 0
    }

    const fn cold(self, place: u32) -> usize {
        HEADER + 2 * self.peers as usize + place as usize
    }

    fn load(self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Relaxed))
    }
}

/// The first of the two hot words of the peer at `place`.
#[inline]
const fn hot(place: u32) -> usize {
    HEADER + 2 * place as usize
}

impl Drawn {
    #[inline]
    const fn new(place: u32, word: u64) -> Self {
        Self { place, reference: f32::from_bits((word >> 32) as u32), slot: word as u32 }
    }
}

/// Mean latency of those that were measured; peers that mostly fail do not set the measure unless all do.
fn mean_latency(seats: &[(Seat, Standing)]) -> Option<f32> {
    let mean = |errors: f32| {
        let known = seats.iter().filter(|(_, standing)| standing.errors <= errors);
        let (sum, count) = known
            .filter_map(|(_, standing)| standing.latency)
            .fold((0.0, 0_u32), |(sum, count), ms| (sum + f64::from(ms), count + 1));
        (count > 0).then(|| (sum / f64::from(count)) as f32)
    };
    mean(0.5).or_else(|| mean(1.0))
}

/// Stores what changed; an untouched word stays in every reader's cache.
fn put(word: Option<&AtomicU64>, value: u64) {
    if let Some(word) = word
        && word.load(Relaxed) != value
    {
        word.store(value, Relaxed);
    }
}
