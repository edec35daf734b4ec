//! Processes that eject peers and bring them back, and are killed at any instruction of it.
//!
//! Some eject the peers of one upstream as fast as they can, with tries in flight; one leads: it brings peers back,
//! counts and sets right. Again and again the parent stops all of them, so that it sees one instant; no more peers may
//! be out then than the ceiling allows. Then one of them is killed where it stands, and its heir goes on.
//!
//! The clock is the test's, and goes on only once everybody has seen what it shows: nobody is held up for a second,
//! which is what the leader waits before it takes a place back from the dead.
//!
//! `GATEWAY_KILL_ROUNDS` says how many are killed (150), and 45 seconds are the limit.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "support/processes.rs"]
mod processes;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use gateway::balancer::{Cause, Outcome, Statistics};
use gateway::state::tables::peers::{NONE, Peers};
use gateway::state::tables::upstreams::{Upstream, Upstreams};
use gateway::state::{Region, SharedRegion};
use gateway::types::{MILLISECOND, SECOND};
use processes::{Random, fork, go_on, kill, reap, stop, was_killed};

const PEERS: u64 = 8;
const MOST: u32 = 4;
const UPSTREAM: u64 = 7;
/// Child 0 leads, the others eject.
const CHILDREN: usize = 4;

/// Counters of the region that this test uses.
const CLOCK: usize = 20;
const FAILED: usize = 21;
/// The clock as each child saw it last.
const SEEN: usize = 22;

fn count(region: &Region, index: usize) -> &AtomicU64 {
    &region.counters()[index]
}

fn upstream(region: &Region) -> Upstream<'_> {
    (0..).find_map(|slot| Upstreams::new(region.upstream_words()).owned(slot, UPSTREAM)).unwrap()
}

fn slots(region: &Region) -> Vec<u32> {
    (1..=PEERS).map(|key| Peers::new(region.peer_words()).find(key).unwrap()).collect()
}

fn out(region: &Region, now: u64) -> Vec<u32> {
    let peers = Peers::new(region.peer_words());
    slots(region).into_iter().filter(|slot| !peers.standing(*slot, now).available).collect()
}

/// Ejects whom it meets, most often the same few: so several are after one peer, and all but one give their place back.
fn eject(region: Region, child: usize, seed: u64) -> i32 {
    let (mut random, slots, worker) = (Random(seed), slots(&region), child as u32);
    let peers = Peers::new(region.peer_words());
    // What its predecessor had in flight.
    peers.forget(worker);
    loop {
        let now = count(&region, CLOCK).load(SeqCst);
        count(&region, SEEN + child).store(now, SeqCst);
        for _ in 0..16 {
            let among = if random.below(8) == 0 { PEERS } else { u64::from(MOST) - 1 };
            let slot = slots[random.below(among) as usize];
            let peer = peers.started(slot, worker);
            peers.observe(peer, Outcome::Latency(20 * MILLISECOND), now);
            peers.observe(peer, Outcome::Failure, now);
            count(&region, FAILED).fetch_add(1, SeqCst);
            upstream(&region).eject(peers, slot, Cause::Failures, MOST, now);
            peers.finished(peer);
        }
        std::thread::yield_now();
    }
}

/// Brings back whom it likes, and does what the leader does.
fn lead(region: Region, seed: u64) -> i32 {
    let mut random = Random(seed);
    let peers = Peers::new(region.peer_words());
    loop {
        let now = count(&region, CLOCK).load(SeqCst);
        for slot in out(&region, now) {
            if random.below(4) == 0 {
                peers.eject(slot, now, now);
            }
            peers.news(slot, now);
        }
        upstream(&region).settle(out(&region, now).len() as u32, now);
        peers.tend(now);
        count(&region, SEEN).store(now, SeqCst);
        std::thread::yield_now();
    }
}

#[test]
fn no_kill_takes_one_too_many_out_or_keeps_a_place() {
    let rounds: u64 = std::env::var("GATEWAY_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let limit = Instant::now() + Duration::from_secs(45);
    let owner = SharedRegion::new(1 << 20, [1, 2]).unwrap();
    let region = owner.region();
    let peers = Peers::new(region.peer_words());
    Upstreams::new(region.upstream_words()).claim(UPSTREAM).unwrap();
    (1..=PEERS).for_each(|key| assert!(peers.claim(key) != NONE));
    let mut now = 1_000 * SECOND;
    count(&region, CLOCK).store(now, SeqCst);

    let mut random = Random(0x6b69_6c6c);
    let mut seed = 1;
    let mut start = |child: usize| {
        seed += 1;
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        fork(|| if child == 0 { lead(region, seed) } else { eject(region, child, seed) })
    };
    let mut children: Vec<i32> = (0..CHILDREN).map(&mut start).collect();
    let (mut done, mut full) = (0, 0);
    while done < rounds && Instant::now() < limit {
        let patience = Instant::now() + Duration::from_secs(20);
        while (0..CHILDREN).any(|child| count(&region, SEEN + child).load(SeqCst) != now) {
            assert!(Instant::now() < patience, "somebody does not get on after {done} kills");
            std::thread::yield_now();
        }
        for _ in 0..random.below(30_000) {
            std::hint::spin_loop();
        }
        children.iter().for_each(|child| stop(*child));
        let out = out(&region, now).len() as u32;
        assert!(out <= MOST, "{out} are out after {done} kills");
        full += u32::from(out == MOST);
        let victim = random.below(CHILDREN as u64) as usize;
        kill(children[victim]);
        assert!(was_killed(reap(children[victim], true).unwrap()));
        children[victim] = start(victim);
        children.iter().for_each(|child| go_on(*child));
        now += 300 * MILLISECOND;
        count(&region, CLOCK).store(now, SeqCst);
        done += 1;
    }
    for child in children {
        kill(child);
        assert!(was_killed(reap(child, true).unwrap()), "it had ended before");
    }
    let (ejections, failed) = (upstream(&region).ejections(), count(&region, FAILED).load(SeqCst));
    println!("{done} killed, {ejections} ejections, at the ceiling {full} times, {failed} failures");
    assert!(ejections > done / 8 && full > 0, "nothing happened: {ejections} ejections");

    // The next leader finds all places again: of every peer that is brought back, and of the dead.
    let slots = slots(&region);
    slots.iter().for_each(|slot| peers.eject(*slot, now, now));
    now += 2 * SECOND;
    upstream(&region).settle(0, now);
    let taken = slots.iter().filter(|slot| upstream(&region).eject(peers, **slot, Cause::Hand, MOST, now)).count();
    assert_eq!((taken as u32, out(&region, now).len() as u32), (MOST, MOST));

    // And the numbers are those of what happened.
    (1..CHILDREN as u32).for_each(|worker| peers.forget(worker));
    let mut counted = 0;
    for (_, peer) in peers.snapshots(now) {
        let latency = peer.standing.latency.unwrap();
        assert!((latency - 20.0).abs() < 1e-3 && (0.0..=1.0).contains(&peer.standing.errors), "{peer:?}");
        assert_eq!(peer.in_flight, 0, "{peer:?}");
        assert!(peer.picks.abs_diff(peer.failures) <= done + CHILDREN as u64, "{peer:?}");
        counted += peer.failures;
    }
    assert!(counted.abs_diff(failed) <= done + CHILDREN as u64, "{counted} of {failed}");
}
