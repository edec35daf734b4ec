//! Key sets from files and URLs, from the issuer to the decision: a leader, workers, and an issuer that says anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use gateway::gateway::{Decision, Event, Leader};
use gateway::state::Identity;
use gateway::types::{Now, SECOND};
use serde_json::{Value, json};
use support::{Fake, Gateway, at};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;

/// An issuer whose answers a test changes.
struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The answer, from the status line on.
    answer: String,
    asked: Vec<String>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&issuer.state);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                answer(&mut socket.unwrap(), &state);
            }
        });
        issuer
    }

    fn says(&self, head: &str, body: &str) {
        self.state.lock().unwrap().answer =
            format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }

    fn keys(&self, keys: &[&str]) {
        self.says("200 OK", &set(keys));
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    fn last(&self) -> String {
        self.state.lock().unwrap().asked.last().unwrap().clone()
    }
}

fn answer(socket: &mut TcpStream, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    let mut state = state.lock().unwrap();
    state.asked.push(String::from_utf8(head).unwrap().to_ascii_lowercase());
    // Who hears enough hangs up.
    let _ = socket.write_all(state.answer.as_bytes());
}

/// A gateway and what its leader logs.
struct Bench {
    gateway: Gateway,
    log: Vec<String>,
}

impl Bench {
    fn new(jwks: &str) -> Self {
        Self { gateway: Gateway::new(&document(jwks), 2), log: Vec::new() }
    }

    fn tick(&mut self, now: f64) {
        let log = &mut self.log;
        self.gateway.leader.tick(at(now), &mut |event: Event| log.push(event.text));
    }

    /// Ticks at `now` until `done` holds: what was fetched has come.
    fn until(&mut self, now: f64, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", self.log);
            self.tick(now);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the leader fetch once at `now`, and wait for its verdict in the log.
    fn fetch(&mut self, now: f64) {
        let before = self.log.len();
        self.until(now, |bench| bench.log.len() > before);
    }

    /// The same where the log has nothing to say, since what came is what there was.
    fn confirm(&mut self, now: f64) {
        let fresh = "gateway_key_set_age_seconds{auth=\"idp\"} 0\n";
        self.until(now, |bench| bench.gateway.workers[0].metrics(at(now)).contains(fresh));
    }

    fn verdict(&mut self, worker: usize, key: &str, now: f64) -> &'static str {
        self.gateway.verdict(worker, &Fake::get("/a").bearer(token(key)), at(now))
    }

    /// What both workers say.
    fn both(&mut self, key: &str, now: f64) -> &'static str {
        let [one, two] = [0, 1].map(|worker| self.verdict(worker, key, now));
        assert_eq!(one, two);
        one
    }
}

fn document(jwks: &str) -> String {
    format!(
        "version: 1\nauth:\n- {{name: idp, jwt: {{issuer: \"https://issuer.example\", audience: api, {jwks}}}}}\n\
        - {{name: key, api_key: {{header: X-Key}}}}\nconsumers: [{{name: c, api_key: a-key-that-is-long-enough}}]\n\
        routes:\n- {{name: a, paths: [/a], auth: [idp]}}\n- {{name: b, paths: [/b], auth: [idp, key]}}\n"
    )
}

fn url(issuer: &Issuer) -> String {
    format!("jwks: {{url: \"http://{}/jwks\"}}", issuer.address)
}

fn own(name: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("GATEWAY_VECTORS").map_or_else(|| root.join("../shared/vectors"), PathBuf::from);
    let path = Some(shared.join("own").join(name)).filter(|path| path.exists());
    let path = path.unwrap_or_else(|| root.join("tests/data/own").join(name));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn attacks() -> &'static Value {
    static READ: OnceLock<Value> = OnceLock::new();
    READ.get_or_init(|| own("jwt_attack_cases.json"))
}

/// A public key of the vectors, by the policy that has it.
fn key(name: &str) -> &'static Value {
    &attacks()["meta"]["policies"][name]["keys"][0]
}

/// A token that this key signed, good for decades.
fn token(name: &str) -> &'static str {
    let is_good = |case: &&Value| case["policy"] == name && case["id"].as_str().unwrap().starts_with("baseline-");
    attacks()["cases"].as_array().unwrap().iter().find(is_good).unwrap()["token"].as_str().unwrap()
}

fn set(names: &[&str]) -> String {
    json!({ "keys": names.iter().map(|name| key(name)).collect::<Vec<_>>() }).to_string()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("jwks-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn what_a_fake_issuer_says() {
    let issuer = Issuer::start();
    let cases = own("jwks_cases.json");
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    let good = &own("jwks_cases.json")["meta"]["good_key"];
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let body = match &case["jwks"] {
            Value::String(text) => text.clone(),
            Value::Object(what) if what.contains_key("generate") => {
                let key = |number: usize| {
                    let mut key = good.clone();
                    key["kid"] = json!(format!("k{number}"));
                    key
                };
                json!({"keys": (0..10_000).map(key).collect::<Vec<_>>()}).to_string()
            }
            set => set.to_string(),
        };
        let is_good = case["expect"] == "use_good";
        // At the start: nobody gets in by it, and the log is loud.
        let mut first = Bench::new(&url(&issuer));
        issuer.says("200 OK", &body);
        first.fetch(0.0);
        let expected = if is_good { "forward" } else { "auth.keys_unavailable" };
        assert_eq!(first.both("rs", 0.0), expected, "{id}: {:?}", first.log);
        assert_ne!(first.both("hs", 0.0), "forward", "{id}");
        // After a good set: nothing is lost.
        let mut later = Bench::new(&url(&issuer));
        issuer.keys(&["rs"]);
        later.fetch(0.0);
        issuer.says("200 OK", &body);
        match is_good {
            true => later.confirm(11.0 * MINUTE),
            false => later.fetch(11.0 * MINUTE),
        }
        assert_eq!(later.both("rs", 11.0 * MINUTE), "forward", "{id}: {:?}", later.log);
        assert_ne!(later.both("hs", 11.0 * MINUTE), "forward", "{id}");
        assert_ne!(later.both("es", 11.0 * MINUTE), "forward", "{id}");
        let kept = later.log.last().unwrap().ends_with("the last good set stays");
        assert_eq!(kept, !is_good, "{id}: {:?}", later.log);
    }
}

#[test]
fn a_new_key_comes_with_the_first_token_that_names_it() {
    let issuer = Issuer::start();
    let mut bench = Bench::new(&url(&issuer));
    assert_eq!(bench.both("es", 0.0), "auth.keys_unavailable");
    issuer.keys(&["es"]);
    bench.fetch(0.0);
    assert_eq!(bench.log.len(), 1);
    assert!(
        bench.log[0].ends_with(&format!("keys of \"idp\": 1 key from http://{}/jwks", issuer.address)),
        "{:?}",
        bench.log
    );
    assert_eq!(bench.both("es", 1.0), "forward");
    let scrape = bench.gateway.workers[0].metrics(at(7.5));
    assert!(scrape.contains("gateway_key_set_age_seconds{auth=\"idp\"} 7.5\n"), "{scrape}");
    // Ticks alone fetch nothing.
    for now in 1..60 {
        bench.tick(f64::from(now));
    }
    assert_eq!(issuer.asked(), 1);

    // The issuer changes its key; the first token with it is refused, its next try is not.
    issuer.keys(&["ed"]);
    assert_eq!(bench.verdict(0, "ed", 60.0), "auth.key_unknown");
    bench.fetch(60.0);
    assert_eq!(bench.both("ed", 60.0), "forward");
    assert_eq!(issuer.asked(), 2);
    // Both workers had verified this one a moment ago, and know nothing of it any more.
    assert_eq!(bench.both("es", 60.0), "auth.key_unknown");
    assert_eq!(bench.log.len(), 2, "{:?}", bench.log);
}

#[test]
fn an_issuer_that_names_no_key_may_change_it_too() {
    let issuer = Issuer::start();
    let mut bench = Bench::new(&url(&issuer));
    let says = |name: &str| {
        let mut key = key(name).clone();
        key.as_object_mut().unwrap().remove("kid");
        issuer.says("200 OK", &json!({ "keys": [key] }).to_string());
    };
    says("rs");
    bench.fetch(0.0);
    assert_eq!(bench.both("rs", 0.0), "forward");
    let forged = format!("{}AAAA", &token("rs")[..token("rs").len() - 4]);
    assert_eq!(bench.gateway.verdict(0, &Fake::get("/a").bearer(&forged), at(1.0)), "auth.signature");
    bench.confirm(1.0);
    assert_eq!(issuer.asked(), 2);
    issuer.keys(&["rs"]);
    assert_eq!(bench.gateway.verdict(0, &Fake::get("/a").bearer(&forged), at(31.0)), "auth.signature");
    bench.fetch(31.0);
    assert_eq!(bench.both("rs", 31.0), "forward");
    // A signature that is wrong under a name that is there is nobody's rotation.
    assert_eq!(bench.gateway.verdict(0, &Fake::get("/a").bearer(&forged), at(90.0)), "auth.signature");
    bench.tick(90.0);
    assert_eq!(issuer.asked(), 3);
}

#[test]
fn made_up_names_cost_one_fetch_in_30_seconds() {
    let issuer = Issuer::start();
    let mut bench = Bench::new(&url(&issuer));
    issuer.keys(&["es"]);
    bench.fetch(0.0);
    type Says = fn(&Issuer);
    let answers: [Says; 4] = [
        |issuer| issuer.keys(&["es"]),
        |issuer| issuer.keys(&[]),
        |issuer| issuer.says("500 Oh", ""),
        |issuer| issuer.says("200 OK", "<html>"),
    ];
    for (round, says) in answers.into_iter().enumerate() {
        says(&issuer);
        let begun = round as f64 * 120.0;
        let before = issuer.asked();
        // 100 s, a tick each quarter of a second, tokens all the time.
        for step in 0..400 {
            let now = begun + f64::from(step) / 4.0;
            for worker in [0, 1] {
                assert_eq!(bench.verdict(worker, "ed", now), "auth.key_unknown");
                assert_eq!(bench.verdict(worker, "es", now), "forward");
            }
            bench.tick(now);
            // An answer has time to come.
            std::thread::sleep(Duration::from_micros(500));
        }
        assert!((1..=4).contains(&(issuer.asked() - before)), "{round}: {}", issuer.asked() - before);
    }
}

#[test]
fn no_set_is_503_and_other_entries_go_on() {
    let issuer = Issuer::start();
    issuer.says("500 Oh", "");
    let mut bench = Bench::new(&url(&issuer));
    bench.fetch(0.0);
    assert!(bench.log[0].ends_with("the answer has status 500; there is no set yet"), "{:?}", bench.log);
    let good = token("es");
    let with = |path: &str| Fake::get(path).bearer(good);
    for (what, request, expected) in [
        ("a token", with("/a"), "auth.keys_unavailable"),
        ("what is no token", Fake::get("/a").bearer("x.y.z"), "auth.keys_unavailable"),
        ("what can be none", Fake::get("/a").bearer("x%y"), "auth.malformed"),
        ("nothing", Fake::get("/a"), "auth.missing"),
        ("another entry knows", with("/b").header("x-key", "a-key-that-is-long-enough"), "forward"),
        ("another entry refuses", with("/b").header("x-key", "another-key-that-is-long"), "auth.keys_unavailable"),
        ("another entry alone", Fake::get("/b").header("x-key", "another-key-that-is-long"), "auth.key_unknown"),
    ] {
        assert_eq!(bench.gateway.verdict(0, &request, at(0.0)), expected, "{what}");
    }
    let Decision::Reply(reply) = bench.gateway.access(0, &with("/a"), at(0.0)).0 else { panic!() };
    assert_eq!((reply.reason.status(), reply.reason.public()), (503, "auth.keys_unavailable"));
    assert_eq!((reply.retry_after, reply.challenges.iter().count()), (5, 0));
    // The second try, a second later.
    issuer.keys(&["es"]);
    bench.fetch(1.1);
    assert_eq!(bench.both("es", 1.1), "forward");
}

#[test]
fn the_last_good_set_stays_a_day_and_no_longer() {
    let issuer = Issuer::start();
    issuer.keys(&["es"]);
    let mut bench = Bench::new(&url(&issuer));
    bench.fetch(0.0);
    issuer.says("503 Away", "");
    bench.fetch(11.0 * MINUTE);
    for hour in 1..24 {
        bench.tick(f64::from(hour) * HOUR);
        assert_eq!(bench.both("es", f64::from(hour) * HOUR), "forward");
    }
    // Another leader goes on with the same set, for what is left of the day.
    let region = bench.gateway.heap.region();
    let spare = gateway::state::HeapRegion::new(1 << 20, [1, 2]).unwrap();
    bench.gateway.leader = Leader::take(spare.region(), Identity::current()).unwrap().unwrap();
    bench.gateway.leader = Leader::take(region, Identity::current()).unwrap().unwrap();
    bench.tick(23.9 * HOUR);
    assert_eq!(bench.both("es", 23.9 * HOUR), "forward");
    bench.until(24.1 * HOUR, |bench| bench.log.iter().any(|line| line.ends_with("is given up")));
    assert_eq!(bench.both("es", 24.1 * HOUR), "auth.keys_unavailable");
    issuer.keys(&["es"]);
    // An answer from before may still come, and the next try with it.
    let mut now = 24.2 * HOUR;
    while bench.both("es", now) != "forward" {
        assert!(now < 34.0 * HOUR, "{:?}", bench.log);
        bench.tick(now);
        std::thread::sleep(Duration::from_millis(1));
        now += 1.0;
    }
}

#[test]
fn what_has_not_changed_is_confirmed() {
    let issuer = Issuer::start();
    let mut bench = Bench::new(&url(&issuer));
    issuer.says("200 OK\r\nETag: \"e1\"\r\nCache-Control: max-age=3600", &set(&["es"]));
    bench.fetch(0.0);
    assert!(!issuer.last().contains("if-none-match"));
    issuer.says("304 Not Modified\r\nCache-Control: max-age=3600", "");
    let generation = bench.gateway.heap.region().generation();
    for hour in 1..30 {
        bench.confirm(f64::from(hour) * HOUR);
        assert!(issuer.last().contains("if-none-match: \"e1\"\r\n"), "{}", issuer.last());
        assert_eq!(bench.both("es", f64::from(hour) * HOUR), "forward");
    }
    assert_eq!(bench.gateway.heap.region().generation(), generation, "nothing was written anew");
    assert_eq!(bench.log.len(), 1, "{:?}", bench.log);
}

#[test]
fn edits_of_the_document() {
    let (issuer, other) = (Issuer::start(), Issuer::start());
    issuer.keys(&["es", "rs"]);
    other.keys(&["ed"]);
    let mut bench = Bench::new(&url(&issuer));
    bench.fetch(0.0);
    let publish = |bench: &mut Bench, jwks: &str| {
        let checked = gateway::config::parse(&document(jwks), "f", &support::TestSecrets).unwrap();
        let done = bench.gateway.leader.publish(&checked.document, at(1.0)).unwrap();
        (done.written, done.removed)
    };
    assert_eq!(publish(&mut bench, &url(&issuer)), (0, 0), "a set is no part of the document");
    // The set goes on under other rules …
    assert_eq!(publish(&mut bench, &format!("{}, leeway: 1s", url(&issuer))), (1, 0));
    assert_eq!([bench.both("es", 1.0), bench.both("rs", 1.0)], ["forward"; 2]);
    // … which hold for it at once.
    assert_eq!(publish(&mut bench, &format!("{}, algorithms: [RS256]", url(&issuer))), (1, 0));
    assert_eq!([bench.both("es", 1.0), bench.both("rs", 1.0)], ["auth.key_unknown", "forward"]);
    // Another place: none of its keys are known yet, and those of the first are its no more.
    assert_eq!(publish(&mut bench, &url(&other)), (1, 1));
    assert_eq!([bench.both("es", 1.0), bench.both("ed", 1.0)], ["auth.keys_unavailable"; 2]);
    bench.fetch(1.0);
    assert_eq!([bench.both("es", 1.0), bench.both("ed", 1.0)], ["auth.key_unknown", "forward"]);
    // Keys written out, and back.
    let own = format!("keys: [{{jwk: {}}}]", key("rs"));
    assert_eq!(publish(&mut bench, &own), (1, 1));
    assert_eq!([bench.both("ed", 1.0), bench.both("rs", 1.0)], ["auth.key_unknown", "forward"]);
    assert_eq!(publish(&mut bench, &url(&other)), (1, 0));
    assert_eq!([bench.both("rs", 1.0), bench.both("ed", 1.0)], ["auth.keys_unavailable"; 2]);
    bench.fetch(1.0);
    assert_eq!([bench.both("rs", 1.0), bench.both("ed", 1.0)], ["auth.key_unknown", "forward"]);
}

#[test]
fn a_file_is_followed() {
    let path = folder("file").join("jwks.json");
    let mut bench = Bench::new(&format!("jwks: {{file: {}}}", path.display()));
    let shown = path.display();
    bench.tick(0.0);
    assert_eq!(bench.both("es", 0.0), "auth.keys_unavailable");
    assert!(
        bench.log[0].contains("cannot be looked at") && bench.log[0].ends_with("there is no set yet"),
        "{:?}",
        bench.log
    );
    fs::write(&path, set(&["es"])).unwrap();
    bench.tick(0.25);
    assert_eq!(bench.both("es", 0.25), "forward", "at once: {:?}", bench.log);
    assert_eq!(bench.log[1], format!("keys of \"idp\": 1 key from {shown}"));

    // By rename, as mounted volumes do; then in place; then half a file. A file may hold secrets.
    let next = path.with_extension("new");
    fs::write(&next, set(&["ed", "es"])).unwrap();
    fs::rename(&next, &path).unwrap();
    bench.tick(1.0);
    assert_eq!(bench.both("ed", 1.0), "auth.key_unknown", "one look is not enough");
    bench.tick(1.25);
    assert_eq!([bench.both("ed", 1.25), bench.both("es", 1.25)], ["forward"; 2]);
    fs::write(&path, set(&["hs"])).unwrap();
    bench.tick(2.0);
    bench.tick(2.25);
    assert_eq!([bench.both("ed", 2.25), bench.both("hs", 2.25)], ["auth.key_unknown", "forward"]);
    fs::write(&path, &set(&["ed"])[..100]).unwrap();
    bench.tick(3.0);
    bench.tick(3.25);
    assert_eq!(bench.both("hs", 3.25), "forward");
    assert_eq!(bench.log.len(), 5, "{:?}", bench.log);
    assert!(bench.log[4].ends_with("the set is not strict JSON; the last good set stays"), "{:?}", bench.log);

    // A good file that nobody touches is good for ever, and a bad one does not wear it out before a day is over.
    fs::write(&path, set(&["es"])).unwrap();
    for hour in 1..50 {
        bench.tick(f64::from(hour) * HOUR);
        bench.tick(f64::from(hour) * HOUR + 0.25);
        assert_eq!(bench.both("es", f64::from(hour) * HOUR), "forward");
    }
    fs::remove_file(&path).unwrap();
    bench.tick(50.0 * HOUR);
    bench.tick(72.9 * HOUR);
    assert_eq!(bench.both("es", 72.9 * HOUR), "forward");
    bench.tick(73.3 * HOUR);
    assert_eq!(bench.both("es", 73.3 * HOUR), "auth.keys_unavailable");
    fs::write(&path, set(&["es"])).unwrap();
    bench.tick(74.0 * HOUR);
    bench.tick(74.1 * HOUR);
    assert_eq!(bench.both("es", 74.1 * HOUR), "forward");
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// The sets and tokens of nginx-auth-jwt's own tests. Its secrets are shorter than RFC 7518, 3.2 allows, so that what is
/// signed with them is refused here; all public keys verify.
#[test]
fn sets_of_nginx_auth_jwt() {
    let root = std::env::var_os("GATEWAY_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from)
        .join("nginx_auth_jwt");
    if !root.exists() {
        eprintln!("skipped: {} is not there", root.display());
        return;
    }
    let entry = |file: &str, number: usize| {
        format!(
            "version: 1\nauth: [{{name: idp, jwt: {{issuer: \"https://test{number}.issuer.example.com\", \
            audience: test{number}.audience.example.com, jwks: {{file: {}}}}}}}]\nroutes: [{{name: a, paths: [/a], auth: [idp]}}]",
            root.join(file).display()
        )
    };
    let verdict = |file: &str, number: usize, token: &str| {
        let mut gateway = Gateway::new(&entry(file, number), 1);
        gateway.leader.tick(Now { mono: SECOND, wall: 1_800_000_000 * SECOND }, &mut |_| {});
        let token = fs::read_to_string(root.join(token)).unwrap();
        gateway.verdict(0, &Fake::get("/a").bearer(token.trim()), at(0.0))
    };
    for number in 1..10 {
        let alone = verdict(&format!("test{number}.jwks"), number, &format!("test{number}.jwt"));
        let together = verdict("jwks.json", number, &format!("test{number}.jwt"));
        let unnamed = verdict("jwks.no_kid.json", number, &format!("test{number}.jwt"));
        let expected = match number {
            1..=3 => ["auth.keys_unavailable", "auth.key_unknown", "auth.algorithm"],
            _ => ["forward"; 3],
        };
        assert_eq!([alone, together, unnamed], expected, "{number}");
    }
    for (file, number, token, expected) in [
        ("invalid.jwks", 1, "test1.jwt", "auth.keys_unavailable"),
        ("test1.invalid.jwks", 1, "test1.jwt", "auth.keys_unavailable"),
        ("keys.json", 4, "test4.jwt", "auth.keys_unavailable"),
        ("jwks.json", 0, "test0.jwt", "auth.malformed"),
        ("test4.jwks", 4, "test5.jwt", "auth.key_unknown"),
        ("test4.jwks", 5, "test4.jwt", "auth.claims"),
        ("test4.jwks", 4, "test1.sig.jwt", "auth.key_unknown"),
    ] {
        assert_eq!(verdict(file, number, token), expected, "{file} {token}");
    }
}
