//! The token bucket against the same sums in wide numbers: every edge of rate, burst, cost and clock.

use gateway::limiter::{Due, Quota, Refused, parse_cost, retry_after};

/// So far back a clock may step, microseconds.
const HOUR: u64 = 3_600_000_000;
/// Without a sweep for so long, the clock of 43 bits may take what is past for what is to come.
const LONG: u64 = 24 * 40 * HOUR;

/// Takes numbers off the input; 0 where it has ended.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of up to `bits` bits, more often a small one or one beside a power of two.
    fn number(&mut self, bits: u32) -> u64 {
        let shape = self.byte();
        let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let power = 1u64 << (u32::from(shape & 0x3f) % bits);
        match shape >> 6 {
            0 => u64::from(shape),
            1 => power,
            2 => power.wrapping_sub(u64::from(self.byte() & 3)),
            _ => (0..bits.div_ceil(8)).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
        .min(most)
    }
}

/// The bucket as a number of ticks at which it is full again.
struct Model {
    ticks: i128,
    token: i128,
    capacity: i128,
    most: i128,
    due: i128,
}

impl Model {
    fn debt(&self, now: u64) -> i128 {
        (self.due - i128::from(now) * self.ticks).max(0)
    }

    fn set(&mut self, debt: i128, now: u64) {
        self.due = i128::from(now) * self.ticks + debt;
    }

    fn micros(&self, ticks: i128) -> u64 {
        u64::try_from((ticks + self.ticks - 1) / self.ticks).unwrap()
    }

    fn left(&self, debt: i128) -> u32 {
        u32::try_from((self.capacity - debt).max(0) / self.token).unwrap()
    }
}

pub fn run(data: &[u8]) {
    if let Some(cost) = parse_cost(data) {
        assert_eq!(std::str::from_utf8(data).unwrap().parse(), Ok(cost));
    }
    let mut input = Input(data);
    let (count, per, burst) = (input.number(64), input.number(64), input.number(32) as u32);
    let Ok(quota) = Quota::new(count, per, burst) else { return };
    assert_eq!(quota.burst(), burst);
    let exact = per.is_multiple_of(count) || count <= 1 << 20;
    let (ticks, token) = match exact {
        true if per.is_multiple_of(count) => (1, per / count),
        true => (count, per),
        // Not looked at, and too large for any sum.
        false => (1, 1),
    };
    let (ticks, token) = (i128::from(ticks), i128::from(token));
    let capacity = i128::from(burst) * token;
    let debt_max = ((1u64 << 42) - HOUR) as i128 * ticks;
    let mut now = input.number(64);
    let mut model = Model { ticks, token, capacity, most: (2 * capacity).min(debt_max), due: i128::from(now) * ticks };
    let (mut due, mut latest, mut last) = (Due::rest(now), now, None);
    for _ in 0..64 {
        if input.0.is_empty() {
            break;
        }
        let step = input.byte();
        match step & 3 {
            0 => {}
            1 => now = now.saturating_sub(input.number(32)).max(latest.saturating_sub(HOUR)),
            _ => {
                let gone = input.number(46);
                now = now.saturating_add(gone);
                if gone > LONG || model.due < i128::from(now) * ticks - i128::from(LONG) * ticks {
                    (due, last) = (Due::rest(now), None);
                    model.set(0, now);
                }
            }
        }
        latest = latest.max(now);
        let debt = model.debt(now);
        match step >> 2 & 3 {
            // What is owed: the model is exact only where the quota is.
            0 => {
                let cost = input.number(32) as u32;
                let owed = quota.owe(due, cost, now);
                if exact {
                    let charged = (debt + i128::from(cost) * token).min(model.most.max(debt));
                    assert_eq!((owed.remaining, owed.reset), (model.left(charged), model.micros(charged)));
                    if cost != 0 {
                        model.set(charged, now);
                    }
                }
                (due, last) = (owed.due, None);
            }
            1 => {
                let Some((at, cost)) = last.take() else { continue };
                let back = quota.give_back(due, at, cost, now);
                if exact {
                    let (cost, returned) = (i128::from(cost) * token, i128::from(now.saturating_sub(at)) * ticks);
                    assert_eq!(back.is_some(), returned < cost && debt >= cost - returned, "{cost} of {at} at {now}");
                    if back.is_some() {
                        model.set((debt - cost).max(0), now);
                    }
                }
                due = back.unwrap_or(due);
            }
            _ => {
                let cost = input.number(64) as i64;
                let answer = quota.admit(due, cost, now);
                match answer {
                    Ok(admitted) => {
                        assert!(cost >= 0 && admitted.remaining <= burst && admitted.at == now);
                        assert!(cost > 0 || admitted.due == due);
                        (due, last) = (admitted.due, (cost > 0).then_some((now, cost)));
                    }
                    Err(Refused::Negative) => assert!(cost < 0),
                    Err(Refused::Never) => assert!(cost > i64::from(burst)),
                    Err(refused @ Refused::Early { retry, remaining, .. }) => {
                        assert!(cost > 0 && retry > 0 && i64::from(remaining) < cost);
                        assert!(retry_after(retry) >= 1 && refused.retry_after() == Some(retry));
                        if let Some(later) = now.checked_add(retry) {
                            assert!(quota.admit(due, cost, later).is_ok(), "{cost} after {retry}");
                            assert!(quota.admit(due, cost, later - 1).is_err(), "{cost} not before {retry}");
                        }
                    }
                }
                if !exact || cost < 0 || cost > i64::from(burst) {
                    continue;
                }
                let charged = debt + i128::from(cost) * token;
                assert_eq!(answer.is_ok(), cost == 0 || charged <= capacity, "{cost} at {now}");
                match answer {
                    Ok(admitted) => {
                        assert_eq!((admitted.remaining, admitted.reset), (model.left(charged), model.micros(charged)));
                        if cost > 0 {
                            model.set(charged, now);
                        }
                    }
                    Err(refused) => {
                        assert_eq!(refused.retry_after(), Some(model.micros(charged - capacity)));
                    }
                }
            }
        }
    }
}
