//! What runs for every request allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use gateway::router::{headers, host, path, query};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work; counting touches a thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_request_allocates_nothing() {
    let cases: [(&[u8], &[u8], &[u8]); 6] = [
        (b"Api.Example.com:8443", b"/api/a b/c.json", b"/api/a%20b/c.json?page=3"),
        (b"[2001:DB8::0:1]:80", b"/api", b"/api"),
        (b"", b"/api/..;/admin", b"/api/..;/admin"),
        (b"a..b", b"/api/\xff\xfe", b"/api/%ff%fe"),
        (b"[::g]", b"/api/.hidden/%252e", b"/api/.hidden/%25252e?"),
        (b"x@y", b"", b"#"),
    ];
    let before = COUNT.get();
    for (host, path, target) in cases {
        let mut buf = [0; 256];
        let _ = black_box(host::normalise(host, &mut buf));
        let _ = black_box(path::check(path, target));
        let _ = black_box(path::check_strict(path, target));
        black_box(path::is_verbatim(path, target));
        let _ = black_box(path::strip_prefix(path, b"/api"));
        let mut length = 0;
        path::escape(path, &mut |piece| length += piece.len());
        assert_eq!(length, path::escaped_len(path));
        black_box(query::is_safe(target));
        black_box(headers::is_hop_by_hop(host) || headers::is_taken_away(b"close, x-a", b"x-a"));
    }
    assert_eq!(COUNT.get() - before, 0);
    drop(black_box(vec![1]));
    assert_eq!(COUNT.get() - before, 1, "the counter counts");
}
