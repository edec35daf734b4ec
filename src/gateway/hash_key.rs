//! What `hash` hashes: the raw value of one key, as nginx's `hash $variable consistent` does it, so that both send a
//! client to the same server. Several values are joined by a colon, as `hash "$a:$b" consistent` would.

use std::fmt::Write;
use std::net::IpAddr;

use super::object::ArchivedRoute;
use super::route::parameter;
use super::ticket::Ticket;
use crate::auth::Claims;
use crate::balancer::Crc;
use crate::limiter::ArchivedKeyPart;
use crate::state::Captures;
use crate::types::{Header, Request};

/// Where the values come from.
pub(super) struct Source<'a, R> {
    pub request: &'a R,
    pub route: &'a ArchivedRoute,
    pub rule: u32,
    pub captures: &'a Captures,
    /// What auth found, where there was any.
    pub claims: Option<&'a Claims>,
}

impl<R: Request> Source<'_, R> {
    /// The CRC-32 of the key; `None` where the request has none of its parts, or only empty ones.
    #[cold]
    pub fn key(&self, parts: &[ArchivedKeyPart], ticket: &Ticket) -> Option<u32> {
        let mut crc = Crc::EMPTY;
        let mut is_there = false;
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                crc = crc.with(b":");
            }
            let value = match part {
                ArchivedKeyPart::Ip => {
                    is_there = true;
                    crc = address(crc, self.request.client());
                    continue;
                }
                ArchivedKeyPart::Consumer => self.claims.map(|_| ticket.consumer().as_bytes()),
                ArchivedKeyPart::Claim(name) => {
                    self.claims.and_then(|claims| claims.header_value(name)).map(str::as_bytes)
                }
                ArchivedKeyPart::Header(name) => match self.request.header(name.as_bytes()) {
                    Header::One(value) => Some(value),
                    Header::Absent | Header::Many => None,
                },
                ArchivedKeyPart::Cookie(name) => self.cookie(name),
                ArchivedKeyPart::Path(name) => {
                    parameter(self.route, self.rule, name, self.captures, self.request.path())
                }
                ArchivedKeyPart::Route => Some(ticket.route_name().as_bytes()),
                ArchivedKeyPart::Upstream => Some(ticket.upstream_name().as_bytes()),
                ArchivedKeyPart::Global => None,
            };
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                is_there = true;
                crc = crc.with(value);
            }
        }
        is_there.then(|| crc.finish())
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let line = self.request.header(b"cookie").one()?;
        crate::auth::cookies(line).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }
}

/// An address as `$remote_addr` shows it.
fn address(crc: Crc, address: IpAddr) -> Crc {
    let mut crc = crc;
    let _ = write!(crc, "{address}");
    crc
}
