use std::fmt;

use super::due::AHEAD_MAX;
use super::{ArchivedLimiter, Due, Limiter};
use crate::types::SECOND;

/// A rate and a burst, ready for arithmetic: how full a bucket is, and whether it has so many tokens left.
///
/// Debts are counted in *ticks*, of which a token takes a whole number and a microsecond too: `count` tokens per `per`
/// microseconds are `per` ticks to the token and `count` ticks to the microsecond. All sums are sums of integers, so
/// a bucket is exact however long it runs. With at most 2^20 ticks to the microsecond and 2^42 microseconds to fill a
/// bucket, twice the largest debt stays below 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    ticks: u64,
    token: u64,
    burst: u32,
    /// Ticks that an empty bucket takes to fill.
    capacity: u64,
    /// What lies further ahead than this many microseconds is past.
    ahead_max: u64,
}

/// Why settings are no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// The rate is 0 or no number.
    NoRate,
    /// The rate is above a million tokens a second.
    TooFast,
    /// The bucket holds less than one token.
    NoBurst,
    /// An empty bucket would take more than 50 days to fill.
    TooSlow,
}

/// A charge that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// When it was made, microseconds.
    pub at: u64,
    /// The bucket's new value; the old one when the cost was 0.
    pub due: Due,
    /// Whole tokens that are left.
    pub remaining: u32,
    /// Microseconds until the bucket is full again.
    pub reset: u64,
}

/// A charge that does not fit; the bucket stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many microseconds too early.
    Early {
        /// After so many microseconds the same charge fits, if nobody else takes tokens meanwhile.
        retry: u64,
        /// Whole tokens that are left (fewer than the cost).
        remaining: u32,
        /// Microseconds until the bucket is full again.
        reset: u64,
    },
    /// The cost is more than the bucket holds when full.
    Never,
    /// The cost is negative, which would put tokens in.
    Negative,
}

impl Refused {
    /// After how many microseconds the same charge may fit; `None` = it never will.
    #[must_use]
    pub const fn retry_after(self) -> Option<u64> {
        match self {
            Self::Early { retry, .. } => Some(retry),
            Self::Never | Self::Negative => None,
        }
    }
}

/// How far clocks may be stepped back before a debt is taken for an old one, microseconds.
const STEP_BACK: u64 = 3_600 * SECOND;

impl Quota {
    /// `count` tokens come back in `per` microseconds, into a bucket of `burst`.
    ///
    /// Exact where `count` or `per / count` is whole and at most 2^20 (every rate up to a million a second that is
    /// written per second, and most others); what remains, such as 1,234,567 a day, is off by less than one in 2^20.
    pub fn new(count: u64, per: u64, burst: u32) -> Result<Self, QuotaError> {
        if count == 0 || per == 0 {
            return Err(QuotaError::NoRate);
        }
        if burst == 0 {
            return Err(QuotaError::NoBurst);
        }
        if u128::from(count) * u128::from(SECOND) > u128::from(per) * 1_000_000 {
            return Err(QuotaError::TooFast);
        }
        let (ticks, token) = if per.is_multiple_of(count) {
            (1, per / count)
        } else if count <= 1 << Due::FRACTION_BITS {
            (count, per)
        } else {
            reduce(count, per)
        };
        let capacity = u128::from(burst) * u128::from(token);
        let fill = capacity / u128::from(ticks) + 1;
        if fill > u128::from(AHEAD_MAX - STEP_BACK) {
            return Err(QuotaError::TooSlow);
        }
        // Both fit: capacity is at most AHEAD_MAX * 2^20 = 2^62.
        Ok(Self { ticks, token, burst, capacity: capacity as u64, ahead_max: fill as u64 + STEP_BACK })
    }

    /// The quota of a limiter's settings.
    pub fn of(limiter: &Limiter) -> Result<Self, QuotaError> {
        Self::new(limiter.count.into(), limiter.per, limiter.burst)
    }

    /// The quota of a limiter as the region keeps it.
    #[inline]
    pub fn of_archived(limiter: &ArchivedLimiter) -> Result<Self, QuotaError> {
        Self::new(limiter.count.to_native().into(), limiter.per.to_native(), limiter.burst.to_native())
    }

    /// `rate` tokens a second into a bucket of `burst`, as scripts write them: the rate to six decimals, the burst
    /// rounded down.
    pub fn per_second(rate: f64, burst: f64) -> Result<Self, QuotaError> {
        if rate.is_nan() || rate <= 0.0 {
            return Err(QuotaError::NoRate);
        }
        if burst.is_nan() || burst < 1.0 {
            return Err(QuotaError::NoBurst);
        }
        if rate > 1e6 {
            return Err(QuotaError::TooFast);
        }
        // Casts of floats saturate; a rate below the sixth decimal becomes 0, which is an error.
        Self::new((rate * 1e6).round() as u64, SECOND * 1_000_000, burst as u32)
    }

    /// How many tokens a full bucket holds.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Microseconds that an empty bucket takes to fill, rounded up.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.capacity.div_ceil(self.ticks)
    }

    /// How many ticks make a microsecond: the denominator of [`Due`]'s fraction.
    #[must_use]
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Takes `cost` tokens at `now` (microseconds) from the bucket that `due` stands for, or says why not. Cost 0 looks
    /// and takes nothing.
    ///
    /// A `now` earlier than that of the last charge finds the bucket as empty as it was, plus the step.
    #[inline]
    pub fn admit(&self, due: Due, cost: i64, now: u64) -> Result<Admitted, Refused> {
        let debt = self.debt(due, now);
        if cost == 0 {
            return Ok(Admitted { at: now, due, remaining: self.remaining(debt), reset: self.micros(debt) });
        }
        let Ok(cost) = u64::try_from(cost) else { return Err(Refused::Negative) };
        if cost > u64::from(self.burst) {
            return Err(Refused::Never);
        }
        let charged = debt + cost * self.token;
        if charged > self.capacity {
            return Err(Refused::Early {
                retry: self.micros(charged - self.capacity),
                remaining: self.remaining(debt),
                reset: self.micros(debt),
            });
        }
        Ok(Admitted {
            at: now,
            due: self.due(charged, now),
            remaining: self.remaining(charged),
            reset: self.micros(charged),
        })
    }

    /// Puts the `cost` tokens of the charge `taken` back into its bucket, which is at `due` now; `None` where there is
    /// nothing to put back.
    ///
    /// Tokens return by themselves, and what has returned may have been capped by the size of the bucket, so a charge
    /// can be undone exactly only until its own tokens alone have had the time to come back: till then no cap can have
    /// been reached. A bucket that is less in debt than this one charge must have left it is not the one that was
    /// charged.
    #[inline]
    #[must_use]
    pub fn give_back(&self, due: Due, taken: Admitted, cost: i64, now: u64) -> Option<Due> {
        let cost = u64::try_from(cost).ok().filter(|cost| (1..=u64::from(self.burst)).contains(cost))? * self.token;
        let returned = now.saturating_sub(taken.at).checked_mul(self.ticks)?;
        let debt = self.debt(due, now);
        if returned >= cost || debt < cost - returned {
            return None;
        }
        Some(self.due(debt.saturating_sub(cost), now))
    }

    /// Ticks from `now` until the bucket is full.
    #[inline]
    fn debt(&self, due: Due, now: u64) -> u64 {
        let distance = due.distance(now);
        if distance > self.ahead_max {
            return 0;
        }
        // A fraction in the ticks of former settings may be too large; the debt is then off by one microsecond.
        distance * self.ticks + due.fraction().min(self.ticks - 1)
    }

    #[inline]
    fn due(&self, debt: u64, now: u64) -> Due {
        if self.ticks == 1 {
            return Due::at(now.wrapping_add(debt), 0);
        }
        Due::at(now.wrapping_add(debt / self.ticks), debt % self.ticks)
    }

    #[inline]
    fn remaining(&self, debt: u64) -> u32 {
        // At most `burst`, which is a u32.
        (self.capacity.saturating_sub(debt) / self.token) as u32
    }

    #[inline]
    fn micros(&self, ticks: u64) -> u64 {
        if self.ticks == 1 { ticks } else { ticks.div_ceil(self.ticks) }
    }
}

/// The fraction in lowest terms, or rounded to 2^20 ticks where even those are too large.
#[cold]
fn reduce(count: u64, per: u64) -> (u64, u64) {
    let (mut divisor, mut rest) = (count, per % count);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    let (count, per) = (count / divisor, per / divisor);
    if count <= 1 << Due::FRACTION_BITS {
        return (count, per);
    }
    let token = ((u128::from(per) << Due::FRACTION_BITS) + u128::from(count / 2)) / u128::from(count);
    (1 << Due::FRACTION_BITS, u64::try_from(token).unwrap_or(u64::MAX))
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRate => "the rate is 0 or no number",
            Self::TooFast => "the rate is above 1000000/s",
            Self::NoBurst => "the burst is below 1",
            Self::TooSlow => "an empty bucket would take more than 50 days to fill",
        })
    }
}

impl std::error::Error for QuotaError {}

#[cfg(test)]
mod tests {
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
        assert_eq!(quota.give_back(first.due, first, 3, 0), Some(Due::rest(0)));
        let second = quota.admit(first.due, 2, 0).unwrap();
        let without_first = quota.give_back(second.due, first, 3, 0).unwrap();
        assert_eq!(quota.admit(without_first, 0, 0).unwrap().remaining, 3);
        assert_eq!(quota.give_back(without_first, second, 2, 0), Some(Due::rest(0)), "in either order");
        // At 299 ms one of its tokens is still missing, at 300 ms the first charge has grown back by itself.
        let late = quota.admit(first.due, 2, 299_999).unwrap().due;
        assert_eq!(quota.give_back(late, first, 3, 299_999), Some(Due::rest(299_999)));
        assert_eq!(quota.give_back(late, first, 3, 300_000), None);
        assert_eq!(quota.give_back(Due::rest(0), first, 3, 0), None, "another bucket");
        assert_eq!(quota.give_back(first.due, first, -3, 0), None);
        assert_eq!(quota.give_back(first.due, first, 0, 0), None);
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
}
