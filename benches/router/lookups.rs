//! Lookups.

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;

use gateway::state::{Captures, Identity, Lookup, Reader, View};
use gateway::types::Method;
use rkyv::collections::swiss_table::ArchivedHashMap;
use rkyv::rend::u32_le;
use rkyv::string::ArchivedString;

use crate::harness::{Job, Side, race};
use crate::tables::{self, Request, Table};

/// Bytes that are walked to have nothing else in the cache: twice its size.
const FLUSH: usize = 64 << 20;
/// Requests between two such walks.
const BATCH: usize = 512;

pub fn report(is_asked: &dyn Fn(&str) -> bool) {
    let small: [(&str, &str, Table); 4] = [
        ("static_130", "static", tables::github(false)),
        ("static_130_host", "static", tables::github_host(false)),
        ("param_130", "param", tables::github(true)),
        ("param_130_host", "param", tables::github_host(true)),
    ];
    for (row, kind, table) in small {
        if is_asked(row) {
            routers(row, &table, kind == "static", 200);
        }
    }
    for (size, count) in [("10", 10), ("10k", 10_000), ("100k", 100_000), ("1m", 1_000_000)] {
        for (row, has_hosts) in [(format!("exact_{size}"), false), (format!("exact_{size}_host"), true)] {
            if is_asked(&row) {
                maps(&row, &tables::exact(count, has_hosts), has_hosts);
            }
        }
        let row = format!("param_{size}");
        if is_asked(&row) {
            routers(&row, &tables::param(count), false, (100_000 / count).max(1));
        }
    }
}

/// One lookup after the other, for callgrind.
pub fn job(table: &Table) -> Job {
    let (heap, _) = table.region();
    let requests = table.requests();
    let reader: &'static Reader = Box::leak(Box::new(Reader::claim(heap.region(), Identity::current()).unwrap()));
    let view = reader.enter().unwrap();
    let (mut captures, mut next) = (Captures::new(), 0);
    Box::new(move || {
        ours(&view, &requests[next], &mut captures);
        next = if next + 1 == requests.len() { 0 } else { next + 1 };
    })
}

/// What is timed of ours: a view is entered once in a request, whatever is looked up in it.
fn ours(view: &View<'_>, request: &Request, captures: &mut Captures) {
    let (host, path) = black_box((request.host(), request.path()));
    let found = view.route(host, path.as_bytes(), Method::Get, captures, |_| true);
    black_box(found.found().unwrap().id());
}

/// Ours beside matchit, which knows no hosts, and a hash map where paths are whole.
fn routers(row: &str, table: &Table, is_static: bool, repeat: usize) {
    let (heap, _) = table.region();
    let requests = table.requests();
    let mut matchit = matchit::Router::new();
    let mut map: HashMap<String, u32> = HashMap::new();
    for (index, (_, path)) in table.rules.iter().enumerate() {
        matchit.insert(path.clone(), index as u32).unwrap();
        map.insert(path.clone(), index as u32);
    }
    let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
    let view = reader.enter().unwrap();
    let mut captures = Captures::new();
    let mut sides = vec![
        Side::over("ours", &requests, |request| ours(&view, request, &mut captures)),
        Side::over("matchit, path alone", &requests, |request| {
            black_box(matchit.at(black_box(request.path())).unwrap());
        }),
    ];
    if is_static {
        sides.push(Side::over("HashMap, path alone", &requests, |request| {
            black_box(map.get(black_box(request.path())).unwrap());
        }));
    }
    race(row, requests.len(), repeat, &mut sides, || ());
}

/// Ours beside an archived hash map over the same paths, or over the same hosts and paths; also with the caches
/// flushed before each batch, and asked for what is not there.
fn maps(row: &str, table: &Table, has_hosts: bool) {
    let (heap, _) = table.region();
    let requests = table.requests();
    let whole = table.rules.iter().map(|(host, path)| if has_hosts { format!("{host}\0{path}") } else { path.clone() });
    let map: HashMap<String, u32> = whole.zip(0..).collect();
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&map).unwrap();
    drop(map);
    let map = rkyv::access::<ArchivedHashMap<ArchivedString, u32_le>, rkyv::rancor::Error>(&bytes).unwrap();
    let peer = if has_hosts { "ArchivedHashMap, host and path" } else { "ArchivedHashMap, path alone" };
    let theirs = |request: &Request| {
        let key = black_box(if has_hosts { request.whole() } else { request.path() });
        black_box(map.get(key).unwrap());
    };
    let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
    let view = reader.enter().unwrap();
    let mut captures = Captures::new();
    let mut sides = [
        Side::over("ours", &requests, |request| ours(&view, request, &mut captures)),
        Side::over(peer, &requests, theirs),
    ];
    race(row, requests.len(), (100_000 / requests.len()).max(1), &mut sides, || ());
    drop(sides);

    let mut flush = vec![1_u8; FLUSH];
    let batches = (requests.len() / BATCH).max(1);
    let next = Cell::new(0);
    let batch = || {
        let at = next.get() % batches * BATCH;
        &requests[at..(at + BATCH).min(requests.len())]
    };
    let mut captures = Captures::new();
    let mut sides = [
        Side::once("ours", || batch().iter().for_each(|request| ours(&view, request, &mut captures))),
        Side::once(peer, || batch().iter().for_each(theirs)),
    ];
    race(&format!("{row}_cold"), BATCH.min(requests.len()), 8, &mut sides, || {
        next.set(next.get() + 1);
        flush.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        // The request itself is warm: nginx has just parsed it.
        batch().iter().for_each(|request| _ = black_box(request.whole().bytes().fold(0_u8, u8::wrapping_add)));
    });
    drop(sides);

    let strangers: Vec<Request> = requests.iter().map(Request::stranger).collect();
    let mut captures = Captures::new();
    let mut sides = [
        Side::over("ours", &strangers, |request| {
            let (host, path) = black_box((request.host(), request.path()));
            let found = view.route(host, path.as_bytes(), Method::Get, &mut captures, |_| true);
            assert!(matches!(black_box(found), Lookup::None));
        }),
        Side::over(peer, &strangers, |request| {
            let key = black_box(if has_hosts { request.whole() } else { request.path() });
            assert!(black_box(map.get(key)).is_none());
        }),
    ];
    race(&format!("{row}_miss"), strangers.len(), (100_000 / strangers.len()).max(1), &mut sides, || ());
}
