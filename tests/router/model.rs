//! What stands around the gateway, as models: nginx in front, a server behind that reads paths as leniently as any.

/// What nginx makes of a request target.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed<'t> {
    /// `$uri`.
    pub path: Vec<u8>,
    /// The target from the path on, without scheme and host: what a bare `proxy_pass` sends.
    pub target: &'t [u8],
    /// `$args`.
    pub args: &'t [u8],
}

/// The target of a request line as nginx 1.22 reads it (`ngx_http_parse_request_line`, then
/// `ngx_http_parse_complex_uri` with `merge_slashes on`); `None` where it answers 400 or 414.
pub fn nginx(target: &[u8]) -> Option<Parsed<'_>> {
    // A request line fills at most one of `large_client_header_buffers 4 8k`: 414.
    if target.len() + "GET  HTTP/1.1\r\n".len() > 8 << 10 || target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let target = match target.first()? {
        b'/' => target,
        _ => without_scheme(target)?,
    };
    let (raw, args) = match target.iter().position(|&byte| byte == b'?' || byte == b'#') {
        Some(at) if target[at] == b'?' => (&target[..at], &target[at + 1..]),
        Some(at) => (&target[..at], &[][..]),
        None => (target, &[][..]),
    };
    let args = args.split(|&byte| byte == b'#').next().unwrap();
    let path = if raw.is_empty() { b"/".to_vec() } else { complex_uri(raw)? };
    Some(Parsed { path, target, args })
}

fn without_scheme(target: &[u8]) -> Option<&[u8]> {
    let end = target.iter().position(|&byte| byte == b':')?;
    let is_scheme = target[0].is_ascii_alphabetic()
        && target[..end].iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let rest = target[end + 1..].strip_prefix(b"//").filter(|_| is_scheme)?;
    let end = rest.iter().position(|&byte| b"/?#".contains(&byte)).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let mut parts = authority.split(|&byte| byte == b':');
    let is_host = parts.next()?.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let is_port = parts.next().unwrap_or_default().iter().all(u8::is_ascii_digit);
    (is_host && is_port && parts.next().is_none()).then_some(rest)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Usual,
    Slash,
    Dot,
    DotDot,
}

/// Decoding and resolving are one machine in nginx: a decoded byte goes through the same states as a raw one.
fn complex_uri(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut state = State::Usual;
    let mut rest = raw.iter();
    while let Some(&byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
                let decoded = digit(rest.next()?)? << 4 | digit(rest.next()?)?;
                match decoded {
                    0 => return None,
                    b'%' | b'#' | b'?' => {
                        state = State::Usual;
                        out.push(decoded);
                        continue;
                    }
                    decoded => decoded,
                }
            }
            byte => byte,
        };
        state = match (state, byte) {
            (State::Usual, b'/') => {
                out.push(byte);
                State::Slash
            }
            (State::Slash, b'/') => State::Slash,
            (State::Dot, b'/') => {
                out.pop();
                State::Slash
            }
            (State::DotDot, b'/') => {
                up(&mut out)?;
                State::Slash
            }
            (State::Slash, b'.') => {
                out.push(byte);
                State::Dot
            }
            (State::Dot, b'.') => {
                out.push(byte);
                State::DotDot
            }
            _ => {
                out.push(byte);
                State::Usual
            }
        };
    }
    match state {
        State::Dot => {
            out.pop();
        }
        State::DotDot => up(&mut out)?,
        State::Usual | State::Slash => {}
    }
    Some(out)
}

/// Takes `/x/..` back to `/`; there is nothing above the root.
fn up(out: &mut Vec<u8>) -> Option<()> {
    out.truncate(out.len() - 3);
    let slash = out.iter().rposition(|&byte| byte == b'/')?;
    out.truncate(slash + 1);
    Some(())
}

/// The segments at which a lenient server arrives, and whether it went above its root on the way.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    pub segments: Vec<Vec<u8>>,
    pub went_above: bool,
}

/// How a server behind reads a path.
#[derive(Clone, Copy)]
pub struct Leniency {
    /// How often it decodes.
    pub decodes: usize,
    /// Takes `\` for a slash and drops what follows a `;` in a segment.
    pub windows_and_servlets: bool,
}

/// The path of `wire`, a request target, as such a server reads it: doubled slashes merged, dots resolved.
pub fn resolve(wire: &[u8], leniency: Leniency) -> Resolved {
    let mut path = wire.split(|&byte| byte == b'?').next().unwrap().to_vec();
    for _ in 0..leniency.decodes {
        path = decode(&path);
    }
    let mut resolved = Resolved { segments: Vec::new(), went_above: false };
    let is_slash = |&byte: &u8| byte == b'/' || leniency.windows_and_servlets && byte == b'\\';
    for segment in path.split(is_slash) {
        let segment = match leniency.windows_and_servlets {
            true => segment.split(|&byte| byte == b';').next().unwrap(),
            false => segment,
        };
        match segment {
            b"" | b"." => {}
            b".." => resolved.went_above |= resolved.segments.pop().is_none(),
            segment => resolved.segments.push(segment.to_vec()),
        }
    }
    resolved
}

/// Decodes what is an encoding and leaves the rest.
pub fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // from_str_radix takes a sign, which is no digit.
        match decoded.filter(|_| after[0] != b'+') {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[test]
fn the_model_reads_targets_as_nginx_does() {
    for (target, expected) in [
        ("/", Some("/")),
        ("/a//b", Some("/a/b")),
        ("/a/./b/../c", Some("/a/c")),
        ("/a/..", Some("/")),
        ("/a/b/..", Some("/a/")),
        ("/a/.", Some("/a/")),
        ("/..", None),
        ("/../a", None),
        ("/a/../../b", None),
        ("/a/..b/.c/...", Some("/a/..b/.c/...")),
        ("/%2e%2E/a", None),
        ("/a/%2e%2e/b", Some("/b")),
        ("/a%2fb%2F/c", Some("/a/b/c")),
        ("/a/..%2fb", Some("/b")),
        ("/a/.%2e", Some("/")),
        ("/%252e", Some("/%2e")),
        ("/a/.%3f", Some("/a/.?")),
        ("/a%00", None),
        ("/a%", None),
        ("/a%2", None),
        ("/a%zz", None),
        ("/a%0d", Some("/a\r")),
        ("/a?b/../..", Some("/a")),
        ("/a/..?b", Some("/")),
        ("/a#/../b", Some("/a")),
        ("/a b", None),
        ("a", None),
        ("", None),
        ("*", None),
        ("a.b:80", None),
        ("http:/a", None),
        ("http://h", Some("/")),
        ("http://h?a", Some("/")),
        ("HTTP://h:80/a", Some("/a")),
        ("http://h:x/a", None),
    ] {
        let found = nginx(target.as_bytes()).map(|parsed| String::from_utf8_lossy(&parsed.path).into_owned());
        assert_eq!(found.as_deref(), expected, "{target}");
    }
}
