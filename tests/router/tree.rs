//! The tree that serves, behind the same table of precedence as the naive matcher.

use gateway::router::naive::{Found, Naive, Route};
use gateway::state::{Captures, HeapRegion, Identity, Lookup, Reader, Writer};
use gateway::types::{Kind, Method, Methods, Object};

use crate::precedence::{self, Matcher};

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Numbered {
    index: u32,
}

impl Object for Numbered {
    const KIND: Kind = Kind::Route;
}

struct Tree {
    // Before the region, which it reads.
    reader: Reader,
    _region: HeapRegion,
}

impl Matcher for Tree {
    fn build(routes: Vec<Route>) -> Result<Self, String> {
        // Conflicts are found before anything is written.
        Naive::new(routes.clone()).map_err(|conflict| format!("{conflict:?}"))?;
        let region = HeapRegion::new(1 << 20, [1, 2]).unwrap();
        let mut writer = Writer::take(region.region(), Identity::current()).unwrap().unwrap();
        let mut change = writer.begin();
        for (index, route) in (0..).zip(&routes) {
            let conditions = route.conditions.len() as u16 + u16::from(route.methods != Methods::ANY);
            let object = Numbered { index };
            change.put_route(&route.name, &object, 0, &route.rules, route.methods, route.priority, conditions).unwrap();
        }
        change.commit();
        drop(writer);
        let reader = Reader::claim(region.region(), Identity::current()).unwrap();
        Ok(Self { reader, _region: region })
    }

    fn find<'p>(&self, host: &[u8], path: &'p [u8], method: Method, holds: &mut dyn FnMut(usize) -> bool) -> Found<'p> {
        let view = self.reader.enter().unwrap();
        let mut captures = Captures::new();
        let index = |object: gateway::state::Blob<'_, Numbered>| object.index.to_native() as usize;
        match view.route(host, path, method, &mut captures, |route| holds(index(route.object().unwrap()))) {
            Lookup::Found(route) => Found::Route {
                route: index(route.object().unwrap()),
                rule: route.rule().into(),
                captures: (0..captures.spans().len()).map(|n| captures.get(n, path).unwrap()).collect(),
            },
            Lookup::MethodNotAllowed(methods) => Found::MethodNotAllowed(methods),
            Lookup::None => Found::None,
        }
    }
}

#[test]
fn tree() {
    precedence::run::<Tree>();
}
