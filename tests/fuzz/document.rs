//! Text as a document: it is refused with places, or says the same in its canonical form.

use std::hash::{DefaultHasher, Hash, Hasher};

use gateway::auth::{Material, Scheme};
use gateway::config::{Document, Secrets, diff, parse, to_value};
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../conf/gateway.yaml");
const WORDS: &str = include_str!("document.dict");

/// Has a secret that hangs on the text, so that no text can hold it but by being shown it.
struct Safe(String);

impl Secrets for Safe {
    fn env(&self, name: &str) -> Option<String> {
        name.starts_with(|first: char| first.is_ascii_uppercase()).then(|| self.0.clone())
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        match path.len() % 2 {
            0 => Ok(b"10.0.0.0/8\n10.1.2.3 # twice\n".to_vec()),
            _ => Err("no such file".to_owned()),
        }
    }
}

pub fn run(data: &[u8]) {
    match data.split_first() {
        // A byte that begins no text.
        Some((0xff, edits)) => check(&edited(edits)),
        _ => {
            if let Ok(text) = std::str::from_utf8(data) {
                check(text);
            }
        }
    }
}

/// The example after edits of three bytes each: which line, what, with which word.
fn edited(edits: &[u8]) -> String {
    let words: Vec<&str> = WORDS.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect();
    let mut lines: Vec<String> = EXAMPLE.lines().skip_while(|line| line.starts_with('#')).map(str::to_owned).collect();
    for edit in edits.chunks_exact(4).take(64) {
        let [line, what, word, place] = [0, 1, 2, 3].map(|index| usize::from(edit[index]));
        let line = line % lines.len();
        let word = words[word % words.len()].replace("\\\"", "\"");
        let text = lines[line].clone();
        // Places of a line at which a word begins or ends.
        let cuts: Vec<usize> = text.char_indices().filter(|(_, c)| !c.is_alphanumeric()).map(|(at, _)| at).collect();
        let cut = cuts.get(place % cuts.len().max(1)).copied().unwrap_or(0);
        let end = cuts.iter().copied().find(|&at| at > cut).unwrap_or(text.len());
        match what % 6 {
            0 => drop(lines.remove(line)),
            1 => lines.insert(line, text),
            2 => lines[line].insert_str(cut, &word),
            3 => lines[line].replace_range(cut + text[cut..].chars().next().map_or(0, char::len_utf8)..end, &word),
            4 => lines.insert(line, format!("{}{word}", &text[..text.len() - text.trim_start().len()])),
            _ => {
                let other = place % lines.len();
                lines.swap(line, other);
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}

fn check(text: &str) {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let secret = format!("{0:016x}{0:016X}", hasher.finish());
    let safe = Safe(secret.clone());
    let checked = match parse(text, "f", &safe) {
        Ok(checked) => checked,
        Err(errors) => {
            let lines = u32::try_from(text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()).unwrap();
            assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                let of_the_whole = problem.path.is_empty() && problem.column == 0;
                assert!(problem.line > 0 || of_the_whole, "{problem:?}");
                assert!(problem.line <= lines + 1, "{problem:?}");
                assert!(!problem.message.is_empty() && !problem.message.contains(&secret), "{problem:?}");
                assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
            }
            return;
        }
    };
    let document = checked.document;
    assert_eq!(diff(&document, &document), []);
    let value = to_value(&document);
    assert!(!value.to_string().contains(&secret), "{value}");
    let mut written = value.clone();
    put_secrets_back(&mut written);
    let again = match parse(&written.to_string(), "f", &safe) {
        Ok(again) => again.document,
        Err(errors) => panic!("{errors}\n{written:#}"),
    };
    assert_eq!(comparable(again.clone()), comparable(document.clone()), "{written:#}");
    let known = |changes: Vec<gateway::config::Change>| {
        changes.into_iter().all(|change| change.name.starts_with("defaults/") || change.kind == "auth")
    };
    assert!(known(diff(&document, &again)), "{:?}", diff(&document, &again));
}

/// Secrets are not shown; wherever one stood a reference may stand.
fn put_secrets_back(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(put_secrets_back),
        Value::Object(fields) => {
            if let Some(keys) = fields.get_mut("jwt").and_then(|jwt| jwt.get_mut("keys")).and_then(Value::as_array_mut)
            {
                for key in keys {
                    if let Some(secret) = key.get_mut("secret") {
                        *secret = "$env://SECRET".into();
                    }
                }
            }
            fields.values_mut().for_each(put_secrets_back);
        }
        _ => {}
    }
}

/// The document without what its canonical form is known to lose: secrets, and an object in `defaults` that no route
/// takes.
fn comparable(mut document: Document) -> Document {
    let Document { routes, auth, limiters, upstreams, .. } = &mut document;
    let is_lost = |name: &str, is_used: bool| name.starts_with("defaults/") && !is_used;
    auth.retain(|entry| !is_lost(&entry.name, routes.iter().any(|route| route.auth.contains(&entry.name))));
    limiters.retain(|entry| !is_lost(&entry.name, routes.iter().any(|route| route.limits.contains(&entry.name))));
    upstreams
        .retain(|entry| !is_lost(&entry.name, routes.iter().any(|route| route.upstream.as_ref() == Some(&entry.name))));
    for entry in auth {
        let Scheme::Jwt(jwt) = &mut entry.scheme else { continue };
        for key in &mut jwt.keys {
            if let Material::Secret(bytes) = &mut key.material {
                bytes.clear();
            }
        }
    }
    document
}
