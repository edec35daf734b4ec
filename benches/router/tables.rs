//! Sets of routes, the requests that reach them, and a region that holds them.

use gateway::balancer::{Retries, Timeouts};
use gateway::gateway::Route;
use gateway::router::pattern::{Host, Path, Rule};
use gateway::state::{HeapRegion, Identity, Transaction, Writer};
use gateway::types::{Id, Methods};

use crate::github;

/// A host that a table has no routes for by name.
pub const HOST: &str = "api.example";

/// Routes by host (empty = any) and path, and one request for each of those that are asked for.
pub struct Table {
    pub rules: Vec<(String, String)>,
    pub asked: Vec<usize>,
    /// A request's path for a route's.
    request: fn(&str) -> String,
}

/// A request: host, path, and both with a zero between them.
pub struct Request {
    whole: Box<str>,
    host: usize,
}

impl Request {
    fn new(host: &str, path: &str) -> Self {
        Self { whole: format!("{host}\0{path}").into(), host: host.len() }
    }

    /// The same host, and a path that no table has.
    pub fn stranger(&self) -> Self {
        Self { whole: format!("{}x", self.whole).into(), host: self.host }
    }

    pub fn whole(&self) -> &str {
        &self.whole
    }

    pub fn host(&self) -> &[u8] {
        &self.whole.as_bytes()[..self.host]
    }

    pub fn path(&self) -> &str {
        &self.whole[self.host + 1..]
    }
}

impl Table {
    /// The requests, in the order of `asked`.
    pub fn requests(&self) -> Vec<Request> {
        let one = |&index: &usize| {
            let (host, path) = &self.rules[index];
            Request::new(if host.is_empty() { HOST } else { host }, &(self.request)(path))
        };
        self.asked.iter().map(one).collect()
    }

    /// A region with these routes, for the life of the process.
    pub fn region(&self) -> (&'static HeapRegion, Writer) {
        let heap = leaked(self.rules.len());
        let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
        let rules = self.parsed();
        let mut change = writer.begin();
        put(&mut change, &rules);
        change.commit();
        assert_eq!(writer.stats().objects, self.rules.len());
        (heap, writer)
    }

    pub fn parsed(&self) -> Vec<(String, Rule)> {
        let host = |host: &str| if host.is_empty() { Host::Any } else { Host::Exact(host.as_bytes().to_vec()) };
        let rules = self.rules.iter().map(|(name, path)| Rule { host: host(name), path: Path::parse(path).unwrap() });
        rules.enumerate().map(|(n, rule)| (format!("route-{n}"), rule)).collect()
    }
}

/// A region that has room for so many routes.
pub fn leaked(routes: usize) -> &'static HeapRegion {
    Box::leak(Box::new(HeapRegion::new((64 << 20) + routes * 1_600, [1, 2]).unwrap()))
}

pub fn put(change: &mut Transaction<'_>, rules: &[(String, Rule)]) {
    let mut route = object();
    for (name, rule) in rules {
        route.name.clone_from(name);
        change.put_route(name, &route, 1, std::slice::from_ref(rule), Methods::ANY, 0, 0).unwrap();
    }
}

/// What a route holds beside its rules when its document says little.
pub fn object() -> Route {
    Route {
        name: String::new(),
        upstream: Id { slot: 0, birth: 1 },
        auth: Vec::new(),
        permissions: None,
        limits: Vec::new(),
        early: 0,
        in_flight: None,
        timeouts: Timeouts::default(),
        retries: Retries::default(),
        strip: Vec::new(),
        parameters: Vec::new(),
        protocols: [true, false, false],
        strict: false,
        conditions: Vec::new(),
        deny: None,
        allow: None,
        canary: None,
        cache: None,
        cors: None,
        answer: None,
        fallback: None,
        rewrite: None,
        max_body: None,
        location: None,
        headers: Vec::new(),
        labels: Vec::new(),
    }
}

/// The 130 routes, asked for those with a parameter or for those without.
pub fn github(has_param: bool) -> Table {
    let rules: Vec<(String, String)> = github::ROUTES.map(|path| (String::new(), path.to_owned())).into();
    let asked = (0..rules.len()).filter(|&index| rules[index].1.contains('{') == has_param).collect();
    Table { rules, asked, request: github::request }
}

/// The same with a host.
pub fn github_host(has_param: bool) -> Table {
    let mut table = github(has_param);
    table.rules.iter_mut().for_each(|(host, _)| *host = "api.github.com".to_owned());
    table
}

/// Exact paths, with a host for each hundred or without; all are asked for in random order.
pub fn exact(count: usize, has_hosts: bool) -> Table {
    let host = |n: usize| if has_hosts { format!("shop-{:05}.svc.example.com", n / 100) } else { String::new() };
    let path = |n: usize| format!("/api/v{}/service{}/orders/{}", n % 3, n / 7, n % 7);
    Table { rules: (0..count).map(|n| (host(n), path(n))).collect(), asked: shuffled(count), request: str::to_owned }
}

/// Paths with one or two parameters, in two shapes.
pub fn param(count: usize) -> Table {
    let path = |n: usize| match n % 2 {
        0 => format!("/api/v1/service{n}/items/{{id}}"),
        _ => format!("/api/v1/service{n}/users/{{user}}/orders/{{order}}"),
    };
    let request =
        |path: &str| path.replace("{id}", "4711").replace("{user}", "user-1234567").replace("{order}", "0815");
    Table { rules: (0..count).map(|n| (String::new(), path(n))).collect(), asked: shuffled(count), request }
}

fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 7_u64;
    for at in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    order
}
