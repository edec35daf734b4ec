//! `hash-key`: API keys and what the document holds of them.

use std::io::Read;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::auth::{KEY_MAX, KEY_MIN, digest};
use serde_json::json;

use super::args::Args;
use super::{Outcome, print, print_json};

/// A new key, which nobody can guess, and its hash.
pub fn make(args: &Args) -> Outcome {
    let mut bytes = [0; 32];
    let key = loop {
        rand::fill(&mut bytes).map_err(|_| "the system has no random bytes".to_owned())?;
        let key = URL_SAFE_NO_PAD.encode(bytes);
        // A dash in front looks like an option wherever somebody pastes it.
        if !key.starts_with('-') {
            break key;
        }
    };
    let hash = text(key.as_bytes());
    match args.json {
        true => print_json(&json!({"key": key, "hash": hash})),
        false => print(&format!("key   {key}\nhash  {hash}\n")),
    }
    Ok(0)
}

/// The hash of `key`; `-` is standard input, so that the key stands in no history of commands.
pub fn hash(key: &str, args: &Args) -> Outcome {
    let mut read = Vec::new();
    let key = match key {
        "-" => {
            let most = KEY_MAX as u64 + 3;
            std::io::stdin().take(most).read_to_end(&mut read).map_err(|error| format!("standard input: {error}"))?;
            // The newline that `echo` adds is nobody's key.
            let line = read.strip_suffix(b"\n").unwrap_or(&read);
            line.strip_suffix(b"\r").unwrap_or(line)
        }
        key => key.as_bytes(),
    };
    if !(KEY_MIN..=KEY_MAX).contains(&key.len()) {
        return Err(format!("the key has {} bytes; {KEY_MIN} to {KEY_MAX} are possible", key.len()));
    }
    if !key.iter().all(u8::is_ascii_graphic) {
        return Err("a key is made of visible ASCII characters".to_owned());
    }
    match args.json {
        true => print_json(&json!({"hash": text(key)})),
        false => print(&format!("{}\n", text(key))),
    }
    Ok(0)
}

fn text(key: &[u8]) -> String {
    format!("sha256:{}", String::from_utf8_lossy(&digest(key)))
}
