//! Texts with a unit or a form of their own: durations, rates, sizes, percentages, names.
//!
//! Each error says what would be right.

use crate::auth;
use crate::router::regex::Regex;
use crate::types::{MILLISECOND, NAME_MAX, SECOND};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// So many per time: `10/s` is count 10 per 1,000,000 microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Above 0.
    pub count: u32,
    /// Microseconds, above 0.
    pub per: u64,
}

impl Rate {
    /// What comes back in a second, rounded down, at least 1: the burst where none is written.
    #[must_use]
    pub fn per_second(self) -> u32 {
        let count = u64::from(self.count) * SECOND / self.per.max(1);
        u32::try_from(count).unwrap_or(u32::MAX).max(1)
    }
}

/// Reads `250ms`, `10s`, `5m`, `1h` as microseconds.
///
/// # Errors
///
/// What would be right.
pub fn duration(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let unit = match unit {
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "" => return Err("needs a unit: `ms`, `s`, `m` or `h`".to_owned()),
        _ => return Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`".to_owned()),
    };
    number(digits, "a duration such as `250ms`, `10s`, `5m` or `1h`")?
        .checked_mul(unit)
        .ok_or_else(|| "must be a shorter duration".to_owned())
}

/// Reads `10/s`, `600/m`, `5/h`, and nginx's `10r/s`.
///
/// # Errors
///
/// What would be right.
pub fn rate(text: &str) -> Result<Rate, String> {
    const FORM: &str = "a rate such as `10/s`, `600/m` or `5/h`";
    let (count, unit) = text.split_once('/').ok_or_else(|| format!("must be {FORM}"))?;
    let per = match unit {
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return Err(format!("must be {FORM}")),
    };
    let count = number(count.strip_suffix('r').unwrap_or(count), FORM)?;
    match u32::try_from(count) {
        Ok(0) => Err("must be above 0".to_owned()),
        // More than one a microsecond is more than the clock tells apart.
        Ok(count) if u64::from(count) <= per => Ok(Rate { count, per }),
        _ => Err("must be at most 1000000 a second".to_owned()),
    }
}

/// Reads `512`, `64k`, `10m`, `1g` as bytes; the units are nginx's, of 1,024.
///
/// # Errors
///
/// What would be right.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err("must be a size such as `64k` or `10m`".to_owned()),
    };
    number(digits, "a size such as `64k` or `10m`")?
        .checked_mul(1 << shift)
        .ok_or_else(|| "must be a smaller size".to_owned())
}

/// Reads `20%` or `2.5%` as tenths of a percent, at most 1,000.
///
/// # Errors
///
/// What would be right.
pub fn percentage(text: &str) -> Result<u16, String> {
    const FORM: &str = "a percentage such as `20%` or `2.5%`";
    let number_text = text.strip_suffix('%').ok_or_else(|| format!("must be {FORM}"))?;
    let (whole, tenth) = number_text.split_once('.').unwrap_or((number_text, "0"));
    if tenth.len() != 1 {
        return Err(format!("must be {FORM}"));
    }
    let tenths = number(whole, FORM)?.saturating_mul(10).saturating_add(number(tenth, FORM)?);
    u16::try_from(tenths).ok().filter(|tenths| *tenths <= 1_000).ok_or_else(|| "must be at most 100%".to_owned())
}

/// Reads `20%`, `2.5%` or `0.25%` as hundredths of a percent, at most 1,000 percent.
///
/// # Errors
///
/// What would be right.
pub fn hundredths(text: &str) -> Result<u32, String> {
    const FORM: &str = "a percentage such as `20%` or `0.25%`";
    let number_text = text.strip_suffix('%').ok_or_else(|| format!("must be {FORM}"))?;
    let (whole, rest) = number_text.split_once('.').unwrap_or((number_text, "0"));
    let scale = match rest.len() {
        1 => 10,
        2 => 1,
        _ => return Err(format!("must be {FORM}")),
    };
    let hundredths = number(whole, FORM)?.saturating_mul(100).saturating_add(number(rest, FORM)? * scale);
    u32::try_from(hundredths).ok().filter(|part| *part <= 100_000).ok_or_else(|| "must be at most 1000%".to_owned())
}

/// Checks the name of an object: 1 to [`NAME_MAX`] bytes, no slash (made names have one), nothing invisible.
///
/// # Errors
///
/// What would be right.
pub fn name(text: &str) -> Result<(), String> {
    length(text)?;
    match text
        .chars()
        .find(|character| character.is_control() || character.is_whitespace() || "/\"'`{}".contains(*character))
    {
        Some(character) => Err(format!("a name cannot hold {character:?}")),
        None => Ok(()),
    }
}

/// Checks the name of a consumer, which tokens may bring: 1 to [`NAME_MAX`] bytes, no control characters, no blanks
/// around it.
///
/// # Errors
///
/// What would be right.
pub fn consumer(text: &str) -> Result<(), String> {
    length(text)?;
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("a consumer's name cannot hold control characters, nor begin or end with blanks".to_owned());
    }
    Ok(())
}

/// Checks the name of a claim, dotted where it walks objects.
///
/// # Errors
///
/// What would be right.
pub fn claim(text: &str) -> Result<(), String> {
    if text.is_empty()
        || text.len() > NAME_MAX
        || text.split('.').any(str::is_empty)
        || text.chars().any(char::is_control)
    {
        return Err(format!("must be the name of a claim, dotted to walk objects, of at most {NAME_MAX} bytes"));
    }
    Ok(())
}

/// A header's name in the one spelling in which all are compared: lower case, dashes.
#[must_use]
pub fn spelled(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether `text` is a token (RFC 9110, 5.6.2): the name of a header or a cookie.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(is_tchar)
}

pub use crate::router::regex::REGEX_MAX;

/// Checks a regular expression of the `regex` crate's syntax, which has no look-around and no back-references and so
/// takes linear time.
///
/// # Errors
///
/// What is wrong with it.
pub fn regex(text: &str) -> Result<(), String> {
    Regex::new(text).map(drop).map_err(|error| error.to_string())
}

/// Checks a permission that is granted: segments between colons, `*` for one whole segment, `**` for the rest.
///
/// # Errors
///
/// What would be right.
pub fn granted(text: &str) -> Result<(), String> {
    length(text)?;
    auth::check_granted(text).map_err(|error| error.to_string())
}

/// Checks a permission that a route requires: segments between colons, no wildcard.
///
/// # Errors
///
/// What would be right.
pub fn required(text: &str) -> Result<(), String> {
    length(text)?;
    auth::Requirement::new(false, vec![text.to_owned()]).map(drop).map_err(|error| error.to_string())
}

fn length(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        length if length > NAME_MAX => Err(format!("must be at most {NAME_MAX} bytes long, not {length}")),
        _ => Ok(()),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn number(digits: &str, form: &str) -> Result<u64, String> {
    if digits.starts_with('-') {
        return Err("must not be negative".to_owned());
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("must be {form}, in whole numbers"));
    }
    digits.parse().map_err(|_| "is too large a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("250ms", Ok(250_000)),
            ("10s", Ok(10_000_000)),
            ("5m", Ok(300_000_000)),
            ("1h", Ok(3_600_000_000)),
            ("0s", Ok(0)),
            ("10", Err("needs a unit: `ms`, `s`, `m` or `h`")),
            ("", Err("needs a unit: `ms`, `s`, `m` or `h`")),
            ("s", Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`, in whole numbers")),
            ("1.5s", Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`, in whole numbers")),
            ("1m30s", Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`")),
            ("1 s", Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`, in whole numbers")),
            ("10S", Err("must be a duration such as `250ms`, `10s`, `5m` or `1h`")),
            ("-1s", Err("must not be negative")),
            ("99999999999999999999s", Err("is too large a number")),
            ("9999999999999999h", Err("must be a shorter duration")),
        ] {
            assert_eq!(duration(text), expected.map_err(str::to_owned), "for {text}");
        }
    }

    #[test]
    fn rates() {
        let form = "must be a rate such as `10/s`, `600/m` or `5/h`";
        for (text, expected) in [
            ("10/s", Ok((10, SECOND, 10))),
            ("10r/s", Ok((10, SECOND, 10))),
            ("600/m", Ok((600, MINUTE, 10))),
            ("90/m", Ok((90, MINUTE, 1))),
            ("5/h", Ok((5, HOUR, 1))),
            ("1000000/s", Ok((1_000_000, SECOND, 1_000_000))),
            ("0/s", Err("must be above 0".into())),
            ("1000001/s", Err("must be at most 1000000 a second".into())),
            ("5000000000/h", Err("must be at most 1000000 a second".into())),
            ("10", Err(form.into())),
            ("10/d", Err(form.into())),
            ("-5/s", Err("must not be negative".into())),
            ("0.5/s", Err(format!("{form}, in whole numbers"))),
            ("/s", Err(format!("{form}, in whole numbers"))),
        ] {
            let found = rate(text).map(|rate| (rate.count, rate.per, rate.per_second()));
            assert_eq!(found, expected, "for {text}");
        }
    }

    #[test]
    fn regexes() {
        for (text, expected) in [
            (r"^/v\d+$", Ok(())),
            (r"(?i)mobile|tablet", Ok(())),
            ("", Err("must not be empty")),
            ("(", Err("is no regular expression: unclosed group")),
            (r"(a)\1", Err("is no regular expression: backreferences are not supported")),
            (
                "a(?=b)",
                Err("is no regular expression: look-around, including look-ahead and look-behind, is not supported"),
            ),
            (r"(\w{100}){100}", Err("takes too much memory once it is compiled: make its repetitions smaller")),
        ] {
            assert_eq!(regex(text), expected.map_err(str::to_owned), "for {text}");
        }
        assert!(regex(&"a".repeat(REGEX_MAX)).is_ok() && regex(&"a".repeat(REGEX_MAX + 1)).is_err());
    }

    #[test]
    fn sizes_and_percentages() {
        for (text, expected) in
            [("512", Some(512)), ("64k", Some(65_536)), ("10m", Some(10 << 20)), ("1G", Some(1 << 30))]
        {
            assert_eq!(size(text).ok(), expected, "for {text}");
        }
        for text in ["", "k", "10mb", "-1k", "1.5m", "99999999999g"] {
            assert!(size(text).is_err(), "for {text}");
        }
        for (text, expected) in [("20%", Some(200)), ("2.5%", Some(25)), ("0%", Some(0)), ("100%", Some(1000))] {
            assert_eq!(percentage(text).ok(), expected, "for {text}");
        }
        for (text, expected) in
            [("20%", 2_000), ("2.5%", 250), ("0.25%", 25), ("0%", 0), ("100%", 10_000), ("1000%", 100_000)]
        {
            assert_eq!(hundredths(text), Ok(expected), "for {text}");
        }
        for text in ["20", "%", "1001%", "0.125%", "1.%", "-1%", ".5%"] {
            assert!(hundredths(text).is_err(), "for {text}");
        }
        for text in ["20", "%", "101%", "100.1%", "2.55%", "-1%", "1e2%", ".5%"] {
            assert!(percentage(text).is_err(), "for {text}");
        }
    }

    #[test]
    fn names() {
        for (text, right) in [
            ("orders", true),
            ("orders-v2.api_x:1", true),
            ("é", true),
            ("", false),
            ("a/b", false),
            ("a b", false),
            ("a\n", false),
        ] {
            assert_eq!(name(text).is_ok(), right, "for {text:?}");
        }
        assert!(name(&"x".repeat(NAME_MAX)).is_ok() && name(&"x".repeat(NAME_MAX + 1)).is_err());
        for (text, right) in
            [("acme", true), ("auth0|12/3 x", true), ("https://x/y", true), (" a", false), ("", false), ("a\0", false)]
        {
            assert_eq!(consumer(text).is_ok(), right, "for {text:?}");
        }
    }

    #[test]
    fn permissions() {
        for (text, is_granted, is_required) in [
            ("orders:read", true, true),
            ("orders", true, true),
            ("orders:*", true, false),
            ("*", true, false),
            ("**", true, false),
            ("orders:**", true, false),
            ("orders:*:read", true, false),
            ("**:read", false, false),
            ("orders:r*", false, false),
            ("orders:***", false, false),
            ("", false, false),
            (":", false, false),
            ("orders:", false, false),
            ("orders: read", false, false),
            ("ord\u{e9}rs", false, false),
        ] {
            assert_eq!(granted(text).is_ok(), is_granted, "granted {text}");
            assert_eq!(required(text).is_ok(), is_required, "required {text}");
        }
    }
}
