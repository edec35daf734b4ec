//! The request path of auth allocates nothing once its buffers are warm.

#[path = "support/jwt.rs"]
mod jwt;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gateway::auth::{Algorithm, ArchivedRequirement, Claims, Jwt, Key, Material, Requirement, Verifier, allows};
use jwt::entry;
use rkyv::rancor::Error;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain thread-local cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WALL: u64 = 1_767_225_600_000_000;

#[test]
fn nothing_is_allocated_when_warm() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let jwt = Jwt {
        issuer: Some("me".into()),
        audience: Some("api".into()),
        leeway: 60,
        require: vec!["exp".into()],
        ..entry(
            ["a", "b"]
                .map(|kid| Key {
                    kid: Some(kid.into()),
                    algorithm: Algorithm::Hs256,
                    material: Material::Secret(secret.to_vec()),
                })
                .into(),
        )
    };
    let verifier = Verifier::from_settings(&jwt).unwrap();
    let requirement = Requirement::new(true, vec!["orders:read".into(), "orders:write".into()]).unwrap();
    let requirement = rkyv::to_bytes::<Error>(&requirement).unwrap();
    let requirement = rkyv::access::<ArchivedRequirement, Error>(&requirement).unwrap();
    let many: serde_json::Map<_, _> = (0..40).map(|i| (format!("claim{i}"), i.into())).collect();
    let sign = |kid: &str, subject: &str| {
        let header = jsonwebtoken::Header { kid: Some(kid.into()), ..Default::default() };
        let payload = serde_json::json!({
            "iss": "me", "aud": ["x", "api"], "sub": subject, "exp": 4_102_444_800_u64, "iat": 1.5e9, "many": many,
            "realm": {"roles": ["orders:*", "a\nb"]}, "quoted": "a\"b\u{e9}",
        });
        jsonwebtoken::encode(&header, &payload, &jsonwebtoken::EncodingKey::from_secret(secret)).unwrap().into_bytes()
    };
    let good = [sign("a", "x"), sign("b", "y\\"), sign("a", "z\"")];
    let mut bad = sign("a", "x");
    bad.pop();
    let invalid = *b"/w.e30.e30";
    let mut claims = Claims::new();
    let mut round = || {
        for token in &good {
            verifier.verify(token, WALL, &mut claims).unwrap();
            assert!(claims.subject().is_some() && claims.expires().is_some());
            assert!(allows(claims.list("realm.roles"), requirement));
            assert_eq!(claims.header_value("quoted"), Some("a\"b\u{e9}"));
        }
        assert!(verifier.verify(&bad, WALL, &mut claims).is_err());
        assert!(verifier.verify(&invalid, WALL, &mut claims).is_err());
    };
    round();
    let before = COUNT.get();
    assert!(before > 0, "the counter counts");
    for _ in 0..100 {
        round();
    }
    assert_eq!(COUNT.get(), before);
}
