//! The token bucket against the recorded sequences, in the engine and through the table.

use std::path::PathBuf;

use gateway::limiter::{Due, Quota};
use serde_json::Value;

/// The cases of our copy of `name`, or of the environment's where it has them.
fn cases(name: &str) -> Vec<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let vectors = std::env::var_os("GATEWAY_VECTORS").map_or_else(|| root.join("../shared/vectors"), PathBuf::from);
    let path = [vectors.join("own").join(name), root.join("tests/data/own").join(name)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is nowhere"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn quota(case: &Value) -> Result<Quota, String> {
    let number = |name: &str| case[name].as_f64().ok_or_else(|| format!("{name} is no number"));
    Quota::per_second(number("rate_per_s")?, number("capacity")?).map_err(|error| error.to_string())
}

#[test]
fn token_bucket_sequences() {
    let mut steps_run = 0;
    for case in cases("token_bucket_sequences.json") {
        let id = case["id"].as_str().unwrap();
        if case["expect"].is_string() {
            // `config_error_or_saturate`: ours is the error.
            assert!(quota(&case).is_err(), "{id}");
            continue;
        }
        let quota = quota(&case).unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut due = Due::rest(0);
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let now = step["t_us"].as_u64().unwrap();
            let answer = quota.admit(due, step["n"].as_i64().unwrap(), now);
            assert_eq!(answer.is_ok(), step["allow"] == 1, "{id} step {index}: {answer:?}");
            due = answer.map_or(due, |admitted| admitted.due);
            steps_run += 1;
        }
    }
    assert!(steps_run >= 29, "only {steps_run} steps");
}
