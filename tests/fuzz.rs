//! The corpus of the fuzz targets, and whatever ever broke one, run again. `make fuzz` looks for more.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// Runs a target over its files; what fails is named by libFuzzer's way of naming files, a digest.
fn replay(target: &str) {
    let (_, run) = targets::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let mut count = 0;
    for folder in ["corpus", "crashes"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder).join(target);
        let Ok(files) = std::fs::read_dir(&folder) else { continue };
        for file in files {
            let path = file.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| run(&data)).is_err() {
                panic!("{}: above is why", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 10, "{count} files for {target}");
}

#[test]
fn path() {
    replay("path");
}

#[test]
fn host() {
    replay("host");
}

#[test]
fn router() {
    replay("router");
}

#[test]
fn document() {
    replay("document");
}

#[test]
fn jwt() {
    replay("jwt");
}

#[test]
fn jwks() {
    replay("jwks");
}

#[test]
fn signature() {
    replay("signature");
}

#[test]
fn cache_control() {
    replay("cache_control");
}

#[test]
fn permission() {
    replay("permission");
}

#[test]
fn bucket() {
    replay("bucket");
}

#[test]
fn log_line() {
    replay("log_line");
}
