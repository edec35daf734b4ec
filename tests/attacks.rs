//! Hostile requests of 10 KiB: none of them makes us allocate more than 1 MiB. `benches/attacks` counts what else they
//! cost.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "../benches/attacks/requests.rs"]
mod requests;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gateway::gateway::{Entry, Outcome, Ticket};
use gateway::types::prefers_html;
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
