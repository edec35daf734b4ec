//! A folder of the library imports only what stands above it, `unsafe` stays behind a few doors, and third-party crates
//! have homes.
//!
//! Read from the sources' text: the compiler lets a crate's modules import one another in any direction.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "layering/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use source::{paths_of, tokens};

/// The folders from the top down. Those of one row do not import one another.
const ORDER: [&[&str]; 8] = [
    &["types"],
    &[
        "auth",
        "balancer",
        "breaker",
        "cache",
        "canary",
        "discovery",
        "health",
        "cors",
        "limiter",
        "lists",
        "log",
        "metrics",
        "overload",
        "router",
        "transform",
    ],
    &["config"],
    &["state"],
    &["net"],
    &["gateway"],
    // Shows what `gateway` reads and changes what it publishes, so that nothing of the request path can lean on it.
    &["admin"],
    &["capi"],
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 2] = ["state", "capi"];

/// Crates that only one folder may name, or none: what needs nginx or Lua is in workspace members of their own.
const HOMES: [(&str, Option<&str>); 17] = [
    ("argon2", Some("auth")),
    ("aws_lc_rs", Some("auth")),
    ("bcrypt", Some("auth")),
    ("jsonwebtoken", Some("auth")),
    ("libc", Some("state")),
    ("mlua", None),
    ("nginx_sys", None),
    ("ngx", None),
    ("parking_lot", Some("net")),
    ("prometheus", Some("metrics")),
    ("rdkafka", Some("net")),
    ("redis", Some("net")),
    ("rustls", Some("net")),
    ("saphyr_parser", Some("config")),
    ("ureq", Some("net")),
    ("sha_crypt", Some("auth")),
    ("x509_parser", Some("auth")),
];

#[test]
fn the_library_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "{files:?}");
    let mut faults = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        faults.extend(check(name, &text));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is wrong with the text of `file`, a path below `src`.
fn check(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let folder = module.first().map_or("", String::as_str);
    let mut faults = Vec::new();
    // The crate's root names all folders; programs may use all of them.
    let is_free = folder.is_empty() || folder == "bin";
    if !is_free && row(folder).is_none() {
        faults.push(format!("src/{file}: `{folder}` has no place in the order of tests/layering.rs"));
    }
    let tokens = tokens(text);
    for token in &tokens {
        if token.text == "unsafe" && !UNSAFE.contains(&folder) {
            faults.push(format!("src/{file}:{}: `unsafe` is for {}", token.line, UNSAFE.join(" and ")));
        }
    }
    for path in paths_of(&tokens, &module) {
        let line = path.line;
        let target = path.first.as_str();
        if path.is_local && !is_free && target != folder {
            let is_above = match (row(target), row(folder)) {
                (Some(target), Some(own)) => target < own,
                // A glob over the root takes in everything; what else stands in the root belongs to no layer.
                (None, _) => target != "*",
                (Some(_), None) => false,
            };
            if !is_above {
                faults.push(format!("src/{file}:{line}: `{folder}` imports `{target}`, which does not stand above it"));
            }
        }
        if let Some((_, home)) = HOMES.iter().find(|(name, _)| !path.is_local && *name == target)
            && folder != "bin"
            && *home != Some(folder)
        {
            let home = home.map_or("outside the library".to_owned(), |home| format!("in src/{home}"));
            faults.push(format!("src/{file}:{line}: the home of `{target}` is {home}"));
        }
    }
    faults
}

fn row(folder: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&folder))
}

/// `router/path/strip.rs` is `router::path::strip`.
fn module_of(file: &str) -> Vec<String> {
    let parts = file.strip_suffix(".rs").unwrap().split('/').map(str::to_owned);
    let mut parts: Vec<String> = parts.collect();
    let is_named_by_folder = parts.last().is_some_and(|last| last == "mod") || parts == ["lib"];
    if is_named_by_folder {
        parts.pop();
    }
    parts
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
}

#[test]
fn a_planted_fault_is_found() {
    for (file, text, part) in [
        ("types/id.rs", "use crate::router::host;", "`types` imports `router`"),
        ("auth/mod.rs", "use crate::limiter::Quota;", "`auth` imports `limiter`"),
        ("router/path/strip.rs", "fn a() { crate::state::open() }", "`router` imports `state`"),
        ("config/mod.rs", "use crate::{types::Now, state::Region};", "`config` imports `state`"),
        (
            "config/mod.rs",
            "use crate::{\n    types::{Id, Now},\n    gateway,\n};",
            "src/config/mod.rs:3: `config` imports `gateway`",
        ),
        ("router/mod.rs", "use super::balancer;", "`router` imports `balancer`"),
        ("router/path.rs", "use super::super::{auth, types};", "`router` imports `auth`"),
        ("router/path.rs", "mod tests { use super::super::super::auth::Key; }", "`router` imports `auth`"),
        ("router/path.rs", "mod a { mod b {} use super::super::super::auth; }", "`router` imports `auth`"),
        ("router.rs", "use super::auth;", "`router` imports `auth`"),
        ("router/mod.rs", "use crate::*;", "`router` imports `*`"),
        ("router/mod.rs", "use ::gateway::state;", "`router` imports `state`"),
        ("limiter/mod.rs", "let quote = '\"'; use crate::auth; let other = '\"';", "`limiter` imports `auth`"),
        ("limiter/mod.rs", "fn f<'a>(x: &'a str) { crate::auth::g() } // 'a", "`limiter` imports `auth`"),
        ("limiter/mod.rs", "fn f() -> Result<(), crate::config::Error> {}", "`limiter` imports `config`"),
        ("plugins/mod.rs", "", "`plugins` has no place"),
        ("router/mod.rs", "fn a() { unsafe { b() } }", "`unsafe` is for state and capi"),
        ("lib.rs", "unsafe fn a() {}", "`unsafe` is for state and capi"),
        ("bin/gatewayctl.rs", "unsafe fn a() {}", "`unsafe` is for state and capi"),
        ("limiter/mod.rs", "use aws_lc_rs::hmac;", "the home of `aws_lc_rs` is in src/auth"),
        ("state/mod.rs", "let a = ::prometheus::Counter::new();", "the home of `prometheus` is in src/metrics"),
        ("config/mod.rs", "fn a() { libc::getpid(); }", "the home of `libc` is in src/state"),
        ("gateway/mod.rs", "use ngx::core;", "the home of `ngx` is outside the library"),
        ("gateway/mod.rs", "use {std::fmt, mlua::Lua};", "the home of `mlua` is outside"),
        ("gateway/mod.rs", "extern crate redis;", "the home of `redis` is in src/net"),
    ] {
        let faults = check(file, text);
        assert!(faults.len() == 1 && faults[0].contains(part), "{file}: {text}: {faults:?}");
    }
}

#[test]
fn what_is_allowed_is_no_fault() {
    for (file, text) in [
        ("types/mod.rs", "mod id; pub use id::Id; use std::net::IpAddr;"),
        ("auth/jwt.rs", "use crate::types::Now; use super::settings; use crate::auth::Key; use aws_lc_rs::hmac;"),
        ("auth/jwt/claims.rs", "use super::super::settings; mod tests { use super::*; use super::super::super::jwt; }"),
        ("config/mod.rs", "use crate::{auth, router::{self, pattern::Path}, types}; use saphyr_parser::Parser;"),
        ("state/mod.rs", "unsafe { libc::getpid() }; use crate::config::Settings;"),
        ("gateway/mod.rs", "use crate::{auth, state, config, types::*};"),
        ("lib.rs", "pub mod types; pub use gateway::Gateway; #[allow(unsafe_code)] pub mod state;"),
        ("bin/gatewayctl.rs", "use gateway::admin; use gateway::net; mod args;"),
        (
            "router/mod.rs",
            "// use crate::state;\n/* crate::auth /* crate::net */ crate::config */ //! [`crate::state`]",
        ),
        (
            "router/mod.rs",
            r####"const A: &str = "crate::state unsafe \" crate::auth"; const B: &str = r#"crate::"auth"#;"####,
        ),
        ("router/mod.rs", r#"const A: char = '\''; const B: u8 = b'\\'; const C: &[u8] = b"unsafe";"#),
        (
            "router/mod.rs",
            "#![deny(unsafe_op_in_unsafe_fn)] pub(crate) fn redis() { self::redis(); metrics.redis.libc() }",
        ),
    ] {
        assert_eq!(check(file, text), [""; 0], "{file}: {text}");
    }
}
