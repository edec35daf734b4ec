//! The token bucket against the recorded sequences, in the engine and through the table.
// Helpers of tests may fail as tests do; clippy knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "fuzz/bucket.rs"]
mod bucket;

use std::path::PathBuf;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use gateway::limiter::{Due, KeyHasher, Quota};
use gateway::state::tables::places::{self, Place, Places};
use gateway::state::tables::rate::{Outcome, RateTable};
use gateway::types::SECOND;
use proptest::prelude::*;
use serde_json::Value;

/// The cases of our copy of `name`, or of the environment's where it has them.
fn cases(name: &str) -> Vec<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let vectors = std::env::var_os("GATEWAY_VECTORS").map_or_else(|| root.join("../shared/vectors"), PathBuf::from);
    let path = [vectors.join("own").join(name), root.join("tests/data/own").join(name)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is nowhere"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn quota(case: &Value) -> Result<Quota, String> {
    let number = |name: &str| case[name].as_f64().ok_or_else(|| format!("{name} is no number"));
    Quota::per_second(number("rate_per_s")?, number("capacity")?).map_err(|error| error.to_string())
}

fn key(name: &str) -> u64 {
    KeyHasher::new([1, 2], 3).part(name.as_bytes()).finish()
}

#[test]
fn token_bucket_sequences() {
    let mut steps_run = 0;
    for case in cases("token_bucket_sequences.json") {
        let id = case["id"].as_str().unwrap();
        if case["expect"].is_string() {
            // `config_error_or_saturate`: ours is the error.
            assert!(quota(&case).is_err(), "{id}");
            continue;
        }
        let quota = quota(&case).unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut due = Due::rest(0);
        let words: Vec<AtomicU64> = (0..32).map(|_| AtomicU64::new(0)).collect();
        let table = RateTable::new(&words);
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let now = step["t_us"].as_u64().unwrap();
            let answer = quota.admit(due, step["n"].as_i64().unwrap(), now);
            assert_eq!(answer.is_ok(), step["allow"] == 1, "{id} step {index}: {answer:?}");
            due = answer.map_or(due, |admitted| admitted.due);
            for key in [key("a"), key("b")] {
                let outcome = table.take(key, &quota, step["n"].as_i64().unwrap(), now);
                assert_eq!(matches!(outcome, Outcome::Taken(_)), step["allow"] == 1, "{id} step {index}: {outcome:?}");
            }
            steps_run += 1;
        }
    }
    assert!(steps_run >= 29, "only {steps_run} steps");
}

/// Words that this process and its children share.
fn shared_words(count: usize) -> &'static [AtomicU64] {
    // SAFETY: an anonymous mapping of that many bytes, zeroed and page-aligned by the kernel, never unmapped.
    unsafe {
        let bytes = count * size_of::<AtomicU64>();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let place = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(place, libc::MAP_FAILED);
        std::slice::from_raw_parts(place.cast(), count)
    }
}

/// Children charge a few keys as fast as they can and count what they got; each is killed somewhere inside. A child's
/// last charge may have happened without being counted, nothing else may differ.
#[test]
fn killed_processes_leave_exact_buckets_and_a_usable_table() {
    const KEYS: u64 = 6;
    const CHILDREN: usize = 60;
    const BURST: u32 = 2_000_000_000;
    let quota = Quota::new(1_000_000, SECOND, BURST).unwrap();
    // One group, so that keys that come and go beside the six take over slots all the time.
    let words = shared_words(16 + KEYS as usize);
    let (table, counts) = words.split_at(16);
    let table = RateTable::new(table);
    let now = 5 * SECOND;
    for child in 0..CHILDREN as u64 {
        // SAFETY: the child touches only memory that exists already and leaves through a signal.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let passing = Quota::new(1_000_000, SECOND, 1);
            for turn in 0u64.. {
                let number = turn % KEYS;
                let charged = table.take(number + 1, &quota, 1, now);
                if let (Outcome::Taken(_), Some(count)) = (charged, counts.get(number as usize)) {
                    count.fetch_add(1, Relaxed);
                }
                if let Ok(passing) = &passing {
                    // Full again a microsecond later: its slot is free for the next of these keys.
                    let _ = table.take(1_000_000 + child * 1_000 + turn % 7, passing, 1, now - 2 - turn % 3);
                }
            }
        }
        // The child works until it has done a little more than the last one had.
        let before: u64 = counts.iter().map(|count| count.load(Relaxed)).sum();
        while counts.iter().map(|count| count.load(Relaxed)).sum::<u64>() < before + 500 + 37 * child {
            // SAFETY: our own child; a look that does not wait.
            let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
            assert_eq!(ended, 0, "the child ended by itself");
        }
        // SAFETY: our own child, which is waited for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
        }
    }
    let mut lost = 0;
    for (number, count) in (1..).zip(counts) {
        let standing = table.peek(number, &quota, now);
        let charged = u64::from(BURST - standing.remaining);
        let counted = count.load(Relaxed);
        assert!(charged >= counted, "key {number}: {charged} charged, {counted} counted");
        lost += charged - counted;
    }
    assert!(lost <= CHILDREN as u64, "{lost} charges without a request");
    assert!(matches!(table.take(99, &quota, 1, now + 3 * SECOND), Outcome::Taken(_)));
}

/// Children come and go over one limit as fast as they can, each with a worker slot of its own, until each is killed
/// somewhere inside; then its heir empties the cell. Nobody is ever above the limit, and in the end all places are free.
#[test]
fn killed_processes_keep_no_place_in_flight() {
    const MOST: u32 = 3;
    const WORKERS: [u32; 3] = [0, 1, 9];
    const ROUNDS: usize = 40;
    let words = shared_words(places::WIDTH + 2);
    let (table, counts) = words.split_at(places::WIDTH);
    let (inside, entered) = (&counts[0], &counts[1]);
    let table = Places::new(table);
    let slot = table.claim(7).unwrap();
    // One that stays all the time, and must still be counted at the end.
    assert!(table.enter(Place { slot, worker: 20, key: 7 }, MOST).is_some());
    for round in 0..ROUNDS as u64 {
        inside.store(1, Relaxed);
        let children = WORKERS.map(|worker| {
            // SAFETY: the child touches only memory that exists already and leaves through a signal.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                loop {
                    let Some(place) = table.enter(Place { slot, worker, key: 7 }, MOST) else { continue };
                    if inside.fetch_add(1, SeqCst) >= u64::from(MOST) {
                        entered.fetch_add(1 << 32, SeqCst);
                    }
                    entered.fetch_add(1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                    table.leave(place);
                }
            }
            pid
        });
        let before = entered.load(SeqCst);
        while entered.load(SeqCst) < before + 300 + 29 * round {
            std::thread::yield_now();
        }
        for pid in children {
            // SAFETY: our own children, which are waited for.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
            }
            assert!(
                table.count(slot, 7) <= Some(MOST + WORKERS.len() as u32),
                "who steps back is counted for an instant"
            );
        }
        WORKERS.iter().for_each(|worker| table.forget(*worker));
        assert_eq!(table.count(slot, 7), Some(1), "round {round}");
    }
    assert_eq!(entered.load(SeqCst) >> 32, 0, "above the limit");
}

/// Honest clients, each a little below its limit, among a million keys that come once each: the table does not grow, and
/// the honest get through as without the others.
#[test]
fn a_million_random_keys_cost_the_honest_nothing() {
    const HONEST: u64 = 200;
    const STRANGERS: u64 = 1_000_000;
    let quota = Quota::new(10, SECOND, 10).unwrap();
    // Room for a sixteenth of them, and a stranger's bucket is full again a tenth of a second later.
    let words: Vec<AtomicU64> = (0..1 << 17).map(|_| AtomicU64::new(0)).collect();
    let table = RateTable::new(&words);
    let (mut tried, mut passed, mut strangers, mut now) = (0u64, 0u64, 0u64, SECOND);
    for round in 0..STRANGERS / 20_000 {
        for turn in 0..20_000u64 {
            // 200,000 strangers a second, while each honest one comes ten times.
            now += 5;
            let stranger = key(&format!("stranger {}", round * 20_000 + turn));
            strangers += u64::from(matches!(table.take(stranger, &quota, 1, now), Outcome::Taken(_)));
            if turn % 100 == 0 {
                tried += 1;
                let honest = key(&format!("honest {}", turn / 100 % HONEST));
                passed += u64::from(matches!(table.take(honest, &quota, 1, now), Outcome::Taken(_)));
            }
        }
    }
    assert_eq!(table.slots(), 1 << 16);
    assert!(passed * 100 >= tried * 95, "{passed} of {tried} honest requests passed");
    assert!(strangers * 100 >= STRANGERS * 95, "{strangers} strangers passed");
    // Who is above its limit stays there, however many others come.
    let greedy = key("greedy");
    let mut taken = 0;
    for turn in 0..100_000u64 {
        now += 5;
        let _ = table.take(key(&format!("more {turn}")), &quota, 1, now);
        taken += u64::from(matches!(table.take(greedy, &quota, 1, now), Outcome::Taken(_)));
    }
    // Its burst, and what comes back in half a second less an instant.
    assert_eq!(taken, 10 + 4);
}

proptest! {
    /// Charges, debts and what is given back, at every edge of rate, burst, cost and clock, against exact sums.
    #[test]
    fn as_in_exact_sums(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bucket::run(&data);
    }

    /// The same for rates and bursts as people write them.
    #[test]
    fn as_in_exact_sums_for_usual_settings(
        count in 1u8..64, per in 1_000u64..3_600_000_000, burst in 1u8..64, start in any::<u64>(),
        steps in prop::collection::vec(0u8..64, 0..300),
    ) {
        let mut data = vec![count, 0xff];
        data.extend(per.to_be_bytes());
        data.extend([burst, 0xff]);
        data.extend(start.to_be_bytes());
        data.extend(steps);
        bucket::run(&data);
    }
}
