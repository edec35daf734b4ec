//! Documents that do not fit.

use gateway::config;
use gateway::gateway::{Leader, PublishError};
use gateway::state::{HeapRegion, Identity};

use crate::document;
use crate::support::{Fake, Gateway, TestSecrets, at};

fn parsed(text: &str) -> config::Document {
    config::parse(text, "test.yaml", &TestSecrets).unwrap_or_else(|errors| panic!("{errors}")).document
}

fn routes(count: usize) -> String {
    let mut text = document("routes:\n");
    for n in 0..count {
        text += &format!("  - {{name: route-{n}, paths: [\"/api/v1/{n}/*\"]}}\n");
    }
    text
}

fn breakers(count: usize) -> String {
    let mut text = document("upstreams:\n");
    for n in 0..count {
        text += &format!("  - {{name: u{n}, nodes: [{{host: 127.0.0.1, port: 1}}], breaker: {{failures: 1}}}}\n");
    }
    text + "routes: [{name: route-0, paths: [\"/api/v1/0/*\"]}]\n"
}

#[test]
fn the_error_names_a_size_that_does_and_the_policy_stays() {
    for (what, small, large) in
        [("the zone is full", routes(10), routes(8_000)), ("one more breaker", breakers(1), breakers(400))]
    {
        let mut gateway = Gateway::sized(&small, 1, 1 << 20);
        let generation = gateway.heap.generation();
        let error = gateway.leader.publish(&parsed(&large), at(0.0)).unwrap_err();
        let PublishError::TooSmall { zone, would_do, .. } = error else { panic!("{error}") };
        assert_eq!(zone, 1 << 20);
        let text = error.to_string();
        assert!(text.contains(what), "{text}");
        assert!(text.ends_with(&format!("; the zone has 1m, one of {}m would do", would_do >> 20)), "{text}");
        // Nothing half applied.
        assert_eq!(gateway.heap.generation(), generation);
        assert_eq!(gateway.verdict(0, &Fake::get("/api/v1/0/x"), at(0.0)), "forward");
        assert_eq!(gateway.verdict(0, &Fake::get("/api/v1/100/x"), at(0.0)), "route.none");
        let again = gateway.leader.publish(&parsed(&small), at(0.0)).unwrap();
        assert_eq!((again.written, again.removed), (0, 0));

        let heap = HeapRegion::new(would_do, [1, 2]).unwrap();
        let mut leader = Leader::take(heap.region(), Identity::current()).unwrap().unwrap();
        leader.publish(&parsed(&large), at(0.0)).unwrap();
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_warning_and_keeps_what_is_live() {
    let text = |host: &str| {
        document(&format!(
            "upstreams: [{{name: u, nodes: [{{host: {host}, port: 1}}]}}]\nroutes: [{{name: r, paths: [\"/*\"], upstream: u}}]\n"
        ))
    };
    let mut gateway = Gateway::new(&text("nobody.invalid"), 1);
    assert_eq!(gateway.verdict(0, &Fake::get("/"), at(0.0)), "upstream.none");
    let checked = config::parse(&text("nobody.invalid"), "test.yaml", &TestSecrets).unwrap();
    let done = gateway.leader.publish(&checked.document, at(0.0)).unwrap();
    assert_eq!((done.written, done.warnings.len()), (0, 1));
    assert!(done.warnings[0].contains("\"nobody.invalid\" cannot be resolved, it is left out"), "{:?}", done.warnings);
    gateway.load(&text("localhost"), at(1.0));
    assert_eq!(gateway.verdict(0, &Fake::get("/"), at(1.0)), "forward");
}
