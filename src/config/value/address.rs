//! Ranges of addresses as blocks, and times.

use std::net::Ipv6Addr;

use crate::lists::{Ban, Range};

const V4_FIRST: u128 = 0xffff_0000_0000;
const V4_LAST: u128 = 0xffff_ffff_ffff;

/// The blocks that are these ranges.
pub(super) fn blocks(ranges: &[Range]) -> Vec<String> {
    let mut blocks = Vec::new();
    for range in ranges {
        // IPv4 addresses are written as such, also where the range goes on around them.
        let parts = [
            (range.first, range.last.min(V4_FIRST - 1)),
            (range.first.max(V4_FIRST), range.last.min(V4_LAST)),
            (range.first.max(V4_LAST + 1), range.last),
        ];
        for (first, last) in parts.into_iter().filter(|(first, last)| first <= last) {
            split(first, last, &mut blocks);
        }
    }
    blocks
}

fn split(mut first: u128, last: u128, blocks: &mut Vec<String>) {
    loop {
        let mut free = if first == 0 { 128 } else { first.trailing_zeros() };
        while end(first, free) > last {
            free -= 1;
        }
        blocks.push(block(first, free));
        let end = end(first, free);
        if end >= last {
            return;
        }
        first = end + 1;
    }
}

fn end(first: u128, free: u32) -> u128 {
    first | 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1)
}

fn block(first: u128, free: u32) -> String {
    let address = Ipv6Addr::from_bits(first);
    match address.to_ipv4_mapped() {
        Some(address) if free == 0 => address.to_string(),
        Some(address) if free <= 32 => format!("{address}/{}", 32 - free),
        _ if free == 0 => address.to_string(),
        _ => format!("{address}/{}", 128 - free),
    }
}

/// Bans with the block that each was written as; the two halves of a block around the IPv4 addresses are one.
pub(super) fn joined(bans: &[Ban]) -> impl Iterator<Item = (String, &Ban)> {
    let mut rest = bans;
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        rest = tail;
        let mut last = first.range.last;
        if let Some((second, after)) = tail.split_first()
            && (last, second.range.first) == (V4_FIRST - 1, V4_LAST + 1)
        {
            last = second.range.last;
            rest = after;
        }
        let free = (last - first.range.first).count_ones();
        Some((block(first.range.first, free), first))
    })
}

/// Seconds since the Unix epoch as a time in UTC (RFC 3339).
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
