//! The ring of consistent hashing, point for point nginx's (`hash KEY consistent`), which is Cache::Memcached::Fast's.
//!
//! A server `HOST:PORT` has 160 points for each unit of its weight: the CRC-32 of host, a zero byte, port and the point
//! before, four bytes little-endian. A key belongs to the first point at or after its own CRC-32.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::crc::Crc;

/// Points for each unit of weight.
pub const POINTS: u32 = 160;

/// So much may the nodes of one upstream with a ring weigh together: 2^21 points, 16 MiB of the zone.
pub const WEIGHT_MAX: u32 = (1 << 21) / POINTS;

/// A node on the ring. One that is a name may have several addresses, which stand next to one another in the pick table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'n> {
    /// `HOST:PORT` as `server` of nginx.conf says it.
    pub server: &'n str,
    /// Its weight.
    pub weight: u32,
    /// Each priority has a ring of its own.
    pub priority: u8,
    /// The place of its first address …
    pub first: u32,
    /// … and how many it has.
    pub count: u32,
}

/// All points, by priority and hash: {hash, u32; place, u32}, with the priority beside.
#[must_use]
pub(super) fn points(members: &[Member<'_>]) -> Vec<(u8, u64)> {
    let mut points = Vec::new();
    for member in members {
        // As nginx splits it: digits behind the last colon are the port.
        let (host, port) = match member.server.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (member.server, ""),
        };
        let base = Crc::EMPTY.with(host.as_bytes()).with(b"\0").with(port.as_bytes());
        let mut hash = 0_u32;
        for _ in 0..member.weight.saturating_mul(POINTS) {
            hash = base.with(&hash.to_le_bytes()).finish();
            points.push((member.priority, u64::from(hash) << 32 | u64::from(member.first)));
        }
    }
    // Of two points with one hash the one of the earlier server stays, and places are in the order of servers.
    points.sort_unstable();
    points.dedup_by_key(|(priority, point)| (*priority, *point >> 32));
    points
}

/// The first of `points`, which are in order, at or after `hash`; their number where there is none.
///
/// Hashes are even over 32 bits, so the place is guessed and the guess is mended by how far it was off; from there on it
/// is a few steps in one or two cache lines, also of millions of points.
#[inline]
pub(super) fn find(points: &[AtomicU64], hash: u32) -> usize {
    let count = points.len();
    let at = |index: usize| points.get(index).map_or(u32::MAX, |point| (point.load(Relaxed) >> 32) as u32);
    // Whoever stands before `low` is smaller, whoever stands at `high` or behind is not.
    let (mut low, mut high) = (0, count);
    let mut guess = ((u64::from(hash) * count as u64) >> 32) as usize;
    for _ in 0..2 {
        let off = ((i64::from(hash) - i64::from(at(guess))) * count as i64) >> 32;
        let next = guess as i64 + off;
        guess = (next.max(0) as usize).min(count.saturating_sub(1));
    }
    let mut width = 4;
    if at(guess) < hash {
        low = guess + 1;
        while low + width < high {
            if at(low + width) >= hash {
                high = low + width;
                break;
            }
            low += width + 1;
            width *= 2;
        }
    } else {
        high = guess.min(count);
        while high > width {
            if at(high - width) < hash {
                low = high - width + 1;
                break;
            }
            high -= width;
            width *= 2;
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        if at(middle) < hash { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn priorities_have_rings_of_their_own_and_names_are_split_as_nginx_does() {
        let member = |server, priority, first| Member { server, weight: 2, priority, first, count: 1 };
        let all = points(&[member("10.0.0.1:80", 1, 0), member("[::1]:80", 0, 1), member("db", 0, 2)]);
        assert_eq!(all.len(), 3 * 320);
        assert!(all.is_sorted());
        assert_eq!(all.iter().filter(|(priority, point)| *priority == 1 && *point as u32 == 0).count(), 320);
        assert!(all.iter().take(640).all(|(priority, point)| *priority == 0 && *point as u32 > 0));
        let first = Crc::EMPTY.with(b"[::1]\x0080\0\0\0\0").finish();
        assert!(all.contains(&(0, u64::from(first) << 32 | 1)));
    }

    proptest! {
        #[test]
        fn found_is_the_first_at_or_after(
            mut hashes in prop_oneof![
                proptest::collection::vec(any::<u32>(), 0..2_000),
                proptest::collection::vec(0..50_u32, 0..40),
                proptest::collection::vec(u32::MAX - 50..=u32::MAX, 0..40),
            ],
            keys in proptest::collection::vec(prop_oneof![any::<u32>(), 0..60_u32, u32::MAX - 60..=u32::MAX], 1..50),
        ) {
            hashes.sort_unstable();
            hashes.dedup();
            let points: Vec<_> = hashes.iter().map(|hash| AtomicU64::new(u64::from(*hash) << 32)).collect();
            for key in keys {
                prop_assert_eq!(find(&points, key), hashes.partition_point(|hash| *hash < key));
            }
        }

        #[test]
        fn a_damaged_ring_ends_every_search(words in proptest::collection::vec(any::<u64>(), 0..300), key: u32) {
            let points: Vec<_> = words.into_iter().map(AtomicU64::new).collect();
            prop_assert!(find(&points, key) <= points.len());
        }
    }
}
