//! Sets of addresses as the tree holds them: searched in place, whatever their size.

use std::net::IpAddr;

use rkyv::{Archive, Deserialize, Serialize};

use super::settings::{ArchivedRange, Ban, Range};

/// The addresses of IPv4 among those of IPv6.
const MAPPED: u128 = 0xffff_0000_0000;
/// From so many IPv4 ranges on there is an index over the first half of an address.
const INDEX_FROM: usize = 1_024;

/// A set of addresses. IPv4 takes 8 bytes a range and IPv6 32. Of a large set a look-up reads one place of an index by
/// the first 16 bits of the address and then searches the few ranges that begin with them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Set {
    /// The first address of each IPv4 range, in order …
    firsts: Vec<u32>,
    /// … and its last.
    lasts: Vec<u32>,
    /// For each value of the first 16 bits how many ranges begin below it; empty in small sets.
    index: Vec<u32>,
    /// Ranges with IPv6 addresses, in order.
    wide: Vec<Range>,
}

impl Set {
    /// The set of `ranges`, in any order, which may overlap.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut set = Self::default();
        for range in merge(ranges.into_iter().collect()) {
            match (narrow(range.first), narrow(range.last)) {
                (Some(first), Some(last)) => {
                    set.firsts.push(first);
                    set.lasts.push(last);
                }
                // Merging may have joined IPv4 with its neighbours, so IPv4 addresses are looked up here, too.
                _ => set.wide.push(range),
            }
        }
        if set.firsts.len() >= INDEX_FROM {
            set.index = (0..=0x1_0000_u64)
                .map(|high| set.firsts.partition_point(|&first| u64::from(first) < high << 16) as u32)
                .collect();
        }
        set
    }
}

impl ArchivedSet {
    /// Whether `address` is in the set; IPv4 in either form is the same.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let wide = wide(address);
        self.has_narrow(wide) || (!self.wide.is_empty() && self.has_wide(wide))
    }

    fn has_narrow(&self, address: u128) -> bool {
        let Some(address) = narrow(address) else { return false };
        let high = (address >> 16) as usize;
        let (from, to) = match self.index.get(high..high + 2) {
            Some([from, to]) => (from.to_native() as usize, to.to_native() as usize),
            _ => (0, self.firsts.len()),
        };
        let firsts = self.firsts.get(from..to).unwrap_or_default();
        // The range that begins last before the address may begin before this part of the index.
        let below = from + firsts.partition_point(|first| first.to_native() <= address);
        below.checked_sub(1).and_then(|at| self.lasts.get(at)).is_some_and(|last| last.to_native() >= address)
    }

    fn has_wide(&self, address: u128) -> bool {
        find(&self.wide, address).is_some()
    }

    /// Its ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        let wide = |address: &rkyv::rend::u32_le| MAPPED | u128::from(address.to_native());
        let narrow = self.firsts.iter().zip(self.lasts.iter());
        let narrow = narrow.map(move |(first, last)| Range { first: wide(first), last: wide(last) });
        let mut ranges: Vec<Range> = narrow.chain(self.wide.iter().map(ArchivedRange::range)).collect();
        ranges.sort_unstable();
        ranges.into_iter()
    }

    /// How many ranges it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.firsts.len() + self.wide.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Every ban of the document, as one object: ranges in order, without overlap.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Bans {
    ranges: Vec<Range>,
    /// For each range until when, seconds since the Unix epoch; `u64::MAX` = until it is lifted …
    until: Vec<u64>,
    /// … and why.
    reasons: Vec<String>,
}

impl Bans {
    /// What `bans` come to: where several cover an address, the one that ends last counts.
    #[must_use]
    pub fn new(bans: &[Ban]) -> Self {
        let end = |ban: &Ban| if ban.until == 0 { u64::MAX } else { ban.until };
        // Between two neighbouring edges the same bans hold.
        let mut edges: Vec<u128> = bans.iter().map(|ban| ban.range.first).collect();
        edges.extend(bans.iter().filter_map(|ban| ban.range.last.checked_add(1)));
        edges.sort_unstable();
        edges.dedup();
        let mut begins: Vec<&Ban> = bans.iter().collect();
        begins.sort_by_key(|ban| ban.range.first);
        let mut begins = begins.into_iter().peekable();
        let mut open: std::collections::BinaryHeap<(u64, usize)> = std::collections::BinaryHeap::new();
        let mut held: Vec<&Ban> = Vec::new();
        let mut made = Self::default();
        for (index, &edge) in edges.iter().enumerate() {
            while let Some(ban) = begins.next_if(|ban| ban.range.first <= edge) {
                open.push((end(ban), held.len()));
                held.push(ban);
            }
            let is_over = |&(_, at): &(u64, usize)| held.get(at).is_none_or(|ban| ban.range.last < edge);
            while open.peek().is_some_and(is_over) {
                open.pop();
            }
            let Some(ban) = open.peek().and_then(|&(_, at)| held.get(at)) else { continue };
            let last = edges.get(index + 1).map_or(u128::MAX, |next| next - 1);
            made.ranges.push(Range { first: edge, last });
            made.until.push(end(ban));
            made.reasons.push(ban.reason.clone());
        }
        made
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl ArchivedBans {
    /// The bans, without overlap, in the order of addresses.
    pub fn bans(&self) -> impl Iterator<Item = Ban> {
        let each = self.ranges.iter().zip(self.until.iter()).zip(self.reasons.iter());
        each.map(|((range, until), reason)| Ban {
            range: range.range(),
            until: Some(until.to_native()).filter(|until| *until != u64::MAX).unwrap_or(0),
            reason: reason.as_str().to_owned(),
        })
    }

    /// Why `address` is banned at `wall`, seconds since the Unix epoch, if it is.
    #[must_use]
    pub fn reason(&self, address: IpAddr, wall: u64) -> Option<&str> {
        let at = find(&self.ranges, wide(address))?;
        let until = self.until.get(at)?.to_native();
        if until <= wall {
            return None;
        }
        self.reasons.get(at).map(|reason| reason.as_str())
    }
}

/// The address as one of IPv6.
#[must_use]
pub fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn narrow(address: u128) -> Option<u32> {
    if address >> 32 == MAPPED >> 32 { Some(address as u32) } else { None }
}

/// Where the range with `address` stands among ranges in order.
fn find(ranges: &[ArchivedRange], address: u128) -> Option<usize> {
    let below = ranges.partition_point(|range| range.first.to_native() <= address).checked_sub(1)?;
    (ranges.get(below)?.last.to_native() >= address).then_some(below)
}

/// Sorts ranges and makes one of those that overlap or touch.
#[must_use]
pub fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.last == u128::MAX || range.first <= last.last + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rkyv::rancor::Error;

    /// What `set` says of each address.
    fn contains(set: &Set, addresses: &[IpAddr]) -> Vec<bool> {
        let bytes = rkyv::to_bytes::<Error>(set).unwrap();
        let set = rkyv::access::<ArchivedSet, Error>(&bytes).unwrap();
        addresses.iter().map(|address| set.contains(*address)).collect()
    }

    fn reasons(bans: &Bans, asked: &[(IpAddr, u64)]) -> Vec<Option<String>> {
        let bytes = rkyv::to_bytes::<Error>(bans).unwrap();
        let bans = rkyv::access::<ArchivedBans, Error>(&bytes).unwrap();
        asked.iter().map(|(address, wall)| bans.reason(*address, *wall).map(str::to_owned)).collect()
    }

    fn range(first: &str, last: &str) -> Range {
        Range { first: wide(first.parse().unwrap()), last: wide(last.parse().unwrap()) }
    }

    fn address(wide: u128) -> IpAddr {
        std::net::Ipv6Addr::from(wide).to_canonical()
    }

    #[test]
    fn addresses() {
        let set = Set::new([
            range("10.0.0.0", "10.255.255.255"),
            range("192.0.2.7", "192.0.2.7"),
            range("2001:db8::", "2001:db8::ffff"),
        ]);
        for (text, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db8::1:0", false),
            ("::", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(contains(&set, &[text.parse().unwrap()]), [expected], "{text}");
        }
        let whole = Set::new([Range { first: 0, last: u128::MAX }]);
        assert_eq!(contains(&whole, &[address(0), address(MAPPED + 7), address(u128::MAX)]), [true; 3]);
        assert_eq!(contains(&Set::new([]), &[address(0), address(MAPPED)]), [false; 2]);
    }

    #[test]
    fn a_million_ranges() {
        // Every other pair of addresses from 1.0.0.0 on.
        let first = |n: u128| MAPPED + 0x0100_0000 + 4 * n;
        let set = Set::new((0..1_000_000).map(|n| Range { first: first(n), last: first(n) + 1 }));
        let asked: Vec<u128> = (0..1_000_000).step_by(997).chain([0, 999_999]).map(first).collect();
        for (offset, expected) in [(0, true), (1, true), (2, false), (3, false)] {
            let asked: Vec<IpAddr> = asked.iter().map(|first| address(first + offset)).collect();
            assert!(contains(&set, &asked).into_iter().all(|found| found == expected), "{offset}");
        }
        assert_eq!(
            contains(&set, &[address(first(0) - 1), address(MAPPED), address(MAPPED + 0xffff_ffff)]),
            [false; 3]
        );
    }

    /// Near the edges of IPv4 and of the index's parts, and few enough to meet.
    fn any_wide() -> impl Strategy<Value = u128> {
        let near = prop::sample::select(vec![
            0,
            MAPPED,
            MAPPED + 0x1_0000,
            MAPPED + 0x2_0000,
            MAPPED + 0xffff_ffff,
            u128::MAX - 8,
            1 << 100,
        ]);
        (near, 0..9_u128, any::<bool>()).prop_map(
            |(near, by, up)| {
                if up { near.saturating_add(by) } else { near.saturating_sub(by) }
            },
        )
    }

    fn any_range() -> impl Strategy<Value = Range> {
        (any_wide(), any_wide()).prop_map(|(one, other)| Range { first: one.min(other), last: one.max(other) })
    }

    proptest! {
        #[test]
        fn a_set_has_what_its_ranges_have(
            ranges in prop::collection::vec(any_range(), 0..6),
            filled in any::<bool>(),
            asked in prop::collection::vec(any_wide(), 1..20),
        ) {
            // With many others far away there is an index.
            let filler = (0..u128::from(filled) * 2_000).map(|n| MAPPED + 0x8000_0000 + 3 * n);
            let filler = filler.map(|first| Range { first, last: first });
            let set = Set::new(ranges.iter().copied().chain(filler));
            prop_assert_eq!(set.index.is_empty(), !filled || set.firsts.len() < INDEX_FROM);
            let expected: Vec<bool> =
                asked.iter().map(|one| ranges.iter().any(|range| range.first <= *one && *one <= range.last)).collect();
            let asked: Vec<IpAddr> = asked.into_iter().map(address).collect();
            prop_assert_eq!(contains(&set, &asked), expected);
        }

        #[test]
        fn of_several_bans_the_one_that_ends_last_counts(
            bans in prop::collection::vec((any_range(), 0..4_u64), 0..6),
            asked in prop::collection::vec((any_wide(), 0..4_u64), 1..20),
        ) {
            let bans: Vec<Ban> = bans
                .into_iter()
                .map(|(range, until)| Ban { range, until: 10 * until, reason: until.to_string() })
                .collect();
            let expected: Vec<Option<String>> = asked
                .iter()
                .map(|(one, wall)| {
                    let cover = bans.iter().filter(|ban| ban.range.first <= *one && *one <= ban.range.last);
                    let end = |ban: &&Ban| if ban.until == 0 { u64::MAX } else { ban.until };
                    cover.filter(|ban| end(ban) > 10 * wall).max_by_key(end).map(|ban| ban.reason.clone())
                })
                .collect();
            let asked: Vec<(IpAddr, u64)> = asked.into_iter().map(|(one, wall)| (address(one), 10 * wall)).collect();
            prop_assert_eq!(reasons(&Bans::new(&bans), &asked), expected);
        }
    }
}
