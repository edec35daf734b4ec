//! `routing_precedence.json` against whatever can match: the naive matcher here, the tree where it lives.

use gateway::router::naive::{Found, Naive, Route};
use gateway::router::pattern::{Host, Path, Rule};
use gateway::router::{host, path};
use gateway::types::{Method, Methods};
use serde_json::Value;

use crate::model;
use crate::vectors;

/// Something that finds a route in a table.
pub trait Matcher: Sized {
    /// Takes a table, or says why it is none.
    fn build(routes: Vec<Route>) -> Result<Self, String>;

    /// The route of a request whose host is normalised and whose path is decoded; `holds` tells by a route's index
    /// whether its conditions hold.
    fn find<'p>(&self, host: &[u8], path: &'p [u8], method: Method, holds: &mut dyn FnMut(usize) -> bool) -> Found<'p>;
}

impl Matcher for Naive {
    fn build(routes: Vec<Route>) -> Result<Self, String> {
        Self::new(routes).map_err(|conflict| format!("{conflict:?}"))
    }

    fn find<'p>(&self, host: &[u8], path: &'p [u8], method: Method, holds: &mut dyn FnMut(usize) -> bool) -> Found<'p> {
        self.find_if(host, path, method, holds)
    }
}

#[test]
fn naive() {
    run::<Naive>();
}

/// What is ours to choose where the file says `either`.
const CHOSEN: [(&str, Option<&str>); 2] = [
    // A method that does not fit is passed over.
    ("routing-020", Some("w")),
    // A captured tail is never empty.
    ("routing-028", None),
];

/// Every case, with its routes in both orders: the order of the document decides nothing.
pub fn run<M: Matcher>() {
    let file = vectors::own("routing_precedence.json");
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 16, "{} cases", cases.len());
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let mut routes = case["routes"].as_array().unwrap().clone();
        for _ in 0..2 {
            let found = decide::<M>(&routes, &case["request"]);
            let found = found.as_ref().map(Option::as_deref);
            match case["expect"].as_str() {
                Some("config_error") => assert!(found.is_err(), "{id}: {found:?}"),
                Some("either") => {
                    let (_, chosen) = CHOSEN.iter().find(|(chosen, _)| *chosen == id).unwrap();
                    assert_eq!(found, Ok(*chosen), "{id}");
                }
                expected => assert_eq!(found, Ok(expected), "{id}"),
            }
            routes.reverse();
        }
    }
}

fn decide<M: Matcher>(routes: &[Value], request: &Value) -> Result<Option<String>, String> {
    let matcher = M::build(routes.iter().map(route).collect())?;
    let mut buf = [0; 256];
    let asked = host::normalise(request["host"].as_str().unwrap().as_bytes(), &mut buf).unwrap();
    let parsed = model::nginx(request["path"].as_str().unwrap().as_bytes()).unwrap();
    path::check(&parsed.path, parsed.target).unwrap();
    let method = Method::parse(request["method"].as_str().unwrap().as_bytes());
    let mut holds = |index: usize| match routes[index]["header"].as_object() {
        // A header is compared whole: `1, 2` is not `2`.
        Some(headers) => headers.iter().all(|(name, value)| request["headers"].get(name) == Some(value)),
        None => true,
    };
    Ok(match matcher.find(asked, &parsed.path, method, &mut holds) {
        Found::Route { route, .. } => Some(routes[route]["id"].as_str().unwrap().to_owned()),
        Found::MethodNotAllowed(_) | Found::None => None,
    })
}

/// A route of the file: `exact`, `prefix` or `pattern`.
fn route(route: &Value) -> Route {
    let host = Host::parse(route["host"].as_str().unwrap_or("*")).unwrap();
    let methods = match route["methods"].as_array() {
        Some(names) => names
            .iter()
            .fold(Methods::NONE, |methods, name| methods.with(Method::parse(name.as_str().unwrap().as_bytes()))),
        None => Methods::ANY,
    };
    let conditions = route["header"].as_object().into_iter().flatten();
    Route {
        name: route["id"].as_str().unwrap().to_owned(),
        rules: vec![Rule { host, path: path_of(route) }],
        methods,
        priority: 0,
        conditions: conditions.map(|(name, value)| format!("header {name}: {value}")).collect(),
    }
}

/// The path of a route in the form of these files.
pub fn path_of(route: &Value) -> Path {
    let prefix = route["prefix"].as_str().map(|prefix| format!("{}/*", prefix.trim_end_matches('/')));
    let text = route["exact"].as_str().or(route["pattern"].as_str()).or(prefix.as_deref()).unwrap();
    Path::parse(text).unwrap()
}
