use super::*;
use proptest::prelude::*;

/// The bucket as it is drawn on a blackboard: tokens and when they were last counted, in exact fractions of
/// 1 / (count * per) so that nothing rounds.
struct Bucket {
    count: i128,
    per: i128,
    burst: i128,
    /// Tokens times `per`.
    tokens: i128,
    at: u64,
}

impl Bucket {
    fn full(count: u64, per: u64, burst: u32, at: u64) -> Self {
        let (count, per, burst) = (count.into(), per.into(), burst.into());
        Self { count, per, burst, tokens: burst * per, at }
    }

    fn tokens(&self, now: u64) -> i128 {
        let back = i128::from(now.saturating_sub(self.at)) * self.count;
        (self.burst * self.per).min(self.tokens + back)
    }

    fn would_take(&self, cost: i64, now: u64) -> bool {
        cost >= 0 && i128::from(cost) * self.per <= self.tokens(now)
    }

    fn take(&mut self, cost: i64, now: u64) -> bool {
        let takes = self.would_take(cost, now);
        if takes {
            self.tokens = self.tokens(now) - i128::from(cost) * self.per;
            self.at = self.at.max(now);
        }
        takes
    }
}

fn same_answers(count: u64, per: u64, burst: u32, steps: &[(u64, i64)]) {
    let quota = Quota::new(count, per, burst).unwrap();
    let full = i128::from(burst) * i128::from(per);
    let mut bucket = Bucket::full(count, per, burst, steps[0].0);
    let mut due = Due::rest(steps[0].0);
    for &(now, cost) in steps {
        let expected = bucket.take(cost, now);
        match quota.admit(due, cost, now) {
            Ok(admitted) => {
                assert!(expected, "{count}/{per} burst {burst}: {cost} at {now}");
                let tokens = bucket.tokens(now);
                assert_eq!(i128::from(admitted.remaining), tokens / bucket.per, "at {now}");
                let reset = (full - tokens + bucket.count - 1) / bucket.count;
                assert_eq!(i128::from(admitted.reset), reset, "at {now}");
                due = admitted.due;
            }
            Err(refused) => {
                assert!(!expected, "{count}/{per} burst {burst}: {cost} at {now}");
                if let Refused::Early { retry, .. } = refused {
                    assert!(retry > 0 && quota.admit(due, cost, now + retry).is_ok(), "after {retry}");
                    assert!(quota.admit(due, cost, now + retry - 1).is_err(), "not before {retry}");
                }
            }
        }
    }
}

#[test]
fn thirds_do_not_drift() {
    let quota = Quota::new(3, SECOND, 1).unwrap();
    let mut due = Due::rest(0);
    let mut passed = 0;
    for now in 0..10 * SECOND / 100 {
        if let Ok(admitted) = quota.admit(due, 1, now * 100) {
            due = admitted.due;
            passed += 1;
        }
    }
    // Polled every 100 µs: a token is taken at 0, 333,400, 666,800 … and never earlier than it is there.
    assert_eq!(passed, 30);
    let mut now = 0;
    let mut due = Due::rest(0);
    for _ in 0..3_000_000 {
        due = quota.admit(due, 1, now).unwrap().due;
        now += quota.admit(due, 1, now).map_or_else(|refused| refused.retry_after().unwrap(), |_| 0);
    }
    assert!((1_000_000 * SECOND..=1_000_000 * SECOND + 2_000_000).contains(&now), "{now}");
}

#[test]
fn settings_that_are_no_quota() {
    for (count, per, burst, error) in [
        (0, 1, 1, QuotaError::NoRate),
        (1, 0, 1, QuotaError::NoRate),
        (1, 1, 0, QuotaError::NoBurst),
        (1_000_001, SECOND, 1, QuotaError::TooFast),
        (u64::MAX, u64::MAX / 2, 1, QuotaError::TooFast),
        (1, u64::MAX, u32::MAX, QuotaError::TooSlow),
        (1, 86_400 * SECOND, 51, QuotaError::TooSlow),
    ] {
        assert_eq!(Quota::new(count, per, burst), Err(error), "{count}/{per}, {burst}");
    }
    assert!(Quota::new(1, 86_400 * SECOND, 50).is_ok());
    assert!(Quota::new(1_000_000, SECOND, u32::MAX).is_ok());
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-9] {
        assert!(Quota::per_second(rate, 5.0).is_err(), "{rate}");
    }
    for burst in [0.0, 0.9, -1.0, f64::NAN] {
        assert_eq!(Quota::per_second(1.0, burst), Err(QuotaError::NoBurst), "{burst}");
    }
    assert_eq!(Quota::per_second(10.0, 5.0), Quota::new(10, SECOND, 5));
    assert_eq!(Quota::per_second(0.5, 5.0), Quota::new(1, 2 * SECOND, 5));
}

#[test]
fn fractions_beyond_the_word_are_rounded_by_less_than_a_millionth() {
    let quota = Quota::new(1_234_567, 86_400 * SECOND, 10).unwrap();
    assert_eq!(quota.ticks, 1 << 20);
    let exact = 86_400.0 * 1e6 / 1_234_567.0;
    assert!((quota.token as f64 / quota.ticks as f64 / exact - 1.0).abs() < 1e-6);
    assert_eq!(Quota::new(2_000_003 * 4, 4 * SECOND * 3_000, 10).unwrap().ticks, 1 << 20);
    assert_eq!(Quota::new(3_000_000, 7_000_000, 10).unwrap().ticks, 3);
}

#[test]
fn a_debt_of_another_time_is_forgiven() {
    let quota = Quota::new(1, SECOND, 10).unwrap();
    let due = quota.admit(Due::rest(0), 10, 0).unwrap().due;
    let (mut now, wrap) = (0, 1 << 43);
    while now < 3 * wrap {
        now += wrap / 7 + 7_200 * SECOND;
        assert!(quota.admit(due, 10, now).is_ok(), "at {now}");
    }
    // Settings that shrank: an hour more than the new bucket's debt is an old debt.
    let daily = Quota::new(10, 86_400 * SECOND, 10).unwrap();
    let due = daily.admit(Due::rest(0), 10, 0).unwrap().due;
    assert!(quota.admit(due, 10, 0).is_ok());
    assert!(daily.admit(due, 1, 0).is_err());
}

#[test]
fn what_is_given_back_is_what_was_taken_and_only_while_it_is_missing() {
    let quota = Quota::new(10, SECOND, 5).unwrap();
    let first = quota.admit(Due::rest(0), 3, 0).unwrap();
    assert_eq!(quota.give_back(first.due, first.at, 3, 0), Some(Due::rest(0)));
    let second = quota.admit(first.due, 2, 0).unwrap();
    let without_first = quota.give_back(second.due, first.at, 3, 0).unwrap();
    assert_eq!(quota.admit(without_first, 0, 0).unwrap().remaining, 3);
    assert_eq!(quota.give_back(without_first, second.at, 2, 0), Some(Due::rest(0)), "in either order");
    // At 299 ms one of its tokens is still missing, at 300 ms the first charge has grown back by itself.
    let late = quota.admit(first.due, 2, 299_999).unwrap().due;
    assert_eq!(quota.give_back(late, first.at, 3, 299_999), Some(Due::rest(299_999)));
    assert_eq!(quota.give_back(late, first.at, 3, 300_000), None);
    assert_eq!(quota.give_back(Due::rest(0), first.at, 3, 0), None, "another bucket");
    assert_eq!(quota.give_back(first.due, first.at, -3, 0), None);
    assert_eq!(quota.give_back(first.due, first.at, 0, 0), None);
}

proptest! {
    #[test]
    fn a_bucket_is_a_bucket(
        count in 1u64..=1_000_000,
        per in prop::sample::select(vec![SECOND, 60 * SECOND, 3_600 * SECOND]),
        burst in 1u32..50,
        start in any::<u32>(),
        steps in prop::collection::vec((any::<u16>(), 0u32..3, -1i64..8), 1..80),
    ) {
        // Steps in the order of a token's time, so that both answers happen.
        let token = (per / count).max(1);
        let mut now = u64::from(start) * 1_000_000;
        let steps: Vec<_> = steps
            .into_iter()
            .map(|(part, tokens, cost)| {
                now += u64::from(tokens) * token + u64::from(part) % token;
                (now, cost)
            })
            .collect();
        same_answers(count, per, burst, &steps);
    }

    /// A due time dates from the last charge; before that the bucket looks emptier than it was, never fuller, and
    /// what is refused leaves no trace.
    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_takes_nothing(
        count in 1u64..100,
        steps in prop::collection::vec((-50_000i64..100_000, 0i64..3), 1..80),
    ) {
        let quota = Quota::new(count, SECOND, 10).unwrap();
        let mut bucket = Bucket::full(count, SECOND, 10, 0);
        let mut due = Due::rest(0);
        let mut now = 1_000_000_000u64;
        for (step, cost) in steps {
            now = now.saturating_add_signed(step);
            let admitted = quota.admit(due, cost, now);
            let expected = bucket.would_take(cost, now);
            assert!(expected || admitted.is_err(), "{cost} at {now}");
            assert!(now < bucket.at || expected == admitted.is_ok(), "{cost} at {now}");
            if let (true, Ok(admitted)) = (cost > 0, admitted) {
                assert!(bucket.take(cost, now));
                due = admitted.due;
            }
        }
    }
}
