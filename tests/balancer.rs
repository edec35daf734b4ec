//! The balancer as requests meet it: picks, statistics and rebuilt tables together, on a clock of numbers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "balancer/algorithms.rs"]
mod algorithms;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use gateway::balancer::{self, Outcome, PickTable, Policy, REBUILD, Rng, Seat, Standing, Statistics, Tried};
use gateway::state::tables::peers::{self, Peer, Peers};
use gateway::types::{Id, MILLISECOND, SECOND};
use proptest::prelude::*;

const UPSTREAM: Id = Id { slot: 4, birth: 2 };

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Standings that stand still.
struct Fixed(Vec<Standing>);

impl Statistics for Fixed {
    fn standing(&self, slot: u32, _: u64) -> Standing {
        self.0.get(slot as usize).copied().unwrap_or(Standing::UNKNOWN)
    }

    fn seed(&self, _: u32, _: f32, _: u64) {}
}

fn measured(ms: f32, errors: f32) -> Standing {
    Standing { latency: Some(ms), errors, available: true }
}

fn ejected() -> Standing {
    Standing { available: false, ..measured(10.0, 0.0) }
}

/// Builds a table over `peers`: static weight, priority, standing.
fn built(peers: &[(u32, u8, Standing)]) -> (Vec<AtomicU64>, Fixed) {
    let words = words(PickTable::words(peers.len() as u32));
    let fixed = Fixed(peers.iter().map(|(.., standing)| *standing).collect());
    let seats =
        peers.iter().zip(0..).map(|((weight, priority, _), slot)| Seat { weight: *weight, priority: *priority, slot });
    PickTable::new(&words, peers.len() as u32).unwrap().build(seats, &fixed, SECOND);
    (words, fixed)
}

/// Shares of 100,000 first picks.
fn shares(words: &[AtomicU64], statistics: &impl Statistics, peers: usize, mono: u64) -> Vec<f64> {
    const PICKS: u32 = 100_000;
    let table = PickTable::new(words, peers as u32).unwrap();
    let mut rng = Rng::new(7);
    let mut counts = vec![0_u32; peers];
    for _ in 0..PICKS {
        counts[table.pick(statistics, &Tried::new(), &mut rng, mono).unwrap() as usize] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(PICKS)).collect()
}

/// Shares within 2 % of what the weights say, and for those below `small` what chance does to 100,000 picks.
#[track_caller]
fn assert_shares_from(small: f64, shares: &[f64], weights: &[f64], what: &str) {
    let sum: f64 = weights.iter().sum();
    for (share, weight) in shares.iter().zip(weights) {
        let expected = weight / sum;
        // Some thousands of shares are compared in a run: with four deviations one run in six would fail by chance alone.
        let chance = if expected < small { 5.5 * (expected * (1.0 - expected) / 1e5).sqrt() } else { 0.0 };
        assert!((share - expected).abs() <= (0.02 * expected).max(chance), "{what}: {shares:?} for {weights:?}");
    }
}

#[track_caller]
fn assert_shares(shares: &[f64], weights: &[f64], what: &str) {
    assert_shares_from(0.2, shares, weights, what);
}

#[test]
fn shares_are_proportional_to_the_weights() {
    type Case = (&'static str, Vec<(u32, u8, Standing)>, Vec<f64>);
    let cases: Vec<Case> = vec![
        (
            "latency",
            vec![(1, 0, measured(9.0, 0.0)), (1, 0, measured(19.0, 0.0)), (1, 0, measured(49.0, 0.0))],
            vec![100.0, 50.0, 20.0],
        ),
        (
            "weight, latency and errors",
            vec![(5, 0, measured(49.0, 0.0)), (3, 0, measured(9.0, 0.5)), (2, 0, measured(19.0, 0.2))],
            vec![100.0, 150.0, 80.0],
        ),
        (
            "static weights alone, nobody measured",
            vec![(5, 0, Standing::UNKNOWN), (1, 0, Standing::UNKNOWN), (1, 0, Standing::UNKNOWN)],
            vec![5.0, 1.0, 1.0],
        ),
        (
            "who was never measured counts as the mean",
            vec![(1, 0, measured(9.0, 0.0)), (1, 0, measured(29.0, 0.0)), (1, 0, Standing::UNKNOWN)],
            vec![100.0, 1000.0 / 30.0, 50.0],
        ),
        (
            "nobody falls below 1 % of the best",
            vec![(1, 0, measured(1.0, 0.0)), (1, 0, measured(99_999.0, 0.0)), (1, 0, measured(1.0, 1.0))],
            vec![1.0, 0.01, 0.01],
        ),
        (
            "all worth nothing: even",
            vec![(9, 0, measured(1.0, 1.0)), (1, 0, measured(50.0, 1.0)), (1, 0, measured(9.0, 1.0))],
            vec![1.0, 1.0, 1.0],
        ),
        (
            "a static weight of 0 gets nothing",
            vec![(0, 0, measured(1.0, 0.0)), (1, 0, measured(50.0, 0.0)), (1, 0, measured(50.0, 0.0))],
            vec![0.0, 1.0, 1.0],
        ),
        (
            "all static weights 0: as if they were 1",
            vec![(0, 0, measured(9.0, 0.0)), (0, 0, measured(9.0, 0.0))],
            vec![1.0, 1.0],
        ),
        (
            "backups wait",
            vec![(1, 0, measured(99.0, 0.0)), (1, 1, measured(1.0, 0.0)), (1, 0, measured(99.0, 0.0))],
            vec![1.0, 0.0, 1.0],
        ),
        (
            "until no other is available",
            vec![(1, 0, ejected()), (1, 1, measured(9.0, 0.0)), (2, 1, measured(9.0, 0.0)), (1, 2, measured(1.0, 0.0))],
            vec![0.0, 1.0, 2.0, 0.0],
        ),
        (
            "an ejected one gets nothing",
            vec![(1, 0, ejected()), (1, 0, measured(9.0, 0.0)), (1, 0, measured(9.0, 0.0))],
            vec![0.0, 1.0, 1.0],
        ),
        (
            "all ejected: all are used, backups still wait",
            vec![(1, 0, ejected()), (1, 0, ejected()), (1, 1, ejected())],
            vec![1.0, 1.0, 0.0],
        ),
        ("one", vec![(3, 0, measured(9.0, 0.0))], vec![1.0]),
    ];
    for (what, peers, weights) in cases {
        let (words, fixed) = built(&peers);
        assert_shares(&shares(&words, &fixed, peers.len(), SECOND), &weights, what);
    }
}

#[test]
fn who_gets_worse_loses_with_the_next_request_and_not_with_the_next_table() {
    let peers = [(1, 0, measured(9.0, 0.0)), (1, 0, measured(9.0, 0.0)), (1, 0, measured(9.0, 0.0))];
    let (words, mut fixed) = built(&peers);
    fixed.0[0].errors = 0.5;
    // Accepted every other time, then drawn anew: 1/6 of all, and 2/5 and 2/5 of what is left.
    let after = shares(&words, &fixed, 3, SECOND);
    assert_shares(&after, &[0.5, 1.0, 1.0], "half as good");
    fixed.0[0] = ejected();
    assert_shares(&shares(&words, &fixed, 3, SECOND), &[0.0, 1.0, 1.0], "ejected");
    fixed.0[1] = ejected();
    assert_shares(&shares(&words, &fixed, 3, SECOND), &[0.0, 0.0, 1.0], "another, the scan finds the third");
    fixed.0[0] = measured(9.0, 1.0);
    assert_shares(&shares(&words, &fixed, 3, SECOND), &[0.01, 0.0, 1.0], "worthless but available");
}

#[test]
fn whoever_is_measured_first_does_not_lose_to_those_who_were_not() {
    let peers = [(1, 0, Standing::UNKNOWN), (1, 0, Standing::UNKNOWN), (1, 0, Standing::UNKNOWN)];
    let (words, mut fixed) = built(&peers);
    fixed.0[0] = measured(100.0, 0.0);
    assert_shares(&shares(&words, &fixed, 3, SECOND), &[1.0, 1.0, 1.0], "one slow, two unknown");
    fixed.0[1].errors = 1.0;
    assert_shares(&shares(&words, &fixed, 3, SECOND), &[1.0, 0.01, 1.0], "but a failure counts at once");
}

#[test]
fn a_table_that_was_never_built_and_one_without_peers() {
    let mut rng = Rng::new(1);
    let words = words(PickTable::words(3));
    let table = PickTable::new(&words, 3).unwrap();
    assert!(table.is_due(0) && table.is_due(SECOND));
    assert_eq!(table.pick(&Fixed(vec![]), &Tried::new(), &mut rng, 0), Some(0));
    assert!(PickTable::new(&words, 4).is_none());
    let none = PickTable::new(&words, 0).unwrap();
    assert!(none.is_empty());
    assert_eq!(none.pick(&Fixed(vec![]), &Tried::new(), &mut rng, 0), None);

    table.build((0..3).map(|slot| Seat { weight: 1, priority: 0, slot }), &Fixed(vec![]), SECOND);
    assert!(!table.is_due(SECOND + REBUILD - 1) && table.is_due(SECOND + REBUILD));
    assert_eq!(table.slot(2), Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn retries_go_through_every_peer_once_best_rank_first(
        peers in proptest::collection::vec((0..4_u32, 0..3_u8, 0..4_u8), 1..200),
        seed: u64,
    ) {
        let peers: Vec<_> = peers
            .into_iter()
            .map(|(weight, priority, standing)| (weight, priority, match standing {
                0 => ejected(),
                1 => Standing::UNKNOWN,
                2 => measured(500.0, 1.0),
                _ => measured(10.0, 0.1),
            }))
            .collect();
        let all_zero = peers.iter().all(|(weight, ..)| *weight == 0);
        let all_gone = peers.iter().all(|(weight, _, standing)| !standing.available || *weight == 0 && !all_zero);
        let (words, fixed) = built(&peers);
        let table = PickTable::new(&words, peers.len() as u32).unwrap();
        let mut rng = Rng::new(seed);
        let mut tried = Tried::new();
        let mut ranks = Vec::new();
        while let Some(place) = table.pick(&fixed, &tried, &mut rng, SECOND) {
            prop_assert!(!tried.contains(place), "{place} again");
            let (weight, priority, standing) = peers[place as usize];
            // A single peer is taken as it is.
            prop_assert!(weight > 0 || all_zero || peers.len() == 1);
            ranks.push((!standing.available && !all_gone, priority));
            tried.insert(place);
            if tried.len() == 16 {
                break;
            }
        }
        prop_assert!(ranks.is_sorted(), "{ranks:?}");
        let eligible = peers.iter().filter(|(weight, ..)| *weight > 0 || all_zero).count();
        prop_assert_eq!(ranks.len(), eligible.max(usize::from(peers.len() == 1)).min(16));
    }

    #[test]
    fn a_mix_of_two_versions_names_only_peers(
        count in 2..300_u32,
        mask in proptest::collection::vec(any::<bool>(), 1000),
        seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let mut version = || {
            let peers: Vec<_> = (0..count)
                .map(|_| (1 + rng.below(9), rng.below(2) as u8, match rng.below(4) {
                    0 => ejected(),
                    _ => measured(rng.fraction() * 500.0, rng.fraction()),
                }))
                .collect();
            built(&peers)
        };
        let ((one, fixed), (other, _)) = (version(), version());
        for (index, (one, other)) in one.iter().zip(&other).enumerate() {
            if mask[index % mask.len()] {
                one.store(other.load(Relaxed), Relaxed);
            }
        }
        let table = PickTable::new(&one, count).unwrap();
        let mut rng = Rng::new(seed);
        for _ in 0..500 {
            let place = table.pick(&fixed, &Tried::new(), &mut rng, SECOND);
            prop_assert!(place.is_some_and(|place| place < count && table.slot(place) == Some(place)));
        }
    }

    #[test]
    fn a_damaged_table_names_only_peers(words in proptest::collection::vec(any::<u64>(), PickTable::words(5)), seed: u64) {
        let words: Vec<_> = words.into_iter().map(AtomicU64::new).collect();
        let table = PickTable::new(&words, 5).unwrap();
        let (mut rng, mut tried) = (Rng::new(seed), Tried::new());
        while let Some(place) = table.pick(&Fixed(vec![]), &tried, &mut rng, SECOND) {
            prop_assert!(place < 5 && !tried.contains(place));
            tried.insert(place);
        }
        prop_assert_eq!(table.slot(5), None);
    }

    #[test]
    fn shares_of_any_fleet_are_its_weights(
        peers in proptest::collection::vec((1..20_u32, 0.1..300.0_f32, 0.0..0.5_f32), 2..12),
    ) {
        let best = peers.iter().map(|(_, ms, errors)| 1000.0 / (ms + 1.0) * (1.0 - errors)).fold(0.0, f32::max);
        let weights: Vec<f64> = peers
            .iter()
            .map(|(weight, ms, errors)| {
                f64::from(*weight) * f64::from((1000.0 / (ms + 1.0) * (1.0 - errors)).max(best * 0.01))
            })
            .collect();
        let peers: Vec<_> = peers.into_iter().map(|(weight, ms, errors)| (weight, 0, measured(ms, errors))).collect();
        let (words, fixed) = built(&peers);
        assert_shares_from(0.6, &shares(&words, &fixed, peers.len(), SECOND), &weights, "fleet");
    }
}

#[test]
fn readers_of_a_table_under_rebuild_always_get_a_peer() {
    const PEERS: u32 = 50;
    let words = words(PickTable::words(PEERS));
    let versions: Vec<Fixed> = (0..4_u32)
        .map(|version| {
            let standing = |peer| match (peer + version) % 3 {
                0 => ejected(),
                _ => measured(((peer * 7 + version * 13) % 90) as f32, 0.0),
            };
            Fixed((0..PEERS).map(standing).collect())
        })
        .collect();
    let table = PickTable::new(&words, PEERS).unwrap();
    let build = |version: usize| {
        table.build(
            (0..PEERS).map(|slot| Seat { weight: 1 + slot, priority: 0, slot }),
            &versions[version % 4],
            SECOND,
        );
    };
    build(0);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let readers = &versions;
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for pick in 0..100_000 {
                    let place = table.pick(&readers[pick % 4], &Tried::new(), &mut rng, SECOND).unwrap();
                    assert!(place < PEERS);
                }
            });
        }
        for version in 0..2_000 {
            build(version);
        }
    });
}

/// An upstream under load: requests come at even intervals, answers later, the leader rebuilds every 250 ms.
struct Load {
    statistics: Vec<AtomicU64>,
    table: Vec<AtomicU64>,
    policy: Policy,
    slots: Vec<u32>,
    rng: Rng,
    mono: u64,
    due: u64,
    answers: BinaryHeap<Reverse<(u64, u32, u64, u64)>>,
}

impl Load {
    fn new(ports: &[u16]) -> Self {
        Self::under(Policy::default(), ports)
    }

    fn under(policy: Policy, ports: &[u16]) -> Self {
        let mut load = Self {
            policy,
            statistics: words(64 * peers::WIDTH),
            table: vec![],
            slots: vec![],
            rng: Rng::new(3),
            mono: 1_000 * SECOND,
            due: 0,
            answers: BinaryHeap::new(),
        };
        load.publish(ports);
        load
    }

    /// A document edit: another list of peers, another table.
    fn publish(&mut self, ports: &[u16]) {
        let peers = Peers::new(&self.statistics);
        self.slots = ports.iter().map(|port| peers.claim(balancer::key(UPSTREAM, "10.0.0.1", *port))).collect();
        let seats: Vec<Seat> = self.slots.iter().map(|slot| Seat { weight: 1, priority: 0, slot: *slot }).collect();
        self.table = PickTable::lay(self.policy, &seats, &[]);
        self.build();
    }

    fn build(&mut self) {
        let table = PickTable::new(&self.table, self.slots.len() as u32).unwrap().under(self.policy);
        let seats = self.slots.iter().map(|slot| Seat { weight: 1, priority: 0, slot: *slot });
        table.build(seats, &Peers::new(&self.statistics), self.mono);
        self.due = self.mono + REBUILD;
    }

    /// Runs `seconds` of `rate` requests a second; `behave` says how a peer answers its nth request. Returns shares.
    fn run(&mut self, seconds: u64, rate: u64, behave: impl Fn(usize, u64) -> (Outcome, u64)) -> Vec<f64> {
        let mut counts = vec![0_u64; self.slots.len()];
        for _ in 0..seconds * rate {
            self.mono += SECOND / rate;
            while let Some(Reverse((at, slot, key, micros))) = self.answers.peek().copied()
                && at <= self.mono
            {
                self.answers.pop();
                let outcome = if micros == u64::MAX { Outcome::Failure } else { Outcome::Latency(micros) };
                let peers = Peers::new(&self.statistics);
                peers.observe(Peer { slot, worker: 0, key }, outcome, at);
                peers.finished(Peer { slot, worker: 0, key });
            }
            if self.mono >= self.due {
                self.build();
            }
            let peers = Peers::new(&self.statistics);
            let table = PickTable::new(&self.table, self.slots.len() as u32).unwrap().under(self.policy);
            let place = table.pick(&peers, &Tried::new(), &mut self.rng, self.mono).unwrap() as usize;
            let peer = peers.started(table.slot(place as u32).unwrap(), 0);
            let (outcome, takes) = behave(place, counts[place]);
            counts[place] += 1;
            let micros = match outcome {
                Outcome::Latency(micros) => micros,
                Outcome::Failure => u64::MAX,
            };
            self.answers.push(Reverse((self.mono + takes, peer.slot, peer.key, micros)));
        }
        let sum: u64 = counts.iter().sum();
        counts.into_iter().map(|count| count as f64 / sum as f64).collect()
    }
}

fn answers(ms: u64) -> (Outcome, u64) {
    (Outcome::Latency(ms * MILLISECOND), ms * MILLISECOND)
}

fn fails(ms: u64) -> (Outcome, u64) {
    (Outcome::Failure, ms * MILLISECOND)
}

#[test]
fn a_black_hole_loses() {
    // 90 % fail in 1 ms; the rest is answered as slowly as by the healthy peer, or, worse, as fast as it fails.
    for good in [100, 1] {
        let mut load = Load::new(&[1, 2]);
        let black_hole = |peer, count| match (peer, count % 10) {
            (0, 0) => answers(good),
            (0, _) => fails(1),
            _ => answers(100),
        };
        load.run(10, 200, black_hole);
        let shares = load.run(60, 200, black_hole);
        assert!(shares[0] < 0.2, "good answers in {good} ms: {shares:?}");
    }
}

#[test]
fn a_slow_peer_falls_to_its_share_and_regains_it() {
    let mut load = Load::new(&[1, 2, 3]);
    let even = load.run(10, 100, |_, _| answers(20));
    assert!(even.iter().all(|share| (share - 1.0 / 3.0).abs() < 0.05), "{even:?}");
    let slow = |peer, _| answers(if peer == 0 { 200 } else { 20 });
    load.run(10, 100, slow);
    // 1000/201 against twice 1000/21.
    let shares = load.run(60, 100, slow);
    let expected = (1.0 / 201.0) / (1.0 / 201.0 + 2.0 / 21.0);
    assert!((shares[0] - expected).abs() < 0.015, "{shares:?} for {expected}");
    load.run(10, 100, |_, _| answers(20));
    let healed = load.run(60, 100, |_, _| answers(20));
    assert!(healed.iter().all(|share| (share - 1.0 / 3.0).abs() < 0.02), "{healed:?}");
}

#[test]
fn a_dead_peer_loses_its_traffic_and_is_found_again_when_it_heals() {
    for seed in 0..10 {
        let mut load = Load::new(&[1, 2, 3]);
        load.rng = Rng::new(seed);
        load.run(10, 100, |_, _| answers(20));
        load.run(5, 100, |peer, _| if peer == 0 { fails(1) } else { answers(20) });
        // The rate decays between two failures, so it is tried now and then: 1 / sqrt(2 x 3 s x 100/s) of the requests.
        let dying = load.run(20, 100, |peer, _| if peer == 0 { fails(1) } else { answers(20) });
        assert!(dying[0] < 0.06, "{dying:?}");
        let dead = load.run(60, 5, |peer, _| if peer == 0 { fails(1) } else { answers(20) });
        assert!(dead[0] < 0.25, "{dead:?}");
        // Five requests a second, thirty seconds: by then it has about its third again.
        load.run(20, 5, |_, _| answers(20));
        let found = load.run(10, 5, |_, _| answers(20));
        assert!(found[0] > 0.15, "seed {seed}: {found:?}");
    }
}

#[test]
fn peers_come_and_go_and_keep_their_numbers() {
    let mut load = Load::new(&[1, 2, 3]);
    let behave = |peer: usize, _| answers([9, 29, 49][peer]);
    load.run(20, 200, behave);
    let peers = |load: &Load, port| {
        let key = balancer::key(UPSTREAM, "10.0.0.1", port);
        Peers::new(&load.statistics).snapshot(key, load.mono)
    };
    let before = peers(&load, 2).unwrap();
    assert!((before.standing.latency.unwrap() - 29.0).abs() < 0.1 && before.picks > 500, "{before:?}");

    // One leaves, one comes, the order changes: who stays keeps slot and numbers, who comes begins at the mean.
    load.publish(&[4, 2, 1]);
    assert_eq!(peers(&load, 2).unwrap(), before);
    let new = peers(&load, 4).unwrap().standing.latency.unwrap();
    assert!((new - 19.0).abs() < 0.2, "the mean of 9 and 29: {new}");

    // Whoever comes back before the leader sweeps finds its numbers.
    load.publish(&[3, 2, 1]);
    let back = peers(&load, 3).unwrap();
    assert!((back.standing.latency.unwrap() - 49.0).abs() < 0.1, "{back:?}");

    // The sweep frees whom no document names; nothing is in flight to it any more.
    load.run(1, 10, |_, _| answers(1));
    let known: Vec<u64> = [1, 2, 3].map(|port| balancer::key(UPSTREAM, "10.0.0.1", port)).into();
    let table = Peers::new(&load.statistics);
    assert_eq!(table.sweep(|key| known.contains(&key), load.mono), 1);
    assert!(peers(&load, 4).is_none() && peers(&load, 3).is_some());
    assert!((table.fill() - 3.0 / 64.0).abs() < 1e-9);
}
