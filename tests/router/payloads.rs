//! The payload lists through the whole pipeline: a protected tree beside an open one, and an open one that strips its
//! prefix. Whatever a payload does to the path, a server behind never ends up in the protected tree but by its route.

use gateway::gateway::{Decision, Entry, Ticket, Worker};
use gateway::router::path;
use gateway::types::Reason;

use crate::model::{self, Leniency, Resolved};
use crate::support::{Fake, Gateway, at};
use crate::vectors;

const DOCUMENT: &str = r#"
version: 1
auth: [{name: staff, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}]}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes:
  - {name: open, paths: ["/*"], upstream: u}
  - {name: admin, paths: ["/admin/*"], upstream: u, auth: [staff]}
  - {name: static, paths: ["/static/*"], upstream: u, strip_prefix: true}
"#;

/// Behind which a payload is put, in one spelling and another.
const FRONTS: [&str; 11] = [
    "",
    "/",
    "/static",
    "/static/",
    "/static/x/",
    "/static/x/y/",
    "/admin",
    "/admin/",
    "/admin/x/",
    "/open/",
    "/open/x/",
];
/// What a payload is to lead to.
const BEHINDS: [&str; 4] = ["", "/admin/x", "admin/x", "/static/../admin/x"];

#[test]
fn nothing_lands_in_the_protected_tree_but_by_its_route() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let (mut counts, mut wrong) = (Counts::default(), Vec::new());
    for name in ["payloads/directory_traversal.txt", "payloads/traversals-8-deep-exotic-encoding.txt"] {
        let Some(list) = vectors::bytes(name) else { continue };
        for line in list.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            for filled in filled(line) {
                for (front, behind) in FRONTS.iter().flat_map(|front| BEHINDS.map(|behind| (front, behind))) {
                    // `/static` and `/../x` is another payload than `/static/` and `../x`.
                    let payload = if front.ends_with('/') { without_slashes(&filled) } else { &filled };
                    let target = [front.as_bytes(), payload, behind.as_bytes()].concat();
                    if let Some(fault) = fault(&mut gateway.workers[0], &target, &mut counts) {
                        wrong.push(fault);
                    }
                }
            }
        }
    }
    eprintln!("{counts:?}");
    assert!(wrong.is_empty(), "{} leaks\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
    // Neither all refused nor all let through.
    assert!(counts.targets == 0 || counts.refused > 1_000 && counts.protected > 100 && counts.forwarded > 1_000);
}

#[derive(Debug, Default)]
struct Counts {
    targets: u32,
    /// By nginx or by us.
    refused: u32,
    /// Asked for credentials.
    protected: u32,
    forwarded: u32,
    /// Of them those that `strict` lets through too.
    strict: u32,
}

/// How a target leads into the protected tree by another route, if it does.
fn fault(worker: &mut Worker, target: &[u8], counts: &mut Counts) -> Option<String> {
    counts.targets += 1;
    let Some(parsed) = model::nginx(target) else {
        counts.refused += 1;
        return None;
    };
    let is_strict = path::check_strict(&parsed.path, parsed.target).is_ok();
    let fake =
        Fake { path: parsed.path, target: parsed.target.to_vec(), query: parsed.args.to_vec(), ..Fake::get("/") };
    let mut ticket = Ticket::new();
    let decision = worker.access(&fake, Entry::First, at(0.0), &mut ticket);
    let route = ticket.route_name().to_owned();
    worker.abandon(&mut ticket);
    match decision {
        Decision::Forward => counts.forwarded += 1,
        Decision::Reply(reply) if reply.reason == Reason::AuthMissing && route == "admin" => {
            counts.protected += 1;
            return None;
        }
        Decision::Reply(_) => {
            counts.refused += 1;
            return None;
        }
        other @ (Decision::Respond(_) | Decision::Ask(_)) => panic!("{other:?}"),
    }
    counts.strict += u32::from(is_strict);
    let wire = match worker.forwarded_path() {
        None => fake.target.clone(),
        Some(decoded) => {
            let mut wire = Vec::new();
            path::escape(decoded, &mut |piece| wire.extend_from_slice(piece));
            wire
        }
    };
    // `normal` promises for servers that decode once, `strict` for the most lenient. A path that was made here climbs
    // nowhere, whoever reads it.
    let is_made = route == "static";
    let (decodes, windows_and_servlets) = if is_strict || is_made { (2, true) } else { (1, false) };
    let leads_astray = (0..=decodes).find(|&decodes| {
        let resolved = model::resolve(&wire, Leniency { decodes, windows_and_servlets });
        match is_made {
            // The server of `/static` owns what is below its root, whatever it is called.
            true => resolved.went_above,
            false => resolved.went_above || is_protected(&resolved),
        }
    });
    let said = |decodes| {
        format!(
            "{} by {route}: {} decoded {decodes} times",
            String::from_utf8_lossy(target),
            String::from_utf8_lossy(&wire)
        )
    };
    leads_astray.map(said)
}

fn is_protected(resolved: &Resolved) -> bool {
    resolved.segments.first().is_some_and(|first| first == b"admin")
}

/// The payload, its file filled in; as it is where it names none.
fn filled(line: &[u8]) -> Vec<Vec<u8>> {
    match String::from_utf8_lossy(line) {
        text if text.contains("{FILE}") => {
            ["admin/x", "etc/passwd"].iter().map(|file| text.replace("{FILE}", file).into_bytes()).collect()
        }
        _ => vec![line.to_vec()],
    }
}

fn without_slashes(payload: &[u8]) -> &[u8] {
    let slashes = payload.iter().take_while(|&&byte| byte == b'/').count();
    &payload[slashes..]
}
