//! A look-up allocates nothing, whatever it meets.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gateway::router::pattern::{Host, Path, Rule, Segment, Tail};
use gateway::state::{Captures, HeapRegion, Identity, Reader, Writer};
use gateway::types::{Kind, Method, Methods, Object};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Route {
    number: u64,
}

impl Object for Route {
    const KIND: Kind = Kind::Route;
}

#[test]
fn look_ups_allocate_nothing() {
    let owner = HeapRegion::new(2 << 20, [0; 2]).unwrap();
    let me = Identity::current();
    let mut writer = Writer::take(owner.region(), me).unwrap().unwrap();
    let reader = Reader::claim(owner.region(), me).unwrap();
    let hosts = [Host::Any, Host::Wildcard(b"example".into()), Host::Exact(b"a.example".into())];
    let literal = |text: &str| Segment::Literal(text.into());
    let mut change = writer.begin();
    let mut id = None;
    for (number, host) in hosts.into_iter().enumerate() {
        let paths = [
            Path::Exact(b"/exact".into()),
            Path::Prefix(b"/prefix".into()),
            Path::Pattern { segments: vec![literal("p"), Segment::Param("id".into())], tail: Tail::Any },
            Path::Pattern { segments: vec![literal("f")], tail: Tail::Captured("rest".into()) },
        ];
        for (index, path) in paths.into_iter().enumerate() {
            let name = format!("{number}-{index}");
            let rules = [Rule { host: host.clone(), path }];
            let methods = Methods::NONE.with(Method::Get);
            // One host has routes of different priority.
            let priority = if number == 1 { index as i32 } else { 0 };
            let route = Route { number: number as u64 };
            id = Some(change.put_route(&name, &route, 0, &rules, methods, priority, 0).unwrap());
        }
    }
    change.commit();
    let before = ALLOCATIONS.get();
    let mut found = 0;
    for _ in 0..10 {
        let view = reader.enter().unwrap();
        for host in ["", "a.example", "b.example", "c"] {
            for path in ["/exact", "/prefix/x", "/p/1/x", "/f/1/2", "/none", ""] {
                for method in [Method::Get, Method::Post] {
                    let mut captures = Captures::new();
                    let route = view.route(host.as_bytes(), path.as_bytes(), method, &mut captures, |_| true).found();
                    found += u64::from(route.and_then(|route| route.object::<Route>()).is_some());
                }
            }
        }
        found += u64::from(view.object::<Route>(id.unwrap()).is_some());
        found += u64::from(view.named::<Route>("1-1").is_some());
        found += view.each::<Route>().map(|route| u64::from(route.number.to_native() < 3)).sum::<u64>();
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(found, 10 * (16 + 2 + 12));
}
