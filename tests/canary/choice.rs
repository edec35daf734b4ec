//! Shares, stickiness and overrides.

use std::collections::HashMap;

use gateway::canary::{BUCKETS, Salt, Who, bucket, place};
use gateway::gateway::{Decision, Entry, Notes, Step, Ticket};
use gateway::types::Now;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Fake, Gateway, SECRET, at};

/// Everybody's variant.
fn all(weights: &[u64]) -> Vec<usize> {
    (0..BUCKETS as u32).map(|bucket| place(bucket, weights.iter().copied())).collect()
}

/// Whether nobody leaves variant `index` on the way from one sharing to another.
fn nobody_leaves(index: usize, before: &[usize], after: &[usize]) -> bool {
    before.iter().zip(after).all(|(before, after)| *before != index || *after == index)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    /// With two or three variants, a canary's callers stay as long as its own share does not shrink.
    #[test]
    fn a_canary_of_two_or_three_depends_on_its_own_share(
        before in prop::collection::vec(0u64..=1_000, 2..=3),
        seed in prop::collection::vec(0u64..=1_000, 3),
    ) {
        let after = &seed[..before.len()];
        let total = |weights: &[u64]| weights.iter().sum::<u64>();
        prop_assume!(total(&before) > 0 && total(after) > 0);
        let (one, other) = (all(&before), all(after));
        for index in 1..before.len() {
            if after[index] * total(&before) >= before[index] * total(after) {
                prop_assert!(nobody_leaves(index, &one, &other), "{:?} -> {:?}: variant {}", before, after, index);
            }
        }
    }

    /// With any number, nobody leaves a variant whose share rises while no other's does.
    #[test]
    fn raising_one_share_only_adds(
        before in prop::collection::vec(0u64..=1_000_000, 2..=16),
        lowered in prop::collection::vec(0u64..=100, 16),
        raised in any::<prop::sample::Index>(),
        more in 0u64..=1_000_000,
    ) {
        prop_assume!(before.iter().sum::<u64>() > 0);
        let raised = raised.index(before.len());
        // As a number of its own …
        let mut after = before.clone();
        after[raised] += more;
        prop_assert!(nobody_leaves(raised, &all(&before), &all(&after)), "{:?} -> {:?}", before, after);
        // … and at the cost of the others, the sum staying.
        let mut after = before.clone();
        for (index, weight) in after.iter_mut().enumerate().filter(|(index, _)| *index != raised) {
            *weight = before[index] * lowered[index] / 100;
        }
        after[raised] = before.iter().sum::<u64>() - after.iter().sum::<u64>() + before[raised];
        prop_assert!(nobody_leaves(raised, &all(&before), &all(&after)), "{:?} -> {:?}", before, after);
    }

    #[test]
    fn every_bucket_is_somebodys_and_shares_are_right(weights in prop::collection::vec(0u64..=1_000_000, 2..=16)) {
        let total: u64 = weights.iter().sum();
        prop_assume!(total > 0);
        let found = all(&weights);
        for (index, weight) in weights.iter().enumerate() {
            let count = found.iter().filter(|found| **found == index).count() as f64;
            let share = *weight as f64 * BUCKETS as f64 / total as f64;
            prop_assert!((count - share).abs() <= weights.len() as f64, "{:?}: {} of {}", weights, count, index);
        }
    }
}

#[test]
fn shares_of_many_callers_are_within_two_percent() {
    const USERS: u32 = 100_000;
    for (salt, weights) in [("orders", &[80, 20][..]), ("site", &[50, 25, 25]), ("x", &[10, 20, 30, 40])] {
        let key = Salt::new(salt.to_owned()).key;
        let mut counts = vec![0u32; weights.len()];
        for user in 0..USERS {
            let bucket = bucket(key, Who::Name(format!("user-{user}").as_bytes()));
            counts[place(bucket, weights.iter().copied())] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let expected = f64::from(USERS) * *weight as f64 / 100.0;
            assert!((f64::from(*count) - expected).abs() < 0.02 * expected, "{salt} {weights:?}: {counts:?}");
        }
    }
}

#[test]
fn the_hash_stays_as_it_is() {
    // A fleet may run several versions at once, and a new one must not shuffle its callers.
    let key = Salt::new("orders".to_owned()).key;
    let found = ["anna", "ben", ""].map(|user| bucket(key, Who::Name(user.as_bytes())));
    assert_eq!(found, PINNED);
    assert_ne!(key, Salt::new("orders2".to_owned()).key);
}

const PINNED: [u32; 3] = [9_829, 6_946, 7_546];

const DOCUMENT: &str = r#"
version: 1
auth:
  - {name: staff, optional: true, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}],
      claims: {permissions: permissions, consumer: team}}}
  - {name: keys, optional: true, api_key: {header: X-Key}}
consumers: [{name: acme, api_key: a-key-that-is-long-enough}]
upstreams:
  - {name: one, nodes: [{host: 127.0.0.1, port: 1}], timeouts: {read: 1s}, retries: {attempts: 1}}
  - {name: two, nodes: [{host: 127.0.0.1, port: 2}], timeouts: {read: 2s, send: 3s}, retries: {attempts: 4}, breaker: {failures: 1, open_for: 60s}}
routes:
  - name: half
    paths: [/half]
    upstream: one
    canary: {variants: [{name: stable, weight: 1}, {name: v2, weight: 1, upstream: two}], key: ip}
  - name: marked
    paths: [/marked]
    upstream: one
    timeouts: {connect: 7s}
    auth: [staff, keys]
    canary:
      variants: [{name: stable, weight: 1}, {name: blue, weight: 0, upstream: two, timeouts: {read: 9s}}, {name: v2, weight: 0, upstream: two}]
      overrides: {header: "X-Canary: true", cookie: canary=yes, users: [acme, anna]}
  - name: bound
    paths: [/bound]
    upstream: one
    auth: [staff]
    canary:
      variants: [{name: stable, weight: 1}, {name: v2, weight: 0, upstream: two}]
      overrides: {header: X-Canary, permission: "canary:use"}
  - name: sticky
    paths: [/sticky]
    upstream: one
    auth: [staff, keys]
    canary: {variants: [{name: stable, weight: 1}, {name: v2, weight: 1, upstream: two}], overrides: false}
  - name: by-header
    paths: [/by-header]
    upstream: one
    canary: {variants: [{name: stable, weight: 1}, {name: v2, weight: 1, upstream: two}], key: "header:X-Id"}
  - name: by-cookie
    paths: [/by-cookie]
    upstream: one
    canary: {variants: [{name: stable, weight: 1}, {name: v2, weight: 1, upstream: two}], key: "cookie:id", salt: by-header}
  - {name: plain, paths: [/plain], upstream: one}
"#;

pub fn token(sub: &str, more: Value) -> String {
    let mut claims = json!({"iss": "https://a", "aud": "api", "sub": sub, "exp": 4_000_000_000_u64});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// The variant and upstream of a request.
fn chosen(gateway: &mut Gateway, request: &Fake) -> (String, String) {
    let (decision, ticket) = gateway.access(0, request, at(0.0));
    assert_eq!(decision, Decision::Forward, "{request:?}");
    (ticket.variant().to_owned(), ticket.upstream_name().to_owned())
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", String::from_utf8_lossy(&self.target), self.headers)
    }
}

#[test]
fn header_then_cookie_then_users_then_share() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let anna = token("anna", json!({}));
    let get = || Fake::get("/marked");
    let table = [
        (get(), "stable"),
        (get().header("X-Canary", "true"), "v2"),
        (get().header("X-Canary", "blue"), "blue"),
        (get().header("X-Canary", "stable").bearer(&anna), "stable"),
        (get().header("X-Canary", "True"), "stable"),
        (get().header("X-Canary", "no").header("cookie", "canary=blue"), "blue"),
        (get().header("X-Canary", "true").header("X-Canary", "true"), "stable"),
        (get().header("X-Canary", "blue").header("cookie", "canary=yes"), "blue"),
        (get().header("cookie", "a=b; canary=yes"), "v2"),
        (get().header("cookie", "canary=stable").bearer(&anna), "stable"),
        (get().header("cookie", "canary=v2"), "v2"),
        (get().header("cookie", "canary=true"), "stable"),
        (get().bearer(&anna), "v2"),
        (get().bearer(&token("ben", json!({}))), "stable"),
        // The subject goes before the consumer that the token names.
        (get().bearer(&token("ben", json!({"team": "anna"}))), "stable"),
        (get().header("X-Key", "a-key-that-is-long-enough"), "v2"),
    ];
    for (request, expected) in table {
        let upstream = if expected == "stable" { "one" } else { "two" };
        assert_eq!(chosen(&mut gateway, &request), (expected.to_owned(), upstream.to_owned()), "{request:?}");
    }
    assert_eq!(
        chosen(&mut gateway, &Fake::get("/plain").header("X-Canary", "true")),
        (String::new(), "one".to_owned())
    );
}

#[test]
fn an_override_may_need_a_permission() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let get = || Fake::get("/bound").header("X-Canary", "v2");
    for (request, expected) in [
        (get(), "stable"),
        (get().bearer(&token("anna", json!({}))), "stable"),
        (get().bearer(&token("anna", json!({"permissions": "canary:see"}))), "stable"),
        (get().bearer(&token("anna", json!({"permissions": "canary:*"}))), "v2"),
        (Fake::get("/bound").bearer(&token("anna", json!({"permissions": "canary:*"}))), "stable"),
        (
            Fake::get("/bound").header("X-Canary", "true").bearer(&token("a", json!({"permissions": "canary:*"}))),
            "stable",
        ),
    ] {
        assert_eq!(chosen(&mut gateway, &request).0, expected, "{request:?}");
    }
}

#[test]
fn a_caller_stays_where_it_is() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let mut of = |request: &Fake| chosen(&mut gateway, request).0;
    let mut counts: HashMap<String, u32> = HashMap::new();
    for last in 0..=255 {
        let first = of(&Fake::get("/half").client(last));
        assert!((0..3).all(|_| of(&Fake::get("/half").client(last)) == first));
        // Anonymous callers of a route that goes by user are told apart by address, under that route's salt.
        let anonymous = of(&Fake::get("/sticky").client(last));
        assert_eq!(anonymous, of(&Fake::get("/sticky").client(last).header("X-Canary", "v2")));
        *counts.entry(format!("{first} {anonymous}")).or_default() += 1;
        // Those that are known by who they are.
        let anna = token(&format!("anna{last}"), json!({}));
        let user = of(&Fake::get("/sticky").bearer(&anna));
        assert_eq!(of(&Fake::get("/sticky").client(last).bearer(&anna)), user);
        let id = format!("id{last}");
        let header = of(&Fake::get("/by-header").header("X-Id", &id));
        assert_eq!(of(&Fake::get("/by-header").client(last).header("X-Id", &id)), header);
        // The same salt and key on another route.
        assert_eq!(of(&Fake::get("/by-cookie").header("cookie", &format!("id={id}"))), header);
    }
    assert_eq!(counts.len(), 4, "two salts try their luck on different people: {counts:?}");
    assert!(counts.values().all(|count| (35..=95).contains(count)), "{counts:?}");
}

#[test]
fn timeouts_and_retries_are_the_variants() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let mut of = |request: Fake| {
        let (_, ticket) = gateway.access(0, &request, at(0.0));
        let timeouts = ticket.timeouts();
        (timeouts.connect / 1_000_000, timeouts.send / 1_000_000, timeouts.read / 1_000_000)
    };
    assert_eq!(of(Fake::get("/marked")), (7, 0, 1));
    assert_eq!(of(Fake::get("/marked").header("X-Canary", "blue")), (7, 3, 9));
    assert_eq!(of(Fake::get("/marked").header("X-Canary", "v2")), (7, 3, 2));
}

#[test]
fn the_breaker_is_that_of_the_chosen_upstream() {
    use gateway::gateway::{Outcome, TryEnd};
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let canary = Fake::get("/marked").header("X-Canary", "v2");
    let now: Now = at(0.0);
    let (_, mut ticket) = gateway.access(0, &canary, now);
    let worker = &mut gateway.workers[0];
    worker.pick(&mut ticket, now, |peer| assert_eq!(peer.port, 2)).unwrap();
    worker.tried(&mut ticket, TryEnd::Answered(500), now);
    worker.complete(&mut ticket, &Outcome { status: 500, upstream_status: 500, aborted: false }, now);
    let (decision, ticket) = gateway.access(0, &canary, now);
    assert!(matches!(decision, Decision::Reply(reply) if reply.reason.code() == "breaker.open"), "{decision:?}");
    assert_eq!(ticket.variant(), "v2");
    assert_eq!(gateway.verdict(0, &Fake::get("/marked"), now), "forward");
}

#[test]
fn explain_says_which_rule_chose() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    for (request, expected) in [
        (Fake::get("/marked").header("X-Canary", "true"), "variant \"v2\", as the header says"),
        (Fake::get("/marked").header("cookie", "canary=blue"), "variant \"blue\", as the cookie says"),
        (Fake::get("/marked").bearer(&token("anna", json!({}))), "variant \"v2\", as the user is on the list"),
        (Fake::get("/marked"), "variant \"stable\" by share, bucket "),
    ] {
        let (mut notes, mut ticket) = (Notes::default(), Ticket::new());
        gateway.workers[0].access_with(&request, Entry::First, at(0.0), &mut ticket, &mut notes);
        let told: Vec<&String> =
            notes.0.iter().filter(|(step, _)| *step == Step::Canary).map(|(_, text)| text).collect();
        assert!(told.len() == 1 && told[0].starts_with(expected), "{notes:?}");
    }
}

#[test]
fn a_redirected_request_is_not_called_by_its_first_variant() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let (_, mut ticket) = gateway.access(0, &Fake::get("/marked"), at(0.0));
    assert_eq!(ticket.variant(), "stable");
    gateway.workers[0].access(&Fake::get("/plain"), Entry::Again, at(0.0), &mut ticket);
    assert_eq!(ticket.variant(), "");
}

#[test]
fn a_mirror_is_sent_a_share_of_what_is_let_in_and_nothing_else() {
    let text = r#"
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: copies, nodes: [{host: 127.0.0.1, port: 2}], max_in_flight: 5000, breaker: {failures: 1}}
routes:
  - name: r
    paths: ["/r"]
    upstream: u
    canary: {variants: [{name: a, weight: 1}, {name: b, weight: 0}], mirror: {upstream: copies, percent: 25%}}
  - {name: plain, paths: ["/plain"], upstream: u}
"#;
    let mut gateway = Gateway::new(text, 1);
    let mut copies = 0;
    for _ in 0..10_000 {
        let (decision, ticket) = gateway.access(0, &Fake::get("/r"), at(0.0));
        assert_eq!((decision, ticket.upstream_name()), (Decision::Forward, "u"));
        let mut copy = Ticket::new();
        assert_eq!(gateway.workers[0].mirror(&ticket, &mut copy, at(0.0)), ticket.is_mirrored());
        if ticket.is_mirrored() {
            copies += 1;
            assert_eq!((copy.upstream_name(), copy.attempts()), ("copies", 1));
            let port = gateway.workers[0].pick(&mut copy, at(0.0), |peer| peer.port);
            assert_eq!(port, Ok(2));
        }
    }
    assert!((2_300..2_700).contains(&copies), "{copies}");
    let (_, ticket) = gateway.access(0, &Fake::get("/plain"), at(0.0));
    assert!(!ticket.is_mirrored() && !gateway.workers[0].mirror(&ticket, &mut Ticket::new(), at(0.0)));
    // What a subrequest asks for has been copied with its main request.
    let mut ticket = Ticket::new();
    for _ in 0..100 {
        gateway.workers[0].access(&Fake::get("/r"), Entry::Subrequest(Default::default()), at(0.0), &mut ticket);
        assert!(!ticket.is_mirrored());
    }
}
