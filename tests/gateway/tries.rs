//! The tries of a request.

use std::collections::HashSet;

use gateway::gateway::{Decision, Ticket, TryEnd};

use crate::support::{Fake, Gateway, at};
use crate::{document, pick};

fn upstreams(attempts: u8, budget: &str) -> String {
    document(&format!(
        r#"
upstreams:
  - name: u
    nodes: [{{host: 127.0.0.1, port: 1}}, {{host: 127.0.0.1, port: 2}}, {{host: 127.0.0.1, port: 3, priority: 1}}]
    retries: {{attempts: {attempts}, budget: {budget}}}
routes: [{{name: r, paths: ["/*"], upstream: u}}]
"#
    ))
}

fn ticket(gateway: &mut Gateway) -> Ticket {
    let (decision, ticket) = gateway.access(0, &Fake::get("/"), at(0.0));
    assert_eq!(decision, Decision::Forward);
    ticket
}

#[test]
fn who_was_tried_is_not_tried_again_and_backups_come_last() {
    for _ in 0..100 {
        // Afresh: who fails five times is ejected.
        let mut gateway = Gateway::new(&upstreams(10, "100%"), 2);
        let mut ticket = ticket(&mut gateway);
        assert_eq!(ticket.attempts(), 3, "as many as there are peers");
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(pick(&mut gateway, 0, &mut ticket, at(0.0)));
            gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
            // The requests that pay for the retries.
            for _ in 0..3 {
                self::ticket(&mut gateway);
            }
        }
        let first: HashSet<&str> = seen[..2].iter().map(String::as_str).collect();
        assert_eq!(first, HashSet::from(["127.0.0.1:1", "127.0.0.1:2"]));
        assert_eq!(seen[2..], ["127.0.0.1:3", "upstream.none"]);
    }
}

#[test]
fn no_more_attempts_than_the_document_says() {
    for attempts in 1..4 {
        let mut gateway = Gateway::new(&upstreams(attempts, "100%"), 1);
        let mut ticket = ticket(&mut gateway);
        for attempt in 0..4 {
            let expected = attempt < attempts.min(3);
            let picked = pick(&mut gateway, 0, &mut ticket, at(0.0));
            assert_eq!(picked != "upstream.none", expected, "attempt {attempt} of {attempts}: {picked}");
            gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
        }
    }
}

#[test]
fn the_budget_is_one_for_all_workers() {
    let mut gateway = Gateway::new(&upstreams(2, "20%"), 2);
    let mut retried = 0;
    for turn in 0..100 {
        let (_, mut ticket) = gateway.access(turn % 2, &Fake::get("/"), at(0.0));
        let _ = pick(&mut gateway, turn % 2, &mut ticket, at(0.0));
        gateway.workers[turn % 2].tried(&mut ticket, TryEnd::Failed, at(0.0));
        retried += usize::from(pick(&mut gateway, turn % 2, &mut ticket, at(0.0)) != "upstream.none");
        gateway.workers[turn % 2].tried(&mut ticket, TryEnd::Answered(200), at(0.0));
    }
    assert_eq!(retried, 23, "20 of 100 and 3 for nothing");
}

#[test]
fn a_stale_connection_is_no_try_and_who_failed_before_stays_tried() {
    let mut gateway = Gateway::new(&upstreams(2, "0%"), 1);
    for _ in 0..20 {
        let mut ticket = ticket(&mut gateway);
        // However many kept connections turn out to be closed: nothing of attempts or budget is used.
        for _ in 0..10 {
            assert_ne!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "upstream.none");
            gateway.workers[0].tried(&mut ticket, TryEnd::Stale, at(0.0));
        }
        assert_ne!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "upstream.none");
        gateway.workers[0].tried(&mut ticket, TryEnd::Answered(200), at(0.0));
    }
    let mut gateway = Gateway::new(&upstreams(3, "100%"), 1);
    for _ in 0..50 {
        let mut ticket = ticket(&mut gateway);
        let failed = pick(&mut gateway, 0, &mut ticket, at(0.0));
        gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
        let stale = pick(&mut gateway, 0, &mut ticket, at(0.0));
        gateway.workers[0].tried(&mut ticket, TryEnd::Stale, at(0.0));
        let again = pick(&mut gateway, 0, &mut ticket, at(0.0));
        assert_ne!(failed, again);
        assert_eq!(stale, again, "the only one of its priority that is left");
        gateway.workers[0].tried(&mut ticket, TryEnd::Answered(200), at(0.0));
    }
}

#[test]
fn a_peer_that_fails_loses_its_share_to_the_other() {
    let mut gateway = Gateway::new(&upstreams(2, "20%"), 2);
    let mut failed = 0;
    for turn in 0..4_500 {
        let now = at(f64::from(turn) / 100.0);
        let worker = turn as usize % 2;
        let (_, mut ticket) = gateway.access(worker, &Fake::get("/"), now);
        let peer = pick(&mut gateway, worker, &mut ticket, now);
        let end = if peer == "127.0.0.1:1" { TryEnd::Failed } else { TryEnd::Answered(200) };
        if turn >= 1_000 && end == TryEnd::Failed {
            failed += 1;
        }
        let then = now.plus(5_000);
        gateway.workers[worker].answered(&mut ticket, then);
        gateway.workers[worker].tried(&mut ticket, end, then);
        gateway.leader.tick(then, &mut |event| {
            let told = event.text.contains("127.0.0.1:1 is ejected") || event.text.contains("127.0.0.1:1 is back");
            assert!(told, "{event:?}");
        });
    }
    // Ejected in the first second and for 30 s, asked again, ejected for 60 s.
    assert!((1..=10).contains(&failed), "{failed} of 3,500");
}
