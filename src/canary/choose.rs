use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::settings::{ArchivedMark, ArchivedOverrides, BUCKETS};

/// Who a caller is for the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// A user, or the value of a header or cookie.
    Name(&'a [u8]),
    /// An address.
    Address(IpAddr),
}

/// Why a variant was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A request header said so.
    Header,
    /// A cookie did.
    Cookie,
    /// The user is on the list.
    User,
    /// By share; the caller's bucket.
    Share(u32),
}

/// The caller's bucket, 0 to 9,999. An IPv4 address counts whole, IPv6 by its /64 because one client commonly has all of
/// that, an IPv4 address inside IPv6 as the IPv4 one that it is.
#[must_use]
#[inline]
pub fn bucket(salt: [u64; 2], who: Who<'_>) -> u32 {
    let [low, high] = salt;
    let mut hasher = SipHasher13::new_with_keys(low, high);
    match who {
        Who::Name(name) => hasher.write(name),
        Who::Address(address) => match address.to_canonical() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&((u128::from(address) >> 64) as u64).to_be_bytes()),
        },
    }
    (hasher.finish() % BUCKETS) as u32
}

/// Which of the variants with `weights` owns `bucket`. Weights are relative, at most 2^40 together; the first variant has
/// what the others leave, and everything where all weights are 0.
#[must_use]
#[inline]
pub fn place(bucket: u32, weights: impl Iterator<Item = u64> + Clone) -> usize {
    let total: u64 = weights.clone().sum();
    // Compared without a division, and so without rounding: a range of buckets grows exactly when its share does.
    let at = u64::from(bucket) * total;
    let (mut low, mut high) = (0, BUCKETS * total);
    for (index, weight) in weights.enumerate().skip(1) {
        let part = weight * BUCKETS;
        if index % 2 == 1 {
            low += part;
            if at < low {
                // Below what the earlier ones have it would have been theirs.
                return index;
            }
        } else {
            high -= part;
            if at >= high {
                return index;
            }
        }
    }
    0
}

/// The weights where the last variant has `share` hundredths of a percent by now, and the others what is left in their
/// old proportions, or the first alone where theirs are all 0. `weights` are at most 2^24 together.
#[inline]
pub fn with_live(weights: impl ExactSizeIterator<Item = u64> + Clone, share: u64) -> impl Iterator<Item = u64> + Clone {
    let last = weights.len().saturating_sub(1);
    let others: u64 = weights.clone().take(last).sum();
    let left = BUCKETS.saturating_sub(share);
    weights.enumerate().map(move |(index, weight)| match (index == last, others) {
        (true, others) => share * others.max(1),
        (false, 0) => u64::from(index == 0) * left,
        (false, _) => weight * left,
    })
}

/// The variant that an override names. `header` and `cookie` are the values that the request brings under the names of
/// the overrides; `named` finds a variant by name, `candidate` is where the others lead.
#[must_use]
#[inline]
pub fn overridden(
    overrides: &ArchivedOverrides,
    header: Option<&[u8]>,
    cookie: Option<&[u8]>,
    user: Option<&str>,
    named: impl Fn(&[u8]) -> Option<usize>,
    candidate: usize,
) -> Option<(usize, Rule)> {
    let marked = |mark: Option<&ArchivedMark>, value: Option<&[u8]>| {
        let value = value?;
        let stands_for = mark?.value.as_ref().is_some_and(|text| text.as_bytes() == value);
        if stands_for { Some(candidate) } else { named(value) }
    };
    if let Some(index) = marked(overrides.header.as_ref(), header) {
        return Some((index, Rule::Header));
    }
    if let Some(index) = marked(overrides.cookie.as_ref(), cookie) {
        return Some((index, Rule::Cookie));
    }
    let user = user?;
    let is_listed = overrides.users.binary_search_by(|other| other.as_str().cmp(user)).is_ok();
    is_listed.then_some((candidate, Rule::User))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_to_the_bucket() {
        for (weights, expected) in [
            (&[95, 5][..], &[9_500, 500][..]),
            (&[9_999, 1], &[9_999, 1]),
            (&[1, 0], &[10_000, 0]),
            (&[0, 1], &[0, 10_000]),
            (&[0, 0], &[10_000, 0]),
            (&[90, 5, 5], &[9_000, 500, 500]),
            (&[0, 1, 1], &[0, 5_000, 5_000]),
            (&[1, 1, 1, 1], &[2_500, 2_500, 2_500, 2_500]),
            (&[2, 1, 1], &[5_000, 2_500, 2_500]),
            (&[1, 2], &[3_333, 6_667]),
            (&[1_000_000, 1_000_000, 0, 1_000_000, 1_000_000], &[2_500, 2_500, 0, 2_500, 2_500]),
        ] {
            let mut counts = vec![0; weights.len()];
            for bucket in 0..BUCKETS as u32 {
                counts[place(bucket, weights.iter().copied())] += 1;
            }
            assert_eq!(counts, expected, "{weights:?}");
        }
        assert_eq!(place(0, std::iter::empty()), 0);
    }

    #[test]
    fn a_live_share_leaves_the_others_their_proportions() {
        for (weights, share, expected) in [
            (&[95, 5][..], 2_500, &[7_500, 2_500][..]),
            (&[95, 5], 0, &[10_000, 0]),
            (&[95, 0], 10_000, &[0, 10_000]),
            (&[0, 7], 1, &[9_999, 1]),
            (&[60, 20, 20], 5_000, &[3_750, 1_250, 5_000]),
            (&[1, 3, 0], 2_000, &[2_000, 6_000, 2_000]),
        ] {
            let mut counts = vec![0; weights.len()];
            for bucket in 0..BUCKETS as u32 {
                counts[place(bucket, with_live(weights.iter().copied(), share))] += 1;
            }
            assert_eq!(counts, expected, "{weights:?} {share}");
        }
    }

    #[test]
    fn addresses() {
        let of = |text: &str| bucket([3, 4], Who::Address(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
