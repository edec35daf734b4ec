//! The limiter beside its peers, in one run and alternating: `cargo bench --bench limits`.
//!
//! One key that is hot, ten million keys at random, and two processes on keys of their own or on the same one; against
//! `governor`'s keyed limiter and a map behind a mutex.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use gateway::limiter::{Due, Quota};
use gateway::state::tables::gauge;
use gateway::state::tables::places::{self, Place, Places};
use gateway::state::tables::rate::RateTable;
use gateway::types::SECOND;
use governor::{DefaultKeyedRateLimiter, RateLimiter};

const KEYS: u64 = 10_000_000;
const CALLS: u64 = 2_000_000;

fn words(count: usize) -> &'static [AtomicU64] {
    // SAFETY: an anonymous shared mapping, zeroed by the kernel, never unmapped, used as atomics alone.
    unsafe {
        let (bytes, flags) = (count * 8, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        let place = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(place, libc::MAP_FAILED);
        std::slice::from_raw_parts(place.cast(), count)
    }
}

/// Numbers that look random, and are keys of the table.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// A key of `of` many.
fn one_of(state: &mut u64, of: u64) -> u64 {
    let mut number = random(state) % of;
    random(&mut number) | 1
}

/// Nanoseconds a call, the best of `rounds`.
fn best(rounds: u32, calls: u64, mut run: impl FnMut(u64)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let began = Instant::now();
        run(calls);
        best = best.min(began.elapsed().as_nanos() as f64 / calls as f64);
    }
    best
}

/// Nanoseconds a call of two processes that run at the same time, each with its number.
fn two(run: impl Fn(u64, u64) + Copy) -> f64 {
    let start: &AtomicU64 = &words(1)[0];
    let began = Instant::now();
    let children: Vec<i32> = (0..2)
        .map(|number| {
            // SAFETY: the child works on mappings that exist already and leaves without unwinding.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                start.fetch_add(1, Release);
                while start.load(Acquire) < 2 {
                    std::hint::spin_loop();
                }
                run(number, CALLS);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            pid
        })
        .collect();
    for pid in children {
        // SAFETY: our own child.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
    began.elapsed().as_nanos() as f64 / (2 * CALLS) as f64
}

fn main() {
    let quota = Quota::new(1_000_000, SECOND, 1_000_000).unwrap();
    let per_second = NonZeroU32::new(1_000_000).unwrap();
    let governor: DefaultKeyedRateLimiter<u64> = RateLimiter::keyed(governor::Quota::per_second(per_second));
    // Two thirds of the slots taken: 24 bytes a key.
    let table = RateTable::new(words(KEYS as usize * 3));
    println!("{:<44} {:>10}", "", "ns");
    let row = |name: &str, ns: f64| println!("{name:<44} {ns:>10.1}");

    let mut now = 1_000 * SECOND;
    let hot = best(7, CALLS, |calls| {
        for _ in 0..calls {
            now += 1;
            let _ = black_box(table.take(black_box(77), &quota, 1, now));
        }
    });
    let governor_hot = best(7, CALLS, |calls| {
        for _ in 0..calls {
            let _ = black_box(governor.check_key(&black_box(77)));
        }
    });
    row("one key, ours", hot);
    row("one key, governor keyed (reads a clock)", governor_hot);

    // A slow rate, so that every bucket stays live.
    let slow = Quota::new(1, 60 * SECOND, 1_000).unwrap();
    let mut state = 1;
    for number in 0..KEYS {
        let mut number = number;
        black_box(table.take(random(&mut number) | 1, &slow, 1, now));
    }
    let fill = table.sweep(0, table.groups(), now);
    let ours = best(3, CALLS, |calls| {
        for _ in 0..calls {
            now += 1;
            black_box(table.take(one_of(&mut state, KEYS), &slow, 1, now));
        }
    });
    row(&format!("{} live keys at random, ours", fill.live), ours);
    println!("{:<44} {:>10.1}", "  bytes a live key", (table.slots() * 16) as f64 / fill.live as f64);
    for number in 0..KEYS {
        let mut number = number;
        let _ = governor.check_key(&(random(&mut number) | 1));
    }
    let theirs = best(3, CALLS, |calls| {
        for _ in 0..calls {
            let _ = black_box(governor.check_key(&one_of(&mut state, KEYS)));
        }
    });
    row("the same, governor keyed", theirs);
    drop(governor);

    let alone = best(3, CALLS, |calls| {
        (0..calls).for_each(|_| {
            let _ = black_box(table.take(901, &quota, 1, now));
        })
    });
    let apart = two(|number, calls| {
        (0..calls).for_each(|_| {
            let _ = black_box(table.take(1_000 + 77 * number, &quota, 1, 9 * SECOND));
        });
    });
    row("two processes, a key each (1.0 is linear)", apart);
    println!("{:<44} {:>10.2}", "  of linear", alone / 2.0 / apart);
    let same = two(|_, calls| {
        (0..calls).for_each(|_| {
            let _ = black_box(table.take(555, &quota, 1, 9 * SECOND));
        });
    });
    row("two processes, one key", same);

    let mutexed: Mutex<HashMap<u64, Due>> = Mutex::new(HashMap::from([(555, Due::rest(0))]));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let mut map = mutexed.lock().unwrap();
                    let due = map.entry(black_box(555)).or_insert(Due::rest(0));
                    if let Ok(admitted) = quota.admit(*due, 1, 9 * SECOND) {
                        *due = admitted.due;
                    }
                }
            });
        }
    });
    row("two threads, one key, a map behind a mutex", began.elapsed().as_nanos() as f64 / (2 * CALLS) as f64);

    let places = Places::new(words(places::WIDTH));
    let slot = places.claim(7).unwrap();
    let place = Place { slot, worker: 0, key: 7 };
    let enter = |worker| {
        move |calls: u64| {
            for _ in 0..calls {
                let taken = places.enter(Place { worker, ..place }, gauge::MOST);
                places.leave(black_box(taken).unwrap());
            }
        }
    };
    row("a place in flight, taken and given back", best(7, CALLS, enter(0)));
    row("two processes, places of one route", two(|number, calls| enter(number as u32)(calls)));
    assert_eq!(places.count(slot, 7), Some(0));
}
