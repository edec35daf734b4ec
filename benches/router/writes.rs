//! Building, changing, and what it takes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use gateway::config;
use gateway::gateway::publish;
use gateway::state::{HeapRegion, Identity, Reader, Writer};
use gateway::types::{Kind, Methods};

use crate::harness::{Job, summary, timed};
use crate::support::{TestSecrets, at};
use crate::tables::{self, leaked, object, put};

const MANY: usize = 100_000;

/// Builds a thousand routes in a transaction and gives it up.
pub fn build_1k() -> Job {
    let rules = tables::param(1_000).parsed();
    let mut writer = Writer::take(leaked(1_000).region(), Identity::current()).unwrap().unwrap();
    Box::new(move || put(&mut writer.begin(), &rules))
}

pub fn report(is_asked: &dyn Fn(&str) -> bool) {
    if is_asked("build_100k") {
        build();
    }
    if is_asked("change_100k") {
        change();
    }
    if is_asked("yaml_100k") {
        yaml();
    }
}

fn line(row: &str, samples: Vec<f64>, unit: f64, name: &str) {
    let (best, median) = summary(samples);
    println!("{row:<30} {:>10.1} {name} (median), {:.1} (best)", median / unit, best / unit);
}

/// Rules in memory until they are live, in a fresh region each time; and what they take there.
fn build() {
    for (row, table) in [
        ("build_100k_exact", tables::exact(MANY, false)),
        ("build_100k_exact_host", tables::exact(MANY, true)),
        ("build_100k_param", tables::param(MANY)),
    ] {
        let rules = table.parsed();
        let mut samples = Vec::new();
        for _ in 0..5 {
            let heap = HeapRegion::new((64 << 20) + MANY * 1_600, [1, 2]).unwrap();
            let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
            samples.push(timed(1, || {
                let mut change = writer.begin();
                put(&mut change, &rules);
                change.commit();
            }));
            let live = writer.stats().live;
            if samples.len() == 5 {
                line(row, std::mem::take(&mut samples), 1e6, "ms, the transaction");
                let payload = rkyv::to_bytes::<rkyv::rancor::Error>(&object()).unwrap().len();
                let text: usize = table.rules.iter().map(|(host, path)| host.len() + path.len()).sum();
                let names: usize = rules.iter().map(|(name, _)| name.len()).sum();
                let beside = live as f64 / MANY as f64 - payload as f64 - (text + names) as f64 / MANY as f64;
                println!(
                    "{row:<30} {:>10.1} bytes a route in all; {beside:.1} beside object ({payload}), name, host and path",
                    live as f64 / MANY as f64
                );
                let start = Instant::now();
                drop(writer);
                let taken = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
                println!("{row:<30} {:>10.1} ms, takeover of the lease", start.elapsed().as_secs_f64() * 1e3);
                drop(taken);
                break;
            }
        }
    }
}

/// One route changed among many: in the writer, and until a thread with a seat of its own is in the new generation.
fn change() {
    let table = tables::param(MANY);
    let (heap, mut writer) = table.region();
    let rules = table.parsed();
    let mut route = object();
    let base = Instant::now();
    let stop = AtomicBool::new(false);
    let mut began = Vec::new();
    let mut took = Vec::new();
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
            let (mut seen, mut last) = (Vec::new(), 1);
            while !stop.load(Relaxed) {
                let generation = reader.enter().unwrap().generation();
                if generation != last {
                    seen.push((generation, base.elapsed().as_nanos() as f64));
                    last = generation;
                }
            }
            seen
        });
        for turn in 0..20_000_usize {
            let (name, rule) = &rules[turn * 7_919 % MANY];
            route.name.clone_from(name);
            route.timeouts.read = 1_000 + turn as u64;
            let start = base.elapsed().as_nanos() as f64;
            let mut change = writer.begin();
            change.put_route(name, &route, turn as u64, std::slice::from_ref(rule), Methods::ANY, 0, 0).unwrap();
            let generation = change.commit();
            took.push(base.elapsed().as_nanos() as f64 - start);
            began.push((generation, start));
            let until = Instant::now();
            while until.elapsed().as_micros() < 5 {}
        }
        stop.store(true, Relaxed);
        watcher.join().unwrap()
    });
    let of: std::collections::HashMap<u32, f64> = began.into_iter().collect();
    let waits: Vec<f64> = seen.iter().filter_map(|(generation, at)| Some(at - of.get(generation)?)).collect();
    let high = |samples: &[f64]| {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        samples[samples.len() * 99 / 100] / 1e3
    };
    let (took_high, waits_high) = (high(&took), high(&waits));
    line("change_100k", took, 1e3, &format!("us of the writer; p99 {took_high:.1}"));
    line("change_100k_seen", waits, 1e3, &format!("us from its start until seen; p99 {waits_high:.1}"));
}

/// A document of many routes in one file, edited in one place.
fn yaml() {
    let mut text = String::from(
        "version: 1\nupstreams:\n  - name: u\n    nodes:\n      - {host: 127.0.0.1, port: 1}\nroutes:\n",
    );
    for (n, (_, path)) in tables::param(MANY).rules.iter().enumerate() {
        text += &format!("  - name: route-{n}\n    paths: [\"{path}\"]\n    methods: [GET]\n    upstream: u\n");
    }
    println!("{:<30} {:>10.1} MB of text", "yaml_100k", text.len() as f64 / 1e6);
    let heap = leaked(MANY);
    let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
    let (mut parsing, mut publishing, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..6 {
        let edited = text.replacen("/service50000/items", &format!("/service50000/items{turn}"), 1);
        let mut document = None;
        let parse = timed(1, || document = Some(config::parse(&edited, "bench.yaml", &TestSecrets).unwrap().document));
        let document = document.unwrap();
        let mut written = 0;
        let live = timed(1, || written = publish(heap.region(), &mut writer, &document, at(0.0)).unwrap().written);
        if turn == 0 {
            assert!(written > MANY && writer.view().names(Kind::Route).count() == MANY);
            println!("{:<30} {:>10.1} ms, document in memory to live, the first time", "build_100k_document", live / 1e6);
            continue;
        }
        assert_eq!(written, 1);
        parsing.push(parse);
        publishing.push(live);
        both.push(parse + live);
    }
    line("yaml_100k_parse", parsing, 1e6, "ms");
    line("yaml_100k_publish", publishing, 1e6, "ms, one route differs");
    line("yaml_100k_total", both, 1e6, "ms");
}
