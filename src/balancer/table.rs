//! The pick table of one upstream: what the leader writes and every pick reads.
//!
//! Words: a header of [`HEADER`], two hot words a peer, one cold word a peer, then what some algorithms need beside.
//!
//! | word | what |
//! |---|---|
//! | 0 | zero |
//! | 1 | when the table was built, microseconds; 0 = never |
//! | 2 | mean latency of the peers, f32 ms; the priority that serves, u8 << 8; flags, u8 |
//! | 3 | how many turns were taken: the place in the sequence, which picks write |
//! | 4 | {turns in the sequence, u32; mean effective weight of who serves, f32} |
//! | 5 | fingerprint of the weights of which the sequence was made |
//! | 6 | {room for turns, u32; points of the ring, u32}: how the table is laid out, written once |
//! | 7 | {first point of the ring that serves, u32; its points, u32} |
//! | 8 + 2i | {threshold, alias} of the alias table, u32 each |
//! | 9 + 2i | {what the peer was worth at the build, f32; its statistics slot, u32} |
//! | 8 + 2n + i | {effective weight, 1/256, u32; addresses of its node from here on, u24; priority, u8} |
//! | then | the sequence: two places a word, the first one below ([`sequence`](super::sequence)) |
//! | then | the points of the rings, by priority and hash ([`ring`](super::ring)); written once |
//!
//! The leader overwrites words in place while others read. Every version of an entry names a peer of this upstream,
//! so a reader that meets the old threshold beside the new alias still gets a peer; only its odds are off, for a
//! moment. A table that was never built (all zero) sends everything to the first peer: build before publishing.

use std::hash::Hasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use siphasher::sip::SipHasher13;

use super::alias::{Cell, cells};
use super::ring::{Member, points};
use super::sequence;
use super::weight::{FLOOR, effective};
use super::{Algorithm, Policy, REBUILD, Standing, Statistics};

const HEADER: usize = 8;

/// So many addresses of one node are told apart.
const ADDRESSES: u32 = (1 << 24) - 1;

/// All peers with a weight are ejected, so all are used.
const PANIC: u64 = 1;

/// A peer as the leader knows it when it builds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Static weight, or whatever stands in its place for a while; 0 = gets nothing unless all have 0.
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
    pub(super) policy: Policy,
    pub(super) key: Option<u32>,
}

impl<'a> PickTable<'a> {
    /// How many words a table of `peers` peers takes that has neither sequence nor ring.
    #[must_use]
    pub const fn words(peers: u32) -> usize {
        HEADER + 3 * peers as usize
    }

    /// The words of a table for `seats`, still to be built; `nodes` are on the ring, where there is one.
    #[must_use]
    pub fn lay(policy: Policy, seats: &[Seat], nodes: &[Member<'_>]) -> Vec<AtomicU64> {
        let peers = seats.len() as u32;
        let room = match policy.algorithm.takes_turns() {
            true => sequence::room(seats.iter().map(|seat| seat.weight), policy.slow_start > 0).next_multiple_of(2),
            false => 0,
        };
        let ring = if policy.algorithm == Algorithm::Hash { points(nodes) } else { Vec::new() };
        let turns = Self::words(peers);
        let mut words = vec![0; turns + room as usize / 2];
        if let Some(word) = words.get_mut(6) {
            *word = u64::from(room) << 32 | ring.len() as u64;
        }
        for node in nodes {
            if let Some(word) = words.get_mut(HEADER + 2 * peers as usize + node.first as usize) {
                *word = u64::from(node.count.min(ADDRESSES)) << 8 | u64::from(node.priority);
            }
        }
        words.extend(ring.into_iter().map(|(_, point)| point));
        words.into_iter().map(AtomicU64::new).collect()
    }

    /// A table of `peers` peers over at least [`Self::words`] words; `None` where there are fewer. It is adaptive until
    /// it is told otherwise.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [AtomicU64], peers: u32) -> Option<Self> {
        let policy = Policy { algorithm: Algorithm::Adaptive, max_in_flight: 0, slow_start: 0 };
        (words.len() >= Self::words(peers)).then_some(Self { words, peers, policy, key: None })
    }

    /// The same under `policy`.
    #[must_use]
    #[inline]
    pub const fn under(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same for a request with a key of this CRC-32; without one, `hash` goes round robin.
    #[must_use]
    #[inline]
    pub const fn keyed(self, key: Option<u32>) -> Self {
        Self { key, ..self }
    }

    /// How its peers are chosen.
    #[must_use]
    pub const fn policy(self) -> Policy {
        self.policy
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
        let slow_start = self.policy.slow_start;
        let parts: Vec<u32> = seats
            .iter()
            .map(|(seat, standing)| {
                if slow_start > 0 && !standing.available {
                    statistics.away(seat.slot, mono);
                }
                // In a panic nobody has returned yet.
                let age = if slow_start > 0 && !panic { statistics.age(seat.slot, mono) } else { u64::MAX };
                effective(seat.weight, age, slow_start)
            })
            .collect();
        let serves = |(seat, standing): &(Seat, Standing)| {
            seat.weight > 0 && seat.priority == group && (standing.available || panic)
        };
        let quality = |standing: &Standing| match self.policy.algorithm {
            Algorithm::Adaptive => standing.quality(siblings),
            _ => 1.0,
        };
        let best = seats.iter().filter(|seat| serves(seat)).map(|(_, standing)| quality(standing));
        let best = best.fold(0.0, f32::max);
        let weights: Vec<f64> = seats
            .iter()
            .zip(&parts)
            .map(|(seat, part)| match seat {
                seat if !serves(seat) => 0.0,
                _ if best <= 0.0 => 1.0,
                (_, standing) => f64::from(*part) * f64::from(quality(standing).max(best * FLOOR)),
            })
            .collect();

        let all = cells(&weights).into_iter().zip(seats.iter().zip(&parts)).zip(0..);
        for ((Cell { threshold, alias }, ((seat, standing), part)), place) in all {
            let reference = if mean.is_some() { standing.quality(siblings) } else { -standing.health() };
            put(self.words.get(hot(place)), u64::from(threshold) << 32 | u64::from(alias));
            put(self.words.get(hot(place) + 1), u64::from(reference.to_bits()) << 32 | u64::from(seat.slot));
            let addresses = self.load(self.cold(place)) & u64::from(ADDRESSES) << 8;
            put(self.words.get(self.cold(place)), u64::from(*part) << 32 | addresses | u64::from(seat.priority));
        }
        let serving: Vec<u32> =
            seats.iter().zip(&parts).map(|(seat, part)| if serves(seat) { *part } else { 0 }).collect();
        if self.policy.algorithm.takes_turns() {
            self.write_turns(&serving);
        }
        if self.policy.algorithm == Algorithm::Hash {
            self.turn_ring(group);
        }
        let count = serving.iter().filter(|part| **part > 0).count();
        let sum: f64 = serving.iter().map(|part| f64::from(*part)).sum();
        let average = (sum / count.max(1) as f64) as f32;
        put(self.words.get(4), self.load(4) >> 32 << 32 | u64::from(average.to_bits()));
        let flags = u64::from(group) << 8 | if panic { PANIC } else { 0 };
        put(self.words.get(2), u64::from(siblings.to_bits()) << 32 | flags);
        put(self.words.get(1), mono.max(1));
    }

    /// Writes the sequence of who serves, by effective weights, where they are others than before. The turn that is on
    /// stays: what was begun anew at each step of a ramp would be begun by the heaviest each time.
    fn write_turns(self, weights: &[u32]) {
        let mut hasher = SipHasher13::new();
        weights.iter().for_each(|weight| hasher.write_u32(*weight));
        let fingerprint = hasher.finish() | 1;
        if self.load(5) == fingerprint {
            return;
        }
        let cycle = sequence::cycle(weights, (self.load(6) >> 32) as u32);
        for (pair, index) in cycle.chunks(2).zip(Self::words(self.peers)..) {
            let place = |index| pair.get(index).copied().map_or(0, u64::from);
            put(self.words.get(index), place(1) << 32 | place(0));
        }
        put(self.words.get(4), (cycle.len() as u64) << 32 | self.load(4) & u64::from(u32::MAX));
        put(self.words.get(5), fingerprint);
    }

    /// Lets the ring of `group` serve.
    fn turn_ring(self, group: u8) {
        let points = self.points();
        let priority = |point: &AtomicU64| self.settings(point.load(Relaxed) as u32).1;
        let first = points.partition_point(|point| priority(point) < group);
        let count = points.iter().skip(first).take_while(|point| priority(point) == group).count();
        put(self.words.get(7), (first as u64) << 32 | count as u64);
    }

    /// The points of all rings.
    fn points(self) -> &'a [AtomicU64] {
        let layout = self.load(6);
        let first = Self::words(self.peers) + (layout >> 32) as usize / 2;
        let points = self.words.get(first..).unwrap_or_default();
        points.get(..layout as u32 as usize).unwrap_or_default()
    }

    /// The ring that serves.
    #[inline]
    pub(super) fn ring(self) -> &'a [AtomicU64] {
        let ring = self.load(7);
        let (first, count) = ((ring >> 32) as usize, ring as u32 as usize);
        self.points().get(first..).and_then(|points| points.get(..count)).unwrap_or_default()
    }

    /// How many turns there are in the sequence.
    #[inline]
    pub(super) fn turns(self) -> u32 {
        (self.load(4) >> 32) as u32
    }

    /// Takes the next turn; its number, which goes round at [`Self::turns`].
    #[inline]
    pub(super) fn take_turn(self) -> u64 {
        self.words.get(3).map_or(0, |word| word.fetch_add(1, Relaxed))
    }

    /// Whose turn number `turn` is.
    #[inline]
    pub(super) fn turn(self, turn: u32) -> Option<u32> {
        let word = self.words.get(Self::words(self.peers) + turn as usize / 2)?.load(Relaxed);
        Some((word >> (turn % 2 * 32)) as u32)
    }

    /// Mean effective weight of who serves.
    #[inline]
    pub(super) fn average(self) -> f32 {
        f32::from_bits(self.load(4) as u32).max(1.0)
    }

    /// The priority that serves.
    #[inline]
    pub(super) fn serving(self) -> u8 {
        (self.load(2) >> 8) as u8
    }

    /// How many addresses the node at `place` has from there on.
    #[inline]
    pub(super) fn addresses(self, place: u32) -> u32 {
        (self.load(self.cold(place)) as u32 >> 8).max(1)
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

    /// Effective weight and priority of the peer at `place`.
    #[inline]
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
