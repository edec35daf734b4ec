//! Which headers of a request belong to the connection it came on (RFC 9110, 7.6.1).

/// Whether a header never goes beyond the next hop, whatever `Connection` says. `name` in any case.
///
/// The list of RFC 9110, 7.6.1, with `Connection` itself. `Upgrade` and `TE: trailers` are set anew by whoever speaks
/// to the server behind.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    is_among(name, &["connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade"])
}

/// The header names that the value of a `Connection` line lists, without `close` and `keep-alive`.
pub fn connection_options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    options.filter(|option| !option.is_empty() && !is_among(option, &["close", "keep-alive"]))
}

/// Whether the value of the client's `Connection` line takes the header `name` (in any case) away.
///
/// A header that routing, auth, framing or the server behind relies on cannot be taken away (CVE-2024-45410): what
/// the client lists is dropped only where nobody else has a say in it. Headers that the gateway sets are safe when
/// they are set after this.
#[must_use]
pub fn is_taken_away(connection: &[u8], name: &[u8]) -> bool {
    connection_options(connection).any(|option| option.eq_ignore_ascii_case(name)) && !is_end_to_end(name)
}

fn is_end_to_end(name: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    let is_forwarded = name.get(..FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED));
    is_forwarded
        || is_among(
            name,
            &[
                "host",
                "authorization",
                "cookie",
                "content-length",
                "content-type",
                "content-encoding",
                "content-digest",
                "cache-control",
                "expect",
                "forwarded",
                "origin",
                "range",
                "signature",
                "signature-input",
                "traceparent",
                "tracestate",
                "via",
                "x-real-ip",
                "x-request-id",
            ],
        )
}

fn is_among(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop() {
        for (name, expected) in [
            ("connection", true),
            ("Keep-Alive", true),
            ("TE", true),
            ("transfer-encoding", true),
            ("Upgrade", true),
            ("Proxy-Connection", true),
            ("host", false),
            ("te2", false),
            ("", false),
        ] {
            assert_eq!(is_hop_by_hop(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn what_a_client_can_take_away() {
        for (connection, name, expected) in [
            ("close", "x-a", false),
            ("close, X-A", "x-a", true),
            (" x-b ,\tx-a ", "X-A", true),
            (",,x-a", "x-a", true),
            ("x-ab", "x-a", false),
            ("close", "close", false),
            ("close, Authorization", "authorization", false),
            ("X-Forwarded-Proto", "x-forwarded-proto", false),
            ("X-Real-IP", "x-real-ip", false),
            ("X-Request-Id", "x-request-id", false),
            ("Host", "host", false),
        ] {
            assert_eq!(is_taken_away(connection.as_bytes(), name.as_bytes()), expected, "{connection}: {name}");
        }
    }
}
