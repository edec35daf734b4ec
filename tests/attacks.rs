//! Hostile requests of 10 KiB: none of them makes us allocate more than 1 MiB. `benches/attacks` counts what else they
//! cost.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "../benches/attacks/requests.rs"]
mod requests;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gateway::gateway::{Entry, Outcome, Ticket};
use gateway::router::pattern::{Host, Path, Rule};
use gateway::state::{Captures, HeapRegion, Identity, Reader, Writer};
use gateway::types::{Kind, Method, Methods, Object, prefers_html};
use support::{Fake, Gateway, at};

/// What a request may allocate, bytes in all.
const MOST: usize = 1 << 20;

struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work; counting touches a thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.set(BYTES.get() + size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes allocated by a request's calls.
fn spent(gateway: &mut Gateway, fake: &Fake) -> (usize, String) {
    let before = BYTES.get();
    let mut ticket = Ticket::new();
    let worker = &mut gateway.workers[0];
    let decision = worker.access(fake, Entry::First, at(0.0), &mut ticket);
    let html = fake.headers.iter().any(|(_, value)| prefers_html(value));
    worker.complete(&mut ticket, &Outcome { status: 404, ..Outcome::default() }, at(0.0));
    let spent = BYTES.get() - before;
    (spent, format!("{decision:?} {html}"))
}

#[test]
fn no_request_allocates_more_than_a_mebibyte() {
    let mut wrong = Vec::new();
    for (name, fake) in requests::hostile() {
        // Each is the first that its worker sees, when most is allocated.
        let mut gateway = Gateway::new(&requests::document(), 1);
        let (first, said) = spent(&mut gateway, &fake);
        let (second, _) = spent(&mut gateway, &fake);
        eprintln!("{name:<22} {first:>8} {second:>8} bytes  {said}");
        if first > MOST || second > MOST {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The requests are what they are said to be: most of them reach the code that they are aimed at.
#[test]
fn an_ordinary_request_is_let_through() {
    let mut gateway = Gateway::new(&requests::document(), 1);
    assert_eq!(gateway.verdict(0, &requests::ordinary(), at(0.0)), "forward");
    let said: Vec<(&str, &str)> = requests::hostile()
        .iter()
        .map(|(name, fake)| (*name, gateway.verdict(0, fake, at(0.0))))
        .filter(|(name, _)| {
            ["shapes_127", "host_10k", "token_16k", "token_17k", "cookie_8k", "tail_10k"].contains(name)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("shapes_127", "route.none"),
            ("tail_10k", "forward"),
            ("host_10k", "request.malformed"),
            ("cookie_8k", "forward"),
            ("token_16k", "auth.signature"),
            ("token_17k", "auth.malformed"),
        ]
    );
}

/// Paths that whoever knows the tree's hash can write so that all of them have one: after a block of eight bytes that
/// says who they are comes one that takes the hash to zero. Whoever may write documents for others and sends such
/// requests makes every look-up walk all of them.
#[test]
#[ignore = "known: the tree's hash has no secret (src/state/hash.rs), so that its collisions can be computed"]
fn aimed_paths_cost_what_others_do() {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    const OTHER: u64 = 0xd6e8_feb8_6659_fd93;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let aimed = |number: u32| {
        let front = format!("/{number:07}");
        let hash = fold(7 ^ ODD, 21 ^ OTHER);
        let hash = fold(hash ^ u64::from_le_bytes(front.as_bytes().try_into().unwrap()), ODD);
        let path = [front.as_bytes(), &hash.to_le_bytes(), b"/hello"].concat();
        let may_be = path[8..16].iter().all(|&byte| byte >= 0x20 && byte != 0x7f && byte != b'/' && byte != b'.');
        // The last five bytes are too few for a block.
        may_be.then(|| path[..21].to_vec())
    };
    let count = 2_000;
    let sets: [Vec<Vec<u8>>; 2] = [
        (0..).map(|number| format!("/{number:07}/abcdefghello").into_bytes()).take(count).collect(),
        (0..).filter_map(aimed).take(count).collect(),
    ];
    let nanoseconds = sets.map(|paths| {
        let heap = HeapRegion::new(64 << 20, [1, 2]).unwrap();
        let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
        let mut change = writer.begin();
        for (number, path) in paths.iter().enumerate() {
            let rule = Rule { host: Host::Any, path: Path::Exact(path.clone()) };
            change.put_route(&format!("r{number}"), &Nothing, 1, &[rule], Methods::ANY, 0, 0).unwrap();
        }
        change.commit();
        let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
        let view = reader.enter().unwrap();
        let before = std::time::Instant::now();
        for path in &paths {
            assert!(view.route(b"", path, Method::Get, &mut Captures::new(), |_| true).found().is_some());
        }
        before.elapsed().as_nanos() as usize / count
    });
    eprintln!("{nanoseconds:?} ns a look-up: paths that are not aimed, paths that are");
    assert!(nanoseconds[1] < 10 * nanoseconds[0], "{nanoseconds:?}");
}

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Nothing;

impl Object for Nothing {
    const KIND: Kind = Kind::Route;
}
