//! A request as a person writes it or a log has kept it.

use std::net::IpAddr;

use crate::types::{Header, Method, Protocol, Request};

/// A request with everything that the gateway may ask of it.
pub struct Sent {
    /// The method.
    pub method: Method,
    /// `Host`.
    pub host: String,
    /// Decoded and normalised, as nginx does it.
    pub path: Vec<u8>,
    /// As it came.
    pub target: String,
    /// The client's address.
    pub client: IpAddr,
    /// `https` where the URL says so.
    pub is_secure: bool,
    /// Name in lower case, value.
    pub headers: Vec<(String, String)>,
}

impl Sent {
    /// A request for `url`: a path, or an absolute `http` or `https` URL.
    ///
    /// # Errors
    /// What would be right.
    pub fn new(method: &str, url: &str, headers: Vec<(String, String)>, client: IpAddr) -> Result<Self, String> {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let (authority, target) = match rest {
            Some(rest) => rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, "")),
            None if url.starts_with('/') => ("", url),
            None => return Err(format!("`{url}` is no URL: write `https://host/path` or `/path`")),
        };
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let written = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        let path = normalise(target.split('?').next().unwrap_or_default()).ok_or_else(|| {
            "nginx answers 400: the path leads above the root, or a `%` is not an encoding".to_owned()
        })?;
        let host = written.unwrap_or_else(|| authority.to_owned());
        let is_secure = url.starts_with("https://");
        Ok(Self { method: Method::parse(method.as_bytes()), host, path, target, client, is_secure, headers })
    }
}

impl Request for Sent {
    fn method(&self) -> Method {
        self.method
    }

    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn query(&self) -> &[u8] {
        self.target.split_once('?').map_or("", |(_, query)| query).as_bytes()
    }

    fn scheme(&self) -> &[u8] {
        if self.is_secure { b"https" } else { b"http" }
    }

    fn client(&self) -> IpAddr {
        self.client
    }

    fn protocol(&self) -> Protocol {
        let has = |name: &[u8], value: &str| {
            self.header(name).one().is_some_and(|found| found.to_ascii_lowercase().starts_with(value.as_bytes()))
        };
        match () {
            () if has(b"upgrade", "websocket") => Protocol::WebSocket,
            () if has(b"content-type", "application/grpc") => Protocol::Grpc,
            () => Protocol::Http,
        }
    }

    fn header(&self, name: &[u8]) -> Header<'_> {
        let mut found = self.headers.iter().filter(|(other, _)| other.as_bytes() == name);
        match (found.next(), found.next()) {
            (None, _) => Header::Absent,
            (Some((_, value)), None) => Header::One(value.as_bytes()),
            (Some(_), Some(_)) => Header::Many,
        }
    }

    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
        let lines = self.headers.iter().filter(|(other, _)| other.as_bytes() == name);
        lines.for_each(|(_, value)| take(value.as_bytes()));
    }
}

/// The path as nginx has it in `$uri`: decoded, slashes merged, dot segments resolved; `None` where it answers 400.
fn normalise(path: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut is_open = true;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        is_open = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    let mut path = Vec::with_capacity(decoded.len() + 1);
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if is_open || path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a", Some("/a")),
            ("/a/", Some("/a/")),
            ("//a//b", Some("/a/b")),
            ("/a/./b/", Some("/a/b/")),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/%61%2Fb", Some("/a/b")),
            ("/%2e%2e/a", None),
            ("/..", None),
            ("/%", None),
            ("/%+1", None),
        ] {
            assert_eq!(normalise(path).as_deref(), expected.map(str::as_bytes), "for {path}");
        }
    }
}
