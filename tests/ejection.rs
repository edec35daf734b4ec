//! Ejection through the three calls of a request: passive health, outliers, the ceiling, what is told; and that a retry
//! budget outlives edits of the peers.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

use std::collections::HashMap;

use gateway::gateway::{Decision, Entry, Notes, Peer, Severity, Step, Ticket, TryEnd};
use gateway::state::tables::peers::Peers;
use gateway::types::Now;
use proptest::prelude::*;
use support::{Fake, Gateway, at};

fn document(nodes: u16, rest: &str) -> String {
    let nodes: Vec<String> = (1..=nodes).map(|port| format!("{{host: 127.0.0.1, port: {port}}}")).collect();
    format!(
        "version: 1\nupstreams: [{{name: u, nodes: [{}]{rest}}}]\nroutes: [{{name: r, paths: [\"/*\"], upstream: u}}]\n",
        nodes.join(", ")
    )
}

/// One request of one try, by `worker`, which ends as `end` says of the port it met.
fn request(gateway: &mut Gateway, worker: usize, now: Now, end: impl FnOnce(u16) -> TryEnd) -> u16 {
    let (decision, mut ticket) = gateway.access(worker, &Fake::get("/"), now);
    assert_eq!(decision, Decision::Forward);
    let worker = &mut gateway.workers[worker];
    let port = worker.pick(&mut ticket, now, |peer: &Peer<'_>| peer.port).unwrap();
    let end = end(port);
    if end != TryEnd::Failed {
        worker.answered(&mut ticket, now);
    }
    worker.tried(&mut ticket, end, now);
    port
}

/// The ports that `requests` good requests meet.
fn met(gateway: &mut Gateway, requests: usize, now: Now) -> HashMap<u16, usize> {
    let mut ports = HashMap::new();
    for _ in 0..requests {
        *ports.entry(request(gateway, 0, now, |_| TryEnd::Answered(0))).or_default() += 1;
    }
    ports
}

fn tick(gateway: &mut Gateway, now: Now) -> Vec<(Severity, String)> {
    let mut lines = Vec::new();
    gateway.leader.tick(now, &mut |event| lines.push((event.severity, event.text)));
    lines
}

fn series(gateway: &mut Gateway, name: &str, now: Now) -> f64 {
    let text = gateway.workers[0].metrics(now);
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.trim().parse().unwrap()
}

/// Lets port 1 fail until it is not picked any more, a request every `gap` seconds from `from` on: how often it failed.
fn fail_until_out(gateway: &mut Gateway, from: f64, gap: f64, most: u32) -> Option<u32> {
    let mut failed = 0;
    let (mut second, mut quiet) = (from, 0);
    while failed < most {
        let port = request(gateway, (second * 10.0) as usize % gateway.workers.len(), at(second), |port| {
            if port == 1 { TryEnd::Failed } else { TryEnd::Answered(0) }
        });
        (failed, quiet) = if port == 1 { (failed + 1, 0) } else { (failed, quiet + 1) };
        // Who has failed gets one request in two hundred at least, until it is out.
        if quiet > 3_000 {
            return Some(failed);
        }
        if port == 1 {
            second += gap;
        }
    }
    None
}

#[test]
fn passive_health_is_on_and_can_be_told_how_patient_to_be() {
    for (rest, gap, expected) in [
        ("", 0.01, Some(5)),
        ("", 2.4, Some(5)),
        ("", 2.6, None), // five in 10.4 s
        (", health: {passive: {failures: 2}}", 0.01, Some(2)),
        (", health: {passive: {failures: 9}}", 0.01, Some(9)),
        (", health: {passive: {failures: 3, window: 1s}}", 0.45, Some(3)),
        (", health: {passive: {failures: 3, window: 1s}}", 0.55, None),
        (", outlier: {consecutive_5xx: 3}", 20.0, Some(3)), // however long it takes
        (", outlier: {}", 20.0, Some(5)),
        (", max_ejection_percent: 0", 0.01, None),
    ] {
        let mut gateway = Gateway::new(&document(3, rest), 3);
        assert_eq!(fail_until_out(&mut gateway, 0.0, gap, 40), expected, "{rest} every {gap} s");
    }
}

#[test]
fn a_good_answer_ends_a_row() {
    let mut gateway = Gateway::new(&document(2, ", outlier: {consecutive_5xx: 4}"), 1);
    let mut turn = 0;
    for _ in 0..3_000 {
        request(&mut gateway, 0, at(0.0), |port| {
            turn += usize::from(port == 1);
            match port {
                1 if turn % 4 == 0 => TryEnd::Answered(404),
                1 => TryEnd::Answered([500, 502, 503][turn % 3]),
                _ => TryEnd::Answered(200),
            }
        });
    }
    assert_eq!(met(&mut gateway, 1_000, at(0.0)).len(), 2, "three failures in a row at most");
}

#[test]
fn what_happens_is_told_once_counted_and_explained() {
    let mut gateway = Gateway::new(&document(3, ""), 2);
    assert_eq!(tick(&mut gateway, at(0.1)), []);
    assert_eq!(fail_until_out(&mut gateway, 0.2, 0.01, 40), Some(5));
    let [(Severity::Warning, text)] = &tick(&mut gateway, at(0.5))[..] else { panic!() };
    assert!(text.starts_with("upstream \"u\": 127.0.0.1:1 is ejected for 30 s: it failed again and again"), "{text}");
    assert_eq!(tick(&mut gateway, at(0.8)), []);
    for (name, expected) in [
        ("gateway_upstream_peers{upstream=\"u\",state=\"available\"}", 2.0),
        ("gateway_upstream_peers{upstream=\"u\",state=\"ejected\"}", 1.0),
        ("gateway_peer_ejections_total{upstream=\"u\"}", 1.0),
    ] {
        assert_eq!(series(&mut gateway, name, at(1.0)), expected, "{name}");
    }
    let mut notes = Notes::default();
    gateway.workers[0].access_with(&Fake::get("/"), Entry::First, at(10.2), &mut Ticket::new(), &mut notes);
    let told: Vec<&str> = notes
        .0
        .iter()
        .filter(|(step, text)| *step == Step::Balancer && text.contains("127.0") | text.contains("picked"))
        .map(|(_, text)| text.as_str())
        .collect();
    assert!(told.len() == 2 && told[1] == "2 of 3 can be picked", "{told:?}");
    assert!(told[0].starts_with("127.0.0.1:1 is ejected for 21 more s: it failed again and again"), "{told:?}");

    let [(Severity::Notice, text)] = &tick(&mut gateway, at(31.0))[..] else { panic!() };
    assert_eq!(text, "upstream \"u\": 127.0.0.1:1 is back after its ejection");
    assert_eq!(tick(&mut gateway, at(31.5)), []);
    assert_eq!(met(&mut gateway, 1_000, at(60.0)).len(), 3);
    // The second one lasts twice as long.
    assert!(fail_until_out(&mut gateway, 61.0, 0.01, 40).is_some());
    let [(Severity::Warning, text)] = &tick(&mut gateway, at(61.5))[..] else { panic!() };
    assert!(text.contains("ejected for 60 s"), "{text}");
}

#[test]
fn an_outlier_is_found_by_comparison_and_what_all_do_is_nobodys_fault() {
    const RULE: &str = ", outlier: {error_ratio: 20%, minimum_calls: 20}";
    // Per port, every how manyth request fails; 0 = none.
    for (rest, every, out) in [
        (RULE, [3, 0, 0, 0], vec![1]),
        (RULE, [3, 3, 3, 3], vec![]),
        (RULE, [6, 0, 0, 0], vec![]),  // one in six is below the rule
        (RULE, [2, 0, 2, 0], vec![1]), // the ceiling of one allows no other
        (", outlier: {error_ratio: 20%, minimum_calls: 100000}", [2, 0, 0, 0], vec![]),
        ("", [3, 0, 0, 0], vec![]),
    ] {
        let ceiling = if out.len() == 1 { ", max_ejection_percent: 25" } else { "" };
        let mut gateway = Gateway::new(&document(4, &format!("{rest}{ceiling}")), 2);
        let mut seen = [0; 4];
        for turn in 0..4_200 {
            let now = at(f64::from(turn) / 200.0);
            request(&mut gateway, turn as usize % 2, now, |port| {
                let index = usize::from(port - 1);
                seen[index] += 1;
                match every[index] {
                    0 => TryEnd::Answered(200),
                    each if seen[index] % each == 0 => TryEnd::Answered(503),
                    _ => TryEnd::Answered(200),
                }
            });
            if turn % 50 == 0 {
                tick(&mut gateway, now);
            }
        }
        let ports = met(&mut gateway, 3_000, at(21.0));
        let gone: Vec<u16> = (1..=4).filter(|port| !ports.contains_key(port)).collect();
        assert_eq!(gone.len(), out.len(), "{rest} {every:?}: {ports:?}");
        assert!(gone.iter().all(|port| every[usize::from(port - 1)] > 0), "{rest} {every:?}: {ports:?}");
    }
}

#[test]
fn tries_that_say_nothing_do_not_thin_out_the_ratio() {
    let mut gateway = Gateway::new(&document(2, ", outlier: {error_ratio: 40%, minimum_calls: 20}"), 1);
    let mut seen = 0;
    for turn in 0..4_200 {
        let now = at(f64::from(turn) / 200.0);
        request(&mut gateway, 0, now, |port| {
            seen += u32::from(port == 1);
            // Half of what counts fails; three of four are closed connections and clients that went away.
            match (port, seen % 8) {
                (1, 0) => TryEnd::Answered(503),
                (1, 1..=3) => TryEnd::Stale,
                (1, 4..=6) => TryEnd::Answered(0),
                _ => TryEnd::Answered(200),
            }
        });
        if turn % 50 == 0 {
            tick(&mut gateway, now);
        }
    }
    assert!(!met(&mut gateway, 1_000, at(21.0)).contains_key(&1));
}

#[test]
fn an_edit_that_lowers_the_ceiling_brings_peers_back() {
    let mut gateway = Gateway::new(&document(4, ""), 1);
    let fail = |gateway: &mut Gateway, now: Now| {
        for _ in 0..3_000 {
            request(gateway, 0, now, |port| if port < 4 { TryEnd::Failed } else { TryEnd::Answered(200) });
        }
    };
    fail(&mut gateway, at(0.0));
    assert_eq!(met(&mut gateway, 1_000, at(1.0)).len(), 2, "half are out, though three fail");
    tick(&mut gateway, at(1.0));
    gateway.load(&document(4, ", max_ejection_percent: 25"), at(2.0));
    tick(&mut gateway, at(2.5));
    let lines = tick(&mut gateway, at(3.0));
    assert!(lines.iter().any(|(_, text)| text.contains("is back")), "{lines:?}");
    assert_eq!(met(&mut gateway, 1_000, at(3.0)).len(), 3);
    // All out: all are used.
    gateway.load(&document(4, ", max_ejection_percent: 100"), at(4.0));
    for _ in 0..3_000 {
        request(&mut gateway, 0, at(4.0), |_| TryEnd::Failed);
    }
    tick(&mut gateway, at(5.0));
    assert_eq!(series(&mut gateway, "gateway_upstream_peers{upstream=\"u\",state=\"ejected\"}", at(5.0)), 4.0);
    assert_eq!(met(&mut gateway, 1_000, at(5.0)).len(), 4, "panic");
}

#[test]
fn an_edit_of_the_peers_neither_resets_nor_refills_the_retry_budget() {
    let mut gateway = Gateway::new(&document(3, ", retries: {budget: 20%}"), 2);
    let mut retried = 0;
    for turn in 0..100 {
        if turn % 10 == 5 {
            let nodes = 3 + (turn / 10 % 2) as u16;
            gateway.load(&document(nodes, ", retries: {budget: 20%}, max_ejection_percent: 0"), at(0.0));
        }
        let (_, mut ticket) = gateway.access(turn % 2, &Fake::get("/"), at(0.0));
        let worker = &mut gateway.workers[turn % 2];
        worker.pick(&mut ticket, at(0.0), |_| ()).unwrap();
        worker.tried(&mut ticket, TryEnd::Failed, at(0.0));
        if worker.pick(&mut ticket, at(0.0), |_| ()).is_ok() {
            retried += 1;
            worker.tried(&mut ticket, TryEnd::Answered(200), at(0.0));
        }
    }
    assert_eq!(retried, 23, "20 of 100 and 3 for nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails, whoever sees it and whenever the leader looks: no more peers are out than may be.
    #[test]
    fn the_ceiling_holds(
        nodes in 1_u16..7,
        percent in 0_u8..=100,
        steps in prop::collection::vec((0_u32..4, 0_usize..3, any::<bool>(), any::<bool>()), 1..400),
    ) {
        let rest = format!(
            ", health: {{passive: {{failures: 2}}}}, outlier: {{error_ratio: 10%, minimum_calls: 1}}, max_ejection_percent: {percent}"
        );
        let mut gateway = Gateway::new(&document(nodes, &rest), 3);
        let most = usize::from(nodes) * usize::from(percent) / 100;
        let mut second = 0.0;
        for (wait, worker, fails, looks) in steps {
            second += f64::from(wait) * 1.7;
            let end = if fails { TryEnd::Failed } else { TryEnd::Answered(200) };
            request(&mut gateway, worker, at(second), |_| end);
            if looks {
                tick(&mut gateway, at(second));
            }
            let region = gateway.heap.region();
            let peers = Peers::new(region.peer_words());
            let out = peers.snapshots(at(second).mono).filter(|(_, peer)| !peer.standing.available).count();
            prop_assert!(out <= most, "{out} of {nodes} at {percent} %");
        }
    }
}
