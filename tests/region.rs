//! The region through its public face: transactions against plain maps, look-ups against a naive matcher.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use gateway::router::pattern::{Host, Path, Rule, Segment, Tail};
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
