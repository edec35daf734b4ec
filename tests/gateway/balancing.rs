//! Algorithms, limits per node and keys, as requests meet them through all three calls.

use std::collections::{BTreeMap, HashSet};

use gateway::balancer::Crc;
use gateway::gateway::{Decision, Entry, Notes, Outcome, Reply, Step, Ticket, TryEnd};
use gateway::types::Reason;
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, pick, token};

fn upstream(rest: &str) -> String {
    document(&format!(
        r#"
upstreams:
  - name: u
    nodes: [{{host: 127.0.0.1, port: 1, weight: 5}}, {{host: 127.0.0.1, port: 2}}, {{host: 127.0.0.1, port: 3}}]
    {rest}
routes:
  - {{name: r, paths: ["/*", "/u/{{id}}"], upstream: u}}
  - {{name: known, paths: ["/known"], upstream: u, auth: [staff]}}
"#
    ))
}

fn send(gateway: &mut Gateway, worker: usize, request: &Fake) -> (String, Ticket) {
    let (decision, mut ticket) = gateway.access(worker, request, at(0.0));
    assert_eq!(decision, Decision::Forward);
    (pick(gateway, worker, &mut ticket, at(0.0)), ticket)
}

fn end(gateway: &mut Gateway, worker: usize, mut ticket: Ticket) {
    gateway.workers[worker].tried(&mut ticket, TryEnd::Answered(200), at(0.001));
    let outcome = Outcome { status: 200, upstream_status: 200, aborted: false };
    gateway.workers[worker].complete(&mut ticket, &outcome, at(0.001));
}

#[test]
fn round_robin_is_one_sequence_over_all_workers_and_edits_of_others_leave_it_alone() {
    let mut gateway = Gateway::new(&upstream("algorithm: round_robin"), 3);
    let mut seen = String::new();
    for turn in 0..14 {
        let (peer, ticket) = send(&mut gateway, turn % 3, &Fake::get("/"));
        end(&mut gateway, turn % 3, ticket);
        seen.push_str(&peer[10..]);
        if turn == 5 {
            gateway.load(&upstream("algorithm: round_robin\n    breaker: {failures: 7}"), at(0.0));
        }
    }
    assert_eq!(seen, "11213111121311");
}

#[test]
fn a_node_at_its_limit_is_passed_over_and_all_at_theirs_are_busy() {
    for algorithm in ["adaptive", "round_robin", "least_conn", "p2c_ewma", "random", "hash\n    hash_on: [ip]"] {
        let mut gateway = Gateway::new(&upstream(&format!("algorithm: {algorithm}\n    max_in_flight: 2")), 2);
        let mut held = Vec::new();
        let mut counts = BTreeMap::new();
        for turn in 0..6 {
            let (peer, ticket) = send(&mut gateway, turn % 2, &Fake::get("/"));
            *counts.entry(peer).or_insert(0) += 1;
            held.push((turn % 2, ticket));
        }
        assert!(counts.len() == 3 && counts.values().all(|count| *count == 2), "{algorithm}: {counts:?}");
        let (decision, _) = gateway.access(0, &Fake::get("/"), at(0.0));
        let Decision::Reply(Reply { reason, retry_after, .. }) = decision else { panic!("{algorithm}: {decision:?}") };
        assert_eq!((reason, reason.status(), retry_after), (Reason::UpstreamBusy, 503, 1), "{algorithm}");

        // One that was let in while there was room, as its body took long.
        let (worker, ticket) = held.pop().unwrap();
        end(&mut gateway, worker, ticket);
        let (decision, mut late) = gateway.access(0, &Fake::get("/"), at(0.0));
        assert_eq!(decision, Decision::Forward, "{algorithm}");
        let (peer, ticket) = send(&mut gateway, 1, &Fake::get("/"));
        assert!(peer.starts_with("127"), "{algorithm}: {peer}");
        assert_eq!(pick(&mut gateway, 0, &mut late, at(0.0)), "upstream.busy", "{algorithm}");
        end(&mut gateway, 1, ticket);
    }
}

#[test]
fn limits_hold_whatever_workers_do_at_once() {
    let mut gateway = Gateway::new(&upstream("max_in_flight: 3"), 8);
    let workers = std::mem::take(&mut gateway.workers);
    let most = std::sync::atomic::AtomicU32::new(0);
    let per_peer: Vec<_> = (0..3).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for mut worker in workers {
            let (most, per_peer) = (&most, &per_peer);
            scope.spawn(move || {
                for _ in 0..500 {
                    let mut held = Vec::new();
                    for _ in 0..3 {
                        let mut ticket = Ticket::new();
                        if worker.access(&Fake::get("/"), Entry::First, at(0.0), &mut ticket) != Decision::Forward {
                            continue;
                        }
                        let Ok(port) = worker.pick(&mut ticket, at(0.0), |peer| peer.port) else {
                            worker.abandon(&mut ticket);
                            continue;
                        };
                        let there = &per_peer[usize::from(port) - 1];
                        let count = 1 + there.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        most.fetch_max(count, std::sync::atomic::Ordering::SeqCst);
                        held.push((port, ticket));
                    }
                    for (port, mut ticket) in held {
                        per_peer[usize::from(port) - 1].fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        worker.abandon(&mut ticket);
                    }
                }
            });
        }
    });
    let most = most.into_inner();
    assert!((1..=3).contains(&most), "{most}");
}

#[test]
fn the_same_key_goes_to_the_same_node_and_none_goes_round() {
    type Numbered = Box<dyn Fn(usize) -> Fake>;
    let cases: Vec<(&str, Numbered)> = vec![
        ("ip", Box::new(|n| Fake::get("/").client(n as u8))),
        ("\"header:X-User\"", Box::new(|n| Fake::get("/").header("x-user", &format!("user-{n}")))),
        ("\"cookie:sid\"", Box::new(|n| Fake::get("/").header("cookie", &format!("a=b; sid=user-{n}")))),
        ("\"path:id\"", Box::new(|n| Fake::get(&format!("/u/user-{n}")))),
        ("consumer", Box::new(|n| Fake::get("/known").bearer(&token(&format!("user-{n}"), json!({}))))),
        ("\"claim:team\"", Box::new(|n| Fake::get("/known").bearer(&token("x", json!({"team": format!("user-{n}")}))))),
    ];
    for (key, request) in cases {
        let mut gateway = Gateway::new(&upstream(&format!("algorithm: hash\n    hash_on: [{key}]")), 2);
        let mut homes: Vec<String> = Vec::new();
        for round in 0..3 {
            for n in 1..40 {
                let (peer, ticket) = send(&mut gateway, round % 2, &request(n));
                end(&mut gateway, round % 2, ticket);
                match homes.get(n - 1) {
                    None => homes.push(peer),
                    Some(home) => assert_eq!(&peer, home, "{key} {n}"),
                }
            }
        }
        assert!(homes.iter().collect::<HashSet<_>>().len() == 3, "{key}");
        if key != "ip" {
            let absent =
                if key.contains("claim") { Fake::get("/known").bearer(&token("x", json!({}))) } else { Fake::get("/") };
            let mut seen = String::new();
            for _ in 0..7 {
                let (peer, ticket) = send(&mut gateway, 0, &absent);
                end(&mut gateway, 0, ticket);
                seen.push_str(&peer[10..]);
            }
            assert_eq!(seen, "1121311", "{key}: as round_robin");
        }
    }
}

#[test]
fn several_keys_are_joined_as_nginx_would_join_them() {
    let mut one = Gateway::new(&upstream("algorithm: hash\n    hash_on: [\"header:x\"]"), 1);
    let mut two = Gateway::new(&upstream("algorithm: hash\n    hash_on: [\"header:a\", \"header:b\"]"), 1);
    for n in 0..100 {
        let (joined, ticket) = send(&mut one, 0, &Fake::get("/").header("x", &format!("{n}:y")));
        end(&mut one, 0, ticket);
        let (parts, ticket) = send(&mut two, 0, &Fake::get("/").header("a", &n.to_string()).header("b", "y"));
        end(&mut two, 0, ticket);
        assert_eq!(joined, parts);
    }
    assert_eq!(Crc::EMPTY.with(b"1").with(b":").with(b"y"), Crc::EMPTY.with(b"1:y"));
}

#[test]
fn it_is_told_how_a_node_will_be_chosen() {
    for (rest, request, expected) in [
        ("algorithm: least_conn", Fake::get("/"), "\"u\": least_conn among 3 nodes"),
        ("algorithm: hash\n    hash_on: [ip]", Fake::get("/"), "\"u\": hash gives its key to 127.0.0.1:"),
        (
            "algorithm: hash\n    hash_on: [\"header:x\"]",
            Fake::get("/"),
            "\"u\": no key to hash, so round_robin among 3 nodes",
        ),
    ] {
        let mut gateway = Gateway::new(&upstream(rest), 1);
        let (mut notes, mut ticket) = (Notes::default(), Ticket::new());
        gateway.workers[0].access_with(&request, Entry::First, at(0.0), &mut ticket, &mut notes);
        let told = notes.0.iter().find(|(step, _)| *step == Step::Balancer).unwrap();
        assert!(told.1.starts_with(expected), "{told:?}");
        if let Some(home) = told.1.strip_prefix("\"u\": hash gives its key to ") {
            assert_eq!(pick(&mut gateway, 0, &mut ticket, at(0.0)), home);
        }
    }
}

#[test]
fn statistics_and_turns_live_across_edits_of_nodes() {
    let nodes = |list: &str| {
        document(&format!(
            "\nupstreams: [{{name: u, algorithm: round_robin, nodes: [{list}]}}]\nroutes: [{{name: r, paths: [\"/*\"], upstream: u}}]\n"
        ))
    };
    let node = |n: u32| format!("{{host: 127.0.0.1, port: {n}}}");
    let mut gateway = Gateway::new(&nodes(&[1, 2, 3].map(node).join(",")), 2);
    for round in 0..50_usize {
        let (peer, ticket) = send(&mut gateway, round % 2, &Fake::get("/"));
        assert!(peer.starts_with("127.0.0.1:"), "{peer}");
        // Nodes come and go while the request is under way.
        let list: Vec<String> = (1..=1 + (round as u32 * 7) % 5).map(node).collect();
        gateway.load(&nodes(&list.join(",")), at(0.0));
        end(&mut gateway, round % 2, ticket);
    }
    gateway.load(&nodes(&[1, 2].map(node).join(",")), at(0.0));
    let peers = gateway::state::tables::peers::Peers::new(gateway.heap.peer_words());
    let known: Vec<_> = peers.snapshots(at(1.0).mono).collect();
    assert!(known.len() >= 2 && known.iter().all(|(_, peer)| peer.in_flight == 0), "{known:?}");
    assert!(known.iter().map(|(_, peer)| peer.picks).sum::<u64>() >= 20, "{known:?}");
}
