use super::{Host, PatternError};
use crate::router::host::{HOST_MAX, fold, split_literal};

/// The most labels of a wildcard, without the star.
pub const LABELS_MAX: usize = 32;

impl Host {
    /// Reads a host of the document: `api.example.com`, `*.example.com`, `[2001:db8::1]`, or `*` for any. Case and one
    /// trailing dot do not count.
    ///
    /// # Errors
    ///
    /// What is no host, with words that say what would be right.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => return Err(PatternError::HostEmpty),
            "*" => return Ok(Self::Any),
            _ if text.starts_with('[') || text.bytes().filter(|&byte| byte == b':').count() > 1 => {
                return literal(text);
            }
            _ => {}
        }
        if text.contains(['/', '@', '?', '#']) {
            return Err(PatternError::HostUrl(bare(text).to_owned()));
        }
        if let Some((host, _)) = text.split_once(':') {
            return Err(PatternError::HostPort(host.to_owned()));
        }

        let host = text.strip_suffix('.').unwrap_or(text);
        let (name, is_wildcard) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        if name.contains('*') {
            return Err(PatternError::HostWildcard(text.to_owned()));
        }
        if let Some(found) = name.chars().find(|&found| u8::try_from(found).map_or(0, fold) == 0) {
            return Err(PatternError::HostCharacter(found));
        }
        if name.split('.').any(str::is_empty) {
            return Err(PatternError::HostLabel(text.to_owned()));
        }
        // A wildcard needs room for a label before its dot.
        let length = if is_wildcard { name.len() + 2 } else { name.len() };
        if length > HOST_MAX {
            return Err(PatternError::HostTooLong(length));
        }
        let labels = name.split('.').count();
        if is_wildcard && labels > LABELS_MAX {
            return Err(PatternError::TooManyLabels(labels));
        }
        let name = name.to_ascii_lowercase().into_bytes();
        Ok(if is_wildcard { Self::Wildcard(name) } else { Self::Exact(name) })
    }
}

fn literal(text: &str) -> Result<Host, PatternError> {
    if text.contains('/') {
        return Err(PatternError::HostUrl(bare(text).to_owned()));
    }
    match split_literal(text.as_bytes()) {
        Some((address, b"")) => Ok(Host::Exact(format!("[{address}]").into_bytes())),
        Some((address, rest)) if rest.starts_with(b":") => Err(PatternError::HostPort(format!("[{address}]"))),
        _ => Err(PatternError::HostIpv6(text.to_owned())),
    }
}

/// What of a URL is the host, for the suggestion.
fn bare(url: &str) -> &str {
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let exact = |host: &str| Host::Exact(host.into());
        let wildcard = |host: &str| Host::Wildcard(host.into());
        for (text, expected) in [
            ("*", Host::Any),
            ("api.example.com", exact("api.example.com")),
            ("API.Example.com.", exact("api.example.com")),
            ("localhost", exact("localhost")),
            ("a_b", exact("a_b")),
            ("10.0.0.1", exact("10.0.0.1")),
            ("[2001:DB8::0:1]", exact("[2001:db8::1]")),
            ("*.example", wildcard("example")),
            ("*.Example.COM.", wildcard("example.com")),
        ] {
            assert_eq!(Host::parse(text), Ok(expected.clone()), "{text}");
            assert_eq!(Host::parse(&expected.to_string()), Ok(expected), "{text}, displayed");
        }
    }

    #[test]
    fn mistakes_are_told_what_would_be_right() {
        for (text, part) in [
            ("", "leave `hosts` out"),
            ("https://api.example.com/v1", "write `api.example.com`"),
            ("https://u:p@api.example.com:8443", "write `api.example.com`"),
            ("api.example.com/v1", "write `api.example.com`"),
            ("user@api.example.com", "write `api.example.com`"),
            ("api.example.com:8080", "write `api.example.com`"),
            ("[::1]:80", "write `[::1]`"),
            ("::1", "in brackets"),
            ("[::1", "in brackets"),
            ("[::g]", "in brackets"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            (".", "empty label"),
            ("*.", "star stands alone"),
            ("*..a", "empty label"),
            ("*a.example", "star stands alone"),
            ("a.*.example", "star stands alone"),
            ("*.*.example", "star stands alone"),
            ("a b", "' ' cannot stand"),
            ("a,b", "',' cannot stand"),
            ("a\n", "'\\n' cannot stand"),
            ("bücher.example", "xn--"),
            (&"a".repeat(254), "254 bytes"),
            (&format!("*{}", ".a".repeat(33)), "33 labels"),
        ] {
            let error = Host::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
