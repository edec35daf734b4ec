//! Requests of 10 KiB that are made to cost much, and the document that they meet. `benches/attacks` counts their
//! instructions, `tests/attacks.rs` what they allocate.
#![allow(dead_code, reason = "each user takes a part")]

use crate::support::Fake;

/// Bytes that a hostile request may take.
pub const SIZE: usize = 10 << 10;

/// Routes of every kind, limits by header and cookie, tokens from all three places, and a host with as many shapes of
/// paths as one may have, none of which fits in the end; `prioritised.example` has to collect them all.
pub fn document() -> String {
    let mut text = String::from(
        r#"version: 1
auth:
  - {name: staff, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}],
      source: ["header", "cookie:sid", "query:token"],
      claims: {headers: {X-User-Id: sub, X-User-Name: name, X-User-Mail: mail, X-User-Team: team}}}}
limiters:
  - {name: by-header, key: ["header:x-key"], rate: 1000000/s}
  - {name: by-cookie, key: ["cookie:visitor"], rate: 1000000/s}
  - {name: by-path, key: ["path:rest"], rate: 1000000/s}
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}]}
routes:
  - {name: orders, paths: ["/orders/{id}"], limits: [by-header, by-cookie], upstream: u}
  - {name: tail, paths: ["/tail/{*rest}"], limits: [by-path], upstream: u}
  - {name: stripped, paths: ["/strip/*"], strip_prefix: true, upstream: u}
  - {name: secured, paths: ["/secured/*"], auth: [staff], upstream: u}
  - {name: labels, hosts: ["*.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.example"], paths: ["/*"], upstream: u}
"#,
    );
    for (host, priority) in [("shapes.example", 0), ("prioritised.example", 1)] {
        for shape in 0..127_u32 {
            let segments: String =
                (0..7).map(|bit| if shape >> bit & 1 == 1 { "/a".into() } else { format!("/{{p{bit}}}") }).collect();
            let priority = if shape == 5 { priority } else { 0 };
            text += &format!(
                "  - {{name: \"{host}-{shape}\", hosts: [{host}], paths: [\"{segments}/z/*\"], priority: {priority}}}\n"
            );
        }
    }
    text
}

/// What most requests are like: a parameter, two limits, two headers.
pub fn ordinary() -> Fake {
    Fake::get("/orders/4711?page=2").header("x-key", "0f8fad5bd9cb").header("cookie", "lang=en; visitor=4711")
}

/// A request whose path is what nginx makes of `target`.
fn decoded(path: String, target: String) -> Fake {
    Fake { path: path.into_bytes(), ..Fake::get(&target) }
}

/// A token of `size` bytes with that header and payload, unsigned; the payload is filled up.
fn token(header: &str, payload: &str, size: usize) -> String {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let head = encode(header);
    let room = (size.saturating_sub(head.len() + 45)) / 4 * 3;
    let body = encode(&format!("{payload}{}", " ".repeat(room.saturating_sub(payload.len()))));
    format!("{head}.{body}.{}", "A".repeat(43))
}

/// Every hostile request with its name.
pub fn hostile() -> Vec<(&'static str, Fake)> {
    let deep = "/a".repeat(SIZE / 2);
    let on = |host: &str| Fake::get(&deep).host(host);
    let fill = |piece: &str, size: usize| piece.repeat(size / piece.len());
    let many = |piece: fn(usize) -> String, count: usize| (0..count).map(piece).collect::<String>();
    let bearer = |token: String| Fake::get("/secured/x").bearer(&token);
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let padded = format!(r#"{{"alg":"HS256","x":"{}"}}"#, fill("\\u0041", 11_000));
    let keys = format!(r#"{{"alg":"HS256"{}}}"#, many(|n| format!(r#","k{n}":{n}"#), 900));
    let nested = format!(r#"{{"alg":"HS256","x":{}{}}}"#, fill("[", 5_500), fill("]", 5_500));
    let headers = (0..200).fold(ordinary(), |fake, n| fake.header(&format!("x-user_n{n:040}"), "v"));
    let lines = (0..200).fold(Fake::get("/orders/1"), |fake, n| fake.header("x-key", &format!("{n:040}")));
    // What is decoded need not be text.
    let bytes = Fake {
        path: [b"/strip/".as_slice(), &[0xff; SIZE / 3]].concat(),
        ..Fake::get(&format!("/strip/{}", fill("%ff", SIZE)))
    };
    vec![
        ("segments_5000", Fake::get(&deep)),
        ("slashes", Fake::get(&fill("/", SIZE))),
        ("shapes_127", on("shapes.example")),
        ("shapes_127_priority", on("prioritised.example")),
        ("tail_10k", Fake::get(&format!("/tail{deep}"))),
        ("dots_encoded", decoded(format!("/{}", fill(".", SIZE / 3)), format!("/{}", fill("%2e", SIZE)))),
        (
            "dots_twice_encoded",
            decoded(format!("/strip/{}", fill("%2e", SIZE * 3 / 5)), format!("/strip/{}", fill("%252e", SIZE))),
        ),
        (
            "percents_stripped",
            decoded(format!("/strip/{}", fill("%2525", SIZE)), format!("/strip/{}", fill("%252525", SIZE))),
        ),
        ("semicolons_stripped", Fake::get(&format!("/strip{}", fill("/..a;..", SIZE)))),
        ("hidden_files", Fake::get(&fill("/.a", SIZE))),
        (
            "escapes_10k",
            decoded(format!("/strip/{}", fill("\u{fc}", SIZE / 3)), format!("/strip/{}", fill("%c3%bc", SIZE))),
        ),
        ("no_text_stripped", bytes),
        ("host_10k", Fake::get("/orders/1").host(&fill("a.", SIZE))),
        ("host_labels", Fake::get("/nowhere").host(&format!("{}example", fill("a.", 240)))),
        ("query_1000", Fake::get(&format!("/secured/x?{}", many(|n| format!("tokem={n}&"), 1_000)))),
        ("query_ampersands", Fake::get(&format!("/secured/x?{}", fill("&", SIZE)))),
        ("headers_200", headers),
        ("header_lines_200", lines),
        ("header_10k", ordinary().header("x-kex", &fill("a", SIZE)).header("x-key2", &fill("b", SIZE))),
        ("key_10k", Fake::get("/orders/1").header("x-key", &fill("a", SIZE))),
        ("cookie_8k", Fake::get("/orders/1").header("cookie", &fill("v=1;", 8 << 10))),
        ("cookie_8k_semicolons", Fake::get("/secured/x").header("cookie", &fill(";", 8 << 10))),
        ("token_16k", bearer(token(hs256, "{}", 16 << 10))),
        ("token_16k_one_piece", bearer(fill("A", 16 << 10))),
        ("token_16k_dots", bearer(fill(".", 16 << 10))),
        ("token_16k_escapes", bearer(token(&padded, "{}", 16 << 10))),
        ("token_16k_keys", bearer(token(&keys, "{}", 16 << 10))),
        ("token_16k_nested", bearer(token(&nested, "{}", 16 << 10))),
        ("token_17k", bearer(fill("A", 17 << 10))),
        ("authorization_spaces", Fake::get("/secured/x").header("authorization", &fill(" ", SIZE))),
    ]
}
