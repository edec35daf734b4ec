//! Who asks: requests as an adapter would show them.

use std::net::{IpAddr, Ipv4Addr};

use gateway::types::{Header, Method, Protocol, Request};

use crate::document::api_key;

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub route: String,
    path: Vec<u8>,
    /// The last 32 bits of the address.
    pub address: u32,
    /// Whose API key it shows; `None` = it shows none.
    pub consumer: Option<u32>,
    key: String,
}

impl Call {
    pub fn new(route: &str, address: u32, consumer: Option<u32>, method: Method) -> Self {
        let path = format!("/{route}/thing").into_bytes();
        Self {
            method,
            route: route.to_owned(),
            path,
            address,
            consumer,
            key: consumer.map_or_else(String::new, api_key),
        }
    }
}

impl Request for Call {
    fn method(&self) -> Method {
        self.method
    }

    fn host(&self) -> &[u8] {
        b"sim.example"
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn target(&self) -> &[u8] {
        &self.path
    }

    fn query(&self) -> &[u8] {
        b""
    }

    fn client(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.address))
    }

    fn protocol(&self) -> Protocol {
        Protocol::Http
    }

    fn header(&self, name: &[u8]) -> Header<'_> {
        if name == b"x-key" && !self.key.is_empty() { Header::One(self.key.as_bytes()) } else { Header::Absent }
    }

    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
        if let Header::One(value) = self.header(name) {
            take(value);
        }
    }
}
