//! URLs of key sets: few forms, so that whoever checks one and whoever fetches it read the same.

use std::fmt;
use std::net::IpAddr;

/// A URL, taken apart; nothing in it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Whether it is `https`, else `http`.
    pub secure: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a str,
    /// The TCP port.
    pub port: u16,
    /// Path and query; begins with `/`, or is empty.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// What it must be, to complete "must be …".
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("a URL that begins with `https://` or `http://`"),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte)) {
            return Err("a URL of visible ASCII without a fragment");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("a URL without user and password");
        }
        if path.starts_with('?') {
            return Err("a URL with a path before its query");
        }
        // What stands in brackets has colons of its own.
        let behind = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority.get(behind..).and_then(|rest| rest.find(':')) {
            Some(colon) => {
                let (host, port) = authority.split_at(behind + colon);
                let port = port.get(1..).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                let port = port.and_then(|digits| digits.parse().ok()).filter(|port| *port != 0);
                (host, port.ok_or("a URL with a port from 1 to 65535")?)
            }
            None => (authority, if secure { 443 } else { 80 }),
        };
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let is_address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_name && !is_address {
            return Err("a URL with the name or address of a host");
        }
        Ok(Self { secure, host, port, path })
    }

    /// Whether it can reach this machine alone, by what is written.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Where the redirect `location` leads, if it may be followed: to the same host and port, or from `http` to the same
    /// host's `https`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn redirect(&self, location: &str) -> Result<String, &'static str> {
        if location.starts_with('/') && !location.starts_with("//") {
            let next = format!("{}{location}", self.origin());
            return Url::parse(&next).map(|_| next.clone());
        }
        let next = Url::parse(location)?;
        let same_place = next.secure == self.secure && next.port == self.port;
        let better = next.secure && !self.secure && next.port == 443;
        match next.host.eq_ignore_ascii_case(self.host) && (same_place || better) {
            true => Ok(location.to_owned()),
            false => Err("it leads to another host"),
        }
    }

    fn origin(&self) -> impl fmt::Display {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |secure, host, port, path| Ok(Url { secure, host, port, path });
        for (text, expected) in [
            ("https://a.example/jwks", url(true, "a.example", 443, "/jwks")),
            ("https://a.example", url(true, "a.example", 443, "")),
            ("http://127.0.0.1:8080/a?b=c", url(false, "127.0.0.1", 8080, "/a?b=c")),
            ("https://[::1]:8443/a", url(true, "[::1]", 8443, "/a")),
            ("https://[::1]/a:b", url(true, "[::1]", 443, "/a:b")),
            ("ftp://a/", Err("a URL that begins with `https://` or `http://`")),
            ("HTTPS://a/", Err("a URL that begins with `https://` or `http://`")),
            ("https://u:p@a/", Err("a URL without user and password")),
            ("https://a/#f", Err("a URL of visible ASCII without a fragment")),
            ("https://a/ b", Err("a URL of visible ASCII without a fragment")),
            ("https://a\\b/", Err("a URL of visible ASCII without a fragment")),
            ("https://a?b", Err("a URL with a path before its query")),
            ("https://a:0/", Err("a URL with a port from 1 to 65535")),
            ("https://a:+1/", Err("a URL with a port from 1 to 65535")),
            ("https://a:65536/", Err("a URL with a port from 1 to 65535")),
            ("https:///a", Err("a URL with the name or address of a host")),
            ("https://[a]/", Err("a URL with the name or address of a host")),
            ("https://a%2f/", Err("a URL with the name or address of a host")),
        ] {
            assert_eq!(Url::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn loopback() {
        for (text, expected) in [
            ("http://127.0.0.1/", true),
            ("http://127.9.9.9/", true),
            ("http://localhost/", true),
            ("http://[::1]/", true),
            ("http://10.0.0.1/", false),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
        ] {
            assert_eq!(Url::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn redirects() {
        let elsewhere = Err("it leads to another host");
        for (from, location, expected) in [
            ("https://a/x", "/y?z", Ok("https://a:443/y?z")),
            ("https://a/x", "https://A/y", Ok("https://A/y")),
            ("http://a:81/x", "http://a:81/y", Ok("http://a:81/y")),
            ("http://a/x", "https://a/y", Ok("https://a/y")),
            ("https://a/x", "http://a/y", elsewhere),
            ("https://a/x", "http://a:443/y", elsewhere),
            ("https://a/x", "https://a:8443/y", elsewhere),
            ("http://a/x", "http://a:22/", elsewhere),
            ("https://a/x", "https://b/y", elsewhere),
            ("https://a/x", "https://a.b/y", elsewhere),
            ("https://a/x", "https://a@b/y", Err("a URL without user and password")),
            ("https://a/x", "//b/y", Err("a URL that begins with `https://` or `http://`")),
            ("https://a/x", "y", Err("a URL that begins with `https://` or `http://`")),
            ("https://a/x", "/y\\z", Err("a URL of visible ASCII without a fragment")),
        ] {
            let found = Url::parse(from).unwrap().redirect(location);
            assert_eq!(found, expected.map(str::to_owned), "{from} {location}");
        }
    }
}
