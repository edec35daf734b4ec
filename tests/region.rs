//! The region through its public face: transactions against plain maps, look-ups against a naive matcher.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use gateway::router::pattern::{Host, Path, Rule, Segment, Tail};
use gateway::router::regex::Regex;
use gateway::state::{Captures, HeapRegion, Identity, Lookup, Reader, Refusal, Writer};
use gateway::types::{Id, Kind, Method, Methods, Object};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Route {
    number: u64,
    text: String,
}

impl Object for Route {
    const KIND: Kind = Kind::Route;
}

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Upstream {
    nodes: Vec<String>,
}

impl Object for Upstream {
    const KIND: Kind = Kind::Upstream;
}

const SIZE: usize = 1 << 20;

fn rule(host: &str, path: &str) -> Rule {
    let host = match (host, host.strip_prefix("*.")) {
        ("", _) => Host::Any,
        (_, Some(rest)) => Host::Wildcard(rest.into()),
        _ => Host::Exact(host.into()),
    };
    let (body, tail) = match path.split_once("/{*") {
        Some((body, name)) => (body, Tail::Captured(name.trim_end_matches('}').into())),
        None => match path.strip_suffix("/*") {
            Some(body) => (body, Tail::Any),
            None => (path, Tail::None),
        },
    };
    let path = match (&tail, body.contains('{')) {
        (Tail::None, false) => Path::Exact(body.into()),
        (Tail::Any, false) => Path::Prefix(body.into()),
        _ => {
            let segments = body.split('/').skip(1).map(|segment| match segment.strip_prefix('{') {
                Some(name) => Segment::Param(name.trim_end_matches('}').into()),
                None => Segment::Literal(segment.into()),
            });
            Path::Pattern { segments: segments.collect(), tail }
        }
    };
    Rule { host, path }
}

fn route(number: u64) -> Route {
    Route { number, text: "x".repeat(number as usize % 70) }
}

#[test]
fn from_nothing_to_a_policy_and_back() {
    let owner = HeapRegion::new(SIZE, [1, 2]).unwrap();
    let me = Identity::current();
    let reader = Reader::claim(owner.region(), me).unwrap();
    assert!(reader.enter().is_none(), "no policy yet");
    assert_eq!(owner.seats().next().unwrap().generation, None);
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    assert!(Writer::take(owner.region(), me).unwrap().is_none(), "one writer at a time");

    let mut change = writer.begin();
    let reserved = change.id(Kind::Upstream, "orders").unwrap();
    let id = change
        .put_route("a", &route(1), 11, &[rule("a.example", "/x"), rule("", "/u/{id}/*")], Methods::ANY, 0, 0)
        .unwrap();
    assert_eq!(change.put("orders", &Upstream { nodes: vec!["n1".into()] }, 12).unwrap(), reserved);
    assert_eq!(change.view().id_of(Kind::Route, "a"), Some(id));
    assert_eq!(change.view().digest_of(Kind::Route, "a"), Some(11));
    assert!(reader.enter().is_none(), "nothing is seen before the commit");
    assert_eq!(change.commit(), 1);
    writer.check().unwrap();

    {
        let view = reader.enter().unwrap();
        assert_eq!(view.generation(), 1);
        let found = view.object::<Route>(id).unwrap();
        assert_eq!((found.number.to_native(), found.name(), found.seq(), found.digest()), (1, "a", 1, 11));
        assert!(found.is_intact());
        assert!(view.object::<Upstream>(id).is_none(), "another kind");
        assert!(view.object::<Route>(Id { birth: 2, ..id }).is_none(), "another birth");
        assert_eq!(view.named::<Upstream>("orders").unwrap().nodes[0].as_str(), "n1");
        assert!(view.named::<Upstream>("a").is_none());
        assert_eq!(view.each::<Route>().count(), 1);
        let mut captures = Captures::new();
        let path = b"/u/17/x";
        let found = view.route(b"other", path, Method::Get, &mut captures, |_| true).found().unwrap();
        assert_eq!((found.id(), found.rule()), (id, 1));
        assert_eq!(captures.get(0, path), Some(&b"17"[..]));
        assert_eq!(found.object::<Route>().unwrap().number.to_native(), 1);

        // A change while the reader is inside: its view stays, and keeps its memory.
        let mut change = writer.begin();
        assert!(change.remove(Kind::Route, "a").unwrap());
        assert!(!change.remove(Kind::Route, "a").unwrap());
        assert_eq!(change.commit(), 2);
        assert_eq!(reader.enter().unwrap().generation(), 1, "the second view is of the same generation");
        assert_eq!(view.object::<Route>(id).unwrap().number.to_native(), 1);
        assert_eq!((writer.stats().batches, writer.stats().behind), (1, 1));
        writer.check().unwrap();
    }
    writer.reclaim();
    assert_eq!((writer.stats().batches, writer.stats().waiting), (0, 0));
    let view = reader.enter().unwrap();
    assert!(view.object::<Route>(id).is_none());
    assert!(matches!(view.route(b"", b"/u/1", Method::Get, &mut Captures::new(), |_| true), Lookup::None));
    drop(view);
    let mut change = writer.begin();
    change.remove(Kind::Upstream, "orders").unwrap();
    change.commit();
    writer.check().unwrap();
    assert_eq!(writer.stats().live, 64, "nothing is left but the root record");
}

#[test]
fn a_name_keeps_its_id_as_long_as_it_lives() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let mut writer = Writer::take(owner.region(), Identity::current()).unwrap().unwrap();
    let mut put = |name: &str, number: u64| {
        let mut change = writer.begin();
        let id = change.put(name, &route(number), 0).unwrap();
        change.commit();
        id
    };
    let first = put("a", 1);
    let other = put("b", 2);
    assert_eq!(put("a", 3), first);
    assert_ne!(first.slot, other.slot);
    let mut change = writer.begin();
    change.remove(Kind::Route, "a").unwrap();
    change.commit();
    let mut change = writer.begin();
    let again = change.put("a", &route(1), 0).unwrap();
    assert_eq!(again.slot, first.slot, "slots are used again");
    assert_ne!(again.birth, first.birth, "but never with the same birth");
    assert_eq!(change.view().object::<Route>(first).map(|_| ()), None);
    // An id that got no object by the end loses its name.
    change.id(Kind::Upstream, "never").unwrap();
    change.commit();
    assert_eq!(writer.view().id_of(Kind::Upstream, "never"), None);
    writer.check().unwrap();
}

#[test]
fn a_leaked_transaction_leaves_no_trace() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let mut writer = Writer::take(owner.region(), Identity::current()).unwrap().unwrap();
    for round in 1..50 {
        let mut change = writer.begin();
        change.put("leaked", &route(round), 0).unwrap();
        std::mem::forget(change);
        let mut change = writer.begin();
        assert_eq!(change.view().id_of(Kind::Route, "leaked"), None);
        change.put("kept", &route(round), 0).unwrap();
        assert_eq!(change.commit(), round as u32);
        assert_eq!(writer.view().names(Kind::Route).collect::<Vec<_>>(), ["kept"]);
        writer.check().unwrap();
    }
}

#[test]
fn a_table_is_carried_over_while_its_fingerprint_is_the_same() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let me = Identity::current();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let reader = Reader::claim(owner.region(), me).unwrap();
    let upstream = Upstream { nodes: vec!["n".into(); 3] };
    let mut put = |fingerprint, words: &[u64]| {
        let mut change = writer.begin();
        let id = change.put_with_table("u", &upstream, 0, fingerprint, words).unwrap();
        change.commit();
        writer.check().unwrap();
        id
    };
    put(1, &[1, 2, 3]);
    let read = |expected: &[u64]| {
        let view = reader.enter().unwrap();
        let object = view.named::<Upstream>("u").unwrap();
        let words = view.pick_table(&object).unwrap();
        assert_eq!(words.iter().map(|word| word.load(Relaxed)).collect::<Vec<_>>(), expected);
        words[1].store(9, Relaxed);
    };
    read(&[1, 2, 3]);
    put(1, &[1, 2, 3]);
    read(&[1, 9, 3]);
    put(1, &[1, 2]);
    read(&[1, 2]);
    put(2, &[5, 6]);
    read(&[5, 6]);
    let mut change = writer.begin();
    change.put("u", &upstream, 0).unwrap();
    change.commit();
    writer.check().unwrap();
    assert!(reader.enter().unwrap().named::<Upstream>("u").unwrap().table().is_none());
}

#[test]
fn a_full_zone_refuses_and_can_be_emptied() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let mut writer = Writer::take(owner.region(), Identity::current()).unwrap().unwrap();
    let mut names = Vec::new();
    let full = loop {
        let mut change = writer.begin();
        let name = format!("route-{}", names.len());
        let rules = [rule("a.example", &format!("/{name}/{{id}}")), rule("", &format!("/x/{name}"))];
        match change.put_route(&name, &route(7), 0, &rules, Methods::ANY, 0, 0) {
            Ok(_) => {
                change.commit();
                names.push(name);
            }
            Err(full) => {
                assert_eq!(change.put("again", &route(1), 0).unwrap_err().why, Refusal::Room, "it stays refused");
                assert_eq!(change.commit(), names.len() as u32, "and commits nothing");
                break full;
            }
        }
    };
    assert!(full.why == Refusal::Room && full.needed > 64, "{full:?}");
    assert!(names.len() > 300, "{}", names.len());
    writer.check().unwrap();
    for name in &names {
        let mut change = writer.begin();
        assert!(change.remove(Kind::Route, name).unwrap(), "{name}");
        change.commit();
    }
    writer.check().unwrap();
    assert_eq!((writer.stats().live, writer.stats().objects), (64, 0));
}

#[test]
fn what_a_reader_holds_is_not_taken_for_free() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let me = Identity::current();
    let reader = Reader::claim(owner.region(), me).unwrap();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let mut change = writer.begin();
    let id = change.put("a", &route(5), 1).unwrap();
    change.commit();
    let view = reader.enter().unwrap();
    let seen = view.object::<Route>(id).unwrap();
    let held = loop {
        let mut change = writer.begin();
        match change.put("a", &route(6), 2) {
            Ok(_) => change.commit(),
            Err(full) => break full,
        };
    };
    assert_eq!(held.why, Refusal::Held);
    assert!(seen.is_intact() && seen.number.to_native() == 5);
    writer.check().unwrap();

    // A new writer knows nothing of what waits, and must not hand it out either.
    writer.release();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let mut change = writer.begin();
    assert_eq!(change.put("a", &route(7), 3).unwrap_err().why, Refusal::Held);
    drop(change);
    drop(view);
    let mut change = writer.begin();
    change.put("a", &route(7), 3).unwrap();
    change.commit();
    writer.check().unwrap();
}

#[test]
fn what_the_tree_cannot_hold_is_refused_by_name() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let mut writer = Writer::take(owner.region(), Identity::current()).unwrap().unwrap();
    let mut refused = |name: &str, rules: &[Rule]| {
        let mut change = writer.begin();
        let why = change.put_route(name, &route(1), 0, rules, Methods::ANY, 0, 0).unwrap_err().why;
        change.commit();
        why
    };
    let one = [rule("", "/a")];
    assert_eq!(refused("", &one), Refusal::Name);
    assert_eq!(refused(&"x".repeat(129), &one), Refusal::Name);
    assert_eq!(refused("a", &[rule("", "/a\x02")]), Refusal::Path);
    assert_eq!(refused("a", &[rule("", &format!("{}/*", "/a".repeat(33)))]), Refusal::Path);
    assert_eq!(refused("a", &[rule("a b", "/a")]), Refusal::Host);
    let many: Vec<_> = (0..200).map(|i| rule("", &format!("/{i}/{}", "x".repeat(2000)))).collect();
    assert_eq!(refused("a", &many), Refusal::Keys);
    let shapes: Vec<_> = (0..129_u32)
        .map(|i| rule("", &(0..9).map(|bit| if i >> bit & 1 == 1 { "/a" } else { "/{x}" }).collect::<String>()))
        .collect();
    assert_eq!(refused("a", &shapes), Refusal::Shapes);
    writer.check().unwrap();
    assert_eq!(writer.stats().objects, 0);
}

#[test]
fn a_damaged_tree_is_refused_and_can_be_given_up() {
    let owner = HeapRegion::new(SIZE, [0; 2]).unwrap();
    let me = Identity::current();
    let reader = Reader::claim(owner.region(), me).unwrap();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let mut change = writer.begin();
    let id = change.put_with_table("a", &Upstream { nodes: vec!["node".into(); 9] }, 1, 1, &[7]).unwrap();
    assert_eq!(change.commit(), 1);
    writer.release();
    {
        let view = reader.enter().unwrap();
        let table = view.object::<Upstream>(id).unwrap().table().unwrap().as_ptr();
        // The table's header stands in front of its words.
        // SAFETY: inside the region; nobody else uses it.
        unsafe { table.cast_mut().sub(1).cast::<u32>().write(u32::MAX / 8) };
    }
    assert!(Writer::take(owner.region(), me).is_err());
    assert_eq!(owner.corruptions().load(Relaxed), 1);
    let view = reader.enter().unwrap();
    let mut writer = Writer::reset(owner.region(), me).unwrap();
    assert_eq!(writer.begin().put("b", &route(1), 0).unwrap_err().why, Refusal::Held);
    drop(view);
    assert!(reader.enter().is_none(), "no policy");
    let mut change = writer.begin();
    assert_ne!(change.put("a", &Upstream { nodes: Vec::new() }, 0).unwrap(), id);
    assert_eq!(change.commit(), 2, "generations never repeat");
    writer.check().unwrap();
}

/// A route as the model has it.
#[derive(Clone, Debug)]
struct Known {
    id: Id,
    digest: u64,
    route: Route,
    rules: Vec<Rule>,
    methods: Methods,
    priority: i32,
    conditions: u16,
}

type Model = BTreeMap<String, Known>;

/// The matcher that does what the document says, word by word.
fn naive<'m>(model: &'m Model, host: &str, path: &str) -> Vec<(&'m Known, u16, Vec<String>)> {
    let mut found = Vec::new();
    for (name, known) in model {
        for (index, rule) in known.rules.iter().enumerate() {
            let host_rank = match &rule.host {
                Host::Exact(exact) if exact == host.as_bytes() => (0, 0),
                Host::Wildcard(rest) => {
                    let suffix = format!(".{}", String::from_utf8_lossy(rest));
                    match host.strip_suffix(&suffix) {
                        Some(labels) if !labels.is_empty() => (1, -(rest.len() as i64)),
                        _ => continue,
                    }
                }
                Host::Any => (2, 0),
                Host::Exact(_) => continue,
            };
            let Some((path_rank, captured)) = matched(&rule.path, path) else { continue };
            let text = match &rule.path {
                Path::Regex(text) => text.as_str(),
                _ => "",
            };
            let rank = (host_rank, -known.priority, path_rank, -i32::from(known.conditions), name, text, index);
            found.push((rank, (known, index as u16, captured)));
        }
    }
    found.sort_by(|one, two| one.0.cmp(&two.0));
    found.into_iter().map(|(_, found)| found).collect()
}

/// By kind, then what counts within the kind; the lower one is the better one.
type Rank = (u8, Vec<i64>);

fn matched(rule: &Path, path: &str) -> Option<(Rank, Vec<String>)> {
    match rule {
        Path::Exact(exact) => (exact == path.as_bytes()).then(|| ((0, vec![]), vec![])),
        Path::Prefix(prefix) => {
            let prefix = std::str::from_utf8(prefix).unwrap();
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| ((3, vec![-(prefix.len() as i64)]), vec![]))
        }
        Path::Regex(text) => {
            let (_, prefix) = REGEXES.iter().find(|(known, _)| known == text).unwrap();
            Regex::new(text).unwrap().matches(path.as_bytes()).then(|| ((2, vec![-prefix]), vec![]))
        }
        Path::Pattern { segments, tail } => {
            let asked: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
            let mut rank = Vec::new();
            let mut captured = Vec::new();
            for (index, segment) in segments.iter().enumerate() {
                let asked = asked.get(index)?;
                match segment {
                    Segment::Literal(literal) if literal == asked.as_bytes() => rank.push(0),
                    Segment::Param(_) if !asked.is_empty() => {
                        captured.push((*asked).to_owned());
                        rank.push(1);
                    }
                    _ => return None,
                }
            }
            let rest = &asked[segments.len()..];
            match tail {
                Tail::None if rest.is_empty() => rank.push(2),
                Tail::Any => rank.push(3),
                Tail::Captured(_) if !rest.is_empty() && !rest.join("/").is_empty() => {
                    captured.push(rest.join("/"));
                    rank.push(3);
                }
                _ => return None,
            }
            Some(((1, rank), captured))
        }
    }
}

/// Expressions, each with the length of what everything that it matches begins with.
const REGEXES: [(&str, i64); 12] = [
    ("^/a", 2),
    ("^/a/", 3),
    ("^/a/[ab]", 3),
    ("^/a/b$", 4),
    ("^/a-longer-one/[^/]*$", 14),
    ("^/(a|b)/", 1),
    ("^/a/b/.", 5),
    ("^/a?", 1),
    ("b$", 0),
    ("/a/b", 0),
    ("zz", 0),
    ("^/$", 1),
];

#[derive(Clone, Debug)]
enum Op {
    Put { name: u8, rules: Vec<Rule>, methods: u8, priority: i32, conditions: u16, number: u64 },
    Remove { name: u8 },
    Reserve { name: u8 },
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Commit,
    Abort,
    Die,
}

#[derive(Clone, Debug)]
struct Round {
    ops: Vec<Op>,
    ending: Ending,
    enter: bool,
    requests: Vec<(String, String, u8, u64)>,
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let host = prop::sample::select(vec![
        "",
        "",
        "a.example",
        "b.a.example",
        "c",
        "*.example",
        "*.a.example",
        "*.b.a.example",
        "*.c",
    ]);
    let segment = prop::sample::select(vec!["/a", "/b", "/a-longer-one", "/{x}", "/{y}", "/"]);
    let tail = prop::sample::select(vec!["", "", "/*", "/{*rest}"]);
    let regex = prop::option::weighted(0.25, prop::sample::select(REGEXES.map(|(text, _)| text).to_vec()));
    (host, prop::collection::vec(segment, 0..4), tail, regex)
        .prop_map(|(host, segments, tail, regex)| (host, segments.concat() + tail, regex))
        .prop_filter("no path", |(_, path, _)| !path.is_empty())
        .prop_map(|(host, path, regex)| match regex {
            Some(regex) => Rule { path: Path::Regex(regex.to_owned()), ..rule(host, &path) },
            None => rule(host, &path),
        })
}

fn any_request() -> impl Strategy<Value = (String, String, u8, u64)> {
    let host = prop::sample::select(vec![
        "",
        "a.example",
        "b.a.example",
        "x.b.a.example",
        "y.x.b.a.example",
        "c",
        "c.c",
        "example",
        "z.example",
        ".example",
    ]);
    let segment = prop::sample::select(vec!["/a", "/b", "/a-longer-one", "/zz", "/"]);
    (host, prop::collection::vec(segment, 0..5), 0..3_u8, any::<u64>())
        .prop_map(|(host, segments, method, seed)| (host.to_owned(), segments.concat(), method, seed))
}

fn any_round() -> impl Strategy<Value = Round> {
    let methods = 0..4_u8;
    let priority = prop::sample::select(vec![0, 0, 0, 0, 5, -5]);
    let put = (0..12_u8, prop::collection::vec(any_rule(), 0..5), methods, priority, 0..3_u16, any::<u64>()).prop_map(
        |(name, rules, methods, priority, conditions, number)| Op::Put {
            name,
            rules,
            methods,
            priority,
            conditions,
            number,
        },
    );
    let op = prop_oneof![
        5 => put,
        3 => (0..12_u8).prop_map(|name| Op::Remove { name }),
        1 => (0..16_u8).prop_map(|name| Op::Reserve { name }),
    ];
    let ending = prop_oneof![6 => Just(Ending::Commit), 1 => Just(Ending::Abort), 1 => Just(Ending::Die)];
    (prop::collection::vec(op, 1..8), ending, any::<bool>(), prop::collection::vec(any_request(), 12))
        .prop_map(|(ops, ending, enter, requests)| Round { ops, ending, enter, requests })
}

const SETS: [&[Method]; 4] = [&Method::ALL, &[Method::Get], &[Method::Post], &[Method::Get, Method::Post]];
const ASKED: [Method; 3] = [Method::Get, Method::Post, Method::Delete];

fn set(index: u8) -> Methods {
    match index {
        0 => Methods::ANY,
        other => SETS[usize::from(other)].iter().fold(Methods::NONE, |set, method| set.with(*method)),
    }
}

/// A process that does not exist.
fn stranger(number: u32) -> Identity {
    Identity { pid: i32::MAX as u32 - 1, start: number }
}

fn compare(view: &gateway::state::View<'_>, model: &Model, requests: &[(String, String, u8, u64)]) {
    let mut names: Vec<_> = view.each::<Route>().map(|found| found.name().to_owned()).collect();
    names.sort();
    assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
    for (name, known) in model {
        let found = view.named::<Route>(name).unwrap();
        assert!(found.is_intact());
        assert_eq!((found.id(), found.digest(), found.name()), (known.id, known.digest, name.as_str()));
        assert_eq!(view.object::<Route>(known.id).unwrap().text.as_str(), known.route.text);
    }
    for (host, path, method, seed) in requests {
        let method = ASKED[usize::from(*method)];
        // Some routes have conditions that do not hold.
        let accepts = |digest: u64| !(digest ^ seed).is_multiple_of(4);
        let candidates = naive(model, host, path);
        let expected = candidates.iter().find(|(known, ..)| known.methods.contains(method) && accepts(known.digest));
        let allowed = candidates
            .iter()
            .filter(|(known, ..)| accepts(known.digest))
            .fold(Methods::NONE, |set, (known, ..)| set.union(known.methods));
        let mut captures = Captures::new();
        let mut offered = Vec::new();
        let found = view.route(host.as_bytes(), path.as_bytes(), method, &mut captures, |route| {
            offered.push((route.id(), route.rule()));
            let found = |text| Regex::new(text).unwrap().matches(path.as_bytes());
            route.regex().is_none_or(found) && accepts(route.object::<Route>().unwrap().digest())
        });
        let context = format!("{host} {path} {method:?}\n{candidates:#?}");
        match (expected, found) {
            (Some((known, index, captured)), Lookup::Found(found)) => {
                assert_eq!(found.id(), known.id, "{context}");
                // Rules that differ in the names of parameters alone are one, and so are two with one key.
                assert!(found.rule() <= *index, "{context}");
                let spans: Vec<_> = (0..captures.spans().len())
                    .map(|index| String::from_utf8_lossy(captures.get(index, path.as_bytes()).unwrap()).into_owned())
                    .collect();
                assert_eq!(&spans, captured, "{context}");
            }
            (None, Lookup::MethodNotAllowed(found)) => assert_eq!(found, allowed, "{context}"),
            (None, Lookup::None) => assert_eq!(allowed, Methods::NONE, "{context}"),
            (expected, found) => panic!("{expected:?} {found:?} {context}"),
        }
    }
}

fn run(rounds: Vec<Round>) {
    let owner = HeapRegion::new(SIZE, [3, 4]).unwrap();
    let reader = Reader::claim(owner.region(), Identity::current()).unwrap();
    let other = Reader::claim(owner.region(), Identity::current()).unwrap();
    let mut held = None;
    let mut strangers = 0;
    let mut writer = Writer::take(owner.region(), stranger(strangers)).unwrap().unwrap();
    let mut model = Model::new();
    for (number, round) in rounds.into_iter().enumerate() {
        let mut next = model.clone();
        let mut change = writer.begin();
        let mut refused = false;
        for op in round.ops {
            let result = match op {
                Op::Put { name, mut rules, methods, priority, conditions, number } => {
                    let name = format!("route-{name}");
                    let value = route(number);
                    let methods = set(methods);
                    rules.truncate(4);
                    let put = change.put_route(&name, &value, number, &rules, methods, priority, conditions);
                    put.map(|id| {
                        if let Some(before) = next.get(&name) {
                            assert_eq!(before.id, id, "{name}");
                        }
                        next.insert(
                            name,
                            Known { id, digest: number, route: value, rules, methods, priority, conditions },
                        );
                    })
                }
                Op::Remove { name } => {
                    let name = format!("route-{name}");
                    change.remove(Kind::Route, &name).map(|removed| {
                        // A reserved name is removed too.
                        assert!(removed || !next.contains_key(&name));
                        next.remove(&name);
                    })
                }
                Op::Reserve { name } => change.id(Kind::Route, &format!("route-{name}")).map(|_| ()),
            };
            if let Err(full) = result {
                // The view that is held may keep what a writer died over.
                assert!(full.why == Refusal::Held && held.is_some(), "{full:?}");
                refused = true;
                break;
            }
        }
        match round.ending {
            Ending::Commit => {
                change.commit();
                if !refused {
                    model = next;
                }
            }
            Ending::Abort => drop(change),
            Ending::Die => {
                std::mem::forget(change);
                std::mem::forget(writer);
                strangers += 1;
                writer = Writer::take(owner.region(), stranger(strangers)).unwrap().unwrap();
            }
        }
        writer.check().unwrap();
        if let Some(view) = reader.enter() {
            compare(&view, &model, &round.requests);
        }
        if let Some((view, model)) = &held {
            compare(view, model, &round.requests);
        }
        if round.enter || number % 5 == 4 {
            held = None;
            if round.enter {
                held = other.enter().map(|view| (view, model.clone()));
            }
        }
    }
    drop(held);
    for name in model.keys() {
        let mut change = writer.begin();
        change.remove(Kind::Route, name).unwrap();
        change.commit();
    }
    writer.reclaim();
    writer.check().unwrap();
    assert!(writer.stats().live <= 64, "{:?}", writer.stats());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_transactions_do_what_maps_and_a_naive_matcher_do(rounds in prop::collection::vec(any_round(), 1..24)) {
        run(rounds);
    }
}

#[test]
fn many_come_and_go() {
    const COUNT: u64 = 5_000;
    let owner = HeapRegion::new(16 << 20, [0; 2]).unwrap();
    let me = Identity::current();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let rules = |number: u64| {
        let host = format!("h{}.example", number % 50);
        vec![rule(&host, &format!("/a/{number}")), rule(&host, &format!("/b/{number}/{{id}}/*"))]
    };
    let mut change = writer.begin();
    for number in 0..COUNT {
        change.put_route(&number.to_string(), &route(number), number, &rules(number), Methods::ANY, 0, 0).unwrap();
    }
    change.commit();
    writer.check().unwrap();
    // Changes of all sizes, one by one, and a takeover in between.
    for number in (0..COUNT).step_by(7) {
        let mut change = writer.begin();
        let value = route(number * 31);
        change.put_route(&number.to_string(), &value, 1, &rules(number), Methods::ANY, 0, 0).unwrap();
        change.commit();
    }
    writer.check().unwrap();
    let used = writer.stats();
    writer.release();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    writer.check().unwrap();
    assert_eq!((writer.stats().live, writer.stats().objects), (used.live, COUNT as usize));
    let reader = Reader::claim(owner.region(), me).unwrap();
    let view = reader.enter().unwrap();
    for number in 0..COUNT {
        let host = format!("h{}.example", number % 50);
        for path in [format!("/a/{number}"), format!("/b/{number}/x/y/z")] {
            let mut captures = Captures::new();
            let found = view.route(host.as_bytes(), path.as_bytes(), Method::Get, &mut captures, |_| true);
            let found = found.found().unwrap().object::<Route>().unwrap();
            assert_eq!(found.name(), number.to_string(), "{host} {path}");
        }
    }
    drop(view);
    let mut change = writer.begin();
    for number in 0..COUNT {
        assert!(change.remove(Kind::Route, &number.to_string()).unwrap());
    }
    change.commit();
    writer.check().unwrap();
    assert_eq!(writer.stats().live, 64);
}
