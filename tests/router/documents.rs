//! Random documents, from their text to the decision: what `access` says is what the naive matcher says of the same
//! routes, and a document that was edited into being is the one that was published at once.

use std::collections::BTreeMap;

use gateway::config;
use gateway::gateway::{Decision, Entry, Ticket, Worker, publish};
use gateway::router::naive::{Found, Naive, Route};
use gateway::router::pattern::{Host, Path, Rule};
use gateway::router::{host, path};
use gateway::state::{HeapRegion, Identity, Writer};
use gateway::types::{Method, Methods, Reason};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::model;
use crate::support::{Fake, TestSecrets, at};

/// A route as it is written. A new field goes into the strategy, into [`Written::to_json`] and, where it says which
/// requests are meant, into [`Written::route`].
#[derive(Clone, Debug)]
struct Written {
    hosts: Vec<&'static str>,
    paths: Vec<String>,
    methods: Vec<&'static str>,
    priority: i32,
    is_enabled: bool,
    is_stripped: bool,
    /// Places in [`CONDITIONS`].
    conditions: Vec<usize>,
}

/// Entries of `match`, each with what must stand in the request for it to hold: what [`Asked::extra`] counts.
const CONDITIONS: [(&str, Option<usize>); 4] = [
    (r#"{"header": "X-V", "equals": "2"}"#, Some(1)),
    (r#"{"header": "X-V", "exists": false}"#, None),
    (r#"{"query": "beta", "in": ["1", "yes"]}"#, Some(2)),
    (r#"{"cookie": "c", "regex": "^a+$"}"#, Some(4)),
];

/// The routes of a document by their names.
type Routes = BTreeMap<String, Written>;

#[derive(Clone, Debug)]
enum Edit {
    Put(u8, Written),
    Remove(u8),
    Toggle(u8),
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    target: String,
    method: Method,
    /// Bits: the header, the query parameter, the cookie that conditions ask for.
    extra: usize,
}

fn written() -> impl Strategy<Value = Written> {
    let host = prop::sample::select(vec![
        "a.example",
        "B.a.example.",
        "*.example",
        "*.a.example",
        "*.b.a.example",
        "c",
        "[2001:db8::1]",
    ]);
    let methods = prop::sample::select(vec![
        vec![],
        vec![],
        vec!["GET"],
        vec!["POST", "DELETE"],
        vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"],
    ]);
    let priority = prop::sample::select(vec![0, 0, 0, 0, 7, -7]);
    let flags = (prop::bool::weighted(0.85), prop::bool::weighted(0.3));
    let conditions = prop::sample::subsequence((0..CONDITIONS.len()).collect::<Vec<_>>(), 0..3);
    let conditions = prop_oneof![2 => Just(Vec::new()), 1 => conditions];
    (vec(host, 0..3), vec(path_text(), 1..4), methods, priority, flags, conditions).prop_map(
        |(mut hosts, mut paths, methods, priority, (is_enabled, is_stripped), conditions)| {
            hosts.sort_unstable();
            hosts.dedup();
            paths.sort_unstable();
            paths.dedup();
            Written { hosts, paths, methods, priority, is_enabled, is_stripped, conditions }
        },
    )
}

/// Of all five kinds: exact, prefix, pattern, tail, expression.
fn path_text() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["/a", "/b", "/a-longer-one", "/{}", "/{}", "/a%20b", "/%7Bx%7d"]);
    let tail = prop::sample::select(vec!["", "", "", "/", "/*", "/*", "/{*rest}"]);
    let plain = (vec(segment, 0..4), tail).prop_map(|(segments, tail)| {
        let named = segments.iter().enumerate().map(|(index, segment)| match *segment {
            "/{}" => format!("/{{p{index}}}"),
            segment => segment.to_owned(),
        });
        match named.chain([tail.to_owned()]).collect::<String>() {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        }
    });
    let regex = prop::sample::select(vec![
        "~^/a",
        "~^/a/[ab]",
        "~^/a/b$",
        "~^/(a|b)/",
        "~^/a-longer-one/[^/]*$",
        "~b$",
        "~(?i)^/A/",
        r"~\x20",
    ]);
    prop_oneof![5 => plain, 1 => regex.prop_map(str::to_owned)]
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..10_u8;
    prop_oneof![
        4 => (name.clone(), written()).prop_map(|(name, written)| Edit::Put(name, written)),
        2 => name.clone().prop_map(Edit::Remove),
        1 => name.prop_map(Edit::Toggle),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = prop::sample::select(vec![
        "",
        "a.example",
        "A.EXAMPLE:8443",
        "b.a.example",
        "x.b.a.example.",
        "y.x.b.a.example",
        "z.example",
        "example",
        "c",
        "[2001:DB8:0::1]:80",
        "a..example",
    ]);
    let piece = prop::sample::select(vec![
        "/a",
        "/a",
        "/b",
        "/a-longer-one",
        "/zz",
        "/",
        "/a%20b",
        "/A",
        "/%61",
        "/%7Bx%7D",
        "/.",
        "/..",
        "/%2e%2e",
        "//",
        "b",
        "%2F",
        "/\u{fc}",
    ]);
    let query = prop::sample::select(vec!["", "", "?x=/a/b", "?"]);
    let extra = prop_oneof![Just(0), 0..8_usize];
    let method = prop::sample::select(vec![Method::Get, Method::Post, Method::Put, Method::Other]);
    (host, vec(piece, 1..6), query, method, extra).prop_map(|(host, pieces, query, method, extra)| {
        let query = if extra & 2 == 0 { query } else { "?x&bet%61=yes" };
        let target = format!("/{}{query}", pieces.concat().trim_start_matches('/'));
        Asked { host, target, method, extra }
    })
}

impl Written {
    fn to_json(&self, name: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |field: &str, value: Value| fields.insert(field.to_owned(), value);
        put("name", json!(name));
        put("paths", json!(self.paths));
        for (field, value, is_silent) in [
            ("hosts", json!(self.hosts), self.hosts.is_empty()),
            ("methods", json!(self.methods), self.methods.is_empty()),
            ("priority", json!(self.priority), self.priority == 0),
            ("enabled", json!(self.is_enabled), self.is_enabled),
            ("strip_prefix", json!(self.is_stripped), !self.is_stripped),
            ("match", self.conditions(), self.conditions.is_empty()),
        ] {
            if !is_silent {
                put(field, value);
            }
        }
        fields
    }

    fn conditions(&self) -> Value {
        self.conditions.iter().map(|&place| serde_json::from_str::<Value>(CONDITIONS[place].0).unwrap()).collect()
    }

    fn route(&self, name: &str) -> Route {
        let paths = self.paths.iter().map(|path| Path::parse(path).unwrap());
        let hosts = match self.hosts[..] {
            [] => vec![Host::Any],
            ref hosts => hosts.iter().map(|host| Host::parse(host).unwrap()).collect(),
        };
        let rules =
            paths.flat_map(|path| hosts.iter().map(move |host| Rule { host: host.clone(), path: path.clone() }));
        let methods = match self.methods[..] {
            [] => Methods::ANY,
            ref names => names.iter().map(|name| Method::parse(name.as_bytes())).fold(Methods::NONE, Methods::with),
        };
        Route {
            name: name.to_owned(),
            rules: rules.collect(),
            methods,
            priority: self.priority,
            conditions: self.conditions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The document in JSON, or as a person would write it.
fn text(routes: &Routes, is_yaml: bool) -> String {
    let list: Vec<Map<String, Value>> = routes.iter().map(|(name, route)| route.to_json(name)).collect();
    if !is_yaml {
        return json!({"version": 1, "routes": list}).to_string();
    }
    let mut text = String::from("version: 1\nroutes:\n");
    // Their order is of no importance.
    for fields in list.iter().rev() {
        for (index, (field, value)) in fields.iter().enumerate() {
            text += if index == 0 { "  - " } else { "    " };
            text += &match value {
                Value::Array(items) => {
                    format!("{field}:{}\n", items.iter().map(|item| format!("\n      - {item}")).collect::<String>())
                }
                value => format!("{field}: {value}\n"),
            };
        }
    }
    if list.is_empty() { "version: 1\n".to_owned() } else { text }
}

/// A region, its writer, and one worker.
struct Served {
    worker: Worker,
    writer: Writer,
    heap: HeapRegion,
}

/// What `access` says, as far as it hangs on routes.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// The route's name; the path to forward where it is not the client's.
    Forward(String, Option<Vec<u8>>),
    Refused(Reason, Methods),
}

impl Served {
    fn new() -> Self {
        let heap = HeapRegion::new(1 << 20, [1, 2]).unwrap();
        let writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
        let worker = Worker::start(heap.region(), Identity::current(), [1, 2]).unwrap();
        Self { worker, writer, heap }
    }

    /// Publishes a document; what is wrong with it.
    fn load(&mut self, text: &str) -> Result<(), String> {
        let document = config::parse(text, "f", &TestSecrets).map_err(|errors| errors.to_string())?.document;
        publish(self.heap.region(), &mut self.writer, &document, at(0.0)).unwrap();
        self.writer.check().unwrap();
        Ok(())
    }

    fn ask(&mut self, request: &Fake) -> Verdict {
        let mut ticket = Ticket::new();
        let verdict = match self.worker.access(request, Entry::First, at(0.0), &mut ticket) {
            Decision::Forward => {
                Verdict::Forward(ticket.route_name().to_owned(), self.worker.forwarded_path().map(<[u8]>::to_vec))
            }
            Decision::Reply(reply) => Verdict::Refused(reply.reason, reply.allow),
            other @ (Decision::Respond(_) | Decision::Ask(_)) => panic!("{other:?}"),
        };
        self.worker.abandon(&mut ticket);
        verdict
    }
}

/// What the pages say: checks, the naive matcher, the path to forward.
fn expected(naive: &Naive, routes: &Routes, request: &Fake, extra: usize) -> Verdict {
    let refused = |reason| Verdict::Refused(reason, Methods::NONE);
    if let Err(reason) = path::check(&request.path, &request.target) {
        return refused(reason);
    }
    let mut buffer = [0; 256];
    let host = match host::normalise(request.host.as_bytes(), &mut buffer) {
        Ok(host) => host,
        Err(reason) => return refused(reason),
    };
    let holds = |index: usize| {
        routes[&naive.routes()[index].name].conditions.iter().all(|&place| match CONDITIONS[place].1 {
            Some(bit) => extra & bit != 0,
            None => extra & 1 == 0,
        })
    };
    match naive.find_if(host, &request.path, request.method, holds) {
        Found::None => refused(Reason::RouteNone),
        Found::MethodNotAllowed(allow) => Verdict::Refused(Reason::RouteMethod, allow),
        Found::Route { route, rule, .. } => {
            let route = &naive.routes()[route];
            if !routes[&route.name].is_stripped {
                let is_verbatim = path::is_verbatim(&request.path, &request.target);
                return Verdict::Forward(route.name.clone(), (!is_verbatim).then(|| request.path.clone()));
            }
            match path::strip_prefix(&request.path, &route.rules[rule].path.literal_prefix()) {
                Ok(rest) => Verdict::Forward(route.name.clone(), Some(rest.as_bytes().to_vec())),
                Err(reason) => refused(reason),
            }
        }
    }
}

fn request(asked: &Asked) -> Option<Fake> {
    let parsed = model::nginx(asked.target.as_bytes())?;
    let mut fake = Fake::get("/").host(asked.host).method(asked.method);
    if asked.extra & 1 != 0 {
        fake = fake.header("X-V", "2");
    }
    if asked.extra & 4 != 0 {
        fake = fake.header("Cookie", "b=c; c=aaa");
    }
    Some(Fake { path: parsed.path, target: parsed.target.to_vec(), query: parsed.args.to_vec(), ..fake })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn documents_lead_where_the_naive_matcher_does(
        first in vec((0..10_u8, written()), 0..8),
        rounds in vec((vec(edit(), 1..4), any::<bool>(), vec(asked(), 24)), 1..4),
    ) {
        let name = |number: u8| format!("r{}", number * 7 % 10);
        let mut routes: Routes = first.into_iter().map(|(number, written)| (name(number), written)).collect();
        let mut edited = Served::new();
        let mut live = None;
        for (edits, is_yaml, asked) in rounds {
            let text = text(&routes, is_yaml);
            let enabled = routes.iter().filter(|(_, route)| route.is_enabled);
            let naive = Naive::new(enabled.map(|(name, route)| route.route(name)).collect());
            // What nothing tells apart is no document, and the live one stays.
            let loaded = edited.load(&text);
            prop_assert_eq!(loaded.is_ok(), naive.is_ok(), "{:?} {}", loaded, text);
            if let Ok(naive) = naive {
                live = Some((naive, routes.clone(), text));
            }
            if let Some((naive, routes, text)) = &live {
                let mut fresh = Served::new();
                fresh.load(text).unwrap();
                for (asked, request) in asked.iter().filter_map(|asked| Some((asked, request(asked)?))) {
                    let expected = expected(naive, routes, &request, asked.extra);
                    let context = format!("{asked:?}\n{text}");
                    prop_assert_eq!(&edited.ask(&request), &expected, "edited: {}", context);
                    prop_assert_eq!(&fresh.ask(&request), &expected, "fresh: {}", context);
                }
            }
            for edit in edits {
                match edit {
                    Edit::Put(number, written) => drop(routes.insert(name(number), written)),
                    Edit::Remove(number) => drop(routes.remove(&name(number))),
                    Edit::Toggle(number) => {
                        if let Some(route) = routes.get_mut(&name(number)) {
                            route.is_enabled = !route.is_enabled;
                        }
                    }
                }
            }
        }
    }
}
