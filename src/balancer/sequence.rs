//! nginx's smooth weighted round robin, written out.
//!
//! nginx keeps a number a peer: each pick adds to everybody's number its weight, takes the peer with the highest (the
//! first of equals) and subtracts the sum of the weights from it. After sum / gcd picks all numbers are 0 again, so the
//! picks are a cycle, and who has the cycle needs one counter instead of a lock around all the numbers.

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// No cycle of fewer than 8,192 peers is longer. Beyond, weights are rounded to parts of it, so that shares are exact to
/// one pick in so many.
pub const CYCLE_MAX: u32 = 1 << 15;

/// So much longer than its peers a cycle may be all the same: with 10,000 peers, weights up to 4 on average are exact.
const TURNS: u32 = 4;

/// While weights ramp up, how many steps there are between nothing and the whole, at least.
const RAMP: u32 = 32;

/// The room that the cycle of these weights takes; `ramps` where they may be parts of what is written.
#[must_use]
pub fn room(weights: impl Iterator<Item = u32> + Clone, ramps: bool) -> u32 {
    let count = weights.clone().count() as u32;
    let most = CYCLE_MAX.max(count.saturating_mul(TURNS));
    let (sum, gcd) = sum_and_gcd(weights);
    let exact = (sum / gcd.max(1)).min(u64::from(most)) as u32;
    // Where all weigh nothing, each is worth one.
    let exact = exact.max(count);
    if ramps { exact.saturating_mul(RAMP).min(most) } else { exact }
}

/// The cycle over who weighs something, by place; of at most `room` picks, to which weights are rounded where it would be
/// longer. Nobody with a weight is rounded to nothing as long as there is a pick for each.
#[must_use]
pub fn cycle(weights: &[u32], room: u32) -> Vec<u32> {
    let (sum, gcd) = sum_and_gcd(weights.iter().copied());
    if gcd == 0 {
        return Vec::new();
    }
    let fits = sum / gcd <= u64::from(room);
    let rounded = |weight: u32| match weight {
        0 => 0,
        weight if fits => u64::from(weight) / gcd,
        // Down, and one pick for each is set aside: the sum stays within the room.
        weight => {
            let peers = weights.iter().filter(|weight| **weight > 0).count() as u64;
            1 + u64::from(weight) * u64::from(room).saturating_sub(peers) / sum
        }
    };
    let weights: Vec<u64> = weights.iter().map(|weight| rounded(*weight)).collect();
    let sum: u64 = weights.iter().sum::<u64>().min(u64::from(room));
    smooth(&weights, sum)
}

/// Peers of one weight take turns in the order of their places, so it is enough to compare who is next of each weight.
fn smooth(weights: &[u64], sum: u64) -> Vec<u32> {
    /// Of one weight: who has the highest number first.
    struct Class {
        weight: i64,
        line: VecDeque<(u32, i64)>,
    }

    let total = weights.iter().sum::<u64>() as i64;
    let mut by_weight: BTreeMap<u64, VecDeque<(u32, i64)>> = BTreeMap::new();
    for (weight, place) in weights.iter().zip(0..) {
        if *weight > 0 {
            by_weight.entry(*weight).or_default().push_back((place, 0));
        }
    }
    let mut classes: Vec<Class> =
        by_weight.into_iter().map(|(weight, line)| Class { weight: weight as i64, line }).collect();
    let mut picks = Vec::with_capacity(sum as usize);
    for turn in 1..=sum as i64 {
        // What a peer was given in all, less what its picks took.
        let number = |class: &Class| {
            class.line.front().map(|(place, taken)| (class.weight * turn - taken * total, u32::MAX - place))
        };
        let Some(best) = classes.iter_mut().max_by_key(|class| number(class)) else { break };
        let Some((place, taken)) = best.line.pop_front() else { break };
        picks.push(place);
        best.line.push_back((place, taken + 1));
    }
    picks
}

fn sum_and_gcd(weights: impl Iterator<Item = u32>) -> (u64, u64) {
    weights.fold((0, 0), |(sum, gcd), weight| (sum + u64::from(weight), common(gcd, u64::from(weight))))
}

fn common(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As nginx does it, number by number.
    fn naive(weights: &[u32], picks: usize) -> Vec<u32> {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut numbers = vec![0_i64; weights.len()];
        (0..picks)
            .map(|_| {
                let mut best = None;
                for (place, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                    numbers[place] += i64::from(*weight);
                    if best.is_none_or(|best: usize| numbers[place] > numbers[best]) {
                        best = Some(place);
                    }
                }
                let best = best.unwrap();
                numbers[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn known_cycles() {
        assert_eq!(cycle(&[5, 1, 1], 100), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(cycle(&[1280, 256, 256], 100), [0, 0, 1, 0, 2, 0, 0], "what they have in common does not count");
        assert_eq!(cycle(&[0, 3, 0], 100), [1]);
        assert_eq!(cycle(&[0, 0], 100), [0_u32; 0]);
        assert_eq!(cycle(&[], 100), [0_u32; 0]);
    }

    #[test]
    fn room_is_what_the_cycle_takes_up_to_a_limit() {
        let room = |weights: &[u32], ramps| room(weights.iter().copied(), ramps);
        assert_eq!(room(&[5, 1, 1], false), 7);
        assert_eq!(room(&[10, 20], false), 3);
        assert_eq!(room(&[0, 0, 0], false), 3);
        assert_eq!(room(&[1_000_000, 999_999], false), CYCLE_MAX);
        assert_eq!(room(&[1; 10_000], false), 10_000);
        assert_eq!(room(&[1; 3], true), 96);
        assert_eq!(room(&[1; 10_000], true), 40_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_cycle_is_what_nginx_computes(weights in proptest::collection::vec(0..12_u32, 1..30)) {
            let (sum, gcd) = sum_and_gcd(weights.iter().copied());
            prop_assume!(sum > 0);
            let cycle = cycle(&weights, CYCLE_MAX);
            prop_assert_eq!(cycle.len() as u64, sum / gcd);
            let twice: Vec<u32> = cycle.iter().chain(&cycle).copied().collect();
            prop_assert_eq!(&naive(&weights, twice.len()), &twice);
        }

        #[test]
        fn rounded_weights_keep_their_shares(weights in proptest::collection::vec(1..1_000_000_u32, 2..40)) {
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let cycle = cycle(&weights, CYCLE_MAX);
            prop_assert!(cycle.len() <= CYCLE_MAX as usize);
            for (weight, place) in weights.iter().zip(0..) {
                let share = cycle.iter().filter(|pick| **pick == place).count() as f64 / cycle.len() as f64;
                prop_assert!(share > 0.0, "nobody is rounded to nothing");
                prop_assert!((share - f64::from(*weight) / sum).abs() < 0.002, "{share} for {weight} of {sum}");
            }
        }
    }
}
