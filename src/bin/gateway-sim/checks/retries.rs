//! Retries within their budget, ejections below their ceiling.

use std::collections::BTreeMap;

use crate::sight::Seen;
use crate::trace::{Checked, broken};

/// Retries that need not be earned.
const FREE: u64 = 3;

/// What one upstream's budget has seen since there is such an upstream: edits neither reset nor refill it.
#[derive(Default)]
struct Budget {
    /// Thousandths of a retry.
    earned: u64,
    retries: u64,
}

#[derive(Default)]
pub struct Retries {
    budgets: BTreeMap<String, Budget>,
    /// All of them, for the summary.
    pub count: u64,
}

impl Retries {
    /// A request to `upstream` that earns `budget` per cent of a retry.
    pub fn request(&mut self, upstream: &str, budget: u32) {
        if let Some(found) = self.budgets.get_mut(upstream) {
            found.earned += u64::from(budget) * 10;
        }
    }

    pub fn retry(&mut self, upstream: &str) -> Checked {
        self.count += 1;
        let Some(Budget { earned, retries, .. }) = self.budgets.get_mut(upstream) else { return Ok(()) };
        *retries += 1;
        if *retries * 1_000 > *earned + FREE * 1_000 {
            return broken(
                "retry budget",
                format!("{upstream}: {retries} retries, {FREE} + {} are earned", *earned / 1_000),
            );
        }
        Ok(())
    }

    /// An upstream that went away begins anew when it comes again.
    pub fn step(&mut self, seen: &[Seen]) {
        self.budgets.retain(|name, _| seen.iter().any(|seen| seen.name == *name));
        for seen in seen {
            if !self.budgets.contains_key(&seen.name) {
                self.budgets.insert(seen.name.clone(), Budget::default());
            }
        }
    }
}

#[derive(Default)]
pub struct Ejections {
    /// Peers that are out, by key.
    out: BTreeMap<u64, ()>,
    pub count: u64,
}

impl Ejections {
    /// Whoever was ejected in this step must have been within the ceiling.
    pub fn step(&mut self, seen: &[Seen]) -> Checked {
        for seen in seen {
            let out = seen.peers.iter().filter(|(_, available)| !available).count();
            for (key, available) in &seen.peers {
                if *available {
                    self.out.remove(key);
                } else if self.out.insert(*key, ()).is_none() {
                    self.count += 1;
                    if out * 2 > seen.peers.len() {
                        let all = seen.peers.len();
                        return broken("ejection ceiling", format!("{}: {out} of {all} nodes are out", seen.name));
                    }
                }
            }
        }
        Ok(())
    }
}
