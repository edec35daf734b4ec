//! What attackers can make us spend, in instructions: `benches/instructions` counts each row under callgrind and holds
//! it against an ordinary one, by the multiples in `benches/ratios.toml`. Nothing here is timed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;
mod requests;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::auth::{Claims, Scheme, Verifier};
use gateway::config;
use gateway::gateway::{Entry, Outcome, Ticket, Worker, publish};
use gateway::limiter::{KeyHasher, Quota};
use gateway::router::pattern::{Host, Path, Rule};
use gateway::router::regex::Regex;
use gateway::state::tables::rate::RateTable;
use gateway::state::{Captures, HeapRegion, Identity, Reader, Writer};
use gateway::types::{Kind, Method, Methods, Object, Reason, SECOND, prefers_html};
use harness::{Asked, Job, Listed};
use support::{Fake, SECRET, TestSecrets, at};

const MANY: u32 = 100_000;

/// Rows of the crowd: the same question with few beside it and with very many that look like it.
const CROWDS: [Listed; 11] = [
    ("host_1", || host(1, 0), 500),
    ("attack_host_100k", || host(MANY, MANY / 2), 500),
    ("attack_host_100k_missing", || host(MANY, MANY), 500),
    ("path_1", || path(1, 0), 500),
    ("attack_path_100k", || path(MANY, MANY / 2), 500),
    ("attack_path_100k_missing", || path(MANY, MANY), 500),
    ("header_1", || header(1, false), 500),
    ("attack_header_100k", || header(MANY, false), 500),
    ("attack_header_100k_new", || header(MANY, true), 500),
    ("regex_ordinary", || regex("/v2/orders/4711/items"), 200),
    ("attack_regex_10k", || regex(&"/v2/orders".repeat(1 << 10)), 20),
];

/// Tokens whose signature is wrong in one byte alone. They cost the same, so that nobody finds a signature byte by byte.
const FORGERIES: [Listed; 3] = [
    ("forged_first_byte", || forged(0), 200),
    ("attack_forged_middle_byte", || forged(16), 200),
    ("attack_forged_last_byte", || forged(31), 200),
];

fn main() {
    let mut list = CROWDS.to_vec();
    list.push(("request_ordinary", || request("request_ordinary"), 500));
    // A row is a plain function, so each request has its own.
    macro_rules! hostile {
        ($($name:literal)*) => {{
            let rows: Vec<Listed> = vec![$((concat!("attack_", $name), (|| request($name)) as fn() -> Job, 20)),*];
            list.extend(rows);
            [$($name),*]
        }};
    }
    let named = hostile!(
        "segments_5000" "slashes" "shapes_127" "shapes_127_priority" "tail_10k" "dots_encoded" "dots_twice_encoded"
        "percents_stripped" "semicolons_stripped" "hidden_files" "escapes_10k" "no_text_stripped" "host_10k" "host_labels" "query_1000"
        "query_ampersands" "headers_200" "header_lines_200" "header_10k" "key_10k" "cookie_8k" "cookie_8k_semicolons"
        "token_16k" "token_16k_one_piece" "token_16k_dots" "token_16k_escapes" "token_16k_keys" "token_16k_nested"
        "token_17k" "authorization_spaces"
    );
    let all: Vec<&str> = requests::hostile().into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, named, "every request is a row");
    list.push(("attack_accept_10k", accept, 20));
    list.extend(FORGERIES);
    if let Asked::Report(_) = harness::answer(&list) {
        println!("instructions alone: benches/instructions");
    }
}

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Nothing;

impl Object for Nothing {
    const KIND: Kind = Kind::Route;
}

/// A tree with `count` rules, of which one is asked for.
fn look_up(count: u32, rule: fn(u32) -> Rule, host: String, path: String) -> Job {
    let size = (16 << 20) + count as usize * 1_600;
    let heap: &'static HeapRegion = Box::leak(Box::new(HeapRegion::new(size, [1, 2]).unwrap()));
    let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
    let mut change = writer.begin();
    for number in 0..count {
        change.put_route(&format!("r{number}"), &Nothing, 1, &[rule(number)], Methods::ANY, 0, 0).unwrap();
    }
    change.commit();
    let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
    let mut captures = Captures::new();
    Box::new(move || {
        let view = reader.enter().unwrap();
        let (host, path) = (black_box(host.as_bytes()), black_box(path.as_bytes()));
        black_box(view.route(host, path, Method::Get, &mut captures, |_| true).found().map(|found| found.id()));
    })
}

/// Hosts of one length that differ in the middle alone.
fn host(count: u32, asked: u32) -> Job {
    let name = |number: u32| format!("tenant-{number:08}.customers.api.example");
    let rule = |number: u32| Rule {
        host: Host::parse(&format!("tenant-{number:08}.customers.api.example")).unwrap(),
        path: Path::parse("/v1/orders").unwrap(),
    };
    look_up(count, rule, name(asked), "/v1/orders".to_owned())
}

/// Paths of one length and one shape that differ in the middle alone.
fn path(count: u32, asked: u32) -> Job {
    let rule = |number: u32| Rule {
        host: Host::Any,
        path: Path::parse(&format!("/tenants/{number:08}/orders/{{id}}/items")).unwrap(),
    };
    look_up(count, rule, "api.example".to_owned(), format!("/tenants/{asked:08}/orders/4711/items"))
}

/// A limiter by a header of which `count` values were seen; a known value, or a new one each time.
fn header(count: u32, is_new: bool) -> Job {
    let heap: &'static HeapRegion = Box::leak(Box::new(HeapRegion::new(64 << 20, [1, 2]).unwrap()));
    let rates = RateTable::new(heap.rate_words());
    assert!(rates.slots() > 3 * MANY as usize / 2, "{}", rates.slots());
    let quota = Quota::new(1_000, 3_600 * SECOND, 1_000_000).unwrap();
    let secret = heap.region().secret();
    let key = move |number: u32| {
        KeyHasher::new(secret, 7).part(black_box(format!("key-{number:08}-0000000000000000").as_bytes())).finish()
    };
    let now = at(0.0).mono;
    for number in 0..count {
        let _ = rates.take(key(number), &quota, 1, now);
    }
    let mut number = count / 2;
    Box::new(move || {
        number += u32::from(is_new) * MANY;
        let _ = black_box(rates.take(key(number), &quota, 1, now));
    })
}

/// Twenty expressions, none of which matches.
fn regex(path: &str) -> Job {
    let text = |n: usize| format!(r"^/v\d+/(orders|items)/[^/]+/{{0,1}}x{n}$");
    let mut all: Vec<Regex> = (0..20).map(|n| Regex::new(&text(n)).unwrap()).collect();
    let path = path.to_owned();
    Box::new(move || assert!(!all.iter_mut().any(|regex| regex.matches(black_box(path.as_bytes())))))
}

fn accept() -> Job {
    let value = "text/html;q=0.001,application/*;q=0.9,".repeat(requests::SIZE / 38);
    Box::new(move || {
        black_box(prefers_html(black_box(value.as_bytes())));
    })
}

fn forged(byte: usize) -> Job {
    let document = config::parse(&requests::document(), "bench.yaml", &TestSecrets).unwrap().document;
    let Scheme::Jwt(jwt) = &document.auth[0].scheme else { unreachable!() };
    let verifier = Verifier::from_settings(jwt).unwrap();
    let claims = serde_json::json!({"iss": "https://a", "aud": "api", "sub": "u", "exp": 4_102_444_800_u64});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let mut verified = Claims::new();
    verifier.verify(token.as_bytes(), at(0.0).wall, &mut verified).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[byte] ^= 1;
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    Box::new(move || {
        let found = verifier.verify(black_box(token.as_bytes()), at(0.0).wall, &mut verified);
        assert_eq!(found, Err(Reason::AuthSignature));
    })
}

/// One request from its first to its last call.
fn request(name: &str) -> Job {
    let heap: &'static HeapRegion = Box::leak(Box::new(HeapRegion::new(16 << 20, [1, 2]).unwrap()));
    let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
    let document = config::parse(&requests::document(), "bench.yaml", &TestSecrets).unwrap().document;
    publish(heap.region(), &mut writer, &document, at(0.0)).unwrap();
    let mut worker = Worker::start(heap.region(), Identity::current(), [1, 2]).unwrap();
    let fake: Fake = match requests::hostile().into_iter().find(|(known, _)| *known == name) {
        Some((_, fake)) => fake,
        None => requests::ordinary(),
    };
    Box::new(move || {
        let mut ticket = Ticket::new();
        black_box(worker.access(black_box(&fake), Entry::First, at(0.0), &mut ticket));
        // An adapter asks it of every header that is sent on.
        black_box(fake.headers.iter().filter(|(name, _)| worker.is_replaced(name.as_bytes())).count());
        worker.complete(&mut ticket, &Outcome { status: 404, ..Outcome::default() }, at(0.0));
    })
}
