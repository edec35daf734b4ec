//! The admin API over a region on the heap: what is shown, what a write leaves behind, and what one that fails does not.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use gateway::admin::{self, Answer, Call, Desk, Mode, Problem, Site};
use gateway::config::{self, Collection};
use gateway::gateway::{Decision, Leader, Worker};
use gateway::state::{HeapRegion, Identity};
use serde_json::{Value, json};
use support::{Fake, Gateway, TestSecrets, at};

const DOCUMENT: &str = r#"
version: 1
defaults: {limits: [{key: [ip], rate: 5/s, burst: 5}]}
auth:
  - {name: staff, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}]}}
consumers: [{name: ann, api_key: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]
roles: [{name: reader, permissions: ["a:read"]}]
lists: [{name: office, cidrs: [192.0.2.0/24]}]
limiters: [{name: one, key: [ip], rate: 1/h, burst: 1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1, weight: 3}, {host: 127.0.0.1, port: 2}], breaker: {failures: 1}}]
routes:
  - {name: r, paths: ["/*"], upstream: u}
  - {name: few, paths: ["/few"], upstream: u, limits: [one]}
  - {name: own, paths: ["/own"], auth: [staff], upstream: {nodes: [{host: 127.0.0.1, port: 1}]}}
bans: [{cidr: 198.51.100.0/24, reason: r}, {cidr: "::/0", until: "2100-01-01T00:00:00Z"}]
"#;

fn call(method: &str, path: &str, body: &str) -> Call {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    Call {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        content_type: content_type.into(),
        body: body.into(),
        who: "ann".into(),
        from: "192.0.2.1".into(),
        ..Call::default()
    }
}

fn value(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn code(answer: &Answer) -> String {
    format!("{} {}", answer.status, value(answer)["code"].as_str().unwrap_or_default())
}

fn etag(answer: &Answer) -> String {
    answer.headers.iter().find(|(name, _)| name == "ETag").map(|(_, tag)| tag.clone()).unwrap()
}

/// A folder of its own for each test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-admin-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("state")).unwrap();
        fs::write(path.join("seed.yaml"), DOCUMENT).unwrap();
        Self(path)
    }

    fn site(&self, mode: Mode) -> Site {
        Site { mode, document: self.0.join("seed.yaml"), state: self.0.join("state") }
    }

    fn revision(&self, number: u64) -> PathBuf {
        self.0.join(format!("state/revisions/{number}.json"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A leader with a desk in api mode.
struct Office {
    leader: Leader,
    desk: Desk,
    heap: HeapRegion,
    told: Vec<String>,
}

impl Office {
    fn open(scratch: &Scratch, size: usize) -> Self {
        let heap = HeapRegion::new(size, [1, 2]).unwrap();
        let leader = Leader::take(heap.region(), Identity::current()).unwrap().unwrap();
        let mut office =
            Self { leader, desk: Desk::new(scratch.site(Mode::Api), Box::new(TestSecrets)), heap, told: Vec::new() };
        let told = &mut office.told;
        office.desk.begin(&mut office.leader, at(0.0), &mut |event| told.push(event.text));
        office
    }

    fn ask(&mut self, call: &Call) -> Answer {
        let told = &mut self.told;
        self.desk.answer(call, &mut self.leader, at(1.0), &mut |event| told.push(event.text))
    }

    fn worker(&self) -> Worker {
        Worker::start(self.heap.region(), Identity::current(), [5, 7]).unwrap()
    }

    fn revision(&self) -> u64 {
        self.leader.sight().unwrap().revision()
    }
}

#[test]
fn every_resource_is_shown_as_the_document_says_it() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let whole = config::parse(DOCUMENT, "d", &TestSecrets).unwrap().document;
    let scratch = Scratch::new("shown");
    let site = scratch.site(Mode::File);
    for collection in Collection::ALL {
        let expected = config::resources(&whole, collection);
        assert!(!expected.is_empty(), "{collection:?}");
        for one in &expected {
            let name = one[collection.key()].as_str().unwrap().replace('/', "%2F").replace(':', "%3A");
            let path = format!("/v1/{}/{name}", collection.name());
            let answer = admin::here(&call("GET", &path, ""), &site, &mut gateway.workers[0], at(0.0)).unwrap();
            assert_eq!((answer.status, value(&answer)), (200, one.clone()), "{path}");
            let mut again = call("GET", &path, "");
            again.if_none_match = Some(etag(&answer));
            let answer = admin::here(&again, &site, &mut gateway.workers[0], at(0.0)).unwrap();
            assert_eq!(answer.status, 304, "{path}");
        }
        let answer = admin::here(
            &call("GET", &format!("/v1/{}", collection.name()), ""),
            &site,
            &mut gateway.workers[0],
            at(0.0),
        );
        let page = value(&answer.unwrap());
        if collection != Collection::Bans {
            assert_eq!(page["items"].as_array().unwrap(), &expected, "{collection:?}");
            assert_eq!(page["total"], expected.len(), "{collection:?}");
        }
    }
}

#[test]
fn pages_come_to_the_end_of_a_list() {
    let mut routes = String::new();
    for number in 0..250 {
        routes.push_str(&format!("  - {{name: r{number}, paths: [\"/{number}\"], reply: {{body: x}}}}\n"));
    }
    let mut gateway = Gateway::new(&format!("version: 1\nroutes:\n{routes}"), 1);
    let scratch = Scratch::new("pages");
    let site = scratch.site(Mode::File);
    let (mut names, mut cursor) = (Vec::new(), json!(0));
    while !cursor.is_null() {
        let path = format!("/v1/routes?limit=40&cursor={cursor}");
        let page = value(&admin::here(&call("GET", &path, ""), &site, &mut gateway.workers[0], at(0.0)).unwrap());
        names.extend(page["items"].as_array().unwrap().iter().map(|route| route["name"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
    }
    assert_eq!(names, (0..250).map(|number| format!("r{number}")).collect::<Vec<_>>());
}

#[test]
fn nodes_are_shown_as_they_do() {
    let mut gateway = Gateway::new(DOCUMENT, 2);
    for _ in 0..40 {
        let (decision, mut ticket) = gateway.access(0, &Fake::get("/x").client(7), at(0.0));
        if decision != Decision::Forward {
            continue;
        }
        gateway.workers[0].pick(&mut ticket, at(0.0), |_| ()).unwrap();
        // Never finished: in flight.
    }
    let scratch = Scratch::new("nodes");
    let site = scratch.site(Mode::File);
    let answer =
        admin::here(&call("GET", "/v1/upstreams/u/nodes", ""), &site, &mut gateway.workers[1], at(0.1)).unwrap();
    let nodes = value(&answer);
    let nodes = nodes["nodes"].as_array().unwrap();
    assert_eq!(
        nodes.iter().map(|node| node["node"].as_str().unwrap()).collect::<Vec<_>>(),
        ["127.0.0.1:1", "127.0.0.1:2"]
    );
    assert_eq!((&nodes[0]["weight"], &nodes[0]["share"], &nodes[1]["share"]), (&json!(3), &json!(0.75), &json!(0.25)));
    let in_flight: u64 = nodes.iter().map(|node| node["in_flight"].as_u64().unwrap()).sum();
    // Five pass the limit.
    assert_eq!(in_flight, 5);
    assert_eq!(nodes[0]["ejected"], Value::Null);
}

#[test]
fn an_explained_request_leaves_no_trace() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let scratch = Scratch::new("explain");
    let site = scratch.site(Mode::File);
    let before = gateway.workers[0].metrics(at(0.0));
    for _ in 0..20 {
        let asked = json!({"method": "GET", "url": "http://h/few?a=1", "client": "192.0.2.9"}).to_string();
        let answer =
            admin::here(&call("POST", "/v1/explain", &asked), &site, &mut gateway.workers[0], at(0.0)).unwrap();
        let told = value(&answer);
        assert_eq!((told["decision"].as_str(), told["route"].as_str()), (Some("forward"), Some("few")), "{told}");
        assert_eq!(told["forwarded"]["target"], "/few?a=1");
    }
    assert_eq!(gateway.workers[0].metrics(at(0.0)), before);
    let asked = Fake::get("/few").client(9);
    assert_eq!(gateway.verdict(0, &asked, at(0.0)), "forward", "its one token is there");
    assert_eq!(gateway.verdict(0, &asked, at(0.0)), "limit.exceeded");
    let asked = json!({"url": "/few", "client": "192.0.2.9"}).to_string();
    let answer = admin::here(&call("POST", "/v1/explain", &asked), &site, &mut gateway.workers[0], at(0.0)).unwrap();
    assert_eq!(value(&answer)["reason"], "limit.exceeded");
}

#[test]
fn writes_are_revisions_and_go_on_from_there() {
    let scratch = Scratch::new("writes");
    let mut office = Office::open(&scratch, 8 << 20);
    assert_eq!(office.revision(), 1, "{:?}", office.told);
    let seed = etag(&office.ask(&call("GET", "/v1/config", "")));
    let created = office.ask(&call("PUT", "/v1/routes/new", r#"{"paths": ["/new"], "upstream": "u"}"#));
    assert_eq!((created.status, &value(&created)["revision"]), (201, &json!(2)));
    assert_ne!(etag(&office.ask(&call("GET", "/v1/config", ""))), seed);
    let shown = office.ask(&call("GET", "/v1/routes/new", ""));
    assert_eq!(etag(&shown), etag(&created));
    // Live: another process's worker decides by it.
    let mut worker = office.worker();
    let told = value(
        &admin::here(&call("POST", "/v1/explain", r#"{"url": "/new"}"#), office.desk.site(), &mut worker, at(1.0))
            .unwrap(),
    );
    assert_eq!(told["route"], "new");
    // As it was written: what `defaults` say is not in it, references are references.
    assert_eq!(value(&shown), json!({"name": "new", "paths": ["/new"], "upstream": "u"}));
    let auth = office.ask(&call("GET", "/v1/auth/staff", ""));
    assert_eq!(value(&auth)["jwt"]["keys"][0]["secret"], "$env://SECRET");
    let text = fs::read_to_string(scratch.revision(2)).unwrap();
    assert!(text.contains("$env://SECRET") && !text.contains(support::SECRET));
    let mode = fs::metadata(scratch.revision(2)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop((worker, office));

    let mut next = Office::open(&scratch, 8 << 20);
    assert_eq!(next.revision(), 2);
    assert_eq!(etag(&next.ask(&call("GET", "/v1/routes/new", ""))), etag(&shown));
    let last = admin::last_document(&scratch.0.join("state"), &TestSecrets).unwrap().unwrap();
    assert_eq!((last.number, last.checked.document.routes.len()), (2, 4));
}

#[test]
fn of_two_that_saw_the_same_one_wins() {
    let scratch = Scratch::new("race");
    let mut office = Office::open(&scratch, 8 << 20);
    let seen = etag(&office.ask(&call("GET", "/v1/routes/r", "")));
    let mut statuses = Vec::new();
    for number in 0..5 {
        let mut patch = call("PATCH", "/v1/routes/r", &json!({"labels": {"by": number.to_string()}}).to_string());
        patch.if_match = Some(seen.clone());
        statuses.push(office.ask(&patch).status);
    }
    assert_eq!(statuses, [200, 412, 412, 412, 412]);
    assert_eq!(value(&office.ask(&call("GET", "/v1/routes/r", "")))["labels"]["by"], "0");
}

#[test]
fn of_a_write_that_fails_nothing_is_left() {
    let scratch = Scratch::new("fails");
    let mut office = Office::open(&scratch, 4 << 20);
    let before = etag(&office.ask(&call("GET", "/v1/config", "")));
    // Too large for the zone.
    let nodes: Vec<Value> = (1..12_000).map(|port| json!({"host": "127.0.0.1", "port": port})).collect();
    let upstream = json!({"nodes": nodes}).to_string();
    assert_eq!(code(&office.ask(&call("PUT", "/v1/upstreams/large", &upstream))), "507 config.zone");
    // Not to be saved.
    let folder = scratch.0.join("state/revisions");
    let parked = scratch.0.join("parked");
    fs::rename(&folder, &parked).unwrap();
    let route = r#"{"paths": ["/new"], "upstream": "u"}"#;
    assert_eq!(code(&office.ask(&call("PUT", "/v1/routes/new", route))), "500 admin.storage");
    fs::rename(&parked, &folder).unwrap();
    // Nobody knows whether it is meant.
    assert_eq!(code(&office.ask(&call("PUT", "/v1/routes/new?dry_run=maybe", route))), "400 admin.request");
    // Nobody waits for it.
    let late = Call { until: at(0.5).mono, ..call("PUT", "/v1/routes/new", route) };
    assert_eq!(code(&office.ask(&late)), "504 admin.timeout");

    assert_eq!(etag(&office.ask(&call("GET", "/v1/config", ""))), before);
    assert_eq!((office.revision(), scratch.revision(2).exists()), (1, false));
    assert_eq!(office.ask(&call("PUT", "/v1/routes/new", route)).status, 201);
    assert_eq!(office.revision(), 2);
}

#[test]
fn a_revision_that_cannot_be_taken_up_is_told_and_the_one_before_is_live() {
    let scratch = Scratch::new("torn");
    let mut office = Office::open(&scratch, 8 << 20);
    office.ask(&call("PUT", "/v1/routes/new", r#"{"paths": ["/new"], "upstream": "u"}"#));
    drop(office);
    fs::write(scratch.revision(3), "{\"revision\": 3}\n{\"version\": 1, \"rou").unwrap();
    fs::write(scratch.revision(4), "{\"revision\": 4}\n{\"version\": 1, \"routes\": 7}\n").unwrap();
    let mut next = Office::open(&scratch, 8 << 20);
    assert_eq!(next.revision(), 2);
    assert!(next.told.iter().any(|text| text.contains("revision 3: is no revision")), "{:?}", next.told);
    assert!(next.told.iter().any(|text| text.contains("revision 4:1: routes")), "{:?}", next.told);
    let last = admin::last_document(&scratch.0.join("state"), &TestSecrets).unwrap().unwrap();
    assert_eq!((last.number, last.wrong.len()), (2, 2));
    // Numbers are not used twice.
    let answer = next.ask(&call("DELETE", "/v1/routes/new", ""));
    assert_eq!(value(&answer)["revision"], 5);
}

#[test]
fn whatever_is_asked_is_answered() {
    let scratch = Scratch::new("any");
    let mut office = Office::open(&scratch, 8 << 20);
    let mut worker = office.worker();
    for endpoint in admin::table::TABLE {
        let path = endpoint.path.replace("{collection}", "routes").replace("{revision}", "1").replace("{other}", "1");
        let path = path.replace("{name}", "none").replace("{upstream}", "none");
        for body in ["", "{", "[]", "{}", "{\"a\":1}", "\u{0}", "7", "\"(set)\""] {
            let mut asked = call(endpoint.method, &path, body);
            asked.content_type = endpoint.takes.first().copied().unwrap_or_default().to_owned();
            let site = office.desk.site().clone();
            let answer = admin::here(&asked, &site, &mut worker, at(1.0)).unwrap_or_else(|| office.ask(&asked));
            assert!(answer.status < 500, "{} {path} {body}: {answer:?}", endpoint.method);
            if answer.status >= 400 {
                assert_eq!(answer.content_type, "application/problem+json");
                let code = value(&answer)["code"].as_str().unwrap().to_owned();
                assert!(Problem::ALL.iter().any(|one| one.code() == (answer.status, &*code)), "{answer:?}");
            }
            if let Some(line) = admin::line(&asked, &answer, at(1.0)) {
                assert!(serde_json::from_str::<Value>(&line).is_ok());
            }
        }
    }
}

#[test]
fn a_drained_node_gets_nothing_whatever_the_algorithm() {
    for algorithm in ["adaptive", "round_robin", "least_conn", "p2c_ewma", "random", "hash"] {
        let scratch = Scratch::new(algorithm);
        let hash = if algorithm == "hash" { ", hash_on: [ip]" } else { "" };
        let text = format!(
            "version: 1\nupstreams: [{{name: u, algorithm: {algorithm}{hash}, nodes: [{{host: 127.0.0.1, port: 1}}, \
             {{host: 127.0.0.1, port: 2, weight: 2}}, {{host: '::1', port: 3}}]}}]\nroutes: [{{name: r, paths: ['/*'], \
             upstream: u}}]\n"
        );
        fs::write(scratch.0.join("seed.yaml"), text).unwrap();
        let mut office = Office::open(&scratch, 8 << 20);
        let mut worker = office.worker();
        let seen = |worker: &mut Worker| {
            let mut names = Vec::new();
            for client in 0..60 {
                let mut ticket = gateway::gateway::Ticket::new();
                let entry = gateway::gateway::Entry::First;
                let decision = worker.access(&Fake::get("/").client(client), entry, at(1.0), &mut ticket);
                assert_eq!(decision, Decision::Forward);
                names.push(worker.pick(&mut ticket, at(1.0), |peer| peer.name.to_owned()).unwrap());
                worker.complete(&mut ticket, &gateway::gateway::Outcome { status: 200, ..Default::default() }, at(1.0));
            }
            names.sort();
            names.dedup();
            names
        };
        assert_eq!(seen(&mut worker).len(), 3, "{algorithm}");
        for node in ["127.0.0.1:2", "[::1]:3"] {
            let path = format!("/v1/upstreams/u/nodes/{node}");
            let answer = office.ask(&call("PATCH", &path, r#"{"drain": true}"#));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!seen(&mut worker).contains(&node.to_owned()), "{algorithm}: {node}");
        }
        assert_eq!(seen(&mut worker), ["127.0.0.1:1"], "{algorithm}");
        // Another document, another leader: drained still.
        let put = office.ask(&call("PUT", "/v1/routes/other", r#"{"paths": ["/o"], "upstream": "u"}"#));
        assert_eq!(put.status, 201);
        assert_eq!(seen(&mut worker), ["127.0.0.1:1"], "{algorithm}");
        drop((worker, office));
        let mut next = Office::open(&scratch, 8 << 20);
        let mut worker = next.worker();
        assert_eq!(seen(&mut worker), ["127.0.0.1:1"], "{algorithm}");
        for node in ["127.0.0.1%3A2", "%5B::1%5D:3"] {
            assert_eq!(next.ask(&call("DELETE", &format!("/v1/overlays/nodes%2Fu%2F{node}"), "")).status, 200);
        }
        assert_eq!(seen(&mut worker).len(), 3, "{algorithm}");
    }
}

#[test]
fn tokens_are_revoked_by_hand() {
    let scratch = Scratch::new("revoked");
    let mut office = Office::open(&scratch, 8 << 20);
    let mut worker = office.worker();
    let key = jsonwebtoken::EncodingKey::from_secret(support::SECRET.as_bytes());
    let token = |sub: &str, jti: &str| {
        let claims = json!({"iss": "https://a", "aud": "api", "sub": sub, "jti": jti, "iat": 1_700_000_000, "exp": 4_000_000_000_u64});
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    // Each from an address of its own: the document has limits.
    let client = std::cell::Cell::new(0_u8);
    let verdict = |worker: &mut Worker, token: &str| {
        client.set(client.get() + 1);
        let mut ticket = gateway::gateway::Ticket::new();
        match worker.access(
            &Fake::get("/own").client(client.get()).bearer(token),
            gateway::gateway::Entry::First,
            at(1.0),
            &mut ticket,
        ) {
            Decision::Reply(reply) => reply.reason.code(),
            _ => "forward",
        }
    };
    let (anna, bert) = (token("anna", "1"), token("bert", "2"));
    assert_eq!([verdict(&mut worker, &anna), verdict(&mut worker, &bert)], ["forward", "forward"]);
    for (body, id, refused, other) in [
        (json!({"jti": "1"}), "revocations%2Fjti:1", &anna, &bert),
        (json!({"sub": "bert", "auth": "staff", "ttl": "1h"}), "revocations%2Fstaff%2Fsub:bert", &bert, &anna),
        (json!({"sub": "bert", "before": "2026-01-01T00:00:00Z"}), "revocations%2Fsub:bert", &bert, &anna),
        (json!({"token": anna}), "", &anna, &bert),
    ] {
        let answer = office.ask(&call("POST", "/v1/revocations", &body.to_string()));
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&anna), "a token is not kept");
        assert_eq!([verdict(&mut worker, refused), verdict(&mut worker, other)], ["auth.revoked", "forward"], "{body}");
        // Another document, and another leader over a fresh region.
        office.ask(&call(
            "PATCH",
            "/v1/routes/r",
            &json!({"labels": {"x": body.to_string().len().to_string()}}).to_string(),
        ));
        let told = &mut Vec::new();
        office.leader.tick(at(2.0), &mut |event| told.push(event.text));
        assert_eq!(verdict(&mut worker, refused), "auth.revoked", "{body}: {told:?}");
        let mut next = Office::open(&scratch, 8 << 20);
        next.leader.follow(at(1.0), &mut |_| {});
        let mut fresh = next.worker();
        assert_eq!([verdict(&mut fresh, refused), verdict(&mut fresh, other)], ["auth.revoked", "forward"], "{body}");
        drop(fresh);
        let id = match id {
            "" => value(&answer)["id"].as_str().unwrap().replace('/', "%2F"),
            id => id.to_owned(),
        };
        assert_eq!(office.ask(&call("DELETE", &format!("/v1/overlays/{id}"), "")).status, 200, "{id}");
        assert_eq!(verdict(&mut worker, refused), "forward", "{body}");
    }
    // Issued after: not meant.
    let answer = office.ask(&call("POST", "/v1/revocations", r#"{"sub": "anna", "before": "2020-01-01T00:00:00Z"}"#));
    assert_eq!((answer.status, verdict(&mut worker, &anna)), (200, "forward"));
    for body in [
        r#"{"jti": ""}"#,
        r#"{"jti": "1", "sub": "a"}"#,
        r#"{"jti": 1}"#,
        r#"{"jti": "1", "before": "2020-01-01T00:00:00Z"}"#,
        r#"{"sha256": "ab"}"#,
        r#"{"ttl": "1h"}"#,
        r#"{"jti": "1", "ttl": "1h", "until": "2100-01-01T00:00:00Z"}"#,
    ] {
        assert_eq!(code(&office.ask(&call("POST", "/v1/revocations", body))), "400 admin.body", "{body}");
    }
    assert_eq!(office.ask(&call("POST", "/v1/revocations", r#"{"jti": "1", "auth": "none"}"#)).status, 404);
}

#[test]
fn an_overlay_that_cannot_be_saved_does_not_count() {
    let scratch = Scratch::new("unsaved");
    let mut office = Office::open(&scratch, 8 << 20);
    let mut worker = office.worker();
    let (state, parked) = (scratch.0.join("state"), scratch.0.join("parked"));
    fs::rename(&state, &parked).unwrap();
    assert_eq!(code(&office.ask(&call("POST", "/v1/bans", r#"{"cidr": "192.0.2.7"}"#))), "500 admin.storage");
    fs::rename(&parked, &state).unwrap();
    let asked = call("POST", "/v1/explain", r#"{"url": "/x", "client": "192.0.2.7"}"#);
    let site = office.desk.site().clone();
    assert_eq!(value(&admin::here(&asked, &site, &mut worker, at(1.0)).unwrap())["decision"], "forward");
    assert_eq!(value(&office.ask(&call("GET", "/v1/overlays", "")))["total"], 0);
}

#[test]
fn bans_of_both_kinds_are_told_apart() {
    let scratch = Scratch::new("bans");
    let mut office = Office::open(&scratch, 8 << 20);
    let before = value(&office.ask(&call("GET", "/v1/config", "")));
    let tree = |office: &Office| config::to_value(&office.leader.sight().unwrap().document().unwrap());
    let whole = tree(&office);
    for cidr in ["192.0.2.7", "198.51.100.0/25"] {
        let answer = office.ask(&call("POST", "/v1/bans", &json!({"cidr": cidr, "ttl": "1h"}).to_string()));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((value(&office.ask(&call("GET", "/v1/config", ""))), tree(&office)), (before, whole.clone()));
    // Without any of the document's own.
    for ban in ["198.51.100.0%2F24", "::%2F0"] {
        assert_eq!(office.ask(&call("DELETE", &format!("/v1/bans/{ban}"), "")).status, 200);
    }
    assert_eq!(tree(&office)["bans"], Value::Null);
    assert_eq!(office.leader.sight().unwrap().count(Collection::Bans), 0);
    let mut worker = office.worker();
    let site = office.desk.site().clone();
    let mut verdict = |client: &str| {
        let asked = json!({"url": "/x", "client": client}).to_string();
        value(&admin::here(&call("POST", "/v1/explain", &asked), &site, &mut worker, at(1.0)).unwrap())["decision"]
            .clone()
    };
    assert_eq!(
        [verdict("198.51.100.1"), verdict("198.51.100.200"), verdict("192.0.2.7")],
        ["refuse", "forward", "refuse"]
    );
    for id in ["bans%2F192.0.2.7", "bans%2F198.51.100.0%2F25"] {
        assert_eq!(office.ask(&call("DELETE", &format!("/v1/overlays/{id}"), "")).status, 200);
    }
    assert_eq!([verdict("198.51.100.1"), verdict("192.0.2.7")], ["forward", "forward"]);
    office.leader.check().unwrap();
}

/// `cargo test --release --test admin -- --ignored --nocapture`.
#[test]
#[ignore = "takes seconds; prints what one change among 100,000 routes costs"]
fn one_change_among_100_000_routes() {
    let scratch = Scratch::new("large");
    let mut text = String::from("version: 1\nupstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]\nroutes:\n");
    for number in 0..100_000 {
        text.push_str(&format!(
            "  - {{name: r{number}, hosts: [h{number}.example], paths: [\"/a/*\"], upstream: u}}\n"
        ));
    }
    fs::write(scratch.0.join("seed.yaml"), text).unwrap();
    let took = |what: &str, began: Instant| println!("{what}: {:?}", began.elapsed());
    let began = Instant::now();
    let mut office = Office::open(&scratch, 512 << 20);
    took("begin", began);
    let mut worker = office.worker();
    for _ in 0..3 {
        let began = Instant::now();
        let label = format!("{:?}", began);
        let answer = office.ask(&call("PATCH", "/v1/routes/r5", &json!({"labels": {"a": label}}).to_string()));
        took("PATCH one of 100,000", began);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let site = Site { mode: Mode::File, ..office.desk.site().clone() };
    for path in ["/v1/routes/r99999", "/v1/routes", "/v1/status", "/v1/upstreams/u/nodes"] {
        let began = Instant::now();
        let answer = admin::here(&call("GET", path, ""), &site, &mut worker, at(1.0)).unwrap();
        took(path, began);
        assert_eq!(answer.status, 200);
    }
}
