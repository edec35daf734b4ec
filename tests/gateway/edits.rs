//! Edits of the document while requests are under way.

use gateway::config;
use gateway::gateway::{Decision, Outcome, Published, Ticket, TryEnd};

use crate::support::{Fake, Gateway, TestSecrets, at};
use crate::{document, metric, pick};

/// Routes `a` and `b` on an upstream with the given nodes, and more of each as written.
fn with(upstream: &str, route_b: &str) -> String {
    document(&format!(
        r#"
limiters: [{{name: l, key: [ip], rate: 1/h, burst: 2}}]
upstreams:
  - {{name: other, nodes: [{{host: 127.0.0.9, port: 9}}]}}
{upstream}
routes:
  - {{name: a, paths: ["/a/*"], upstream: other}}
  - {{name: b, paths: ["/b/*"], limits: [l]{route_b}}}
"#
    ))
}

fn u(nodes: &[u16], more: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|port| format!("{{host: 127.0.0.1, port: {port}}}")).collect();
    format!("  - {{name: u, nodes: [{}], breaker: {{failures: 2, open_for: 30s}}{more}}}", nodes.join(", "))
}

fn publish(gateway: &mut Gateway, text: &str) -> Published {
    let checked = config::parse(text, "test.yaml", &TestSecrets).unwrap_or_else(|errors| panic!("{errors}"));
    gateway.leader.publish(&checked.document, at(0.0)).unwrap()
}

fn upload(gateway: &mut Gateway) -> Ticket {
    let (decision, ticket) = gateway.access(0, &Fake::get("/b/x"), at(0.0));
    assert_eq!(decision, Decision::Forward);
    ticket
}

#[test]
fn only_what_differs_is_written() {
    let one = with(&u(&[1, 2], ""), ", upstream: u");
    let mut gateway = Gateway::new(&one, 1);
    let generation = gateway.heap.generation();
    let same = publish(&mut gateway, &one);
    assert_eq!((same.written, same.removed, same.generation), (0, 0, generation));
    assert_eq!(gateway.heap.generation(), generation);

    for (text, written, removed) in [
        (with(&u(&[1, 2], ""), ", upstream: u, methods: [GET, PUT]"), 1, 0),
        (with(&u(&[1, 2], ""), ", upstream: u, methods: [GET, PUT], priority: 1"), 1, 0),
        (with(&u(&[1, 2], ""), ", upstream: u, methods: [GET, PUT], priority: 1, hosts: [b.example]"), 1, 0),
        (with(&u(&[1, 3], ""), ", upstream: u, methods: [GET, PUT], priority: 1, hosts: [b.example]"), 1, 0),
        (
            with(
                &u(&[1, 3], ""),
                ", upstream: u, methods: [GET, PUT], priority: 1, hosts: [b.example], enabled: false",
            ),
            0,
            1,
        ),
        (with(&u(&[1, 3], ""), ", upstream: other"), 1, 0),
        (with("", ", upstream: other"), 0, 1),
    ] {
        let before = gateway.heap.generation();
        let done = publish(&mut gateway, &text);
        assert_eq!((done.written, done.removed, done.generation), (written, removed, before + 1), "{text}");
    }
}

#[test]
fn buckets_breakers_statistics_and_counters_stay_with_their_names() {
    let mut gateway = Gateway::new(&with(&u(&[1], ""), ", upstream: u"), 2);
    let mut ticket = upload(&mut gateway);
    assert_eq!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "127.0.0.1:1");
    gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 502, upstream_status: 502, aborted: false }, at(0.0));
    // Route and upstream are edited, routes change places, and come to life beside.
    let text =
        with(&u(&[1, 2], ", host: preserve"), ", upstream: u, methods: [GET]") + "  - {name: c, paths: [\"/c\"]}\n";
    publish(&mut gateway, &text);
    let mut ticket = upload(&mut gateway);
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 502, upstream_status: 502, aborted: false }, at(0.0));
    // The second failure opens the breaker, the third request is beyond the bucket's two.
    assert_eq!(gateway.workers[1].breaker_state(&ticket, at(0.0)), "open");
    assert_eq!(gateway.verdict(1, &Fake::get("/b/x"), at(0.0)), "limit.exceeded");
    assert_eq!(gateway.verdict(1, &Fake::get("/b/x").client(2), at(0.0)), "breaker.open");
    let text = gateway.workers[1].metrics(at(0.0));
    assert_eq!(metric(&text, "gateway_requests_total{route=\"b\",method=\"GET\",status=\"502\"}"), 2.0, "{text}");
    assert_eq!(metric(&text, "gateway_upstream_duration_seconds_count{upstream=\"u\",peer=\"127.0.0.1:1\"}"), 1.0);
}

#[test]
fn an_upload_meets_an_edited_upstream() {
    let mut gateway = Gateway::new(&with(&u(&[1], ""), ", upstream: u"), 1);
    let mut ticket = upload(&mut gateway);
    publish(&mut gateway, &with(&u(&[2], ""), ", upstream: u"));
    assert_eq!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "127.0.0.1:2", "the next peer");
    // While it is being tried, its peer goes and another comes.
    publish(&mut gateway, &with(&u(&[3], ""), ", upstream: u"));
    gateway.workers[0].answered(&mut ticket, at(1.0));
    gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(1.0));
    assert_eq!(pick(&mut gateway, 0, &mut ticket, at(1.0)), "127.0.0.1:3");
    gateway.workers[0].tried(&mut ticket, TryEnd::Answered(200), at(1.0));
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 200, upstream_status: 200, aborted: false }, at(1.0));
    let text = gateway.workers[0].metrics(at(1.0));
    assert_eq!(
        metric(&text, "gateway_upstream_duration_seconds_count{upstream=\"u\",peer=\"127.0.0.1:3\"}"),
        1.0,
        "{text}"
    );
    assert!(!text.contains("127.0.0.1:2\""), "{text}");
}

#[test]
fn an_upload_whose_upstream_goes_is_told_so_and_never_gets_anothers() {
    let mut gateway = Gateway::new(&with(&u(&[1], ""), ", upstream: u"), 1);
    let mut early = upload(&mut gateway);
    let mut late = upload(&mut gateway);
    assert_eq!(pick(&mut gateway, 0, &mut late, at(0.0)), "127.0.0.1:1");
    let (_, mut moved) = gateway.access(0, &Fake::get("/b/x").client(9), at(0.0));
    publish(&mut gateway, &with("", ""));
    assert_eq!(pick(&mut gateway, 0, &mut early, at(0.0)), "upstream.gone");
    publish(&mut gateway, &with("", ", upstream: other"));
    assert_eq!(pick(&mut gateway, 0, &mut moved, at(0.0)), "127.0.0.9:9", "where its route leads now");
    gateway.workers[0].tried(&mut moved, TryEnd::Answered(200), at(0.0));
    // One of the same name is another upstream, with a breaker and statistics of its own.
    publish(&mut gateway, &with(&u(&[1], ""), ", upstream: u"));
    gateway.workers[0].tried(&mut late, TryEnd::Failed, at(0.0));
    for ticket in [&mut late, &mut early] {
        gateway.workers[0].complete(ticket, &Outcome { status: 502, upstream_status: 502, aborted: false }, at(0.0));
    }
    let fresh = |gateway: &mut Gateway| gateway.access(0, &Fake::get("/b/x").client(7), at(0.0));
    let (decision, ticket) = fresh(&mut gateway);
    assert_eq!(decision, Decision::Forward);
    assert_eq!(gateway.workers[0].breaker_state(&ticket, at(0.0)), "closed", "two failures were another's");
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(
        metric(&text, "gateway_upstream_duration_seconds_count{upstream=\"u\",peer=\"127.0.0.1:1\"}"),
        0.0,
        "{text}"
    );
}

#[test]
fn a_probe_of_a_breaker_that_goes_and_comes_changes_nothing() {
    let mut gateway = Gateway::new(&with(&u(&[1], ""), ", upstream: u"), 1);
    let mut ticket = upload(&mut gateway);
    for text in [
        with(&u(&[1], "").replace("breaker: {failures: 2, open_for: 30s}", "host: preserve"), ", upstream: u"),
        with(&u(&[1], ""), ", upstream: u"),
    ] {
        publish(&mut gateway, &text);
        assert_eq!(gateway.verdict(0, &Fake::get("/a/x"), at(0.0)), "forward");
    }
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 502, upstream_status: 502, aborted: false }, at(0.0));
    assert_eq!(gateway.workers[0].breaker_state(&ticket, at(0.0)), "closed");
}

#[test]
fn random_edits_lead_no_request_astray() {
    let mut gateway = Gateway::new(&with(&u(&[1], ""), ", upstream: u"), 2);
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut open: Vec<Ticket> = Vec::new();
    let mut completed = 0.0;
    for round in 0..300 {
        let count = 1 + next(20) as usize;
        // Each route has an upstream of its own, whose one node's port is the route's number.
        let mut numbers: Vec<u64> = (0..count).map(|_| 1 + next(40)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if next(2) == 0 {
            numbers.reverse();
        }
        let mut text = String::from("version: 1\nupstreams:\n");
        for n in &numbers {
            text += &format!(
                "  - {{name: u{n}, nodes: [{{host: 127.0.0.1, port: {n}}}], breaker: {{failures: {}}}}}\n",
                5 + round % 3
            );
        }
        text += "routes:\n";
        for n in &numbers {
            text += &format!("  - {{name: r{n}, paths: [\"/{n}/*\"], upstream: u{n}}}\n");
        }
        publish(&mut gateway, &text);
        for n in 1..=40 {
            let (decision, mut ticket) = gateway.access((n % 2) as usize, &Fake::get(&format!("/{n}/x")), at(0.0));
            assert_eq!(decision == Decision::Forward, numbers.contains(&n), "round {round}, {n}");
            if decision == Decision::Forward {
                assert_eq!((ticket.route_name(), ticket.upstream_name()), (&*format!("r{n}"), &*format!("u{n}")));
                open.push(ticket);
            } else {
                gateway.workers[(n % 2) as usize].abandon(&mut ticket);
            }
        }
        while open.len() > 30 {
            let mut ticket = open.swap_remove(next(open.len() as u64) as usize);
            let n = ticket.route_name()[1..].to_owned();
            let worker = n.parse::<usize>().unwrap() % 2;
            let peer = pick(&mut gateway, worker, &mut ticket, at(0.0));
            assert!(peer == format!("127.0.0.1:{n}") || peer == "upstream.gone", "{peer} for {n}");
            gateway.workers[worker].tried(&mut ticket, TryEnd::Answered(200), at(0.0));
            gateway.workers[worker].complete(
                &mut ticket,
                &Outcome { status: 200, upstream_status: 200, aborted: false },
                at(0.0),
            );
            completed += 1.0;
        }
    }
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(metric(&text, "gateway_active_connections"), open.len() as f64);
    let counted: f64 = text
        .lines()
        .filter(|line| line.starts_with("gateway_requests_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(counted, completed, "{text}");
}
