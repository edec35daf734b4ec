//! What a browser is told (Fetch Standard, 3.2 "CORS protocol").

use super::settings::{ArchivedCors, ArchivedOrigins};
use crate::types::{Header, Method, Methods, Request};

/// Takes a header line: its name, and the pieces that its value is made of.
pub trait Out: FnMut(&'static str, &[&[u8]]) {}

impl<F: FnMut(&'static str, &[&[u8]])> Out for F {}

/// What a browser asks before it sends a request that is not a simple one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight<'r> {
    /// The method of the request to come.
    pub method: Method,
    /// Who wants to send it.
    origin: &'r [u8],
    method_text: &'r [u8],
    headers: Option<&'r [u8]>,
}

impl<'r> Preflight<'r> {
    /// What `request` asks, if it is a preflight: `OPTIONS` with one `Origin` and one `Access-Control-Request-Method`.
    #[inline]
    pub fn of(request: &'r impl Request) -> Option<Self> {
        if request.method() == Method::Options { Self::read(request) } else { None }
    }

    #[cold]
    fn read(request: &'r impl Request) -> Option<Self> {
        let origin = request.header(b"origin").one()?;
        let method_text = request.header(b"access-control-request-method").one()?;
        let headers = request.header(b"access-control-request-headers").one();
        Some(Self { method: Method::parse(method_text), origin, method_text, headers })
    }
}

impl ArchivedCors {
    /// Whether pages of `origin` may read answers. Scheme, host and port are compared as browsers write them.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        match &self.origins {
            ArchivedOrigins::Any => true,
            ArchivedOrigins::These(origins) => origins.iter().any(|allowed| is_origin(allowed.as_bytes(), origin)),
        }
    }

    /// The header lines of every answer but a preflight's. A cache between us and the browser keeps answers for
    /// several origins apart by `Vary`, so that line stands also where no origin came.
    pub fn answer(&self, origin: Header<'_>, out: &mut impl Out) {
        if matches!(self.origins, ArchivedOrigins::These(_)) {
            out("Vary", &[b"Origin"]);
        }
        let Some(origin) = origin.one().filter(|origin| self.allows(origin)) else { return };
        self.who(origin, out);
        if !self.expose.is_empty() {
            list(self.expose.iter().map(|name| name.as_bytes()), |pieces| out("Access-Control-Expose-Headers", pieces));
        }
    }

    /// The header lines of the answer to a preflight, of a route that takes `methods`. Whether its origin is allowed;
    /// where it is not, nothing is granted, and the browser says so where its developer looks.
    pub fn preflight(&self, asked: &Preflight<'_>, methods: Methods, out: &mut impl Out) -> bool {
        out("Vary", &[b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"]);
        if !self.allows(asked.origin) {
            return false;
        }
        self.who(asked.origin, out);
        const METHODS: &str = "Access-Control-Allow-Methods";
        if !self.methods.is_empty() {
            list(self.methods.iter().map(|name| name.as_bytes()), |pieces| out(METHODS, pieces));
        } else if methods != Methods::ANY {
            list(methods.iter().map(|method| method.name().as_bytes()), |pieces| out(METHODS, pieces));
        } else if is_list(asked.method_text) {
            out(METHODS, &[asked.method_text]);
        }
        const HEADERS: &str = "Access-Control-Allow-Headers";
        if !self.headers.is_empty() {
            list(self.headers.iter().map(|name| name.as_bytes()), |pieces| out(HEADERS, pieces));
        } else if let Some(headers) = asked.headers.filter(|headers| is_list(headers)) {
            out(HEADERS, &[headers]);
        }
        let mut digits = [0; 10];
        out("Access-Control-Max-Age", &[decimal(self.max_age.to_native(), &mut digits)]);
        true
    }

    fn who(&self, origin: &[u8], out: &mut impl Out) {
        let shown = match self.origins {
            ArchivedOrigins::Any => b"*",
            ArchivedOrigins::These(_) => origin,
        };
        out("Access-Control-Allow-Origin", &[shown]);
        if self.credentials {
            out("Access-Control-Allow-Credentials", &[b"true"]);
        }
    }
}

/// Whether a header of an answer is the gateway's to say on routes with `cors`; `name` in any case.
#[must_use]
pub fn is_ours(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"access-control-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether `origin` is `allowed`, in which `*.` stands for one or more labels. `allowed` is in lower case.
fn is_origin(allowed: &[u8], origin: &[u8]) -> bool {
    let Some(star) = memchr::memchr(b'*', allowed) else { return allowed.eq_ignore_ascii_case(origin) };
    let (scheme, behind) = allowed.split_at_checked(star).unwrap_or_default();
    let suffix = behind.get(1..).unwrap_or_default();
    let Some(length) = origin.len().checked_sub(suffix.len()).filter(|length| *length > scheme.len()) else {
        return false;
    };
    let (Some(start), Some(labels), Some(end)) =
        (origin.get(..scheme.len()), origin.get(scheme.len()..length), origin.get(length..))
    else {
        return false;
    };
    let is_label = |label: &[u8]| {
        !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    start.eq_ignore_ascii_case(scheme)
        && end.eq_ignore_ascii_case(suffix)
        && labels.split(|&byte| byte == b'.').all(is_label)
}

/// Whether `text` is a list of tokens (RFC 9110, 5.6) and nothing else, so that it can be said back.
fn is_list(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= 4_096
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(byte))
}

/// Hands the names, with commas between them, to `out`.
fn list<'n>(names: impl Iterator<Item = &'n [u8]>, out: impl FnOnce(&[&[u8]])) {
    let mut pieces: [&[u8]; 128] = [&[]; 128];
    let mut count = 0;
    for name in names {
        let comma: &[u8] = if count == 0 { b"" } else { b", " };
        let Some([first, second]) = pieces.get_mut(count..count + 2) else { break };
        (*first, *second) = (comma, name);
        count += 2;
    }
    out(pieces.get(..count).unwrap_or_default());
}

fn decimal(number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut rest = number;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::settings::{Cors, Origins};
    use super::*;
    use crate::types::Protocol;

    struct Sent<'a>(Method, &'a [(&'a str, &'a str)]);

    impl Request for Sent<'_> {
        fn method(&self) -> Method {
            self.0
        }
        fn host(&self) -> &[u8] {
            b""
        }
        fn path(&self) -> &[u8] {
            b"/"
        }
        fn target(&self) -> &[u8] {
            b"/"
        }
        fn query(&self) -> &[u8] {
            b""
        }
        fn client(&self) -> IpAddr {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
        fn protocol(&self) -> Protocol {
            Protocol::Http
        }
        fn header(&self, name: &[u8]) -> Header<'_> {
            let mut found = self.1.iter().filter(|(key, _)| key.as_bytes() == name);
            match (found.next(), found.next()) {
                (None, _) => Header::Absent,
                (Some((_, value)), None) => Header::One(value.as_bytes()),
                _ => Header::Many,
            }
        }
        fn header_lines(&self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}
    }

    fn cors(origins: &[&str]) -> Cors {
        let origins = match origins {
            ["*"] => Origins::Any,
            these => Origins::These(these.iter().map(|&origin| origin.to_owned()).collect()),
        };
        Cors { origins, methods: vec![], headers: vec![], expose: vec![], credentials: false, max_age: 600 }
    }

    fn with<T>(cors: &Cors, look: impl FnOnce(&ArchivedCors) -> T) -> T {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(cors).unwrap();
        look(rkyv::access::<ArchivedCors, rkyv::rancor::Error>(&bytes).unwrap())
    }

    fn lines(make: impl FnOnce(&mut dyn FnMut(&'static str, &[&[u8]]))) -> Vec<String> {
        let mut lines = Vec::new();
        make(&mut |name, pieces| lines.push(format!("{name}: {}", String::from_utf8(pieces.concat()).unwrap())));
        lines
    }

    fn preflight(settings: &Cors, methods: Methods, headers: &[(&str, &str)]) -> (bool, Vec<String>) {
        let sent = Sent(Method::Options, headers);
        let asked = Preflight::of(&sent).unwrap();
        let mut allowed = false;
        let lines = lines(|mut out| with(settings, |cors| allowed = cors.preflight(&asked, methods, &mut out)));
        (allowed, lines)
    }

    #[test]
    fn origins() {
        for (allowed, origin, expected) in [
            ("*", "https://anybody.example", true),
            ("*", "null", true),
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "https://APP.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "https://app.example.com.evil.example", false),
            ("https://app.example.com", "null", false),
            ("https://app.example.com:8443", "https://app.example.com:8443", true),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://evil.example/.example.com", false),
            ("https://*.example.com", "https://evil.example?.example.com", false),
            ("https://*.example.com", "https://a@b.example.com", false),
            ("https://*.example.com", "https://a..example.com", false),
            ("https://*.example.com", "https://a.example.com:444", false),
            ("https://*.example.com:444", "https://a.example.com:444", true),
            ("https://*.example.com", "http://a.example.com", false),
            ("https://*.example.com", "", false),
        ] {
            let found = with(&cors(&[allowed]), |cors| cors.allows(origin.as_bytes()));
            assert_eq!(found, expected, "{allowed} {origin}");
        }
    }

    #[test]
    fn who_asks_in_advance() {
        const ORIGIN: (&str, &str) = ("origin", "https://a.example");
        const METHOD: (&str, &str) = ("access-control-request-method", "PUT");
        assert!(Preflight::of(&Sent(Method::Options, &[ORIGIN, METHOD])).is_some());
        for (method, headers) in [
            (Method::Get, &[ORIGIN, METHOD][..]),
            (Method::Options, &[ORIGIN]),
            (Method::Options, &[METHOD]),
            (Method::Options, &[ORIGIN, ORIGIN, METHOD]),
            (Method::Options, &[ORIGIN, METHOD, METHOD]),
        ] {
            assert_eq!(Preflight::of(&Sent(method, headers)), None, "{method:?} {headers:?}");
        }
    }

    #[test]
    fn preflights() {
        let asked = &[
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a, x-b"),
        ];
        const VARY: &str = "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let methods = Methods::NONE.with(Method::Get).with(Method::Put);
        assert_eq!(
            preflight(&cors(&["https://a.example"]), methods, asked),
            (
                true,
                [
                    VARY,
                    "Access-Control-Allow-Origin: https://a.example",
                    "Access-Control-Allow-Methods: GET, PUT",
                    "Access-Control-Allow-Headers: x-a, x-b",
                    "Access-Control-Max-Age: 600"
                ]
                .map(str::to_owned)
                .to_vec()
            )
        );
        let settings = Cors {
            methods: vec!["PATCH".into()],
            headers: vec!["x-c".into(), "x-d".into()],
            credentials: true,
            max_age: 0,
            ..cors(&["https://*.example"])
        };
        assert_eq!(
            preflight(&settings, methods, asked).1,
            [
                VARY,
                "Access-Control-Allow-Origin: https://a.example",
                "Access-Control-Allow-Credentials: true",
                "Access-Control-Allow-Methods: PATCH",
                "Access-Control-Allow-Headers: x-c, x-d",
                "Access-Control-Max-Age: 0"
            ]
        );
        // Nothing is granted to others, and nothing that is no list is said back.
        assert_eq!(preflight(&cors(&["https://b.example"]), methods, asked), (false, vec![VARY.to_owned()]));
        let odd = &[
            ("origin", "https://a.example"),
            ("access-control-request-method", "P\"T"),
            ("access-control-request-headers", "x-a\"<script>"),
        ];
        assert_eq!(
            preflight(&cors(&["*"]), Methods::ANY, odd).1,
            [VARY, "Access-Control-Allow-Origin: *", "Access-Control-Max-Age: 600"]
        );
    }

    #[test]
    fn answers() {
        let answer =
            |settings: &Cors, origin: Header<'_>| lines(|mut out| with(settings, |cors| cors.answer(origin, &mut out)));
        let named = Cors { expose: vec!["x-a".into(), "x-b".into()], ..cors(&["https://a.example"]) };
        assert_eq!(
            answer(&named, Header::One(b"https://a.example")),
            [
                "Vary: Origin",
                "Access-Control-Allow-Origin: https://a.example",
                "Access-Control-Expose-Headers: x-a, x-b"
            ]
        );
        for origin in [Header::Absent, Header::Many, Header::One(b"https://b.example")] {
            assert_eq!(answer(&named, origin), ["Vary: Origin"], "{origin:?}");
        }
        assert_eq!(answer(&cors(&["*"]), Header::One(b"https://b.example")), ["Access-Control-Allow-Origin: *"]);
        assert!(answer(&cors(&["*"]), Header::Absent).is_empty());
    }

    #[test]
    fn whose_headers() {
        assert!(is_ours(b"Access-Control-Allow-Origin") && is_ours(b"access-control-max-age"));
        assert!(!is_ours(b"Vary") && !is_ours(b"access-contro"));
    }
}
