//! nginx's request as the library sees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway::types::{Certificate, Header, Method, Protocol, Request, Terms};
use nginx_sys::{ngx_hash_key, ngx_http_get_variable, ngx_http_request_t, ngx_str_t};

use crate::conf::{self, LocConf};
use crate::raw::{self, bytes, headers};

/// Borrows what nginx already parsed; nothing is copied.
pub struct View {
    r: *mut ngx_http_request_t,
    method: Method,
}

impl View {
    /// # Safety
    ///
    /// `r` is a live request that outlives the view and is not changed while it is used.
    pub unsafe fn new(r: *mut ngx_http_request_t) -> Self {
        // SAFETY: the caller's promise.
        let method = Method::parse(unsafe { bytes((*r).method_name) });
        Self { r, method }
    }

    fn request(&self) -> &ngx_http_request_t {
        // SAFETY: the promise of `new`.
        unsafe { &*self.r }
    }

    /// The value of one of nginx's variables; empty where there is none, as in an nginx without TLS. The value lives in
    /// the request's pool.
    fn variable(&self, name: &'static [u8]) -> &[u8] {
        // SAFETY: a live request; nginx reads the name and writes into the request's pool alone.
        unsafe {
            let mut text: ngx_str_t = raw::text(name);
            let hash = ngx_hash_key(text.data, text.len);
            match ngx_http_get_variable(self.r, &raw mut text, hash).as_ref() {
                Some(value) if value.valid() != 0 && value.not_found() == 0 => {
                    bytes(ngx_str_t { len: value.len() as usize, data: value.data })
                }
                _ => &[],
            }
        }
    }
}

impl Request for View {
    fn method(&self) -> Method {
        self.method
    }

    fn host(&self) -> &[u8] {
        // SAFETY: strings of a live request.
        unsafe { bytes(self.request().headers_in.server) }
    }

    fn path(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { bytes(self.request().uri) }
    }

    fn target(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { bytes(self.request().unparsed_uri) }
    }

    fn query(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { bytes(self.request().args) }
    }

    fn method_name(&self) -> Option<&[u8]> {
        // SAFETY: a string of a live request.
        Some(unsafe { bytes(self.request().method_name) })
    }

    fn scheme(&self) -> &[u8] {
        #[cfg(ngx_feature = "http_ssl")]
        // SAFETY: a live request has a connection.
        let secure = unsafe { self.request().connection.as_ref() }.is_some_and(|connection| !connection.ssl.is_null());
        #[cfg(not(ngx_feature = "http_ssl"))]
        let secure = false;
        if secure { b"https" } else { b"http" }
    }

    fn client(&self) -> IpAddr {
        const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        // SAFETY: a live request has a connection; its sockaddr is as long as `socklen` says and of the named family.
        unsafe {
            let Some(connection) = self.request().connection.as_ref() else { return NOBODY };
            let Some(address) = connection.sockaddr.as_ref() else { return NOBODY };
            match i32::from(address.sa_family) {
                libc::AF_INET => {
                    let v4 = &*connection.sockaddr.cast::<libc::sockaddr_in>();
                    IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    let v6 = &*connection.sockaddr.cast::<libc::sockaddr_in6>();
                    IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
                }
                // A unix socket: nobody's address, one bucket for all of them.
                _ => NOBODY,
            }
        }
    }

    fn protocol(&self) -> Protocol {
        let incoming = &self.request().headers_in;
        // SAFETY: header pointers of a live request are null or valid.
        unsafe {
            if let Some(upgrade) = incoming.upgrade.as_ref()
                && bytes(upgrade.value).eq_ignore_ascii_case(b"websocket")
            {
                return Protocol::WebSocket;
            }
            if let Some(kind) = incoming.content_type.as_ref()
                && bytes(kind.value).starts_with(b"application/grpc")
            {
                return Protocol::Grpc;
            }
        }
        Protocol::Http
    }

    fn header(&self, name: &[u8]) -> Header<'_> {
        let mut found = Header::Absent;
        // SAFETY: the list and its strings belong to the live request; nginx lower-cases every name into memory of the
        // same length.
        unsafe {
            for element in headers(&self.request().headers_in.headers) {
                let length = element.key.len;
                if length == name.len() && std::slice::from_raw_parts(element.lowcase_key, length) == name {
                    if found != Header::Absent {
                        return Header::Many;
                    }
                    found = Header::One(bytes(element.value));
                }
            }
        }
        found
    }

    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
        // SAFETY: as above.
        unsafe {
            for element in headers(&self.request().headers_in.headers) {
                let length = element.key.len;
                if length == name.len() && std::slice::from_raw_parts(element.lowcase_key, length) == name {
                    take(bytes(element.value));
                }
            }
        }
    }

    fn content_length(&self) -> Option<u64> {
        u64::try_from(self.request().headers_in.content_length_n).ok()
    }

    fn certificate(&self) -> Certificate<'_> {
        match self.variable(b"ssl_client_verify") {
            b"" | b"NONE" => Certificate::Absent,
            b"SUCCESS" => Certificate::Verified { subject: self.variable(b"ssl_client_s_dn") },
            _ => Certificate::Failed,
        }
    }

    fn terms(&self) -> Terms<'_> {
        // SAFETY: a live request.
        unsafe { conf::loc_conf(self.r) }.map_or_else(Terms::default, LocConf::terms)
    }

    fn certificate_pem(&self) -> &[u8] {
        self.variable(b"ssl_client_raw_cert")
    }
}
