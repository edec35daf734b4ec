//! What an answer says of its being kept (RFC 9111), and what becomes of it.
//!
//! nginx looks for words in `Cache-Control`, line by line, and takes the first number; here all lines are read as the
//! one list that they are (RFC 9110, 5.3), and an answer that contradicts itself is not kept. The verdict only ever
//! narrows what nginx would do.

use super::settings::ArchivedCache;

/// The longest time that is kept, seconds (RFC 9111, 1.2.2).
pub const SECONDS_MAX: u32 = i32::MAX as u32;

/// Statuses that an answer's own word is enough for. Most other errors are about the request that met them, headers and
/// all, and whoever may provoke one would have it answered to everybody.
const KEPT: [u16; 12] = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 410, 451];

/// A number that a directive gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seconds {
    /// The directive is not there.
    #[default]
    Absent,
    /// It is there, once, or several times with the same number.
    Given(u32),
    /// It is there without a number, or with two.
    Wrong,
}

/// The directives of `Cache-Control` that a shared cache follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Control {
    /// Whether there was any line.
    pub is_there: bool,
    pub public: bool,
    /// `private`, also for some fields alone.
    pub private: bool,
    pub no_store: bool,
    /// `no-cache`, also for some fields alone.
    pub no_cache: bool,
    /// `must-revalidate` …
    pub must_revalidate: bool,
    /// … and `proxy-revalidate`.
    pub proxy_revalidate: bool,
    pub max_age: Seconds,
    pub s_maxage: Seconds,
    pub stale_while_revalidate: Seconds,
    pub stale_if_error: Seconds,
}

/// What is known of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its `Cache-Control`.
    pub control: Control,
    /// How many lines of `Vary` it has …
    pub vary: u32,
    /// … and whether `*` is among them.
    pub vary_any: bool,
    /// Whether it sets a cookie.
    pub sets_cookie: bool,
    /// Seconds that it has been in other caches, as its `Age` says.
    pub age: u32,
    /// Whether it says its time by `Expires`, which the server reads.
    pub expires: bool,
    /// Whether it says so to the server alone (`X-Accel-Expires`), whatever it says to others.
    pub accel: bool,
}

/// What is known of the request that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// It has credentials in `Authorization`, whoever looked at them.
    pub authorization: bool,
    /// The gateway knows who sent it.
    pub known: bool,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept.
    Keep {
        /// For so many seconds it is fresh; `None` = as the server read it.
        fresh: Option<u32>,
        /// For so many more it is given while a new one is fetched …
        updating: u32,
        /// … or when none can be had.
        error: u32,
    },
    /// It is not.
    Leave(Why),
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Why {
    Status,
    Cookie,
    /// It says so.
    Told,
    Vary,
    /// The request had credentials, and nothing in the answer lets others have it.
    Credentials,
    /// It says two things at once.
    Contradiction,
    /// It is not fresh when it comes, or nobody says for how long it is.
    NotFresh,
}

impl Why {
    /// In one word, for `Cache-Status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Cookie => "set-cookie",
            Self::Told => "cache-control",
            Self::Vary => "vary",
            Self::Credentials => "authorization",
            Self::Contradiction => "contradiction",
            Self::NotFresh => "not-fresh",
        }
    }
}

impl Control {
    /// Reads one more line.
    pub fn line(&mut self, line: &[u8]) {
        self.is_there = true;
        let mut rest = line;
        while !rest.is_empty() {
            let (directive, after) = split(rest);
            self.directive(directive.trim_ascii());
            rest = after;
        }
    }

    fn directive(&mut self, text: &[u8]) {
        let (name, value) = match memchr::memchr(b'=', text).and_then(|at| text.split_at_checked(at)) {
            Some((name, value)) => (name.trim_ascii_end(), value.get(1..)),
            None => (text, None),
        };
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"max-age") {
            self.max_age = self.max_age.and(seconds(value));
        } else if is(b"s-maxage") {
            self.s_maxage = self.s_maxage.and(seconds(value));
        } else if is(b"public") {
            self.public = true;
        } else if is(b"private") {
            self.private = true;
        } else if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            self.no_cache = true;
        } else if is(b"must-revalidate") {
            self.must_revalidate = true;
        } else if is(b"proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is(b"stale-while-revalidate") {
            self.stale_while_revalidate = self.stale_while_revalidate.and(seconds(value));
        } else if is(b"stale-if-error") {
            self.stale_if_error = self.stale_if_error.and(seconds(value));
        }
    }
}

impl Seconds {
    fn and(self, more: Self) -> Self {
        match self {
            Self::Absent => more,
            known if known == more => known,
            _ => Self::Wrong,
        }
    }

    fn or(self, other: u32) -> u32 {
        match self {
            Self::Absent => other,
            Self::Given(seconds) => seconds,
            Self::Wrong => 0,
        }
    }
}

/// The first directive of a list and what follows its comma; commas between quotes are none.
fn split(list: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    let mut escaped = false;
    let end = list.iter().position(|&byte| {
        let ends = byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    });
    match end {
        Some(at) => (list.get(..at).unwrap_or_default(), list.get(at + 1..).unwrap_or_default()),
        None => (list, &[]),
    }
}

/// A number of seconds; quotes around it are let pass (RFC 9111, 5.2).
fn seconds(value: Option<&[u8]>) -> Seconds {
    let text = match value.map(<[u8]>::trim_ascii) {
        Some([b'"', inner @ .., b'"']) => inner,
        Some(text) => text,
        None => return Seconds::Wrong,
    };
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Seconds::Wrong;
    }
    let number = text.iter().fold(0_u32, |number, digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit - b'0')).min(SECONDS_MAX)
    });
    Seconds::Given(number)
}

impl Answer {
    /// Takes one more line of its header; `name` is in lower case.
    pub fn line(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"cache-control" => self.control.line(value),
            b"vary" => {
                self.vary += 1;
                self.vary_any |= value.split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"*");
            }
            b"set-cookie" | b"set-cookie2" => self.sets_cookie = true,
            b"age" => {
                // The older of two; what is no number is as old as can be (RFC 9111, 5.1 leaves that open).
                let age = match seconds(Some(value)) {
                    Seconds::Given(age) => age,
                    _ => SECONDS_MAX,
                };
                self.age = self.age.max(age);
            }
            b"expires" => self.expires = true,
            b"x-accel-expires" => self.accel = true,
            _ => {}
        }
    }

    /// What becomes of it under a route's `cache`.
    #[must_use]
    pub fn verdict(&self, asker: Asker, cache: &ArchivedCache) -> Verdict {
        match self.judge(asker, cache) {
            Ok(fresh) => {
                let control = &self.control;
                let never = control.must_revalidate || control.proxy_revalidate;
                let stale = |own: Seconds, route: u32| if never { 0 } else { own.or(route) };
                Verdict::Keep {
                    fresh,
                    updating: stale(control.stale_while_revalidate, cache.stale_while_revalidate.to_native()),
                    error: stale(control.stale_if_error, cache.stale_if_error.to_native()),
                }
            }
            Err(why) => Verdict::Leave(why),
        }
    }

    fn judge(&self, asker: Asker, cache: &ArchivedCache) -> Result<Option<u32>, Why> {
        let control = &self.control;
        if matches!(self.status, 0..=199 | 206 | 304) {
            return Err(Why::Status);
        }
        if self.sets_cookie {
            return Err(Why::Cookie);
        }
        if control.no_store || control.no_cache || control.private {
            return Err(Why::Told);
        }
        // nginx of some versions keeps the last of several lines alone.
        if self.vary > 1 || self.vary_any {
            return Err(Why::Vary);
        }
        let ttl = cache.ttl(self.status);
        let s_maxage = control.s_maxage != Seconds::Absent;
        let shared = control.public || s_maxage;
        let has_leave = if cache.shared && (asker.authorization || asker.known) {
            shared
        } else if asker.authorization {
            // RFC 9111, 3.5; where the answer says nothing at all, its route does, for a caller whose entry is its own.
            shared || control.must_revalidate || asker.known && !control.is_there && ttl.is_some()
        } else {
            true
        };
        if !has_leave {
            return Err(Why::Credentials);
        }
        let is_told = |named: bool| KEPT.contains(&self.status) || named;
        let by_status = ttl.is_some_and(|(_, named)| named);
        if self.accel {
            return if is_told(by_status) { Ok(None) } else { Err(Why::Status) };
        }
        let own = if s_maxage { control.s_maxage } else { control.max_age };
        let fresh = match own {
            Seconds::Wrong => return Err(Why::Contradiction),
            // Of an answer that contradicts itself elsewhere nothing is believed.
            _ if control.max_age == Seconds::Wrong => return Err(Why::Contradiction),
            Seconds::Given(seconds) if is_told(by_status) => Some(seconds.saturating_sub(self.age)),
            Seconds::Absent if self.expires && is_told(by_status) => None,
            Seconds::Given(_) => return Err(Why::Status),
            Seconds::Absent if self.expires => return Err(Why::Status),
            Seconds::Absent => Some(ttl.ok_or(Why::NotFresh)?.0),
        };
        match fresh {
            Some(0) => Err(Why::NotFresh),
            fresh => Ok(fresh),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{ANY_STATUS, Cache, Query};

    fn cache() -> Cache {
        Cache {
            zone: "z".into(),
            ttl: vec![(200, 30), (503, 1)],
            query: Query::All,
            headers: Vec::new(),
            cookies: Vec::new(),
            shared: false,
            head: true,
            get: true,
            stale_while_revalidate: 7,
            stale_if_error: 9,
            lock: 0,
            tags: Vec::new(),
        }
    }

    fn verdict(cache: &Cache, asker: Asker, status: u16, lines: &[(&str, &str)]) -> Verdict {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(cache).unwrap();
        let cache = rkyv::access::<ArchivedCache, rkyv::rancor::Error>(&bytes).unwrap();
        let mut answer = Answer { status, ..Answer::default() };
        lines.iter().for_each(|(name, value)| answer.line(name.as_bytes(), value.as_bytes()));
        answer.verdict(asker, cache)
    }

    const fn keep(fresh: u32, updating: u32, error: u32) -> Verdict {
        Verdict::Keep { fresh: Some(fresh), updating, error }
    }

    #[test]
    fn directives() {
        let read = |lines: &[&str]| {
            let mut control = Control::default();
            lines.iter().for_each(|line| control.line(line.as_bytes()));
            control
        };
        let age = |lines: &[&str]| read(lines).max_age;
        assert_eq!(age(&["max-age=60"]), Seconds::Given(60));
        assert_eq!(age(&["MAX-AGE = \"60\" "]), Seconds::Given(60));
        assert_eq!(age(&["max-age=60, max-age=60"]), Seconds::Given(60));
        assert_eq!(age(&["max-age=60, max-age=0"]), Seconds::Wrong);
        assert_eq!(age(&["max-age=60", "max-age=0"]), Seconds::Wrong);
        assert_eq!(age(&["max-age=99999999999999999999"]), Seconds::Given(SECONDS_MAX));
        for wrong in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=1 2", "max-age=0x1"] {
            assert_eq!(age(&[wrong]), Seconds::Wrong, "{wrong}");
        }
        assert_eq!(age(&["x=\"max-age=60, max-age=3\", max-age=5"]), Seconds::Given(5));
        assert_eq!(age(&["x=\"a\\\",max-age=1\",max-age=5"]), Seconds::Given(5));
        assert_eq!(age(&["xmax-age=5", "max-agex=5"]), Seconds::Absent);
        assert!(read(&["private=\"set-cookie, x\", public"]).private);
        assert!(read(&["no-cache=x"]).no_cache && !read(&["x-no-cache"]).no_cache);
        assert_eq!(read(&[",, ,"]), Control { is_there: true, ..Control::default() });
    }

    #[test]
    fn verdicts() {
        let (anyone, signed) = (Asker::default(), Asker { authorization: true, known: false });
        let known = Asker { authorization: true, known: true };
        let by_key = Asker { authorization: false, known: true };
        let cc = |value: &'static str| ("cache-control", value);
        for (asker, status, lines, expected) in [
            (anyone, 200, &[][..], keep(30, 7, 9)),
            (anyone, 404, &[], Verdict::Leave(Why::NotFresh)),
            (anyone, 503, &[], keep(1, 7, 9)),
            (anyone, 200, &[cc("max-age=60")], keep(60, 7, 9)),
            (anyone, 200, &[cc("max-age=60"), ("age", "59")], keep(1, 7, 9)),
            (anyone, 200, &[cc("max-age=60"), ("age", "60")], Verdict::Leave(Why::NotFresh)),
            (anyone, 200, &[cc("max-age=60"), ("age", "soon")], Verdict::Leave(Why::NotFresh)),
            (anyone, 200, &[cc("max-age=0, s-maxage=60")], keep(60, 7, 9)),
            (anyone, 200, &[cc("s-maxage=0, max-age=60")], Verdict::Leave(Why::NotFresh)),
            (anyone, 200, &[cc("max-age=60, max-age=0")], Verdict::Leave(Why::Contradiction)),
            (anyone, 200, &[cc("s-maxage=60, max-age=1, max-age=2")], Verdict::Leave(Why::Contradiction)),
            (anyone, 200, &[cc("max-age=9, must-revalidate")], keep(9, 0, 0)),
            (anyone, 200, &[cc("max-age=9, stale-if-error=1, stale-while-revalidate=2")], keep(9, 2, 1)),
            (anyone, 200, &[("set-cookie", "a=b"), cc("public, max-age=60")], Verdict::Leave(Why::Cookie)),
            (anyone, 200, &[cc("no-store, max-age=60")], Verdict::Leave(Why::Told)),
            (anyone, 200, &[cc("private")], Verdict::Leave(Why::Told)),
            (anyone, 200, &[("vary", "Accept")], keep(30, 7, 9)),
            (anyone, 200, &[("vary", "Accept, *")], Verdict::Leave(Why::Vary)),
            (anyone, 200, &[("vary", "Accept"), ("vary", "Origin")], Verdict::Leave(Why::Vary)),
            (anyone, 206, &[cc("max-age=60")], Verdict::Leave(Why::Status)),
            (anyone, 400, &[cc("public, max-age=60")], Verdict::Leave(Why::Status)),
            (anyone, 404, &[cc("public, max-age=60")], keep(60, 7, 9)),
            (anyone, 503, &[cc("max-age=60")], keep(60, 7, 9)),
            (anyone, 200, &[("expires", "x")], Verdict::Keep { fresh: None, updating: 7, error: 9 }),
            (anyone, 400, &[("expires", "x")], Verdict::Leave(Why::Status)),
            (
                anyone,
                200,
                &[("x-accel-expires", "5"), cc("max-age=60, max-age=0")],
                Verdict::Keep { fresh: None, updating: 7, error: 9 },
            ),
            (anyone, 200, &[("x-accel-expires", "5"), cc("private")], Verdict::Leave(Why::Told)),
            (signed, 200, &[cc("max-age=60")], Verdict::Leave(Why::Credentials)),
            (signed, 200, &[], Verdict::Leave(Why::Credentials)),
            (signed, 200, &[cc("public, max-age=60")], keep(60, 7, 9)),
            (signed, 200, &[cc("s-maxage=60")], keep(60, 7, 9)),
            (signed, 200, &[cc("must-revalidate, max-age=60")], keep(60, 0, 0)),
            (known, 200, &[], keep(30, 7, 9)),
            (known, 200, &[cc("max-age=60")], Verdict::Leave(Why::Credentials)),
            (known, 404, &[], Verdict::Leave(Why::Credentials)),
            (by_key, 200, &[cc("max-age=60")], keep(60, 7, 9)),
        ] {
            assert_eq!(verdict(&cache(), asker, status, lines), expected, "{asker:?} {status} {lines:?}");
        }
        let shared = Cache { shared: true, ..cache() };
        for asker in [signed, known, by_key] {
            assert_eq!(verdict(&shared, asker, 200, &[]), Verdict::Leave(Why::Credentials));
            let must = [cc("must-revalidate, max-age=60")];
            assert_eq!(verdict(&shared, asker, 200, &must), Verdict::Leave(Why::Credentials));
            assert_eq!(verdict(&shared, asker, 200, &[cc("public, max-age=60")]), keep(60, 7, 9));
            assert_eq!(verdict(&shared, asker, 200, &[cc("s-maxage=60")]), keep(60, 7, 9));
        }
        let any = Cache { ttl: vec![(ANY_STATUS, 5), (404, 1)], ..cache() };
        assert_eq!(verdict(&any, anyone, 500, &[]), keep(5, 7, 9));
        assert_eq!(verdict(&any, anyone, 404, &[]), keep(1, 7, 9));
        assert_eq!(verdict(&any, anyone, 400, &[cc("max-age=60")]), Verdict::Leave(Why::Status));
    }
}
