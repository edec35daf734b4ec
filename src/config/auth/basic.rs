//! `basic`.

use std::collections::HashMap;

use super::{At, fetch, scalar};
use crate::auth::{Basic, check_hash, kind};
use crate::config::secrets::Secrets;

/// The most users of one entry.
const USERS_MAX: usize = 100_000;

/// Reads an entry that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, secrets: &dyn Secrets) -> Option<Basic> {
    let mut users = HashMap::new();
    let mut is_whole = true;
    if let Some(place) = at.get("file") {
        let path = place.node.text()?;
        let bytes = secrets.htpasswd(path).map_err(|error| format!("cannot read `{path}`: {error}"));
        if let Err(message) = bytes.and_then(|bytes| file(&bytes, path, &mut users)) {
            place.error(message);
            return None;
        }
    }
    if let Some(list) = at.get("users") {
        for (entry, place) in list.fields() {
            let hash = fetch(place.node.text().unwrap_or_default(), secrets);
            let user = hash.and_then(|secret| {
                if secret.in_clear {
                    place.warn(
                        "a hash in clear: whoever reads it can try passwords; write `$env://NAME` or `$file:///path`",
                    );
                }
                let hash = String::from_utf8(secret.bytes.to_vec()).map_err(|_| "not UTF-8 text".to_owned())?;
                add(&entry.key, &hash, &mut users)
            });
            if let Err(message) = user {
                place.error(message);
                is_whole = false;
            }
        }
    }
    if at.get("file").is_none() && at.get("users").is_none() {
        at.error("needs `file`, the path of an htpasswd file, or `users`: an object of users and hashes");
        return None;
    }
    if users.is_empty() && is_whole {
        at.error("has no user");
    }
    let mut users: Vec<(String, String)> = users.into_iter().collect();
    users.sort();
    let decoy = decoy(&users)?;
    is_whole.then_some(Basic { users, decoy })
}

/// Reads an htpasswd file: `user:hash` a line, `#` begins a comment. The error names the line and shows no hash.
fn file(bytes: &[u8], path: &str, users: &mut HashMap<String, String>) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("`{path}` is not UTF-8 text"))?;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The hash ends the line; what some servers allow behind another colon is a comment.
        let (user, rest) =
            line.split_once(':').ok_or_else(|| format!("`{path}` line {number}: must be `user:hash`"))?;
        let hash = rest.split(':').next().unwrap_or_default();
        add(user, hash, users).map_err(|message| format!("`{path}` line {number}: {message}"))?;
    }
    Ok(())
}

fn add(user: &str, hash: &str, users: &mut HashMap<String, String>) -> Result<(), String> {
    scalar::consumer(user).map_err(|message| format!("the user: {message}"))?;
    if user.contains(':') {
        return Err("a user's name cannot hold a colon (RFC 7617)".to_owned());
    }
    check_hash(hash)?;
    if users.insert(user.to_owned(), hash.to_owned()).is_some() {
        return Err(format!("the user `{user}` is there twice"));
    }
    if users.len() > USERS_MAX {
        return Err(format!("more than {USERS_MAX} users"));
    }
    Ok(())
}

/// The first user whose hash is of the kind and cost that most have.
fn decoy(users: &[(String, String)]) -> Option<u32> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (_, hash) in users {
        *counts.entry(kind(hash)).or_default() += 1;
    }
    let most = counts.values().max()?;
    let found = users.iter().position(|(_, hash)| counts.get(kind(hash)) == Some(most))?;
    u32::try_from(found).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
    const SHA: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

    #[test]
    fn files() {
        let read = |text: &str| {
            let mut users = HashMap::new();
            file(text.as_bytes(), "/f", &mut users).map(|()| {
                let mut names: Vec<String> = users.into_keys().collect();
                names.sort();
                names.join(" ")
            })
        };
        for (text, expected) in [
            (format!("# c\n\nann:{BCRYPT}\r\nbob:{SHA}:Bob\n"), Ok("ann bob")),
            (String::new(), Ok("")),
            ("ann".to_owned(), Err("`/f` line 1: must be `user:hash`")),
            (format!("\nann:{SHA}\nann:{BCRYPT}"), Err("`/f` line 3: the user `ann` is there twice")),
            (format!(":{SHA}"), Err("`/f` line 1: the user: ")),
            ("ann:secret".to_owned(), Err("`/f` line 1: neither a hash")),
            ("ann:$apr1$a$b".to_owned(), Err("`/f` line 1: MD5-crypt (`$apr1$`, `$1$`) is not supported")),
            ("ann:rl3uoGJGSCNoE".to_owned(), Err("`/f` line 1: traditional DES")),
        ] {
            match (read(&text), expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, expected),
                (Err(message), Err(part)) => assert!(message.starts_with(part), "{message}, not {part}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
        assert!(file(b"ann:\xff", "/f", &mut HashMap::new()).is_err());
    }

    #[test]
    fn who_stands_in() {
        let users = |hashes: &[&str]| -> Vec<(String, String)> {
            hashes.iter().zip('a'..).map(|(hash, name)| (name.to_string(), (*hash).to_owned())).collect()
        };
        assert_eq!(decoy(&users(&[SHA, BCRYPT, BCRYPT])), Some(1));
        assert_eq!(decoy(&users(&[SHA])), Some(0));
        assert_eq!(decoy(&[]), None);
    }

    #[test]
    fn so_many_and_no_more() {
        let mut text: String = (0..USERS_MAX).map(|n| format!("u{n}:{SHA}\n")).collect();
        assert_eq!(file(text.as_bytes(), "/f", &mut HashMap::new()), Ok(()));
        text.push_str(&format!("one-more:{SHA}\n"));
        let error = file(text.as_bytes(), "/f", &mut HashMap::new()).unwrap_err();
        assert!(error.ends_with("line 100001: more than 100000 users"), "{error}");
    }
}
