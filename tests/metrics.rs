//! Metrics from the request to the text that Prometheus reads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use gateway::balancer;
use gateway::metrics::{BreakerGauge, CanaryGauge, Gauges, LoadGauge, LogGauge, Names, Series, UpstreamGauge, render};
use gateway::state::tables::shards::Shard;
use gateway::types::{Id, Method};

const ORDERS: Id = Id { slot: 1, birth: 70_001 };
const ODD: Id = Id { slot: 2, birth: 5 };
const GONE: Id = Id { slot: 3, birth: 6 };
const RULE: Id = Id { slot: 9, birth: 7 };
const UPSTREAM: Id = Id { slot: 4, birth: 2 };

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

struct Policy;

impl Names for Policy {
    fn route(&self, slot: u32, birth: u16) -> Option<&str> {
        match slot {
            1 if birth == 70_001_u32 as u16 => Some("orders"),
            2 => Some("a\"b\\c\nd"),
            _ => None,
        }
    }

    fn rule(&self, id: Id) -> Option<&str> {
        (id == RULE).then_some("per-ip")
    }

    fn peer(&self, key: u64) -> Option<(&str, &str)> {
        (key == peer() & Series::PEER_KEY).then_some(("pool", "10.0.0.1:80"))
    }
}

fn peer() -> u64 {
    balancer::key(UPSTREAM, "10.0.0.1", 80)
}

/// Reads the text as strictly as a scraper: every sample belongs to the family above it, no series twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut lines = text.lines().peekable();
    assert!(text.ends_with('\n'));
    while let Some(help) = lines.next() {
        let rest = help.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no HELP: {help}"));
        let (family, words) = rest.split_once(' ').unwrap();
        assert!(!words.is_empty() && families.insert(family.to_owned()), "{family} twice");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap().to_owned();
        assert!(["counter", "gauge", "histogram", "summary"].contains(&kind.as_str()));
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let fits = match kind.as_str() {
                "summary" => ["_sum", "_count"].iter().any(|end| name == format!("{family}{end}")),
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{family}{end}")),
                _ => name == family,
            };
            assert!(fits, "{line} in {family}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
    }
    samples
}

fn text(shards: &[Vec<AtomicU64>], gauges: &Gauges) -> BTreeMap<String, f64> {
    parse(&render(shards.iter().map(Vec::as_slice), &Policy, gauges).unwrap())
}

#[test]
fn every_family_is_there_before_anything_was_counted() {
    let text = render([], &Policy, &Gauges::default()).unwrap();
    for (family, kind) in [
        ("gateway_requests_total", "counter"),
        ("gateway_request_duration_seconds", "histogram"),
        ("gateway_upstream_duration_seconds", "histogram"),
        ("gateway_active_connections", "gauge"),
        ("gateway_rate_limit_hits_total", "counter"),
        ("gateway_canary_requests_total", "counter"),
        ("gateway_canary_errors_total", "counter"),
        ("gateway_canary_duration_seconds", "summary"),
        ("gateway_canary_share_ratio", "gauge"),
        ("gateway_circuit_breaker_state", "gauge"),
        ("gateway_circuit_breaker_forced", "gauge"),
        ("gateway_config_generation", "gauge"),
        ("gateway_config_degraded", "gauge"),
        ("gateway_config_age_seconds", "gauge"),
        ("gateway_region_fill_ratio", "gauge"),
        ("gateway_panics_total", "counter"),
        ("gateway_config_errors_total", "counter"),
    ] {
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        assert!(text.contains(&format!("# TYPE {family} {kind}\n")), "{family}");
    }
    parse(&text);
}

#[test]
fn what_is_counted_is_what_is_read() {
    let shards = [words(Shard::words(64)), words(Shard::words(64))];
    for shard in shards.iter().map(|words| Shard::new(words).unwrap()) {
        shard.request(ORDERS, Method::Get, 200, 800);
        shard.request(ORDERS, Method::Get, 200, 1_000_000);
        shard.request(ORDERS, Method::Get, 499, 20_000_000);
        shard.request(Id::NONE, Method::Other, 404, 1_001);
        shard.request(ODD, Method::Post, 503, 1);
        shard.request(GONE, Method::Get, 200, 1);
        shard.upstream(peer(), 30_000);
        shard.upstream(12_345, 30_000);
        shard.limited(ORDERS, RULE);
        shard.limited(Id::NONE, RULE);
        shard.limited(GONE, RULE);
        shard.connected();
        shard.connected();
        shard.disconnected();
    }
    Shard::new(&shards[0]).unwrap().panicked();
    Shard::new(&shards[1]).unwrap().config_error();
    let samples = text(
        &shards,
        &Gauges {
            generation: 12,
            degraded: true,
            age: 1.5,
            fill: vec![("peers", 0.25)],
            breakers: vec![BreakerGauge { upstream: "pool", state: 2, forced: false }],
            upstreams: vec![UpstreamGauge {
                upstream: "pool",
                peers: 5,
                ejected: 2,
                ejections: 9,
                load: Some(LoadGauge { limit: 7.5, in_flight: 3, shed: 6 }),
            }],
            key_sets: vec![("idp", 7.5)],
            in_flight: vec![("orders", 3)],
            log: Some(LogGauge { written: 40, dropped: 2, waiting: 512, fill: 0.5 }),
            canaries: vec![CanaryGauge { route: "orders", variant: "v2", share: 0.25 }],
        },
    );
    for (series, expected) in [
        (r#"gateway_route_in_flight{route="orders"}"#, 3.0),
        (r#"gateway_canary_share_ratio{route="orders",variant="v2"}"#, 0.25),
        (r#"gateway_requests_total{route="orders",method="GET",status="200"}"#, 4.0),
        (r#"gateway_requests_total{route="orders",method="GET",status="499"}"#, 2.0),
        (r#"gateway_requests_total{route="-",method="OTHER",status="404"}"#, 2.0),
        (r#"gateway_requests_total{route="a\"b\\c\nd",method="POST",status="503"}"#, 2.0),
        (r#"gateway_requests_total{route="other",method="other",status="200"}"#, 2.0),
        (r#"gateway_request_duration_seconds_bucket{route="orders",method="GET",le="0.001"}"#, 2.0),
        (r#"gateway_request_duration_seconds_bucket{route="orders",method="GET",le="0.5"}"#, 2.0),
        (r#"gateway_request_duration_seconds_bucket{route="orders",method="GET",le="1"}"#, 4.0),
        (r#"gateway_request_duration_seconds_bucket{route="orders",method="GET",le="10"}"#, 4.0),
        (r#"gateway_request_duration_seconds_bucket{route="orders",method="GET",le="+Inf"}"#, 6.0),
        (r#"gateway_request_duration_seconds_count{route="orders",method="GET"}"#, 6.0),
        (r#"gateway_request_duration_seconds_sum{route="orders",method="GET"}"#, 42.0016),
        (r#"gateway_request_duration_seconds_bucket{route="-",method="OTHER",le="0.001"}"#, 0.0),
        (r#"gateway_request_duration_seconds_bucket{route="-",method="OTHER",le="0.0025"}"#, 2.0),
        (r#"gateway_upstream_duration_seconds_count{upstream="pool",peer="10.0.0.1:80"}"#, 2.0),
        (r#"gateway_upstream_duration_seconds_count{upstream="other",peer="other"}"#, 2.0),
        (r#"gateway_rate_limit_hits_total{route="orders",rule="per-ip"}"#, 2.0),
        (r#"gateway_rate_limit_hits_total{route="-",rule="per-ip"}"#, 2.0),
        (r#"gateway_rate_limit_hits_total{route="other",rule="other"}"#, 2.0),
        ("gateway_active_connections", 2.0),
        (r#"gateway_circuit_breaker_state{upstream="pool"}"#, 2.0),
        (r#"gateway_upstream_peers{upstream="pool",state="available"}"#, 3.0),
        (r#"gateway_upstream_peers{upstream="pool",state="ejected"}"#, 2.0),
        (r#"gateway_overload_limit{upstream="pool"}"#, 7.5),
        (r#"gateway_overload_in_flight{upstream="pool"}"#, 3.0),
        (r#"gateway_overload_shed_total{upstream="pool"}"#, 6.0),
        (r#"gateway_peer_ejections_total{upstream="pool"}"#, 9.0),
        ("gateway_config_generation", 12.0),
        ("gateway_config_degraded", 1.0),
        ("gateway_config_age_seconds", 1.5),
        (r#"gateway_region_fill_ratio{table="peers"}"#, 0.25),
        (r#"gateway_region_fill_ratio{table="log"}"#, 0.5),
        (r#"gateway_log_lines_total{result="written"}"#, 40.0),
        (r#"gateway_log_lines_total{result="dropped"}"#, 2.0),
        ("gateway_log_waiting_bytes", 512.0),
        (r#"gateway_key_set_age_seconds{auth="idp"}"#, 7.5),
        ("gateway_panics_total", 1.0),
        ("gateway_config_errors_total", 1.0),
    ] {
        let got = samples.get(series).copied();
        assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{series}: {got:?} for {expected}");
    }
    let requests: f64 =
        samples.iter().filter(|(series, _)| series.starts_with("gateway_requests_total")).map(|(_, count)| count).sum();
    assert_eq!(requests, 12.0, "nothing is counted twice");
}

#[test]
fn workers_count_apart_and_add_up_while_somebody_reads() {
    const WORKERS: usize = 4;
    const REQUESTS: u64 = 20_000;
    let shards: Vec<_> = (0..WORKERS).map(|_| words(Shard::words(64))).collect();
    let total = |samples: &BTreeMap<String, f64>| {
        samples
            .iter()
            .filter(|(series, _)| series.starts_with("gateway_requests_total"))
            .map(|(_, count)| *count)
            .sum::<f64>()
    };
    std::thread::scope(|scope| {
        for words in &shards {
            scope.spawn(move || {
                let shard = Shard::new(words).unwrap();
                for request in 0..REQUESTS {
                    let route = if request % 3 == 0 { GONE } else { ORDERS };
                    shard.request(route, Method::Get, [200, 404, 418][request as usize % 3], request);
                    shard.upstream(peer(), request);
                    if request % 50 == 0 {
                        shard.sweep(&Policy);
                    }
                }
            });
        }
        let mut before = BTreeMap::new();
        for _ in 0..20 {
            let now = text(&shards, &Gauges::default());
            for (series, count) in &before {
                assert!(now.get(series).is_some_and(|now| now >= count), "{series} fell");
            }
            before = now;
        }
    });
    let all = WORKERS as f64 * REQUESTS as f64;
    let samples = text(&shards, &Gauges::default());
    assert_eq!(total(&samples), all);
    assert_eq!(samples[r#"gateway_upstream_duration_seconds_count{upstream="pool",peer="10.0.0.1:80"}"#], all);
}

#[test]
fn more_series_than_a_shard_holds_stay_within_its_cap() {
    struct All(Vec<String>);
    impl Names for All {
        fn route(&self, slot: u32, _: u16) -> Option<&str> {
            self.0.get(slot as usize).map(String::as_str)
        }
        fn rule(&self, _: Id) -> Option<&str> {
            None
        }
        fn peer(&self, _: u64) -> Option<(&str, &str)> {
            None
        }
    }
    const ROUTES: u32 = 20_000;
    let names = All((0..ROUTES).map(|route| format!("route-{route}")).collect());
    let words = words(Shard::words(1_000));
    let shard = Shard::new(&words).unwrap();
    for slot in 0..ROUTES {
        shard.request(Id { slot, birth: 1 }, Method::Get, 200, 10);
    }
    let samples = parse(&render([words.as_slice()], &names, &Gauges::default()).unwrap());
    let of = |family: &str| samples.iter().filter(|(series, _)| series.starts_with(family)).collect::<Vec<_>>();
    let requests = of("gateway_requests_total");
    assert!(requests.len() <= 1_001, "{}", requests.len());
    assert_eq!(requests.iter().map(|(_, count)| **count).sum::<f64>(), f64::from(ROUTES));
    assert!(of("gateway_request_duration_seconds_count").len() <= 1_001);
}

#[test]
fn whoever_reads_during_sweeps_sees_no_counter_fall() {
    let words = words(Shard::words(600));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let shard = Shard::new(&words).unwrap();
            while !done.load(Relaxed) {
                for request in 0..5_000 {
                    shard.request(Id { slot: 100 + request % 200, birth: 1 }, Method::Get, 200, 10);
                }
                shard.sweep(&Policy);
            }
        });
        let mut before = 0.0;
        for _ in 0..300 {
            let samples = parse(&render([words.as_slice()], &Policy, &Gauges::default()).unwrap());
            let now = samples.get(r#"gateway_requests_total{route="other",method="other",status="200"}"#);
            let now = now.copied().unwrap_or(0.0);
            if now < before {
                done.store(true, Relaxed);
            }
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
        done.store(true, Relaxed);
    });
}
