//! `path_cases.json` and the payload lists: nginx as a model in front, our checks, the file's table of routes, and a
//! lenient server behind which must never be led to what needs credentials. Requests come without any.

use gateway::router::naive::{Found, Naive, Route};
use gateway::router::pattern::{Host, Rule};
use gateway::router::{path, query};
use gateway::types::{Method, Methods};
use serde_json::Value;

use crate::model::{self, Leniency, Resolved};
use crate::precedence::path_of;
use crate::vectors;

/// Cases that do not hold, with the reason. There are none.
const KNOWN: [(&str, &str); 0] = [];

#[test]
fn core_cases_hold_with_the_normal_policy() {
    run("core", Policy::Normal);
}

#[test]
fn all_cases_hold_with_the_strict_policy() {
    run("core", Policy::Strict);
    run("strict", Policy::Strict);
}

#[test]
fn benign_targets_go_out_as_they_came() {
    let table = Table::new();
    for case in table.file["cases"].as_array().unwrap().iter().filter(|case| case["cat"] == "benign") {
        let target = case["target"].as_str().unwrap();
        match table.handle(target.as_bytes(), Policy::Normal) {
            Outcome::Reached { wire, .. } => assert_eq!(String::from_utf8_lossy(&wire), target),
            Outcome::Unauthorized(to) => assert_eq!(to, "users", "{target}"),
            Outcome::Refused => panic!("{target} was refused"),
        }
    }
}

#[test]
fn payload_lists_never_reach_what_is_protected() {
    let table = Table::new();
    let mut count = 0;
    for name in ["payloads/directory_traversal.txt", "payloads/traversals-8-deep-exotic-encoding.txt"] {
        let Some(list) = vectors::bytes(name) else { continue };
        for line in list.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            for target in targets(line) {
                count += 1;
                for policy in [Policy::Normal, Policy::Strict] {
                    let outcome = table.handle(&target, policy);
                    let is_fine = outcome.is_asked_in_plain_words() || !outcome.leaks(policy);
                    assert!(is_fine, "{policy:?} {}: {outcome:?}", String::from_utf8_lossy(&target));
                }
            }
        }
    }
    eprintln!("{count} targets made of payloads");
}

/// A payload in every place where it could lead somewhere: alone, below the open routes, above what is protected.
fn targets(line: &[u8]) -> Vec<Vec<u8>> {
    let line = String::from_utf8_lossy(line).into_owned().into_bytes();
    let text = String::from_utf8_lossy(&line);
    let mut targets = Vec::new();
    for file in ["admin/x", "users/1/orders"] {
        let filled = text.replace("{FILE}", file);
        let climbing = filled.trim_start_matches('/');
        for front in ["/", "/public/", "/public", "/api/", "/api", "/public/x/", "/api/x/y/"] {
            targets.push(format!("{front}{climbing}").into_bytes());
            targets.push(format!("{front}{climbing}/{file}").into_bytes());
            targets.push(format!("{front}{climbing}{file}").into_bytes());
        }
    }
    targets
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Normal,
    Strict,
}

#[derive(Debug)]
enum Outcome {
    /// No server sees the request.
    Refused,
    /// The route was found and wants credentials.
    Unauthorized(String),
    Reached {
        to: String,
        wire: Vec<u8>,
    },
}

impl Outcome {
    fn route(&self) -> Option<&str> {
        match self {
            Self::Refused => None,
            Self::Unauthorized(to) | Self::Reached { to, .. } => Some(to),
        }
    }

    /// Whether `/api/admin` was asked for: the server behind `/api` owns all its paths, and no reading is needed to see
    /// which one is meant.
    fn is_asked_in_plain_words(&self) -> bool {
        let plain = Leniency { decodes: 0, windows_and_servlets: false };
        matches!(self, Self::Reached { to, wire } if to == "api" && is_protected(&model::resolve(wire, plain)))
    }

    /// Whether a server behind ends up at what needs credentials. `normal` promises this for servers that decode
    /// once; `strict` for the most lenient.
    fn leaks(&self, policy: Policy) -> bool {
        let Self::Reached { wire, .. } = self else { return false };
        let (decodes, windows_and_servlets) = match policy {
            Policy::Normal => (1, false),
            Policy::Strict => (2, true),
        };
        (0..=decodes).any(|decodes| is_protected(&model::resolve(wire, Leniency { decodes, windows_and_servlets })))
    }
}

fn is_protected(resolved: &Resolved) -> bool {
    let segments: Vec<&[u8]> = resolved.segments.iter().map(Vec::as_slice).collect();
    matches!(segments[..], [b"admin", ..] | [b"users", _, b"orders"])
}

struct Table {
    file: Value,
    naive: Naive,
}

impl Table {
    fn new() -> Self {
        let file = vectors::own("path_cases.json");
        let routes = file["meta"]["routes"].as_array().unwrap().iter().map(|route| Route {
            name: route["to"].as_str().unwrap().to_owned(),
            rules: vec![Rule { host: Host::Any, path: path_of(route) }],
            methods: Methods::ANY,
            priority: 0,
            conditions: Vec::new(),
        });
        let naive = Naive::new(routes.collect()).unwrap();
        Self { file, naive }
    }

    fn handle(&self, target: &[u8], policy: Policy) -> Outcome {
        self.try_handle(target, policy).unwrap_or(Outcome::Refused)
    }

    /// One request through everything that a path meets.
    fn try_handle(&self, target: &[u8], policy: Policy) -> Option<Outcome> {
        let parsed = model::nginx(target)?;
        match policy {
            Policy::Normal => path::check(&parsed.path, parsed.target).ok()?,
            Policy::Strict => path::check_strict(&parsed.path, parsed.target).ok()?,
        }
        let Found::Route { route, .. } = self.naive.find(b"gw.example", &parsed.path, Method::Get) else { return None };
        let settings = &self.file["meta"]["routes"][route];
        let to = settings["to"].as_str().unwrap().to_owned();
        if settings["auth"] == "required" {
            return Some(Outcome::Unauthorized(to));
        }

        let mut wire = Vec::new();
        let mut out = |piece: &[u8]| wire.extend_from_slice(piece);
        if settings["strip_prefix"] == true {
            let prefix = path_of(settings).literal_prefix();
            path::escape(path::strip_prefix(&parsed.path, &prefix).ok()?.as_bytes(), &mut out);
        } else if path::is_verbatim(&parsed.path, parsed.target) {
            return Some(Outcome::Reached { to, wire: parsed.target.to_vec() });
        } else {
            path::escape(&parsed.path, &mut out);
        }
        if !parsed.args.is_empty() {
            assert!(query::is_safe(parsed.args), "nginx lets no such target through");
            wire.push(b'?');
            wire.extend_from_slice(parsed.args);
        }
        Some(Outcome::Reached { to, wire })
    }
}

/// A target, or how a long one is made.
fn target_of(case: &Value) -> String {
    let recipe = &case["gen"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match recipe["count"].as_u64() {
        Some(count) => {
            text(&recipe["prefix"]) + &text(&recipe["unit"]).repeat(count as usize) + &text(&recipe["suffix"])
        }
        None => text(&case["target"]),
    }
}

fn run(profile: &str, policy: Policy) {
    let table = Table::new();
    let cases = table.file["cases"].as_array().unwrap();
    let mut count = 0;
    let mut failures = Vec::new();
    for case in cases.iter().filter(|case| case["profile"] == profile) {
        count += 1;
        let target = target_of(case);
        let outcome = table.handle(target.as_bytes(), policy);
        // What a core case promises, it promises for the most lenient server.
        let leaks = outcome.leaks(Policy::Strict);
        let holds = match case["expect"].as_str().unwrap() {
            "deny" => !leaks,
            "deny400" => matches!(outcome, Outcome::Refused),
            "route:public_or_deny" => !leaks && matches!(outcome.route(), None | Some("public")),
            expected => !leaks && outcome.route() == expected.strip_prefix("route:"),
        };
        let id = case["id"].as_str().unwrap();
        if holds == KNOWN.iter().any(|(known, _)| *known == id) {
            failures.push(format!("{id} {target:.80}: {outcome:?}"));
        }
    }
    assert!(count >= 20, "{count} {profile} cases");
    assert!(failures.is_empty(), "{policy:?}\n{}", failures.join("\n"));
}
