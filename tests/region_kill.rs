//! Processes that use one region and are killed at any instruction.
//!
//! A writer writes pairs of objects that belong together, readers look for a pair that does not match, for bytes that
//! do not add up and for keys that lead astray. The parent kills one of them after the other, leaves some of them as
//! zombies for a while, and starts new ones. The region is small, so memory is used again at once, and in a debug
//! build what is freed is overwritten first.
//!
//! `GATEWAY_KILL_ROUNDS` says how many are killed (300), and 45 seconds are the limit.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "support/processes.rs"]
mod processes;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use gateway::router::pattern::{Host, Path, Rule, Segment, Tail};
use gateway::state::tables::nonce::{Nonce, Nonces};
use gateway::state::{Captures, Identity, Reader, Region, SharedRegion, Writer};
use gateway::types::{Kind, Method, Methods, Object};
use processes::{Random, fork, kill, reap, was_killed};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Route {
    number: u64,
    text: String,
}

impl Object for Route {
    const KIND: Kind = Kind::Route;
}

const PAIRS: u64 = 24;

/// Counters of the region that this test uses.
const COMMITS: usize = 20;
const LOOKS: usize = 21;
const BAD: usize = 22;
const STEP: usize = 23;
const WON: usize = 24;
const TRIED: usize = 25;
const REFUSED: usize = 26;

fn count(region: &Region, index: usize) -> &AtomicU64 {
    &region.counters()[index]
}

fn text(number: u64) -> String {
    "abcdefghij".repeat((number % 37) as usize)
}

fn rules(side: &str, pair: u64) -> Vec<Rule> {
    let literal = |text: String| Segment::Literal(text.into_bytes());
    let path = Path::Pattern {
        segments: vec![literal(format!("{side}{pair}")), Segment::Param("id".into())],
        tail: Tail::None,
    };
    vec![
        Rule { host: Host::Exact(b"a.example".into()), path },
        Rule { host: Host::Any, path: Path::Exact(format!("/{side}{pair}").into_bytes()) },
    ]
}

fn write(region: Region, seed: u64) -> i32 {
    let mut random = Random(seed);
    let me = Identity::current();
    loop {
        let mut writer = match Writer::take(region, me) {
            Ok(Some(writer)) => writer,
            Ok(None) => continue,
            Err(corrupt) => {
                count(&region, BAD).fetch_add(1, SeqCst);
                eprintln!("{corrupt}");
                return 3;
            }
        };
        // The lease is given back now and then, so that takeovers are killed too.
        for _ in 0..random.below(60) {
            let mut change = writer.begin();
            let mut is_fine = true;
            for _ in 0..1 + random.below(4) {
                let pair = random.below(PAIRS);
                let number = random.next() >> 1;
                for side in ["left", "right"] {
                    let name = format!("{side}{pair}");
                    is_fine &= match number % 5 {
                        0 => change.remove(Kind::Route, &name).is_ok(),
                        _ => {
                            let route = Route { number, text: text(number) };
                            change.put_route(&name, &route, number, &rules(side, pair), Methods::ANY, 0, 0).is_ok()
                        }
                    };
                }
            }
            if !is_fine {
                count(&region, REFUSED).fetch_add(1, SeqCst);
                drop(change);
                writer.reclaim();
            } else if random.below(8) == 0 {
                drop(change);
            } else {
                change.commit();
                count(&region, COMMITS).fetch_add(1, SeqCst);
            }
            count(&region, STEP).fetch_add(1, SeqCst);
        }
        if let Err(corrupt) = writer.check() {
            count(&region, BAD).fetch_add(1, SeqCst);
            eprintln!("{corrupt}");
            return 4;
        }
    }
}

fn read(region: Region, seed: u64) -> i32 {
    let mut random = Random(seed);
    let Some(reader) = Reader::claim(region, Identity::current()) else { return 5 };
    let bad = |what: &str| {
        count(&region, BAD).fetch_add(1, SeqCst);
        eprintln!("{what}");
        6
    };
    loop {
        let Some(view) = reader.enter() else { continue };
        for _ in 0..1 + random.below(20) {
            let pair = random.below(PAIRS);
            let (left, right) = (format!("left{pair}"), format!("right{pair}"));
            let both = (view.named::<Route>(&left), view.named::<Route>(&right));
            let number = match both {
                (None, None) => None,
                (Some(one), Some(other)) => {
                    if !one.is_intact() || !other.is_intact() {
                        return bad("an object does not add up");
                    }
                    if one.number != other.number || one.text.as_str() != text(one.number.to_native()) {
                        return bad("a pair does not match");
                    }
                    Some(one.number.to_native())
                }
                _ => return bad("one half of a pair"),
            };
            for (host, path) in [(&b"a.example"[..], format!("/{left}/7")), (b"", format!("/{right}"))] {
                let mut captures = Captures::new();
                let found = view.route(host, path.as_bytes(), Method::Get, &mut captures, |_| true).found();
                let found = found.and_then(|route| route.object::<Route>()).map(|route| route.number.to_native());
                if found != number {
                    return bad("a key leads astray");
                }
            }
            count(&region, LOOKS).fetch_add(1, SeqCst);
        }
        // Some stay for long.
        for _ in 0..random.below(8) * random.below(2) * 20_000 {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn nobody_notices_a_kill() {
    let rounds: u64 = std::env::var("GATEWAY_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let limit = Instant::now() + Duration::from_secs(45);
    let owner = SharedRegion::new(1 << 20, [1, 2]).unwrap();
    let region = owner.region();
    let mut random = Random(0x5eed);
    let mut seed = 1;
    let mut start = |is_writer: bool| {
        seed += 1;
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        fork(|| if is_writer { write(region, seed) } else { read(region, seed) })
    };
    // The first one is the writer.
    let mut children: Vec<i32> = (0..4).map(|index| start(index == 0)).collect();
    let mut zombies: Vec<i32> = Vec::new();
    let mut kills = [0, 0];
    let mut done = 0;
    while done < rounds && Instant::now() < limit {
        // Let them get on, then strike anywhere.
        let (step, looks) = (count(&region, STEP).load(SeqCst), count(&region, LOOKS).load(SeqCst));
        let (steps, more) = (random.below(4), random.below(30));
        let patience = Instant::now() + Duration::from_secs(20);
        while count(&region, STEP).load(SeqCst) < step + steps || count(&region, LOOKS).load(SeqCst) < looks + more {
            assert!(Instant::now() < patience, "nobody gets on after {done} rounds");
            for &child in &children {
                let ended = reap(child, false);
                assert_eq!(ended, None, "a child ended by itself");
            }
            std::thread::yield_now();
        }
        for _ in 0..random.below(30_000) {
            std::hint::spin_loop();
        }
        let victim = if random.below(2) == 0 { 0 } else { 1 + random.below(3) as usize };
        kill(children[victim]);
        kills[usize::from(victim > 0)] += 1;
        if random.below(2) == 0 {
            assert!(was_killed(reap(children[victim], true).unwrap()), "it had crashed before");
        } else {
            zombies.push(children[victim]);
        }
        if zombies.len() > 3 {
            assert!(was_killed(reap(zombies.remove(0), true).unwrap()), "it had crashed before");
        }
        children[victim] = start(victim == 0);
        assert_eq!(count(&region, BAD).load(SeqCst), 0);
        done += 1;
    }
    for &child in &children {
        kill(child);
    }
    for child in children.into_iter().chain(zombies) {
        assert!(was_killed(reap(child, true).unwrap()), "it had crashed before");
    }
    assert_eq!(count(&region, BAD).load(SeqCst), 0);
    println!(
        "{} writers and {} readers killed, {} commits, {} refused, {} looks",
        kills[0],
        kills[1],
        count(&region, COMMITS).load(SeqCst),
        count(&region, REFUSED).load(SeqCst),
        count(&region, LOOKS).load(SeqCst),
    );

    // Nothing leaked: every seat can be had, and every byte.
    let me = Identity::current();
    let seats: Vec<_> = (0..region.workers()).map(|_| Reader::claim(region, me).unwrap()).collect();
    assert!(Reader::claim(region, me).is_none());
    drop(seats);
    let mut writer = Writer::take(region, me).unwrap().unwrap();
    writer.check().unwrap();
    let mut change = writer.begin();
    for pair in 0..PAIRS {
        for side in ["left", "right"] {
            change.remove(Kind::Route, &format!("{side}{pair}")).unwrap();
        }
    }
    change.commit();
    writer.check().unwrap();
    assert_eq!((writer.stats().live, writer.stats().waiting), (64, 0));
}

#[test]
fn a_dead_writers_lease_has_exactly_one_heir() {
    let owner = SharedRegion::new(1 << 20, [1, 2]).unwrap();
    let region = owner.region();
    for round in 0..60_u64 {
        let writer = fork(|| {
            let Ok(Some(mut writer)) = Writer::take(region, Identity::current()) else { return 1 };
            let mut change = writer.begin();
            if change.put("a", &Route { number: round, text: text(round) }, 0).is_err() {
                return 2;
            }
            change.commit();
            // Ends with the lease.
            std::mem::forget(writer);
            0
        });
        // Half of the time the heirs find a zombie.
        // SAFETY: all zeros are a valid `siginfo_t`.
        let mut info = unsafe { std::mem::zeroed() };
        // SAFETY: a child of ours, which stays what it is.
        unsafe { libc::waitid(libc::P_PID, writer as u32, &mut info, libc::WEXITED | libc::WNOWAIT) };
        if round % 2 == 0 {
            assert_eq!(reap(writer, true), Some(0));
        }
        let (won, tried) = (count(&region, WON), count(&region, TRIED));
        won.store(0, SeqCst);
        tried.store(0, SeqCst);
        let heirs: Vec<_> = (0..4)
            .map(|_| {
                fork(|| {
                    let me = Identity::current();
                    tried.fetch_add(1, SeqCst);
                    while tried.load(SeqCst) < 4 {
                        std::hint::spin_loop();
                    }
                    let taken = Writer::take(region, me);
                    if matches!(taken, Ok(Some(_))) {
                        won.fetch_add(1, SeqCst);
                    }
                    // The winner lives until all have tried.
                    tried.fetch_add(1, SeqCst);
                    while tried.load(SeqCst) < 8 {
                        std::hint::spin_loop();
                    }
                    i32::from(taken.is_err())
                })
            })
            .collect();
        for heir in heirs {
            assert_eq!(reap(heir, true), Some(0));
        }
        assert_eq!(won.load(SeqCst), 1, "round {round}");
        if round % 2 == 1 {
            assert_eq!(reap(writer, true), Some(0));
        }
    }
}

/// Brings one nonce after the other, as the others do, and marks those that it was the first with.
fn bring(region: Region, seed: u64) -> i32 {
    let nonces = Nonces::new(region.nonce_words(), region.secret());
    // Nobody takes a bucket here, so these words are free for marks.
    for (n, mark) in region.rate_words().iter().enumerate().take(NONCES) {
        let next = count(&region, LOOKS);
        while (next.load(SeqCst) as usize) < n {
            std::hint::spin_loop();
        }
        let found = nonces.insert(&n.to_le_bytes(), 1_000, 9_000, seed as u32);
        if found == Nonce::Fresh {
            mark.fetch_add(1, SeqCst);
        }
        if found == Nonce::Full {
            count(&region, BAD).fetch_add(1, SeqCst);
        }
        next.fetch_max(n as u64 + 1, SeqCst);
    }
    // It lives until it is killed.
    loop {
        std::thread::yield_now();
    }
}

/// A third of those that there is room for.
const NONCES: usize = 20_000;

#[test]
fn a_kill_makes_no_nonce_count_twice() {
    let owner = SharedRegion::new(16 << 20, [1, 2]).unwrap();
    let region = owner.region();
    let mut random = Random(0x006e_6f6e_6365);
    let mut children: Vec<i32> = (0..3).map(|n| fork(|| bring(region, n))).collect();
    let mut kills = 0u64;
    let mut turn = 3;
    while count(&region, LOOKS).load(SeqCst) < NONCES as u64 {
        for _ in 0..random.below(30_000) {
            std::hint::spin_loop();
        }
        let victim = random.below(3) as usize;
        kill(children[victim]);
        assert!(was_killed(reap(children[victim], true).unwrap()), "it had ended before");
        kills += 1;
        // Each has a number of its own, as worker slots are.
        turn += 1;
        children[victim] = fork(|| bring(region, turn % 64));
    }
    for child in children {
        kill(child);
        reap(child, true).unwrap();
    }
    let brought = count(&region, LOOKS).load(SeqCst) as usize;
    let marks = region.rate_words();
    let won: u64 = marks.iter().map(|mark| mark.load(SeqCst)).sum();
    println!("{kills} killed, {brought} nonces, {won} of them fresh");
    assert!(marks.iter().all(|mark| mark.load(SeqCst) <= 1), "one counted twice");
    // A nonce is lost with the process that was first, and with no other.
    assert!(won + kills + 3 >= brought as u64 && count(&region, BAD).load(SeqCst) == 0, "{won} of {brought}");
    let nonces = Nonces::new(region.nonce_words(), region.secret());
    let now = 9_001;
    assert_eq!(nonces.insert(b"new", now, now + 9, 0), Nonce::Fresh);
    assert_eq!(nonces.insert(b"new", now, now + 9, 1), Nonce::Replayed);
    assert_eq!(nonces.sweep(0, nonces.capacity(), now), 1, "all else is over");
}
