//! Sets of addresses: `lists`, `bans`, and a route's `allow` and `deny`.

use std::net::IpAddr;

use super::document::Sources;
use super::names::Names;
use super::read::At;
use super::scalar;
use super::secrets::Secrets;
use crate::lists::{Ban, List, Range, merge};

/// The most entries of one list.
pub const LIST_MAX: usize = 1_000_000;

/// IPv4 as IPv6 (RFC 4291, 2.5.5.2).
const MAPPED: Range = Range { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

/// Reads an address or a block. An IPv6 block holds no IPv4 address even where the mapped ones lie within it, so that
/// `::/0` is two ranges.
///
/// # Errors
///
/// What would be right.
pub fn ranges(text: &str) -> Result<impl Iterator<Item = Range>, String> {
    const FORM: &str = "must be an address or a block such as `10.0.0.0/8`";
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| FORM)?;
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => bits,
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse::<u32>().ok().filter(|length| *length <= bits);
            length.ok_or_else(|| format!("the length of the prefix must be 0 to {bits}"))?
        }
        Some(_) => return Err(FORM.to_owned()),
    };
    let first = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let free = bits - length;
    let host = 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    if first & host != 0 {
        let right = match address {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & !u32::try_from(host).unwrap_or(u32::MAX)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !host).into()),
        };
        return Err(format!("has bits beyond its prefix: write `{right}/{length}`"));
    }
    let whole = Range { first, last: first | host };
    let around = whole.first < MAPPED.first && whole.last > MAPPED.last;
    let parts = if around {
        [
            Some(Range { first: whole.first, last: MAPPED.first - 1 }),
            Some(Range { first: MAPPED.last + 1, last: whole.last }),
        ]
    } else {
        [Some(whole), None]
    };
    Ok(parts.into_iter().flatten())
}

/// Reads a list that the tables have checked; `None` where something was reported.
pub(super) fn list(at: &At<'_>, name: String, secrets: &dyn Secrets) -> Option<List> {
    let ranges = match (at.get("cidrs"), at.text("file")) {
        (Some(cidrs), None) => {
            let texts = cidrs.node.items().iter().filter_map(super::node::Node::text);
            texts.filter_map(|text| ranges(text).ok()).flatten().collect()
        }
        (None, Some(path)) => {
            let place = at.get("file")?;
            match secrets
                .list(path)
                .map_err(|error| format!("cannot read `{path}`: {error}"))
                .and_then(|bytes| file(&bytes))
            {
                Ok(ranges) => ranges,
                Err(message) => {
                    place.error(message);
                    return None;
                }
            }
        }
        (Some(_), Some(_)) => {
            at.error("needs `cidrs` or `file`, not both");
            return None;
        }
        (None, None) => {
            if at.get("file").is_none() {
                at.error("needs `cidrs` or `file`");
            }
            return None;
        }
    };
    if ranges.len() > LIST_MAX {
        at.error(format!("has {} entries, at most {LIST_MAX} are possible", ranges.len()));
        return None;
    }
    Some(List { name, ranges: merge(ranges) })
}

/// Reads the file of a list: an address or a block a line, `#` begins a comment.
fn file(bytes: &[u8]) -> Result<Vec<Range>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "must be UTF-8 text".to_owned())?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        if found.len() > LIST_MAX {
            return Err(format!("has more than {LIST_MAX} entries"));
        }
        found.extend(ranges(entry).map_err(|message| format!("line {}: {message}", number + 1))?);
    }
    Ok(found)
}

/// Reads a ban that the tables have checked: for `::/0` there are two.
pub(super) fn bans(at: &At<'_>) -> Vec<Ban> {
    let until = at.parsed("until", time).unwrap_or(0);
    let reason = at.text("reason").unwrap_or_default();
    let ranges = at.text("cidr").and_then(|text| ranges(text).ok());
    ranges.into_iter().flatten().map(|range| Ban { range, until, reason: reason.to_owned() }).collect()
}

/// The ranges of the ban whose block is `text`; empty where it is none.
#[must_use]
pub fn ban_range(text: &str) -> Vec<Range> {
    ranges(text).into_iter().flatten().collect()
}

/// Reads `allow` or `deny`.
pub(super) fn sources(at: &At<'_>, lists: &Names<'_>) -> Sources {
    let mut found = Sources::default();
    for item in at.items() {
        let Some(text) = item.node.text() else { continue };
        if is_address(text) {
            found.ranges.extend(ranges(text).into_iter().flatten());
        } else if lists.refer(&item) {
            if found.lists.iter().any(|name| name == text) {
                item.error("stands here twice");
            }
            found.lists.push(text.to_owned());
        }
    }
    found.ranges = merge(found.ranges);
    found
}

fn is_address(text: &str) -> bool {
    text.contains('/') || text.parse::<IpAddr>().is_ok() || looks_numeric(text)
}

/// `10.0.0.256` is meant as an address.
fn looks_numeric(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

pub(super) fn check_cidr(text: &str) -> Result<(), String> {
    ranges(text).map(drop)
}

pub(super) fn check_source(text: &str) -> Result<(), String> {
    if is_address(text) { check_cidr(text) } else { scalar::name(text) }
}

pub(super) fn check_name(text: &str) -> Result<(), String> {
    scalar::name(text)?;
    match is_address(text) {
        true => Err("an address cannot be a list's name".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn check_file(text: &str) -> Result<(), String> {
    match text.starts_with('/') && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err("must be an absolute path".to_owned()),
    }
}

pub(super) fn check_time(text: &str) -> Result<(), String> {
    time(text).map(drop)
}

/// Reads a time (RFC 3339, 5.6) as seconds since the Unix epoch; fractions are dropped.
///
/// # Errors
///
/// What would be right.
pub fn time(text: &str) -> Result<u64, String> {
    const FORM: &str = "must be a time such as `2026-12-31T23:59:59Z`";
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok()
    };
    let parse = || -> Option<i64> {
        let marks = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
        if marks.iter().any(|(at, mark)| text.get(*at..at + 1) != Some(mark))
            || !matches!(text.get(10..11)?, "T" | "t" | " ")
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut zone = text.get(19..)?;
        if let Some(fraction) = zone.strip_prefix('.') {
            let end = fraction.find(|found: char| !found.is_ascii_digit()).filter(|end| *end > 0)?;
            zone = fraction.get(end..)?;
        }
        let offset = match zone {
            "Z" | "z" => 0,
            _ => {
                let sign = match zone.get(..1)? {
                    "+" => 1,
                    "-" => -1,
                    _ => return None,
                };
                let (hours, minutes) = zone.get(1..)?.split_once(':')?;
                let part = |digits: &str, most: i64| {
                    let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
                    digits.parse::<i64>().ok().filter(|number| is_number && *number <= most)
                };
                sign * (part(hours, 23)? * 3_600 + part(minutes, 59)? * 60)
            }
        };
        // Days since 1970-01-01 in the Gregorian calendar, with years that begin in March.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
        Some(days * 86_400 + hour * 3_600 + minute * 60 + second - offset)
    };
    let seconds = parse().ok_or(FORM)?;
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("must be after 1970".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: u128 = 0xffff_0000_0000;

    #[test]
    fn blocks() {
        let read =
            |text: &str| ranges(text).map(|found| found.map(|range| (range.first, range.last)).collect::<Vec<_>>());
        let form = "must be an address or a block such as `10.0.0.0/8`";
        for (text, expected) in [
            ("10.0.0.1", Ok(vec![(V4 + 0x0a00_0001, V4 + 0x0a00_0001)])),
            ("10.0.0.0/8", Ok(vec![(V4 + 0x0a00_0000, V4 + 0x0aff_ffff)])),
            ("0.0.0.0/0", Ok(vec![(V4, V4 + 0xffff_ffff)])),
            ("::1", Ok(vec![(1, 1)])),
            ("2001:db8::/32", Ok(vec![(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1)])),
            ("::/0", Ok(vec![(0, V4 - 1), (V4 + 0x1_0000_0000, u128::MAX)])),
            ("::ffff:10.0.0.0/104", Ok(vec![(V4 + 0x0a00_0000, V4 + 0x0aff_ffff)])),
            ("10.0.0.1/8", Err("has bits beyond its prefix: write `10.0.0.0/8`")),
            ("1.0.0.0/0", Err("has bits beyond its prefix: write `0.0.0.0/0`")),
            ("2001:db8::1/32", Err("has bits beyond its prefix: write `2001:db8::/32`")),
            ("10.0.0.0/33", Err("the length of the prefix must be 0 to 32")),
            ("::/129", Err("the length of the prefix must be 0 to 128")),
            ("10.0.0.0/", Err("the length of the prefix must be 0 to 32")),
            ("10.0.0.0/+8", Err(form)),
            ("10.0.0.256", Err(form)),
            ("010.0.0.1", Err(form)),
            ("", Err(form)),
            ("office", Err(form)),
        ] {
            assert_eq!(read(text), expected.map_err(str::to_owned), "for {text}");
        }
    }

    #[test]
    fn merging() {
        let of = |pairs: &[(u128, u128)]| pairs.iter().map(|&(first, last)| Range { first, last }).collect::<Vec<_>>();
        for (found, expected) in [
            (&[][..], &[][..]),
            (&[(5, 9), (1, 2)], &[(1, 2), (5, 9)]),
            (&[(1, 4), (5, 9)], &[(1, 9)]),
            (&[(1, 9), (2, 3), (9, 11)], &[(1, 11)]),
            (&[(0, u128::MAX), (7, 8)], &[(0, u128::MAX)]),
        ] {
            assert_eq!(merge(of(found)), of(expected));
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("2026-12-31T23:59:59Z", Some(1_798_761_599)),
            ("2024-02-29T12:00:00+02:00", Some(1_709_200_800)),
            ("2024-02-29T12:00:00.25-00:30", Some(1_709_209_800)),
            ("2000-03-01t00:00:00z", Some(951_868_800)),
            ("1970-01-01T00:00:00Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-12-31T24:00:00Z", None),
            ("2026-12-31", None),
            ("2026-12-31T23:59:59", None),
            ("2026-12-31T23:59:59.Z", None),
            ("2026-12-31T23:59:59+2:00", None),
            ("é026-12-31T23:59:59Z", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok(), expected, "for {text}");
        }
    }

    #[test]
    fn files() {
        let found = file(b"# office\n10.0.0.0/9\n\n10.128.0.0/9 # the rest\r\n::1\n").unwrap();
        assert_eq!(merge(found).len(), 2);
        let error = file(b"10.0.0.1\nx\n").unwrap_err();
        assert_eq!(error, "line 2: must be an address or a block such as `10.0.0.0/8`");
    }
}
