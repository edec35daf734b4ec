//! Limits against exact buckets: nobody gets more than rate and burst allow, nobody less.

use std::collections::BTreeMap;

use gateway::types::Kind;

use crate::client::Call;
use crate::document::{Document, Key, Limiter};
use crate::fleet::LAG;
use crate::trace::{Checked, broken};

/// Verdicts this close to the edge may fall either way, microseconds: an edit of the rate rounds what a bucket holds.
const EDGE: f64 = 5.0;

/// A token bucket in real numbers: when it is full again, by the clocks that the gateway was shown.
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Exactly.
    full: f64,
    /// At most: what is given back may leave it full by one worker's clock, and not yet by another's.
    most: f64,
    /// By the true clock, for the bound over all workers.
    truly: f64,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It met no limit.
    None,
    /// It passed those that need no identity.
    Early,
    /// It passed all.
    Late,
    /// A limit refused it.
    Refused,
}

#[derive(Default)]
pub struct Limits {
    /// By the limiter's id and what it tells requests apart by.
    buckets: BTreeMap<(u64, String), Bucket>,
}

impl Limits {
    /// Holds the gateway's verdict on `call` against the buckets; `shown` is what its worker's clock showed, `time` the
    /// truth, `id` finds the id of a limiter or a route.
    pub fn verdict(
        &mut self,
        document: &Document,
        call: &Call,
        reach: Reach,
        (shown, time): (u64, u64),
        id: impl Fn(Kind, &str) -> u64,
    ) -> Checked {
        let Some(route) = document.routes.get(&call.route).filter(|_| reach != Reach::None) else { return Ok(()) };
        let known = route.limits.iter().filter_map(|name| Some((name, document.limiters.get(name)?)));
        let (late, early): (Vec<_>, Vec<_>) = known.partition(|(_, limiter)| limiter.key == Key::Consumer);
        for (step, limits) in [early, late].into_iter().enumerate() {
            if step == 1 && (reach == Reach::Early || (route.guarded && call.consumer.is_none())) {
                return Ok(());
            }
            let mut charged = Vec::new();
            for (name, limiter) in limits {
                let key = (id(Kind::Limiter, name), key_of(limiter, call, route.guarded, &id));
                let bucket = self.buckets.get(&key).copied().unwrap_or_default();
                let edge = f64::from(limiter.burst) * token(limiter) + shown as f64;
                let next = bucket.charge(limiter, shown as f64, time as f64);
                // By how much the bucket is overdrawn, at least and at most, microseconds.
                let (least, most) = (next.full - edge, next.most - edge);
                if limiter.shadow {
                    if least <= EDGE {
                        charged.push((key, next, limiter));
                    }
                    continue;
                }
                if reach == Reach::Refused && most > -EDGE {
                    // If it was this one, what the others of this step took is given back.
                    for (key, ..) in &charged {
                        let other: &mut Bucket = self.buckets.entry(key.clone()).or_default();
                        other.most = other.most.max(shown as f64);
                    }
                    return Ok(());
                }
                if least > EDGE {
                    let text = format!("{name} {key:?} let one through {least:.0} µs too early: {limiter:?}");
                    return broken("over-admission", text);
                }
                charged.push((key, next, limiter));
            }
            for (key, mut next, limiter) in charged {
                let bound = f64::from(limiter.burst) * token(limiter);
                if next.truly - time as f64 > bound + LAG as f64 + EDGE {
                    let ahead = next.truly - time as f64;
                    return broken("over-admission", format!("{key:?}: {ahead:.0} µs ahead, {bound:.0} are allowed"));
                }
                next.most = next.most.min(shown as f64 + bound + EDGE);
                self.buckets.insert(key, next);
            }
        }
        match reach {
            Reach::Refused => broken("refused in error", format!("no limit of {} had run out", call.route)),
            _ => Ok(()),
        }
    }
}

/// Microseconds to a token.
fn token(limiter: &Limiter) -> f64 {
    f64::from(limiter.per) * 1e6 / f64::from(limiter.count)
}

fn key_of(limiter: &Limiter, call: &Call, known: bool, id: impl Fn(Kind, &str) -> u64) -> String {
    match limiter.key {
        Key::Ip => call.address.to_string(),
        // Whom nobody asked for a key is anonymous, whatever it shows.
        Key::Consumer => call.consumer.filter(|_| known).map_or_else(String::new, |consumer| consumer.to_string()),
        Key::Route => id(Kind::Route, &call.route).to_string(),
        Key::Global => String::new(),
    }
}

impl Bucket {
    /// The bucket after one more charge.
    fn charge(self, limiter: &Limiter, shown: f64, time: f64) -> Self {
        let cost = f64::from(limiter.cost) * token(limiter);
        let after = |full: f64, now: f64| full.max(now) + cost;
        Self { full: after(self.full, shown), most: after(self.most, shown), truly: after(self.truly, time) }
    }
}
