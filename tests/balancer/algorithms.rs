//! What holds for every algorithm, and what each promises beside.

use std::collections::HashSet;

use gateway::balancer::{Algorithm, Crc, Member};

use super::*;

const ALL: [Algorithm; 6] = {
    let [(_, a), (_, b), (_, c), (_, d), (_, e), (_, f)] = Algorithm::WORDS;
    [a, b, c, d, e, f]
};

fn of(algorithm: Algorithm) -> Policy {
    Policy { algorithm, ..Policy::default() }
}

/// Peers that stand still, with so many requests in flight at each.
#[derive(Clone)]
struct Busy(Vec<(Standing, u32)>);

impl Statistics for Busy {
    fn standing(&self, slot: u32, _: u64) -> Standing {
        self.0.get(slot as usize).map_or(Standing::UNKNOWN, |peer| peer.0)
    }

    fn seed(&self, _: u32, _: f32, _: u64) {}

    fn in_flight(&self, slot: u32) -> u32 {
        self.0.get(slot as usize).map_or(0, |peer| peer.1)
    }
}

/// A table over `peers`: static weight, priority, standing, in flight; each is `10.0.0.1:PLACE` on the ring.
struct Built {
    words: Vec<AtomicU64>,
    peers: u32,
    policy: Policy,
    busy: Busy,
}

impl Built {
    fn new(policy: Policy, peers: &[(u32, u8, Standing, u32)]) -> Self {
        let busy = Busy(peers.iter().map(|(.., standing, busy)| (*standing, *busy)).collect());
        let seats: Vec<Seat> = peers
            .iter()
            .zip(0..)
            .map(|((weight, priority, ..), slot)| Seat { weight: *weight, priority: *priority, slot })
            .collect();
        let names: Vec<String> = (0..peers.len()).map(|place| format!("10.0.0.1:{place}")).collect();
        let nodes: Vec<Member<'_>> = names
            .iter()
            .zip(&seats)
            .map(|(server, seat)| Member {
                server,
                weight: seat.weight,
                priority: seat.priority,
                first: seat.slot,
                count: 1,
            })
            .collect();
        let built = Self { words: PickTable::lay(policy, &seats, &nodes), peers: peers.len() as u32, policy, busy };
        built.table().build(seats, &built.busy, SECOND);
        built
    }

    fn table(&self) -> PickTable<'_> {
        PickTable::new(&self.words, self.peers).unwrap().under(self.policy)
    }

    fn pick(&self, key: u32, tried: &Tried, rng: &mut Rng) -> Option<u32> {
        self.table().keyed(Some(key)).pick(&self.busy, tried, rng, SECOND)
    }

    fn shares(&self, picks: u32) -> Vec<f64> {
        let mut rng = Rng::new(11);
        let mut counts = vec![0_u32; self.peers as usize];
        for pick in 0..picks {
            let key = Crc::EMPTY.with(&pick.to_le_bytes()).finish();
            counts[self.pick(key, &Tried::new(), &mut rng).unwrap() as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(picks)).collect()
    }
}

fn good() -> Standing {
    measured(10.0, 0.0)
}

#[test]
fn backups_zero_weights_ejections_and_panic_mean_the_same_to_all() {
    type Peers = Vec<(u32, u8, Standing, u32)>;
    let cases: [(&str, Peers, &[u32]); 7] = [
        ("one", vec![(1, 0, good(), 0)], &[0]),
        ("backups wait", vec![(1, 1, good(), 0), (1, 0, good(), 0), (2, 0, good(), 0)], &[1, 2]),
        ("for the last", vec![(1, 0, ejected(), 0), (1, 1, good(), 0), (1, 2, good(), 0)], &[1]),
        ("no weight", vec![(0, 0, good(), 0), (1, 0, good(), 0)], &[1]),
        ("no weights", vec![(0, 0, good(), 0), (0, 0, good(), 0)], &[0, 1]),
        ("ejected", vec![(1, 0, ejected(), 0), (1, 0, good(), 0), (1, 0, good(), 0)], &[1, 2]),
        ("all ejected", vec![(1, 0, ejected(), 0), (1, 0, ejected(), 0), (1, 1, ejected(), 0)], &[0, 1]),
    ];
    for (what, peers, expected) in cases {
        for algorithm in ALL {
            if algorithm == Algorithm::Hash && what == "no weights" {
                // A ring without points: as without a key.
                assert_eq!(Built::new(of(algorithm), &peers).table().keyed(Some(1)).home(), None);
            }
            let shares = Built::new(of(algorithm), &peers).shares(3_000);
            let used: Vec<u32> =
                (0..).zip(&shares).filter(|(_, share)| **share > 0.0).map(|(place, _)| place).collect();
            assert_eq!(used, expected, "{what}, {algorithm:?}: {shares:?}");
        }
    }
}

#[test]
fn who_falls_out_after_the_build_is_passed_over_and_the_rest_share() {
    for algorithm in ALL {
        let mut built = Built::new(of(algorithm), &[(1, 0, good(), 0), (1, 0, good(), 0), (1, 0, good(), 0)]);
        built.busy.0[1].0 = ejected();
        let shares = built.shares(30_000);
        assert_eq!(shares[1], 0.0, "{algorithm:?}");
        assert!((shares[0] - 0.5).abs() < 0.1, "{algorithm:?}: {shares:?}");
        built.busy.0[0].0 = ejected();
        built.busy.0[2].0 = ejected();
        // Nobody is left, and the table does not know it yet: anybody is better than nobody.
        assert!(built.pick(7, &Tried::new(), &mut Rng::new(1)).is_some(), "{algorithm:?}");
    }
}

#[test]
fn limits_hold_backups_take_what_is_over_and_then_nobody_does() {
    for algorithm in ALL {
        let policy = Policy { max_in_flight: 2, ..of(algorithm) };
        let built = |busy: [u32; 3]| {
            Built::new(policy, &[(1, 0, good(), busy[0]), (3, 0, good(), busy[1]), (1, 1, good(), busy[2])])
        };
        assert_eq!(built([2, 1, 0]).shares(500), [0.0, 1.0, 0.0], "{algorithm:?}");
        assert_eq!(built([2, 3, 1]).shares(500), [0.0, 0.0, 1.0], "{algorithm:?}");
        let full = built([2, 2, 2]);
        assert_eq!(full.pick(9, &Tried::new(), &mut Rng::new(1)), None, "{algorithm:?}");
        assert!((0..5).all(|from| full.table().is_busy(&full.busy, from)));
        assert!((0..5).all(|from| {
            let built = built([2, 2, 1]);
            !built.table().is_busy(&built.busy, from)
        }));
        let one = Built::new(policy, &[(1, 0, good(), 2)]);
        assert_eq!(one.pick(9, &Tried::new(), &mut Rng::new(1)), None, "{algorithm:?}");
        assert!(one.table().is_busy(&one.busy, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn shares_are_the_weights(weights in proptest::collection::vec(1..20_u32, 2..12)) {
        let exact: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
        let peers: Vec<_> = weights.iter().map(|weight| (*weight, 0, good(), 0)).collect();
        for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::LeastConn] {
            assert_shares(&Built::new(of(algorithm), &peers).shares(100_000), &exact, "static weights");
        }
        // Of two with equal costs the one that is drawn first, by weight; the ring is as even as 160 points can be.
        let cost = Built::new(of(Algorithm::P2cEwma), &peers).shares(100_000);
        assert_shares(&cost, &exact, "equal costs");
        let sum: f64 = exact.iter().sum();
        for (share, weight) in Built::new(of(Algorithm::Hash), &peers).shares(100_000).iter().zip(&exact) {
            prop_assert!((share - weight / sum).abs() < 0.35 * weight / sum + 0.01, "{share} for {weight} of {sum}");
        }
    }

    #[test]
    fn retries_go_through_every_peer_once_best_rank_first_by_any_algorithm(
        peers in proptest::collection::vec((0..4_u32, 0..3_u8, 0..4_u8), 2..80),
        algorithm in proptest::sample::select(ALL.to_vec()),
        key: u32,
    ) {
        let peers: Vec<_> = peers
            .into_iter()
            .map(|(weight, priority, standing)| (weight, priority, match standing {
                0 => ejected(),
                1 => Standing::UNKNOWN,
                2 => measured(500.0, 1.0),
                _ => good(),
            }, 0))
            .collect();
        let all_zero = peers.iter().all(|(weight, ..)| *weight == 0);
        let all_gone = peers.iter().all(|(weight, _, standing, _)| !standing.available || *weight == 0 && !all_zero);
        let built = Built::new(of(algorithm), &peers);
        let (mut rng, mut tried, mut ranks) = (Rng::new(u64::from(key)), Tried::new(), vec![]);
        while let Some(place) = built.pick(key, &tried, &mut rng)
            && ranks.len() < 16
        {
            prop_assert!(!tried.contains(place), "{place} again");
            let (weight, priority, standing, _) = peers[place as usize];
            prop_assert!(weight > 0 || all_zero);
            ranks.push((!standing.available && !all_gone, priority));
            tried.insert(place);
        }
        prop_assert!(ranks.is_sorted(), "{algorithm:?} {ranks:?}");
        let eligible = peers.iter().filter(|(weight, ..)| *weight > 0 || all_zero).count();
        prop_assert_eq!(ranks.len(), eligible.min(16));
    }

    #[test]
    fn a_damaged_table_names_only_peers_by_any_algorithm(
        words in proptest::collection::vec(prop_oneof![any::<u64>(), 0..20_u64, (0..9_u64).prop_map(|n| n << 32 | n)], 23..60),
        algorithm in proptest::sample::select(ALL.to_vec()),
        seed: u64,
    ) {
        let words: Vec<_> = words.into_iter().map(AtomicU64::new).collect();
        let policy = Policy { max_in_flight: 3, ..of(algorithm) };
        let table = PickTable::new(&words, 5).unwrap().under(policy).keyed(Some(seed as u32));
        let (mut rng, mut tried) = (Rng::new(seed), Tried::new());
        while let Some(place) = table.pick(&Fixed(vec![]), &tried, &mut rng, SECOND) {
            prop_assert!(place < 5 && !tried.contains(place));
            tried.insert(place);
        }
        prop_assert!(table.home().is_none_or(|place| place < 5));
        table.build((0..5).map(|slot| Seat { weight: 1 + slot, priority: 0, slot }), &Fixed(vec![]), SECOND);
        prop_assert!(table.pick(&Fixed(vec![]), &Tried::new(), &mut rng, SECOND).is_some_and(|place| place < 5));
    }
}

#[test]
fn one_sequence_for_all_workers() {
    let built = Built::new(of(Algorithm::RoundRobin), &[(5, 0, good(), 0), (2, 0, good(), 0), (1, 0, good(), 0)]);
    let counts: Vec<AtomicU64> = words(3);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (built, counts) = (&built, &counts);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..2_000 {
                    let place = built.pick(0, &Tried::new(), &mut rng).unwrap();
                    counts[place as usize].fetch_add(1, Relaxed);
                }
            });
        }
    });
    let counts: Vec<u64> = counts.iter().map(|count| count.load(Relaxed)).collect();
    assert_eq!(counts, [5_000, 2_000, 1_000], "to the last one, whoever of the workers took which turn");
}

#[test]
fn the_least_busy_for_its_weight_also_among_many() {
    let busy = |counts: &[(u32, u32)]| {
        let peers: Vec<_> = counts.iter().map(|(weight, busy)| (*weight, 0, good(), *busy)).collect();
        Built::new(of(Algorithm::LeastConn), &peers).shares(200)
    };
    assert_eq!(busy(&[(1, 3), (1, 2), (1, 4)]), [0.0, 1.0, 0.0]);
    assert_eq!(busy(&[(4, 3), (1, 1), (2, 2)]), [1.0, 0.0, 0.0], "3/4 is less than 1");
    assert_eq!(busy(&[(1, 1), (2, 2), (1, 5)]).iter().filter(|share| **share > 0.3).count(), 2, "equals take turns");
    // Of a hundred, four are looked at: half of them being busy, one in sixteen goes to a busy one.
    let many: Vec<(u32, u32)> = (0..100).map(|place| (1, place % 2 * 10)).collect();
    let idle: f64 = busy(&many).iter().step_by(2).sum();
    assert!(idle > 0.85, "{idle}");
}

#[test]
fn of_two_the_cheaper_by_latency_and_what_is_in_flight() {
    let shares = |peers: &[(u32, Standing, u32)]| {
        let peers: Vec<_> = peers.iter().map(|(weight, standing, busy)| (*weight, 0, *standing, *busy)).collect();
        Built::new(of(Algorithm::P2cEwma), &peers).shares(20_000)
    };
    let two = shares(&[(1, measured(10.0, 0.0), 0), (1, measured(30.0, 0.0), 0)]);
    assert!(two[0] > 0.8 && two[1] > 0.002, "the slow one is measured all the same: {two:?}");
    let two = shares(&[(1, measured(10.0, 0.0), 5), (1, measured(30.0, 0.0), 0)]);
    assert!(two[0] < 0.2, "six times 11 is more than 31: {two:?}");
    let two = shares(&[(1, measured(1.0, 0.9), 0), (1, measured(30.0, 0.0), 0)]);
    assert!(two[0] < 0.2, "fast at failing: {two:?}");
    let two = shares(&[(3, good(), 2), (1, good(), 1)]);
    assert!(two[0] > 0.8, "two on three are fewer than one on one: {two:?}");
}

#[test]
fn a_black_hole_loses_by_cost_too_and_is_found_again_when_it_heals() {
    for ports in [&[1, 2][..], &[1, 2, 3, 4]] {
        for good in [100, 1] {
            let mut load = Load::under(of(Algorithm::P2cEwma), ports);
            let black_hole = |peer, count| match (peer, count % 10) {
                (0, 0) => answers(good),
                (0, _) => fails(1),
                _ => answers(100),
            };
            load.run(10, 200, black_hole);
            let shares = load.run(60, 200, black_hole);
            assert!(shares[0] < 0.2, "good answers in {good} ms: {shares:?}");
            load.run(30, 200, |_, _| answers(20));
            let healed = load.run(30, 200, |_, _| answers(20));
            assert!(healed[0] > 0.5 / ports.len() as f64, "{healed:?}");
        }
    }
}

#[test]
fn a_slow_one_is_found_again_by_cost() {
    let mut load = Load::under(of(Algorithm::P2cEwma), &[1, 2, 3]);
    let slow = |peer, _| answers(if peer == 0 { 500 } else { 20 });
    load.run(20, 100, slow);
    let shares = load.run(30, 100, slow);
    assert!(shares[0] < 0.05, "{shares:?}");
    load.run(30, 100, |_, _| answers(20));
    let healed = load.run(60, 100, |_, _| answers(20));
    assert!(healed[0] > 0.15, "{healed:?}");
}

#[test]
fn keys_stay_when_others_leave_and_an_ejected_ones_keys_are_spread() {
    let peers = |out: Option<usize>| -> Vec<_> {
        (0..10).map(|place| (1, 0, if Some(place) == out { ejected() } else { good() }, 0)).collect()
    };
    let (whole, less) =
        (Built::new(of(Algorithm::Hash), &peers(None)), Built::new(of(Algorithm::Hash), &peers(Some(3))));
    let mut heirs = HashSet::new();
    for n in 0..5_000_u32 {
        let key = Crc::EMPTY.with(&n.to_be_bytes()).finish();
        let place = |built: &Built| built.pick(key, &Tried::new(), &mut Rng::new(1)).unwrap();
        assert_eq!(whole.table().keyed(Some(key)).home(), Some(place(&whole)));
        match place(&whole) {
            3 => {
                heirs.insert(place(&less));
            }
            other => assert_eq!(place(&less), other),
        }
    }
    assert!(heirs.len() > 6, "{heirs:?}");
}

#[test]
fn the_addresses_of_a_name_take_turns_at_its_keys() {
    let seats: Vec<Seat> = (0..4).map(|slot| Seat { weight: 1, priority: 0, slot }).collect();
    let nodes = [
        Member { server: "db:80", weight: 1, priority: 0, first: 0, count: 3 },
        Member { server: "10.0.0.1:80", weight: 1, priority: 0, first: 3, count: 1 },
    ];
    let policy = of(Algorithm::Hash);
    let words = PickTable::lay(policy, &seats, &nodes);
    let table = PickTable::new(&words, 4).unwrap().under(policy);
    let mut statistics = Fixed(vec![good(); 4]);
    table.build(seats, &statistics, SECOND);
    let key = (0..).find(|key| table.keyed(Some(*key)).home() == Some(0)).unwrap();
    let mut rng = Rng::new(1);
    let mut pick =
        |statistics: &Fixed, tried: &Tried| table.keyed(Some(key)).pick(statistics, tried, &mut rng, SECOND).unwrap();
    let used: HashSet<u32> = (0..6).map(|_| pick(&statistics, &Tried::new())).collect();
    assert_eq!(used, HashSet::from([0, 1, 2]));
    statistics.0[1] = ejected();
    let mut tried = Tried::new();
    tried.insert(0);
    assert_eq!(pick(&statistics, &tried), 2, "the one that is left of the name");
    tried.insert(2);
    assert_eq!(pick(&statistics, &tried), 3, "the next on the ring");
}

#[test]
fn who_is_new_or_returns_ramps_up() {
    let policy = Policy { slow_start: 10 * SECOND, ..of(Algorithm::RoundRobin) };
    for algorithm in [Algorithm::RoundRobin, Algorithm::Adaptive, Algorithm::Random] {
        let mut load = Load::under(Policy { algorithm, ..policy }, &[1, 2]);
        let even = |_: usize, _: u64| answers(20);
        let shares = load.run(5, 200, even);
        assert!((shares[0] - 0.5).abs() < 0.05, "all are new: {algorithm:?} {shares:?}");
        load.run(20, 200, even);

        load.publish(&[1, 2, 3]);
        let first = load.run(1, 400, even)[2];
        let half = {
            load.run(3, 400, even);
            load.run(2, 400, even)[2]
        };
        let whole = {
            load.run(5, 400, even);
            load.run(5, 400, even)[2]
        };
        assert!(first < 0.08, "a tenth of a third: {algorithm:?} {first}");
        assert!((half - 0.2).abs() < 0.05, "{algorithm:?} {half}");
        assert!((whole - 0.333).abs() < 0.05, "{algorithm:?} {whole}");

        Peers::new(&load.statistics).eject(load.slots[1], load.mono + 3 * SECOND, load.mono);
        assert!(load.run(3, 400, even)[1] < 0.01, "out");
        let back = load.run(1, 400, even)[1];
        assert!(back > 0.0 && back < 0.09, "and back: {algorithm:?} {back}");
        load.run(10, 400, even);
        let whole = load.run(5, 400, even)[1];
        assert!((whole - 0.333).abs() < 0.05, "{algorithm:?} {whole}");
    }
}

#[test]
fn ten_thousand_nodes() {
    let peers: Vec<_> = (0..10_000_u32).map(|place| (1 + place % 3, 0, good(), place % 2)).collect();
    for algorithm in ALL {
        let built = Built::new(of(algorithm), &peers);
        let (mut rng, mut seen) = (Rng::new(5), HashSet::new());
        for n in 0..20_000_u32 {
            seen.insert(built.pick(Crc::EMPTY.with(&n.to_le_bytes()).finish(), &Tried::new(), &mut rng).unwrap());
        }
        assert!(seen.len() > 4_000, "{algorithm:?} {}", seen.len());
        if algorithm == Algorithm::RoundRobin {
            assert_eq!(seen.len(), 10_000, "a whole cycle");
        }
    }
}
