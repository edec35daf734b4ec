//! Leases: tokens of a limit that several machines share, handed out in advance.
//!
//! The tokens of a key are in a shared store, but a request does not go there: its node holds a *lease*, some tokens
//! that the store has written off already, and spends those. What a node may spend beyond is its *credit*, reported to
//! the store afterwards. A lease is a value, as a bucket is: old value and a number in, new value out; whoever keeps it
//! brings the clock, and whoever talks to the store brings what it says.
//!
//! # Bounds
//! Over all nodes, a window in which the store gives out `T` tokens admits at most `T` and each node's credit
//! ([`Terms::credit`], together the burst, at least one a node). Tokens are spent once: those that are on their way back
//! are not in the lease any more. A lease nobody renews ends ([`Terms::keep`]): its tokens can be returned and no
//! longer spent, so a node that the store has given up does not come back with a hoard. What a killed node held is
//! lost, which admits less, never more.

use super::Quota;
use crate::types::SECOND;

/// How long tokens are kept that nobody uses or renews, microseconds.
const KEEP: u64 = SECOND;

/// What a node may hold of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    most: u32,
    credit: u32,
    keep: u64,
}

/// What a node holds of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Written off by the store, not spent.
    tokens: u32,
    /// Spent, not written off, …
    debt: u32,
    /// … and of that what a call has told the store that is not answered yet.
    sent: u32,
    /// Until when `tokens` may be spent, microseconds.
    ends: u64,
    /// Until when the store has nothing to give, microseconds.
    denied: u64,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It may; the lease is this now.
    Yes(Lease),
    /// The store has said no: it may be worth while to ask again after so many microseconds.
    No(u64),
    /// Only the store can tell.
    Ask,
}

/// What goes to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Spent on credit: written off in any case.
    pub debt: u32,
    /// Asked for.
    pub want: u32,
    /// Given back.
    pub back: u32,
}

impl Terms {
    /// The terms of one of `nodes` nodes that talk to the store every `sync` microseconds: tokens for twice that time,
    /// and its share of the burst on credit; at least one of each.
    #[must_use]
    pub fn new(quota: &Quota, nodes: u32, sync: u64) -> Self {
        Self {
            most: quota.earned(sync.saturating_mul(2)).clamp(1, quota.burst()),
            credit: (quota.burst() / nodes.max(1)).max(1),
            keep: KEEP.max(sync.saturating_mul(2)),
        }
    }

    /// How many tokens a node holds at most.
    #[must_use]
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// How many tokens a node spends on credit at most.
    #[must_use]
    pub const fn credit(&self) -> u32 {
        self.credit
    }

    /// How long a lease lasts that nobody renews, microseconds.
    #[must_use]
    pub const fn keep(&self) -> u64 {
        self.keep
    }
}

impl Lease {
    /// Takes `cost` tokens at `now`: leased ones, and where those do not do, all of it on credit, unless the store has
    /// said lately that there are none.
    #[must_use]
    pub fn spend(self, cost: u32, terms: &Terms, now: u64) -> Spent {
        if cost <= self.usable(now) {
            return Spent::Yes(Self { tokens: self.tokens - cost, ..self });
        }
        if now < self.denied {
            return Spent::No(self.denied - now);
        }
        match self.debt.checked_add(cost) {
            Some(debt) if debt <= terms.credit => Spent::Yes(Self { debt, ..self }),
            _ => Spent::Ask,
        }
    }

    /// Tokens that may be spent at `now` without asking anybody.
    #[must_use]
    pub const fn usable(self, now: u64) -> u32 {
        if now < self.ends { self.tokens } else { 0 }
    }

    /// Spent on credit, and not known to be written off.
    #[must_use]
    pub const fn debt(self) -> u32 {
        self.debt
    }

    /// Whether the store should be asked before it is time: `expected` tokens will be needed until then, `waiting` are
    /// by requests that wait.
    #[must_use]
    pub fn is_urgent(self, expected: u32, waiting: u32, terms: &Terms, now: u64) -> bool {
        now >= self.denied
            && (waiting > 0 || self.debt > terms.credit / 2 || expected > 0 && self.usable(now) <= expected / 4)
    }

    /// What to tell the store, and what is left here meanwhile. `expected` and `waiting` are those of
    /// [`Lease::is_urgent`]; 0 expected gives everything back.
    #[must_use]
    pub fn call(self, expected: u32, waiting: u32, terms: &Terms, now: u64) -> (Call, Self) {
        let usable = self.usable(now);
        let enough = expected.min(terms.most).max(waiting.min(terms.most));
        // What is not usable goes back whole; else what is far more than enough.
        let back = match self.tokens {
            tokens if usable == 0 => tokens,
            tokens if expected == 0 && waiting == 0 => tokens,
            tokens if tokens > enough.saturating_mul(2).saturating_add(1) => tokens - enough,
            _ => 0,
        };
        let tokens = self.tokens - back;
        let want = if back > 0 { 0 } else { enough.saturating_sub(tokens) };
        let want = if usable == 0 { enough } else { want };
        (Call { debt: self.debt - self.sent, want, back }, Self { tokens, sent: self.debt, ..self })
    }

    /// The store has given `grant` tokens of the `call`'s; where those are fewer than were wanted, it will have more
    /// after `wait` microseconds. More than was asked for is not taken.
    #[must_use]
    pub fn granted(self, call: &Call, grant: u32, wait: u64, terms: &Terms, now: u64) -> Self {
        let tokens = self.usable(now).saturating_add(grant.min(call.want));
        let denied = if grant < call.want { now.saturating_add(wait.max(1)) } else { 0 };
        let (debt, sent) = (self.debt.saturating_sub(call.debt), self.sent.saturating_sub(call.debt));
        Self { tokens, debt, sent, ends: now.saturating_add(terms.keep), denied }
    }

    /// The store did not answer. Whether it has written off the debt nobody knows: it is reported again, so that at
    /// worst tokens are lost. What was given back stays given: perhaps another has it already.
    #[must_use]
    pub fn failed(self, call: &Call) -> Self {
        Self { sent: self.sent.saturating_sub(call.debt), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Due;
    use super::*;
    use proptest::prelude::*;

    const SYNC: u64 = SECOND / 10;

    fn terms() -> Terms {
        Terms::new(&Quota::new(100, SECOND, 40).unwrap(), 4, SYNC)
    }

    #[test]
    fn terms_are_a_share() {
        for (count, burst, nodes, expected) in
            [(100, 40, 4, (20, 10)), (1, 1, 4, (1, 1)), (7, 3, 0, (2, 3)), (1_000_000, 5, 2, (5, 2))]
        {
            let terms = Terms::new(&Quota::new(count, SECOND, burst).unwrap(), nodes, SYNC);
            assert_eq!((terms.most(), terms.credit()), expected, "{count}/s, {burst}, {nodes} nodes");
        }
    }

    #[test]
    fn tokens_then_credit_then_the_store() {
        let terms = terms();
        let mut lease = Lease::default().granted(&Call { want: 3, ..Call::default() }, 9, 0, &terms, 0);
        assert_eq!(lease.usable(0), 3, "no more than was asked for");
        for (cost, left, debt) in [(2, 1, 0), (0, 1, 0), (2, 1, 2), (1, 0, 2), (8, 0, 10)] {
            let Spent::Yes(next) = lease.spend(cost, &terms, 5) else { panic!("{cost}") };
            assert_eq!((next.usable(5), next.debt()), (left, debt), "{cost}");
            lease = next;
        }
        assert_eq!(lease.spend(1, &terms, 5), Spent::Ask);
        assert_eq!(lease.spend(u32::MAX, &terms, 5), Spent::Ask);
        let (call, lease) = lease.call(4, 1, &terms, 6);
        assert_eq!(call, Call { debt: 10, want: 4, back: 0 });
        let short = lease.granted(&call, 1, 700, &terms, 10);
        assert_eq!(short.spend(2, &terms, 10), Spent::No(700), "not on credit either");
        assert!(!short.is_urgent(9, 9, &terms, 10) && short.is_urgent(9, 9, &terms, 710));
        assert!(matches!(short.spend(1, &terms, 10), Spent::Yes(_)));
    }

    #[test]
    fn a_lease_ends_and_goes_back() {
        let terms = terms();
        let lease = Lease::default().granted(&Call { want: 9, ..Call::default() }, 9, 0, &terms, 100);
        let end = 100 + terms.keep();
        assert_eq!((lease.usable(end - 1), lease.usable(end)), (9, 0));
        let (call, rest) = lease.call(5, 0, &terms, end);
        assert_eq!((call, rest.usable(end - 1)), (Call { debt: 0, want: 5, back: 9 }, 0), "what ended is not kept");
        let (call, rest) = lease.call(2, 0, &terms, 200);
        assert_eq!((call, rest.usable(200)), (Call { debt: 0, want: 0, back: 7 }, 2), "far more than enough");
        assert_eq!(lease.call(4, 0, &terms, 200).0, Call::default(), "enough");
        assert_eq!(lease.call(0, 0, &terms, 200).0.back, 9, "nobody comes any more");
    }

    #[test]
    fn a_debt_survives_a_call_that_fails() {
        let terms = terms();
        let Spent::Yes(lease) = Lease::default().spend(6, &terms, 0) else { panic!() };
        let (call, lease) = lease.call(1, 0, &terms, 0);
        assert_eq!(lease.spend(5, &terms, 0), Spent::Ask, "what is told is not paid yet");
        let Spent::Yes(lease) = lease.spend(4, &terms, 0) else { panic!() };
        let lease = lease.failed(&call);
        assert_eq!((lease.debt(), lease.spend(1, &terms, 0)), (10, Spent::Ask));
        let (call, lease) = lease.call(1, 0, &terms, 0);
        assert_eq!((call.debt, lease.granted(&call, 0, 1, &terms, 0).debt()), (10, 0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Spend(usize, u32),
        Sync(usize, u32, bool),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..3, 1u32..4).prop_map(|(node, cost)| Step::Spend(node, cost)),
            2 => (0usize..3, 0u32..30, prop::bool::weighted(0.8)).prop_map(|(node, expected, ok)| Step::Sync(node, expected, ok)),
            1 => (0u64..300_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Three nodes and a store that keeps an exact bucket: together they admit at most what the bucket has given out,
        /// and each its credit.
        #[test]
        fn nodes_together_admit_what_the_store_gives_and_their_credit(
            count in 1u64..200, burst in 1u32..60, steps in prop::collection::vec(step(), 1..200),
        ) {
            let quota = Quota::new(count, SECOND, burst).unwrap();
            let terms = Terms::new(&quota, 3, SYNC);
            let (mut nodes, mut now) = ([Lease::default(); 3], SECOND);
            let (mut due, mut given, mut back, mut admitted) = (Due::rest(now), 0u64, 0u64, 0u64);
            for step in steps {
                match step {
                    Step::Wait(micros) => now += micros,
                    Step::Spend(node, cost) => {
                        if let Spent::Yes(lease) = nodes[node].spend(cost, &terms, now) {
                            nodes[node] = lease;
                            admitted += u64::from(cost);
                        }
                    }
                    Step::Sync(node, expected, answers) => {
                        let (call, lease) = nodes[node].call(expected, 0, &terms, now);
                        prop_assert!(call.want <= terms.most());
                        back += u64::from(call.back);
                        nodes[node] = lease;
                        if !answers {
                            nodes[node] = lease.failed(&call);
                            continue;
                        }
                        due = quota.owe(due, call.debt, now).due;
                        let standing = quota.admit(due, 0, now).unwrap();
                        let grant = call.want.min(standing.remaining);
                        due = quota.admit(due, grant.into(), now).unwrap().due;
                        given += u64::from(grant) + u64::from(call.debt);
                        nodes[node] = lease.granted(&call, grant, 1, &terms, now);
                    }
                }
                let held: u64 = nodes.iter().map(|node| u64::from(node.usable(now))).sum();
                let owed: u64 = nodes.iter().map(|node| u64::from(node.debt())).sum();
                prop_assert!(nodes.iter().all(|node| node.debt() <= terms.credit()));
                prop_assert!(admitted + held + back <= given + owed, "{admitted} + {held} + {back} > {given} + {owed}");
            }
        }
    }
}
