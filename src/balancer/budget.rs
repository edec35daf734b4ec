use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// How much of the traffic of one upstream may be retries: so many per 1,000 requests, and a few more.
///
/// One word, shared by all workers: thousandths of a retry earned and not yet spent. It starts at 0, which is worth
/// [`Self::CONSTANT`] retries, and saves up at most what [`Self::SAVED`] requests earn, so after a quiet day an
/// outage is met with a bounded burst. Over any stretch, retries <= budget x requests + CONSTANT + what was saved.
/// While nothing fails the word is at its cap and no request writes it.
#[derive(Clone, Copy)]
pub struct RetryBudget<'a>(&'a AtomicU64);

impl<'a> RetryBudget<'a> {
    /// Retries that need not be earned.
    pub const CONSTANT: u64 = 3;
    /// For so many requests at most are earnings saved.
    pub const SAVED: u64 = 500;

    /// The price of one retry.
    const RETRY: u64 = 1_000;

    /// The budget in `word`, which is 0 at first.
    #[must_use]
    pub const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// Earns for one request; `budget` is retries per 1,000 requests.
    #[inline]
    pub fn request(self, budget: u16) {
        let earned = self.0.load(Relaxed) as i64;
        if earned < (Self::SAVED * u64::from(budget)) as i64 {
            // Workers that pass this check together overshoot the cap by a request each, and that is all.
            self.0.fetch_add(u64::from(budget), Relaxed);
        }
    }

    /// Whether there is a retry left.
    #[must_use]
    #[inline]
    pub fn has_retry(self) -> bool {
        self.0.load(Relaxed) as i64 - Self::RETRY as i64 >= -((Self::CONSTANT * Self::RETRY) as i64)
    }

    /// Takes one retry, or says that there is none left.
    #[must_use]
    pub fn retry(self) -> bool {
        // Signed: the constant is granted as debt.
        self.0
            .fetch_update(Relaxed, Relaxed, |word| {
                let left = (word as i64).saturating_sub(Self::RETRY as i64);
                (left >= -((Self::CONSTANT * Self::RETRY) as i64)).then_some(left as u64)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: RetryBudget) -> u64 {
        (0..1_000_000).take_while(|_| budget.retry()).count() as u64
    }

    #[test]
    fn a_constant_then_a_share() {
        let word = AtomicU64::new(0);
        let budget = RetryBudget::new(&word);
        assert_eq!(retries(budget), 3);
        for (requests, per_mille, expected) in
            [(5, 200, 1), (4, 200, 0), (1, 200, 1), (100, 200, 20), (1_000_000, 200, 103), (10, 0, 0), (2, 1_000, 2)]
        {
            for _ in 0..requests {
                budget.request(per_mille);
            }
            assert_eq!(retries(budget), expected, "{requests} at {per_mille}");
        }
    }

    #[test]
    fn workers_together_never_take_more_than_there_is() {
        let word = AtomicU64::new(0);
        let taken: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let budget = RetryBudget::new(&word);
                        (0..10_000_u64)
                            .map(|_| {
                                budget.request(200);
                                u64::from(budget.retry())
                            })
                            .sum::<u64>()
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((8_000..=8_003).contains(&taken), "{taken}");
    }
}
