//! What the tests of the whole pipeline share: a request made by hand, a gateway over a heap region.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr};

use gateway::config::{self, Secrets};
use gateway::gateway::{Decision, Entry, Leader, Reply, Ticket, Worker};
use gateway::state::{HeapRegion, Identity};
use gateway::types::{Certificate, Header, Method, Now, Protocol, Request, SECOND, Terms};

/// The secret that documents of the tests refer to as `$env://SECRET`.
pub const SECRET: &str = "q9Zk2vX7mB4nT8wL1cY6hJ3dF5gR0sPa";

/// What documents of the tests refer to as `/htpasswd`; every password is `secret`.
pub const HTPASSWD: &str = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n\
    bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\ngone:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

/// A request as an adapter would show it.
#[derive(Clone)]
pub struct Fake {
    pub method: Method,
    pub host: String,
    pub path: Vec<u8>,
    pub target: Vec<u8>,
    pub query: Vec<u8>,
    pub client: IpAddr,
    pub protocol: Protocol,
    pub scheme: &'static str,
    pub headers: Vec<(String, Vec<u8>)>,
    /// The subject of a verified certificate, `None` in it for one that is not trusted; and its PEM.
    pub certificate: Option<(Option<String>, &'static str)>,
    /// The route that its place names.
    pub route: Option<&'static str>,
    pub shadow: bool,
}

impl Fake {
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: Method::Get,
            host: "gw.example".into(),
            path: path.into(),
            target: target.into(),
            query: query.into(),
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            protocol: Protocol::Http,
            scheme: "https",
            headers: Vec::new(),
            certificate: None,
            route: None,
            shadow: false,
        }
    }

    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn named(mut self, route: &'static str) -> Self {
        self.route = Some(route);
        self
    }

    pub fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    pub fn client(mut self, last: u8) -> Self {
        self.client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    pub fn basic(self, user: &str, password: &str) -> Self {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("authorization", &format!("Basic {text}"))
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
}

impl Request for Fake {
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
        &self.target
    }

    fn query(&self) -> &[u8] {
        &self.query
    }

    fn client(&self) -> IpAddr {
        self.client
    }

    fn scheme(&self) -> &[u8] {
        self.scheme.as_bytes()
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn header(&self, name: &[u8]) -> Header<'_> {
        let mut found = Header::Absent;
        for (key, value) in &self.headers {
            if key.as_bytes() == name {
                if found != Header::Absent {
                    return Header::Many;
                }
                found = Header::One(value);
            }
        }
        found
    }

    fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| key.as_bytes() == name).for_each(|(_, value)| take(value));
    }

    fn certificate(&self) -> Certificate<'_> {
        match &self.certificate {
            None => Certificate::Absent,
            Some((None, _)) => Certificate::Failed,
            Some((Some(subject), _)) => Certificate::Verified { subject: subject.as_bytes() },
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms { route: self.route, shadow: self.shadow }
    }

    fn certificate_pem(&self) -> &[u8] {
        self.certificate.as_ref().map_or(&[], |(_, pem)| pem.as_bytes())
    }
}

/// Secrets of the tests.
pub struct TestSecrets;

impl Secrets for TestSecrets {
    fn env(&self, name: &str) -> Option<String> {
        (name == "SECRET").then(|| SECRET.to_owned())
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == "/htpasswd" {
            return Ok(HTPASSWD.into());
        }
        Err(format!("{path}: no such file"))
    }
}

/// One instant.
pub fn at(seconds: f64) -> Now {
    let micros = (seconds * SECOND as f64) as u64;
    Now { mono: 1_000 * SECOND + micros, wall: 1_800_000_000 * SECOND + micros }
}

/// A region with a leader and workers, all in this process.
pub struct Gateway {
    pub workers: Vec<Worker>,
    pub leader: Leader,
    pub heap: HeapRegion,
}

impl Gateway {
    pub fn new(document: &str, workers: usize) -> Self {
        Self::sized(document, workers, 8 << 20)
    }

    pub fn sized(document: &str, workers: usize, size: usize) -> Self {
        let heap = HeapRegion::new(size, [1, 2]).unwrap();
        let identity = Identity::current();
        let leader = Leader::take(heap.region(), identity).unwrap().unwrap();
        let workers =
            (0..workers).map(|n| Worker::start(heap.region(), identity, [n as u64 + 1, 7]).unwrap()).collect();
        let mut gateway = Self { workers, leader, heap };
        gateway.load(document, at(0.0));
        gateway
    }

    /// Publishes `document`; panics with its mistakes.
    pub fn load(&mut self, document: &str, now: Now) {
        let checked = match config::parse(document, "test.yaml", &TestSecrets) {
            Ok(checked) => checked,
            Err(errors) => panic!("{errors}"),
        };
        self.leader.publish(&checked.document, now).unwrap();
        self.leader.follow(now, &mut |_| {});
    }

    pub fn access(&mut self, worker: usize, request: &Fake, now: Now) -> (Decision, Ticket) {
        let mut ticket = Ticket::new();
        let mut decision = self.workers[worker].access(request, Entry::First, now, &mut ticket);
        // Answered on the spot, as an adapter without an event loop may do.
        while let Decision::Ask(_) = decision {
            let answer = self.workers[worker].question().unwrap().answer();
            self.workers[worker].learn(answer, now);
            decision = self.workers[worker].resume(answer, request, now, &mut ticket);
        }
        (decision, ticket)
    }

    /// The code of the refusal, or `forward`.
    pub fn verdict(&mut self, worker: usize, request: &Fake, now: Now) -> &'static str {
        match self.access(worker, request, now).0 {
            Decision::Forward => "forward",
            Decision::Reply(Reply { reason, .. }) => reason.code(),
            Decision::Respond(_) => "respond",
            Decision::Ask(_) => "ask",
        }
    }
}
