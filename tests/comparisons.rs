//! Secrets are not compared with `==`, which tells by its time how much was right (libjwt, CVE-2024-25189): in `src/auth`
//! tags, digests, tokens and passwords go through `aws_lc_rs::constant_time`, or are looked up by a hash.
//!
//! Read from the sources' text: a comparison in a line that names one of them is a fault, unless it stands in the list.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[allow(dead_code, reason = "of what reads sources, the words alone are needed here")]
#[path = "layering/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use source::{Token, tokens};

/// Where secrets are verified: whole folders, and what stands between them and the request.
const PLACES: [&str; 3] = ["auth", "gateway/caller.rs", "gateway/signature.rs"];

/// A name with one of these between its underscores is that of a secret, or of what proves that somebody has one.
const SECRET: [&str; 12] = [
    "digest",
    "fingerprint",
    "hash",
    "hmac",
    "login",
    "mac",
    "nonce",
    "password",
    "secret",
    "signature",
    "tag",
    "token",
];

/// File, line of code, and why it may.
const ALLOWED: [(&str, &str, &str); 9] = [
    ("auth/key.rs", "&& secret.iter().all(|octet| Some(octet) == secret.first());", "a document's secret with itself"),
    ("auth/logins.rs", "&& answered == login", LOGIN),
    ("auth/logins.rs", "self.under_way.retain(|login| *login != answer.login);", LOGIN),
    ("auth/logins.rs", "let worth = |place: &Place| match place.login == answer.login {", LOGIN),
    ("auth/logins.rs", "self.answer.is_some_and(|answer| answer.login == login && answer.right.is_none())", LOGIN),
    ("auth/mtls.rs", "if place.as_ref().is_none_or(|(other, _)| *other != tag) {", CERTIFICATE),
    ("auth/mtls.rs", "ArchivedMark::Fingerprint(digest) => self.fingerprint == *digest,", CERTIFICATE),
    ("auth/pem.rs", "(found == tag).then_some(content)", "the tag of a DER element"),
    ("auth/source.rs", "token(text) != Lookup::Malformed", "whether it has a token's characters"),
];

const LOGIN: &str = "a hash under a key that this process alone has: nobody can choose one that is nearly right";
const CERTIFICATE: &str = "certificates are public; TLS has proved who holds the key";

#[test]
fn no_secret_is_compared_with_an_operator() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    PLACES.iter().for_each(|place| collect(&root.join(place), &mut files));
    assert!(files.len() > 20, "{files:?}");
    let mut faults = Vec::new();
    let mut used = [false; ALLOWED.len()];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        for (line, code) in check(&text) {
            match ALLOWED.iter().position(|(file, allowed, _)| *file == name && *allowed == code) {
                Some(index) => used[index] = true,
                None => faults.push(format!("src/{name}:{line}: {code}")),
            }
        }
    }
    assert!(faults.is_empty(), "compared with `==`:\n{}", faults.join("\n"));
    let stale: Vec<_> = ALLOWED.iter().zip(used).filter(|(_, used)| !used).map(|(allowed, _)| allowed).collect();
    assert!(stale.is_empty(), "allowed, but no longer there: {stale:?}");
}

/// The lines in `text`, up to its tests, in which something secret is compared: number and code.
fn check(text: &str) -> Vec<(usize, &str)> {
    let tokens = tokens(text);
    let words = |at: usize, count: usize| tokens[at..].iter().take(count).map(|token| token.text.as_str());
    let end = (0..tokens.len()).find(|at| words(*at, 2).eq(["mod", "tests"])).unwrap_or(tokens.len());
    let lines: Vec<&str> = text.lines().collect();
    tokens[..end]
        .chunk_by(|one, next| one.line == next.line)
        .filter(|line| {
            let signs = signs(line);
            signs.split(|sign| BETWEEN.contains(&sign.as_str())).any(compares_a_secret)
        })
        .map(|line| (line[0].line, lines[line[0].line - 1].trim()))
        .collect()
}

/// What ends an operand.
const BETWEEN: [&str; 7] = ["if", "match", ",", "=", "=>", "&&", "||"];

/// The words and signs of a line; signs of two characters are one.
fn signs(line: &[Token]) -> Vec<String> {
    let mut signs: Vec<String> = Vec::new();
    for token in line {
        match signs.last_mut() {
            Some(last)
                if ["==", "!=", "<=", ">=", "=>", "&&", "||"].contains(&format!("{last}{}", token.text).as_str()) =>
            {
                last.push_str(&token.text);
            }
            _ => signs.push(token.text.clone()),
        }
    }
    signs
}

/// `a == b`, `a != b`, `a.eq(&b)`, `a.ne(&b)`, `a.cmp(&b)`, where one of them is a secret; how long one is may be known.
fn compares_a_secret(part: &[String]) -> bool {
    let compares = part.iter().any(|sign| ["==", "!=", "eq", "ne", "cmp", "partial_cmp"].contains(&sign.as_str()));
    let is_length = |at: usize| part[at].ends_with("_len") || part[at + 1..].iter().take(2).eq([".", "len"]);
    let is_secret = |at: usize| part[at].split('_').any(|word| SECRET.contains(&word)) && !is_length(at);
    compares && (0..part.len()).any(is_secret)
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        return files.push(place.to_owned());
    }
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            collect(&path, files);
        }
    }
    files.sort();
}

#[test]
fn a_planted_fault_is_found() {
    for text in [
        "if tag == expected { return true }",
        "if expected[..] != self.signature[..] {}",
        "(place.token == token).then_some(found)",
        "password.as_bytes().eq(given)",
        "stored_hash.cmp(&given)",
        "// tag\nlet good = digest == other; // says the digest",
        "mod a {}\nfn b() -> bool { user_password == other }",
    ] {
        assert_eq!(check(text).len(), 1, "{text}");
    }
    for text in [
        "verify_slices_are_equal(&tag, &expected).is_ok()",
        "if signature.len() != 64 && is_hex(signature) || signature.len() == self.signature_len {}",
        "let digest = kind == other;",
        "// tag == expected",
        "let tag = \"a == b\";",
        "if kid == other {}",
        "secret >= 1;",
        "mod tests { fn a() { tag == expected } }",
    ] {
        assert!(check(text).is_empty(), "{text}");
    }
}
