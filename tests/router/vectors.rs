//! Where the test data lies: the environment's folder where it has the file, else our copy.

use std::io::Write;
use std::path::{Path, PathBuf};

/// One file of `own/`, parsed.
pub fn own(name: &str) -> serde_json::Value {
    let copy = root().join("tests/data/own").join(name);
    let path = external(&format!("own/{name}")).unwrap_or(copy);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file that we have no copy of, if the environment has it; says loudly when it has not.
pub fn bytes(name: &str) -> Option<Vec<u8>> {
    let found = external(name).and_then(|path| std::fs::read(path).ok());
    if found.is_none() {
        // Not `eprintln`, which the harness swallows where the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {name} below {} (set GATEWAY_VECTORS)", folder().display());
    }
    found
}

fn external(name: &str) -> Option<PathBuf> {
    Some(folder().join(name)).filter(|path| path.exists())
}

fn folder() -> PathBuf {
    // An absolute folder replaces the root.
    root().join(std::env::var("GATEWAY_VECTORS").unwrap_or_else(|_| "../shared/vectors".into()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
