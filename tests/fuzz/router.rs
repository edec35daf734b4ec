//! Bytes as edits of a few routes and requests: the tree after all edits, a tree built afresh, and the naive matcher
//! say the same.

use std::collections::BTreeMap;

use gateway::router::host;
use gateway::router::naive::{Found, Naive, Route, host_matches, path_matches};
use gateway::router::order::{by_host, by_path};
use gateway::router::pattern::{Host, Path, Rule};
use gateway::router::regex::Regex;
use gateway::state::{Captures, HeapRegion, Identity, Lookup, Reader, Writer};
use gateway::types::{Kind, Method, Methods, Object};

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Numbered {
    number: u8,
}

impl Object for Numbered {
    const KIND: Kind = Kind::Route;
}

const HOSTS: [&str; 8] =
    ["*", "a.example", "b.a.example", "*.example", "*.a.example", "*.b.a.example", "c", "[2001:db8::1]"];
const SEGMENTS: [&str; 8] = ["/a", "/b", "/ab", "/{p}", "/a-longer-one", "/{p}", "/%20", "/"];
const TAILS: [&str; 4] = ["", "", "/*", "/{*rest}"];
const REGEXES: [&str; 12] = [
    "~^/a",
    "~^/a/",
    "~^/a/[ab]",
    "~^/a/b$",
    "~^/a-longer-one/[^/]*$",
    "~^/(a|b)/",
    "~^/a/b/.",
    "~^/a?",
    "~b$",
    "~/a/b",
    "~(?i)^/A",
    "~^/$",
];
const ASKED: [&str; 8] =
    ["a.example", "b.a.example", "x.b.a.example", "c", "", "y.x.b.a.example.:80", "z.EXAMPLE", "[2001:DB8:0::1]:8"];
const PIECES: [&str; 8] = ["/a", "/b", "/ab", "/zz", "/a-longer-one", "/", "b", "/ "];
const METHODS: [Method; 3] = [Method::Get, Method::Post, Method::Delete];
const PRIORITIES: [i32; 8] = [0, 0, 0, 0, 5, -5, i32::MAX, i32::MIN];

type Model = BTreeMap<u8, Route>;

/// The input as numbers; zeros when it is used up.
struct Source<'d>(&'d [u8]);

impl Source<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.next()) % bound
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let edited = HeapRegion::new(1 << 20, [3, 4]).unwrap();
    let mut writer = Writer::take(edited.region(), Identity::current()).unwrap().unwrap();
    let mut model = Model::new();
    for _ in 0..1 + source.below(6) {
        // A transaction: kept, dropped, or died over.
        let mut next = model.clone();
        let mut change = writer.begin();
        for _ in 0..1 + source.below(6) {
            let number = source.next() % 8;
            if source.below(4) == 0 {
                assert_eq!(change.remove(Kind::Route, &name(number)).unwrap(), next.remove(&number).is_some());
                continue;
            }
            let route = route(number, &mut source);
            let mut all = next.clone();
            all.insert(number, route.clone());
            // What nothing tells apart no document may say.
            if Naive::new(all.values().cloned().collect()).is_err() {
                continue;
            }
            put(&mut change, number, &route);
            next = all;
        }
        match source.below(6) {
            0 => drop(change),
            1 => {
                std::mem::forget(change);
                // What was taken for it is given back when the next one begins.
                drop(writer.begin());
            }
            _ => {
                change.commit();
                model = next;
            }
        }
        writer.check().unwrap();
    }

    let fresh = HeapRegion::new(1 << 20, [5, 6]).unwrap();
    let mut other = Writer::take(fresh.region(), Identity::current()).unwrap().unwrap();
    let mut change = other.begin();
    model.iter().for_each(|(number, route)| put(&mut change, *number, route));
    change.commit();

    let readers = [&edited, &fresh].map(|region| Reader::claim(region.region(), Identity::current()).unwrap());
    let numbers: Vec<u8> = model.keys().copied().collect();
    let naive = Naive::new(model.into_values().collect()).unwrap();
    for _ in 0..1 + source.below(8) {
        let asked = source.of(&ASKED);
        let mut path: Vec<u8> = (0..source.below(6)).flat_map(|_| source.of(&PIECES).bytes()).collect();
        if !path.starts_with(b"/") {
            path.insert(0, b'/');
        }
        let (method, holding) = (source.of(&METHODS), source.next() | source.next());
        let holds = |number: u8| holding >> (number % 8) & 1 == 1;
        let mut buf = [0; 256];
        let host = host::normalise(asked.as_bytes(), &mut buf).unwrap();
        let expected = naive.find_if(host, &path, method, |index| holds(numbers[index]));
        for (which, reader) in ["edited", "fresh"].iter().zip(&readers) {
            // No transaction was kept.
            let Some(view) = reader.enter() else {
                assert!(numbers.is_empty());
                continue;
            };
            let mut captures = Captures::new();
            let found = view.route(host, &path, method, &mut captures, |route| {
                let matches = |text| Regex::new(text).unwrap().matches(&path);
                route.regex().is_none_or(matches) && holds(route.object::<Numbered>().unwrap().number)
            });
            let context = format!(
                "{which}: {asked}{} {method:?}, holding {holding:08b}\n{found:?} {expected:?}\n{:#?}",
                String::from_utf8_lossy(&path),
                naive.routes()
            );
            match (&expected, found) {
                (Found::Route { route, rule, .. }, Lookup::Found(found)) => {
                    assert_eq!(found.object::<Numbered>().unwrap().number, numbers[*route], "{context}");
                    // Of one route's rules of one rank any will do.
                    let rules = &naive.routes()[*route].rules;
                    let (taken, best) = (&rules[usize::from(found.rule())], &rules[*rule]);
                    assert!(by_host(&taken.host, &best.host).is_eq(), "{context}");
                    assert!(by_path(&taken.path, &best.path).is_eq(), "{context}");
                    let caught = (0..captures.spans().len()).map(|index| captures.get(index, &path).unwrap()).collect();
                    assert!(host_matches(&taken.host, host), "{context}");
                    assert_eq!(path_matches(&taken.path, &path), Some(caught), "{context}");
                }
                (Found::MethodNotAllowed(expected), Lookup::MethodNotAllowed(found)) => {
                    assert_eq!(*expected, found, "{context}");
                }
                (Found::None, Lookup::None) => {}
                _ => panic!("{context}"),
            }
        }
    }
}

fn put(change: &mut gateway::state::Transaction<'_>, number: u8, route: &Route) {
    let conditions = route.conditions.len() as u16 + u16::from(route.methods != Methods::ANY);
    let object = Numbered { number };
    change.put_route(&route.name, &object, 7, &route.rules, route.methods, route.priority, conditions).unwrap();
}

fn name(number: u8) -> String {
    // The order of names is not that of numbers.
    format!("route-{}", number * 5 % 8)
}

fn route(number: u8, source: &mut Source<'_>) -> Route {
    let rules = (0..1 + source.below(4)).map(|_| Rule { host: host_of(source), path: path_of(source) }).collect();
    let methods = match source.below(4) {
        0 => Methods::NONE.with(Method::Get),
        1 => Methods::NONE.with(Method::Post).with(Method::Get),
        _ => Methods::ANY,
    };
    let conditions = (0..source.below(3)).map(|index| format!("{number}-{index}")).collect();
    Route { name: name(number), rules, methods, priority: source.of(&PRIORITIES), conditions }
}

fn host_of(source: &mut Source<'_>) -> Host {
    Host::parse(source.of(&HOSTS)).unwrap()
}

fn path_of(source: &mut Source<'_>) -> Path {
    if source.below(16) == 15 {
        return Path::parse(source.of(&REGEXES)).unwrap();
    }
    let mut text = String::new();
    for index in 0..source.below(5) {
        text += &source.of(&SEGMENTS).replace("{p}", &format!("{{p{index}}}"));
    }
    text += source.of(&TAILS);
    // An empty segment may stand at the end alone.
    Path::parse(&text).unwrap_or_else(|_| Path::Prefix(Vec::new()))
}
