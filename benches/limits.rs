//! The limiter beside its peers, in one run and alternating: `cargo bench --bench limits`.
//!
//! One key that is hot, ten million keys at random, and two processes on keys of their own or on the same one (these
//! alone: `-- together`); against `governor`'s keyed limiter, a map behind a mutex between threads and a table behind a
//! lock between processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use gateway::limiter::{Due, Quota};
use gateway::state::tables::gauge;
use gateway::state::tables::places::{self, Place, Places};
use gateway::state::tables::rate::{Outcome, RateTable};
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

/// A moment that all processes see the same, nanoseconds.
fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in the place that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Rounds and calls where two run at the same time: short ones, as a machine that does other things as well leaves both
/// alone for a moment only.
const ROUNDS: u32 = 400;
const TOGETHER: u64 = 10_000;

/// Nanoseconds a call of all that began and ended then; `None` where one began so late that they met too little.
fn together_per_call(began: impl Iterator<Item = u64> + Clone, ended: impl Iterator<Item = u64>) -> Option<f64> {
    let (first, last, number) = (began.clone().min()?, began.clone().max()?, began.count() as u64);
    let took = ended.max()? - first;
    ((last - first) * 10 < took).then(|| took as f64 / (number * TOGETHER) as f64)
}

/// Nanoseconds a call of `number` processes together that run at the same time, each with its number, the best of all
/// rounds: from when all of them have warmed up to when the last is through. What it takes to start them is not in it.
fn processes(number: u64, run: impl Fn(u64, u64) + Copy) -> f64 {
    // Each a cache line: how many are ready, then when each began and ended.
    let shared = words(8 * 3);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        shared.iter().for_each(|word| word.store(0, Release));
        let ready = &shared[0];
        let children: Vec<i32> = (0..number)
            .map(|child| {
                // SAFETY: the child works on mappings that exist already and leaves without unwinding.
                let pid = unsafe { libc::fork() };
                assert!(pid >= 0);
                if pid == 0 {
                    run(child, TOGETHER / 8);
                    ready.fetch_add(1, AcqRel);
                    while ready.load(Acquire) < number {
                        std::hint::spin_loop();
                    }
                    let times = &shared[8 * (1 + child as usize)..][..2];
                    let began = clock();
                    run(child, TOGETHER);
                    times[0].store(began, Release);
                    times[1].store(clock(), Release);
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) };
                }
                pid
            })
            .collect();
        for pid in children {
            let mut status = 0;
            // SAFETY: our own child.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            assert_eq!(status, 0, "a child failed");
        }
        let times = |index: usize| (0..number as usize).map(move |child| shared[8 * (1 + child) + index].load(Acquire));
        best = best.min(together_per_call(times(0), times(1)).unwrap_or(f64::MAX));
    }
    best
}

/// The limit of all rows with two processes: with 2,000 seconds' worth of tokens and a clock that goes on, every call is
/// admitted and writes, however far one process is ahead of the other.
fn generous() -> Quota {
    Quota::new(1_000_000, SECOND, 2_000_000_000).unwrap()
}

/// Takes tokens of `key` one after the other.
fn take(table: RateTable<'_>, key: u64, calls: u64) {
    let (quota, mut now) = (generous(), 1_000 * SECOND);
    for _ in 0..calls {
        now += 1;
        let outcome = table.take(black_box(key), &quota, 1, now);
        assert!(matches!(outcome, Outcome::Taken(_)), "{outcome:?}");
    }
}

/// Which of the words a first token of `key` is put in.
fn slot_of(table: RateTable<'_>, words: &[AtomicU64], key: u64) -> usize {
    let before: Vec<u64> = words.iter().map(|word| word.load(Acquire)).collect();
    take(table, key, 1);
    (0..words.len()).step_by(2).find(|index| words[*index].load(Acquire) != before[*index]).unwrap()
}

/// Two keys in one table, and how their slots lie: in groups that are no neighbours, in one group but not in one cache
/// line, or side by side.
fn pair(how: &str) -> (RateTable<'static>, [u64; 2]) {
    let words = words(16 * 64);
    let table = RateTable::new(words);
    let (one, mut state) = (77, 1);
    let first = slot_of(table, words, one);
    let other = std::iter::repeat_with(|| random(&mut state) | 1).take(400).find(|key| {
        let place = slot_of(table, words, *key);
        match how {
            "apart" => place / 16 != first / 16 && place.abs_diff(first) > 64,
            "in one group" => place / 16 == first / 16 && place / 8 != first / 8,
            _ => place / 8 == first / 8,
        }
    });
    (table, [one, other.unwrap()])
}

/// What nginx's `limit_req` does for each request: a lock that processes share, around a table in shared memory.
#[derive(Clone, Copy)]
struct Locked {
    mutex: *mut libc::pthread_mutex_t,
    /// Keys and due times in turn, open addressing.
    table: &'static [AtomicU64],
}

impl Locked {
    fn new() -> Self {
        let mutex = words(64).as_ptr().cast_mut().cast();
        // SAFETY: zeroed shared memory that stays, larger than a mutex, which is initialised here before anybody uses it.
        unsafe {
            let mut attributes = std::mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
            assert_eq!(libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_mutex_init(mutex, &attributes), 0);
        }
        Self { mutex, table: words(2 * 1_024) }
    }

    fn take(self, key: u64, calls: u64) {
        let (quota, mut now) = (generous(), 1_000 * SECOND);
        for _ in 0..calls {
            now += 1;
            // SAFETY: initialised, and given back by who took it.
            unsafe { libc::pthread_mutex_lock(self.mutex) };
            let mut slot = black_box(key) as usize % 1_024;
            while !matches!(self.table[2 * slot].load(Relaxed), 0) && self.table[2 * slot].load(Relaxed) != key {
                slot = (slot + 1) % 1_024;
            }
            let due = match self.table[2 * slot].swap(key, Relaxed) {
                0 => Due::rest(now),
                _ => Due(self.table[2 * slot + 1].load(Relaxed)),
            };
            self.table[2 * slot + 1].store(quota.admit(due, 1, now).unwrap().due.0, Relaxed);
            // SAFETY: as above.
            unsafe { libc::pthread_mutex_unlock(self.mutex) };
        }
    }
}

/// Nanoseconds a call of two threads at a map behind a mutex, the best of all rounds.
fn mutexed(keys: [u64; 2]) -> f64 {
    let map: Mutex<HashMap<u64, Due>> = Mutex::default();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (barrier, map) = (Barrier::new(2), &map);
        let run = |key: u64| {
            let (quota, mut now) = (generous(), 1_000 * SECOND);
            barrier.wait();
            let began = clock();
            for _ in 0..TOGETHER {
                now += 1;
                let mut map = map.lock().unwrap();
                let due = map.entry(black_box(key)).or_insert(Due::rest(now));
                *due = quota.admit(*due, 1, now).unwrap().due;
            }
            (began, clock())
        };
        let times =
            std::thread::scope(|scope| keys.map(|key| scope.spawn(move || run(key))).map(|run| run.join().unwrap()));
        let began = times.iter().map(|(began, _)| *began);
        best = best.min(together_per_call(began, times.iter().map(|(_, ended)| *ended)).unwrap_or(f64::MAX));
    }
    best
}

/// Two processes at one table, on keys that lie in all ways and on one key, and what locks make of it.
fn together(row: &impl Fn(&str, f64)) {
    let (table, [key, _]) = pair("apart");
    let alone = processes(1, |_, calls| take(table, key, calls));
    row("one process, a key", alone);
    for how in ["apart", "in one group", "side by side"] {
        let (table, keys) = pair(how);
        let ns = processes(2, |child, calls| take(table, keys[child as usize], calls));
        row(&format!("two processes, a key each, {how}"), ns);
        println!("{:<44} {:>10.2}", "  of linear", alone / 2.0 / ns);
    }
    let same = processes(2, |_, calls| take(table, key, calls));
    row("two processes, one key", same);
    let locked = Locked::new();
    row("two processes, one key, a shared lock", processes(2, |_, calls| locked.take(key, calls)));
    row("two processes, a key each, a shared lock", processes(2, |child, calls| locked.take(key + child, calls)));
    row("one process, a key, a shared lock", processes(1, |_, calls| locked.take(key, calls)));
    row("two threads, one key, a map behind a mutex", mutexed([key; 2]));
    row("two threads, a key each, the same", mutexed([key, key + 1]));
}

fn main() {
    let quota = Quota::new(1_000_000, SECOND, 1_000_000).unwrap();
    let per_second = NonZeroU32::new(1_000_000).unwrap();
    let governor: DefaultKeyedRateLimiter<u64> = RateLimiter::keyed(governor::Quota::per_second(per_second));
    // Two thirds of the slots taken: 24 bytes a key.
    let table = RateTable::new(words(KEYS as usize * 3));
    println!("{:<44} {:>10}", "", "ns");
    let row = |name: &str, ns: f64| println!("{name:<44} {ns:>10.1}");
    if std::env::args().any(|argument| argument == "together") {
        return together(&row);
    }

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

    together(&row);

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
    row("two processes, places of one route", processes(2, |number, calls| enter(number as u32)(calls)));
    assert_eq!(places.count(slot, 7), Some(0));
}
