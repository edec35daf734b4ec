//! Passes on what nginx-sys found out about the nginx that the module is built for.
//!
//! Cargo hands `DEP_NGINX_*` to build scripts of direct dependents alone, so each module has to turn them into `cfg`s
//! itself: without them, code for a feature or a version would be left out in silence.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    cfg("ngx_feature", "DEP_NGINX_FEATURES", "DEP_NGINX_FEATURES_CHECK");
    cfg("ngx_os", "DEP_NGINX_OS", "DEP_NGINX_OS_CHECK");
    version();
    // A worker that ends unloads its modules before it exits, while a thread of ours may still wait for an answer.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
}

/// Sets `name = "value"` for each of the values found, and tells rustc which ones may come.
fn cfg(name: &str, found: &str, known: &str) {
    println!("cargo::rerun-if-env-changed={found}");
    println!("cargo::rerun-if-env-changed={known}");

    let known = env::var(known).unwrap_or_else(|_| "any()".to_owned());
    println!("cargo::rustc-check-cfg=cfg({name}, values({known}))");

    for value in env::var(found).unwrap_or_default().split(',').map(str::trim).filter(|v| !v.is_empty()) {
        println!("cargo::rustc-cfg={name}=\"{value}\"");
    }
}

/// The versions at which nginx changed something that the module has to know about.
fn version() {
    const SINCE: &[(u64, &str)] = &[
        // Request headers of one name are chained: `ngx_table_elt_t.next`.
        (1_023_000, "nginx1_23_0"),
        // `http2 on` is a directive, and `r->http_connection` changed.
        (1_025_001, "nginx1_25_1"),
        // keepalive wraps `peer.init` at the end, in any order, and is on by default.
        (1_029_007, "nginx1_29_7"),
    ];

    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    let number: u64 = env::var("DEP_NGINX_VERSION_NUMBER").ok().and_then(|v| v.parse().ok()).unwrap_or_default();

    for (since, name) in SINCE {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if number >= *since {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
