//! `jwks check`.

use gateway::auth::jwks::{Answer, SET_MAX, read_set};
use gateway::auth::{Key, KeyError, Material};
use gateway::net::http;
use serde_json::{Value, json};

use super::args::Args;
use super::{Outcome, print, print_json};

/// What is said of one key. A set is somebody else's: nothing of it is printed as it came.
struct Row {
    kid: Option<String>,
    kty: String,
    alg: String,
    /// Why it is left out; `None` = it verifies.
    why: Option<String>,
}

/// Reads the set as the gateway does and says of each key whether it would verify with it.
pub fn check(source: &str, args: &Args) -> Outcome {
    let is_remote = source.contains("://");
    let answer = if is_remote { fetch(source, args)? } else { read(source)? };
    let rows: Vec<Row> = serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|set| set.get("keys")?.as_array().map(|keys| keys.iter().map(|key| row(key, is_remote)).collect()))
        .unwrap_or_default();
    let verdict = read_set(&answer.body, &[], is_remote);
    let usable = verdict.as_ref().map_or(0, |set| set.keys.len());
    let error = verdict.as_ref().err().map(ToString::to_string);
    if args.json {
        let keys = rows.iter().map(
            |row| json!({"kid": row.kid, "kty": row.kty, "alg": row.alg, "usable": row.why.is_none(), "why": row.why}),
        );
        let keys = keys.collect::<Value>();
        print_json(
            &json!({"source": source, "usable": usable, "error": error, "max_age": answer.max_age, "keys": keys}),
        );
    } else {
        for Row { kid, kty, alg, why } in &rows {
            let kid = kid.as_ref().map_or("without kid".to_owned(), |kid| format!("{kid:?}"));
            let why = why.as_ref().map_or("usable".to_owned(), |why| format!("left out: {why}"));
            print(&format!("{kid}  {}  {}  {why}\n", kty.escape_debug(), alg.escape_debug()));
        }
        match &error {
            None => print(&format!("{source}: {usable} of {} keys usable\n", rows.len())),
            Some(error) => print(&format!("{source}: refused: {error}\n")),
        }
    }
    Ok(u8::from(usable == 0))
}

fn row(key: &Value, is_remote: bool) -> Row {
    let text = |name: &str| key.get(name).and_then(Value::as_str).map(str::to_owned);
    let (alg, why) = match Key::from_jwk(&key.to_string(), None) {
        Ok(Key { material: Material::Secret(_), algorithm, .. }) if is_remote => {
            (Some(algorithm.name().to_owned()), Some("a secret that whoever knows the URL can read".to_owned()))
        }
        Ok(found) => (Some(found.algorithm.name().to_owned()), None),
        Err(error) => (None, Some(plain(error))),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Row { kid: text("kid"), kty: or_none(text("kty")), alg: or_none(alg.or_else(|| text("alg"))), why }
}

/// Which key it is, stands beside it.
fn plain(error: KeyError) -> String {
    match error {
        KeyError::At(_, error) => plain(*error),
        KeyError::AlgorithmMissing => "it does not say its algorithm; the entry's `algorithms` can".to_owned(),
        error => error.to_string(),
    }
}

fn fetch(url: &str, args: &Args) -> Result<Answer, String> {
    let get = http::Get { url: url.to_owned(), ca: args.ca.clone(), etag: None };
    let answer = http::fetch(&get).map_err(|error| format!("{url}: {error}"))?;
    match answer.status {
        200 => Ok(answer),
        status => Err(format!("{url}: the answer has status {status}")),
    }
}

fn read(file: &str) -> Result<Answer, String> {
    let told = |error: std::io::Error| format!("cannot read {file}: {error}");
    let mut body = Vec::new();
    let limit = SET_MAX as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(file).map_err(told)?, limit), &mut body)
        .map_err(told)?;
    Ok(Answer { status: 200, body, ..Answer::default() })
}
