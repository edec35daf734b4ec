//! `sign`: a curl command for a request with an HTTP Message Signature.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::auth::signature::{ALGORITHMS, Signer, content_digest};
use gateway::types::Method;
use serde_json::json;

use super::args::Args;
use super::{Outcome, print, print_json};
use gateway::admin::Sent;

pub fn run(method: &str, url: &str, args: &Args) -> Outcome {
    let need = |value: &Option<String>, name: &str| value.clone().ok_or_else(|| format!("sign needs {name}"));
    let (keyid, alg) = (need(&args.keyid, "--keyid ID")?, need(&args.alg, "--alg ALGORITHM")?);
    let file = need(&args.key_file, "--key-file PATH")?;
    let Some((_, algorithm)) = ALGORITHMS.into_iter().find(|(name, _)| *name == alg) else {
        let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        return Err(format!("`{alg}` is no algorithm: write one of {}", names.join(", ")));
    };
    if !keyid.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
        return Err("a keyid is visible ASCII without quotes and backslashes".to_owned());
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("`{url}` says no host: write `https://host/path`"));
    }
    let mut key = std::fs::read(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    // As the gateway reads it: editors end a file with a newline that nobody means.
    if key.last() == Some(&b'\n') {
        key.pop();
        if key.last() == Some(&b'\r') {
            key.pop();
        }
    }
    let body = match args.data.as_deref() {
        None => Vec::new(),
        Some(data) => match data.strip_prefix('@') {
            Some(path) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
            None => data.as_bytes().to_vec(),
        },
    };

    let digest = content_digest(&body);
    let mut headers = args.headers.clone();
    headers.push(("content-digest".to_owned(), digest.clone()));
    let request = Sent::new(method, url, headers, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    if request.method == Method::Other {
        return Err(format!("`{method}` is no method that can be signed; methods are written in capitals"));
    }
    let mut components = vec!["@method", "@target-uri", "content-digest"];
    for (name, _) in &args.headers {
        // The target says the host.
        if name != "host" && !components.contains(&name.as_str()) {
            components.push(name);
        }
    }
    let failed = |error: gateway::auth::signature::SignError| error.to_string();
    let signer = Signer::new(algorithm, &keyid, &key).map_err(|error| format!("{file}: {error}"))?;
    let nonce = Signer::nonce().map_err(failed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let (input, signature) = signer.sign(&request, &components, now, &nonce).map_err(failed)?;

    let ours = [("Content-Digest", digest), ("Signature-Input", input), ("Signature", signature)];
    if args.json {
        let lines: serde_json::Map<_, _> =
            ours.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        print_json(&json!({"method": method, "url": url, "headers": lines}));
        return Ok(0);
    }
    let mut command = match method {
        "HEAD" => "curl --head".to_owned(),
        method => format!("curl -X {}", quote(method)),
    };
    let given = args.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in given.chain(ours) {
        command.push_str(&format!(" \\\n  -H {}", quote(&format!("{name}: {value}"))));
    }
    if let Some(data) = &args.data {
        command.push_str(&format!(" \\\n  --data-binary {}", quote(data)));
    }
    // curl would resolve dot segments and brackets, and what is sent must be what was signed.
    command.push_str(&format!(" \\\n  --path-as-is --globoff {}\n", quote(url)));
    print(&command);
    Ok(0)
}

/// As one word of a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
