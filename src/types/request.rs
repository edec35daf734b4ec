use std::net::IpAddr;

use super::Method;

/// What a request brings under one header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// No line with that name.
    Absent,
    /// Exactly one line.
    One(&'a [u8]),
    /// More than one line; which of them counts is nobody's guess, so whoever decides by this header refuses.
    Many,
}

impl<'a> Header<'a> {
    /// The value where there is exactly one.
    #[must_use]
    pub const fn one(self) -> Option<&'a [u8]> {
        match self {
            Self::One(value) => Some(value),
            Self::Absent | Self::Many => None,
        }
    }
}

/// What is known of the certificate that the client showed in the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate<'a> {
    /// It showed none, or the connection is not encrypted.
    Absent,
    /// It showed one that the server does not trust.
    Failed,
    /// It showed one that the server has verified.
    Verified {
        /// The subject's distinguished name as RFC 2253 writes it.
        subject: &'a [u8],
    },
}

/// What is spoken after the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Protocol {
    Http,
    WebSocket,
    Grpc,
}

/// The terms on which a place of the server's configuration has its requests decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The name of the route that takes them, whatever their host, path and method; `None` = the one that matches.
    pub route: Option<&'a str>,
    /// Whether they go their way whatever is decided: what would have been refused is counted as such.
    pub shadow: bool,
}

/// A request as the gateway looks at it. Adapters implement it over what their server already parsed; nothing is
/// copied and no header is walked before a policy asks for it.
pub trait Request {
    /// The method.
    fn method(&self) -> Method;
    /// The host asked for, as received: any case, maybe with a port or a trailing dot; empty where there is none.
    fn host(&self) -> &[u8];
    /// The path, decoded and normalised (what nginx calls `$uri`).
    fn path(&self) -> &[u8];
    /// The request target as it came, undecoded, with the query.
    fn target(&self) -> &[u8];
    /// The query, undecoded, without the question mark.
    fn query(&self) -> &[u8];
    /// The client's address, as realip and PROXY protocol leave it.
    fn client(&self) -> IpAddr;
    /// The method as it came; `None` where nobody kept what an unknown one is called.
    fn method_name(&self) -> Option<&[u8]> {
        match self.method() {
            Method::Other => None,
            method => Some(method.name().as_bytes()),
        }
    }
    /// The scheme that the client used: `http` or `https`.
    fn scheme(&self) -> &[u8] {
        b"http"
    }
    /// The authority that the client named, as it wrote it (`Host`, `:authority`), with the port.
    fn authority(&self) -> &[u8] {
        self.header(b"host").one().unwrap_or_else(|| self.host())
    }
    /// What is spoken.
    fn protocol(&self) -> Protocol;
    /// The header called `name`, which is given in lower case.
    fn header(&self, name: &[u8]) -> Header<'_>;
    /// Hands `take` the value of each line called `name`, which is given in lower case, in their order.
    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8]));
    /// How many bytes the body will have, where the client says so.
    fn content_length(&self) -> Option<u64> {
        std::str::from_utf8(self.header(b"content-length").one()?).ok()?.parse().ok()
    }
    /// Whether there is any line with one of `names`, which are given in lower case.
    fn has_any(&self, names: &[&[u8]]) -> bool {
        names.iter().any(|name| self.header(name) != Header::Absent)
    }
    /// Whether the client has a certificate, and whose it is.
    fn certificate(&self) -> Certificate<'_> {
        Certificate::Absent
    }
    /// The client's certificate in PEM; empty where there is none.
    fn certificate_pem(&self) -> &[u8] {
        &[]
    }
    /// On which terms it is decided on.
    fn terms(&self) -> Terms<'_> {
        Terms::default()
    }
}
