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
/// No debt is larger, microseconds: 50 days.
const DEBT_MAX: u64 = AHEAD_MAX - STEP_BACK;

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
        if fill > u128::from(DEBT_MAX) {
            return Err(QuotaError::TooSlow);
        }
        // All fit: capacity is at most AHEAD_MAX * 2^20 = 2^62. What was owed (`owe`) may lie twice as far ahead.
        let ahead_max = (2 * fill as u64).min(DEBT_MAX) + STEP_BACK;
        Ok(Self { ticks, token, burst, capacity: capacity as u64, ahead_max })
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

    /// How many tokens come back in `micros` microseconds, rounded up.
    #[must_use]
    pub fn earned(&self, micros: u64) -> u32 {
        let tokens = (u128::from(micros) * u128::from(self.ticks)).div_ceil(u128::from(self.token));
        u32::try_from(tokens).unwrap_or(u32::MAX)
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

    /// Takes `cost` tokens at `now` whether they are there or not, because what they pay for has happened already.
    ///
    /// A bucket owes at most as much again as it holds, and at most what takes 50 days to come back; what is above that
    /// is forgiven, so that no single charge shuts a client out for longer than twice the time that its bucket takes to
    /// fill.
    #[must_use]
    pub fn owe(&self, due: Due, cost: u32, now: u64) -> Admitted {
        let most = (2 * self.capacity).min(DEBT_MAX * self.ticks);
        let debt = self.debt(due, now);
        // Clocks that were stepped back leave a debt that is larger already: it stays, and does not grow.
        let charged = debt.saturating_add(u64::from(cost).saturating_mul(self.token)).min(most.max(debt));
        let due = if cost == 0 { due } else { self.due(charged, now) };
        Admitted { at: now, due, remaining: self.remaining(charged), reset: self.micros(charged) }
    }

    /// Puts the `cost` tokens of the charge that was made `at` that time back into its bucket, which is at `due` now; `None` where there is
    /// nothing to put back.
    ///
    /// Tokens return by themselves, and what has returned may have been capped by the size of the bucket, so a charge
    /// can be undone exactly only until its own tokens alone have had the time to come back: till then no cap can have
    /// been reached. A bucket that is less in debt than this one charge must have left it is not the one that was
    /// charged.
    #[inline]
    #[must_use]
    pub fn give_back(&self, due: Due, at: u64, cost: i64, now: u64) -> Option<Due> {
        let cost = u64::try_from(cost).ok().filter(|cost| (1..=u64::from(self.burst)).contains(cost))? * self.token;
        let returned = now.saturating_sub(at).checked_mul(self.ticks)?;
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
mod tests;
