use super::*;
use crate::limiter::KeyHasher;
use crate::types::SECOND;
use std::sync::atomic::AtomicU32;
use std::sync::{Barrier, Mutex};

const HOUR: u64 = 3_600 * SECOND;

fn words(slots: usize) -> Vec<AtomicU64> {
    (0..2 * slots).map(|_| AtomicU64::new(0)).collect()
}

fn key(number: u64) -> u64 {
    KeyHasher::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], 1).part(&number.to_be_bytes()).finish()
}

fn taken(outcome: Outcome) -> Option<Admitted> {
    match outcome {
        Outcome::Taken(admitted) => Some(admitted),
        Outcome::Refused(_) | Outcome::TableFull { .. } => None,
    }
}

fn settled(table: RateTable<'_>, key: u64) -> usize {
    let due = |slot: &Slot<'_>| slot.due.load(Relaxed);
    let owner = |slot: &Slot<'_>| slot.key.load(Relaxed) & KEY_MASK;
    let slots = table.groups.iter().flat_map(slots);
    slots.filter(|slot| due(slot) & TRIAL == 0 && owner(slot) == key & KEY_MASK).count()
}

#[test]
fn a_bucket_by_the_hand() {
    let words = words(64);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, SECOND, 3).unwrap();
    for remaining in [2, 1, 0] {
        assert_eq!(taken(table.take(key(1), &quota, 1, 5)).unwrap().remaining, remaining);
    }
    let refused = Refused::Early { retry: SECOND, remaining: 0, reset: 3 * SECOND };
    assert_eq!(table.take(key(1), &quota, 1, 5), Outcome::Refused(refused));
    assert_eq!(taken(table.take(key(2), &quota, 1, 5)).unwrap().remaining, 2, "keys are apart");
    assert_eq!(table.peek(key(1), &quota, 5 + SECOND).remaining, 1);
    assert_eq!(table.peek(key(3), &quota, 5).remaining, 3);
    assert_eq!(settled(table, key(3)), 0, "looking makes no bucket");
    assert_eq!(taken(table.take(key(3), &quota, 0, 5)).unwrap().remaining, 3);
    assert_eq!(settled(table, key(3)), 0);
    assert_eq!(table.take(key(3), &quota, 4, 5), Outcome::Refused(Refused::Never));
    assert_eq!(table.take(key(3), &quota, -1, 5), Outcome::Refused(Refused::Negative));
    assert_eq!(settled(table, key(3)), 0, "what cannot be makes no bucket");

    let later = 5 + SECOND;
    let charge = taken(table.take(key(1), &quota, 1, later)).unwrap();
    assert!(table.give_back(key(1), &quota, 1, charge.at, later));
    assert_eq!(table.peek(key(1), &quota, later).remaining, 1);
    assert!(!table.give_back(key(9), &quota, 1, charge.at, later), "nothing to give back to");
    assert!(matches!(RateTable::new(&words[..15]).take(key(1), &quota, 1, 5), Outcome::TableFull { .. }));
}

#[test]
fn a_million_keys_live_in_24_bytes_each() {
    const KEYS: u64 = 1_000_000;
    let words = words(24 * KEYS as usize / 16);
    let table = RateTable::new(&words);
    let quota = Quota::new(10, HOUR, 10).unwrap();
    for number in 0..KEYS {
        assert!(taken(table.take(key(number), &quota, 1, number)).is_some(), "key {number}");
    }
    let mut lengths = [0u32; 2 * GROUP];
    for number in 0..KEYS {
        let key = key(number) & KEY_MASK;
        let slots = table.homes(key).into_iter().flatten().flat_map(slots);
        let length = slots.take_while(|slot| slot.due_of(key).is_none()).count();
        lengths[length] += 1;
        assert_eq!(table.peek(key, &quota, KEYS).remaining, 9, "key {number}");
    }
    let mean = lengths.iter().zip(1u64..).map(|(count, length)| u64::from(*count) * length).sum::<u64>();
    assert!(mean < 6 * KEYS, "mean probe length {}", mean as f64 / KEYS as f64);
    // The next ones push out the first, one for one when it is full, and none of the newcomers is lost.
    let (full, later) = (table.sweep(0, usize::MAX, KEYS), KEYS + 1);
    assert_eq!((full.live, full.slots), (KEYS, words.len() as u64 / 2));
    let refused = (KEYS..KEYS * 5 / 4).filter(|n| taken(table.take(key(*n), &quota, 1, later)).is_none()).count();
    assert_eq!(refused, 0);
    assert!(table.sweep(0, usize::MAX, later).live <= full.slots);
    // When every bucket has filled, the sweep leaves nothing.
    table.sweep(0, usize::MAX, 2 * HOUR);
    assert_eq!(table.sweep(0, usize::MAX, 2 * HOUR).live, 0);
    assert!(
        table
            .groups
            .iter()
            .flat_map(slots)
            .all(|slot| slot.due.load(Relaxed) & !(0x7f << 56) == TRIAL || slot.key.load(Relaxed) == 0)
    );
}

#[test]
fn a_full_window_evicts_the_fullest_bucket_and_spares_the_emptiest() {
    let words = words(GROUP);
    let table = RateTable::new(&words);
    let hourly = Quota::new(1, HOUR, 10).unwrap();
    let secondly = Quota::new(1, SECOND, 10).unwrap();
    for number in 0..7 {
        assert!(taken(table.take(key(number), &hourly, 5, number)).is_some());
    }
    assert!(taken(table.take(key(7), &secondly, 1, 0)).is_some());
    // Would be full in two seconds: after key 7, before the others.
    assert!(taken(table.take(key(8), &secondly, 2, 0)).is_some());
    assert_eq!(settled(table, key(7)), 0);
    assert_eq!(table.take(key(7), &secondly, 1, 0), Outcome::TableFull { retry: 2 * SECOND });
    assert!((0..7).all(|number| table.peek(key(number), &hourly, 7).remaining == 5));
    // What is full again costs nobody anything.
    assert!(taken(table.take(key(7), &secondly, 1, 2 * SECOND + 1)).is_some());
}

#[test]
fn what_a_killed_claimer_left_is_joined_or_taken() {
    let words = words(GROUP);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, HOUR, 10).unwrap();
    let now = 100 * SECOND;
    let slot = |index: usize| slots(&table.groups[0]).nth(index).unwrap();
    let (mine, other) = (key(1) & KEY_MASK, key(2) & KEY_MASK);

    slot(5).due.store(trial(mine, now), Relaxed);
    assert!(taken(table.take(mine, &quota, 2, now)).is_some());
    assert_eq!(slot(5).due_of(mine).map(|due| due.ahead(now)), Some(Some(2 * HOUR)));

    for index in [0, 1, 2, 3, 4, 6, 7] {
        slot(index).key.store(other + index as u64, Relaxed);
        slot(index).due.store(trial(other, now), Relaxed);
    }
    assert!(matches!(table.take(key(3), &quota, 1, now), Outcome::TableFull { .. }), "claimers may live");
    assert!(taken(table.take(key(3), &quota, 1, now + 3 * SECOND)).is_some(), "they do not");
}

#[test]
fn a_takeover_that_comes_late_changes_nothing() {
    let words = words(GROUP);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, SECOND, 1).unwrap();
    let slot = slots(&table.groups[0]).next().unwrap();
    let (one, two) = (key(1) & KEY_MASK, key(2) & KEY_MASK);
    assert!(taken(table.take(one, &quota, 1, 0)).is_some());
    // A charger of key 1 has read its due time; meanwhile key 2 takes the slot, the bucket being full again.
    let read = slot.due_of(one).unwrap();
    slot.due.compare_exchange(read.0, trial(two, 2 * SECOND), SeqCst, SeqCst).unwrap();
    assert!(slot.due_of(one).is_none(), "a slot on trial is nobody's");
    assert!(taken(table.take(two, &quota, 1, 2 * SECOND)).is_some());
    assert!(slot.due_of(two).is_some());
    assert!(slot.due.compare_exchange(read.0, read.0 + 1, SeqCst, SeqCst).is_err(), "the charge fails");
    assert_eq!(slot.key.load(Relaxed), (2 * OWNER) | two);
}

#[test]
fn threads_on_one_key_get_exactly_the_bucket() {
    const BURST: u32 = 5_000;
    let words = words(64);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, HOUR, BURST / 50).unwrap();
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                super::super::tests::meet_others();
                for _ in 0..BURST {
                    let outcome = table.take(key(1), &quota, 1, 7);
                    admitted.fetch_add(u32::from(taken(outcome).is_some()), Relaxed);
                    // And charges that are put back.
                    if let Some(charge) = taken(table.take(key(2), &quota, 3, 7)) {
                        assert!(table.give_back(key(2), &quota, 3, charge.at, 7));
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), BURST / 50);
    assert_eq!(table.peek(key(2), &quota, 7).remaining, BURST / 50);
}

/// The threads' clocks differ by a microsecond each and the slots become free a microsecond apart, the later ones
/// first, so every thread sees another slot as the best for the one new key.
#[test]
fn threads_that_bring_the_same_new_keys_share_their_buckets() {
    const ROUNDS: u64 = 3_000;
    const THREADS: u64 = 4;
    let words = words(2 * GROUP);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, SECOND, 3).unwrap();
    let start = Barrier::new(THREADS as usize);
    let admitted: Vec<AtomicU32> = (0..ROUNDS).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, admitted) = (&start, &admitted);
            scope.spawn(move || {
                super::super::tests::meet_others();
                for round in 0..ROUNDS {
                    let now = 10 * SECOND * (round + 1);
                    if thread == 0 {
                        for (index, slot) in (1..).zip(table.groups.iter().flat_map(slots)) {
                            slot.key.store(index, Relaxed);
                            slot.due.store(Due::rest(now + THREADS - 1 - index % THREADS).0, Relaxed);
                        }
                    }
                    start.wait();
                    for _ in 0..4 {
                        let outcome = table.take(key(round), &quota, 1, now + thread);
                        admitted[round as usize].fetch_add(u32::from(taken(outcome).is_some()), Relaxed);
                    }
                    start.wait();
                    assert_eq!(settled(table, key(round)), 1, "round {round}");
                    start.wait();
                }
            });
        }
    });
    for (round, count) in admitted.into_iter().enumerate() {
        // A clock that is behind the first charge's sees the bucket a few microseconds emptier.
        assert!(matches!(count.into_inner(), 2..=3), "round {round}");
    }
}

/// Every bucket of the round before is full again, so its slot may be taken over at the very moment when its key
/// comes back: no charge may be lost then, nor land in the newcomer's bucket.
#[test]
fn threads_that_take_over_one_another_s_slots_count_right() {
    const ROUNDS: u64 = 2_000;
    const THREADS: u64 = 4;
    let words = words(GROUP);
    let table = RateTable::new(&words);
    let quota = Quota::new(1, SECOND, 2).unwrap();
    let (arrived, wrong) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (arrived, wrong) = (&arrived, &wrong);
            scope.spawn(move || {
                super::super::tests::meet_others();
                for round in 0..ROUNDS {
                    let now = 10 * SECOND * (round + 1);
                    // Sixteen keys for eight slots, in an order without a pattern: some are there, some not.
                    let turn = key(round * THREADS + thread) % 4;
                    let own = key(thread + THREADS * turn);
                    // No barrier that sleeps: waking one after another, they would hardly meet.
                    arrived.fetch_add(1, SeqCst);
                    while arrived.load(SeqCst) < THREADS * (round + 1) {
                        std::thread::yield_now();
                    }
                    let answers = [0; 3].map(|_| table.take(own, &quota, 1, now));
                    let left = answers.map(|answer| taken(answer).map(|admitted| admitted.remaining));
                    if left != [Some(1), Some(0), None] {
                        // No panic here, which the others would wait for.
                        wrong.lock().unwrap().push((round, answers));
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), []);
}
