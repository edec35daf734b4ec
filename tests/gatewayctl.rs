//! The program, run as a person runs it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;

fn run(words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewayctl"));
    let out = command.args(words).env_remove("JWT_SECRET").current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn write(name: &str, text: &str) {
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), text).unwrap();
}

#[test]
fn commands() {
    write(
        "a.yaml",
        "version: 1\nupstreams: [{name: u, nodes: [{host: no.invalid, port: 1}]}]\nroutes: [{name: a, paths: [/a/*], upstream: u}]\n",
    );
    write("b.yaml", "version: 1\nroutes: [{name: a, paths: [/b]}]\n");
    write(
        "secret.yaml",
        "version: 1\nauth: [{name: s, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: \"$env://JWT_SECRET\"}]}}]\n",
    );
    write(
        "log",
        "{\"method\":\"GET\",\"uri\":\"/a/1\",\"args\":\"x=1\",\"timestamp\":\"2026-11-24T09:00:00Z\"}\n\
         10.0.0.1 - - [24/Nov/2026:09:00:00 +0000] \"GET /a/2 HTTP/1.1\" 200 1 \"-\" \"curl\"\n\
         10.0.0.1 - - [24/Nov/2026:09:00:01 +0000] \"GET /c HTTP/1.1\" 404 1 \"-\" \"-\"\nnonsense\n",
    );
    for (words, code, found) in [
        (&["check", "a.yaml"][..], 0, "a.yaml: right; routes 1, upstreams 1, warnings 0\n"),
        (&["check", "a.yaml", "--json"], 0, "\"ok\": true"),
        (&["check", "secret.yaml"], 1, "the environment variable `JWT_SECRET` is not set"),
        (&["check", "secret.yaml", "--secrets-missing-ok"], 0, "right"),
        (&["check", "none.yaml"], 2, "cannot read none.yaml"),
        (&["schema"], 0, "2020-12/schema"),
        (&["diff", "a.yaml", "a.yaml"], 0, ""),
        (&["diff", "a.yaml", "b.yaml"], 1, "- upstreams u\n~ routes a: paths, upstream\n"),
        (&["diff", "a.yaml", "none"], 2, "cannot read none"),
        (&["size", "a.yaml"], 0, "gateway_zone NAME 1m;"),
        (&["explain", "a.yaml", "GET", "/a/x?y=1"], 0, "forwarded to u: GET /a/x?y=1\n"),
        (&["explain", "a.yaml", "GET", "/none", "--json"], 1, "\"reason\": \"route.none\""),
        (&["explain", "a.yaml", "GET", "x"], 2, "is no URL"),
        (
            &["replay", "log", "a.yaml", "a.yaml"],
            0,
            "of 3 requests 0 would be decided otherwise.\n1 lines could not be read\n",
        ),
        (
            &["replay", "log", "a.yaml", "b.yaml"],
            1,
            "of 3 requests 2 would be decided otherwise:\n          2  route a to u -> refused (route.none), such as GET /a/1?x=1\n",
        ),
        (&["replay", "log", "a.yaml", "b.yaml", "--json"], 1, "\"different\": 2"),
        (&["frobnicate"], 2, "no command is called `frobnicate`"),
        (&["check"], 2, "`check` takes other arguments"),
        (&["--help"], 0, "gatewayctl replay ACCESS_LOG A B"),
    ] {
        let (status, text) = run(words);
        assert!(status == code && text.contains(found), "{words:?}: {status}\n{text}");
    }
}

#[test]
fn what_it_signs_holds() {
    use gateway::auth::signature::{ALGORITHMS, Buffers, Signature, SignatureKey, SignatureVerifier};
    use gateway::auth::{Algorithm, Key};
    use support::Fake;

    const SECRET: &str = "a secret of more than thirty-two bytes";
    write("hmac.key", &format!("{SECRET}\n"));
    write("body", "from a file");
    write(
        "ed.key",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
    );
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----";
    let url = "https://gw.example:8443/a%20b?c='d'&e";
    for (alg, file, data, body) in [
        ("hmac-sha256", "hmac.key", "it's", "it's"),
        ("hmac-sha256", "hmac.key", "@body", "from a file"),
        ("ed25519", "ed.key", "", ""),
    ] {
        let words =
            ["sign", "POST", url, "--keyid", "k", "--alg", alg, "--key-file", file, "--data", data, "-H", "X-A: b  c"];
        let (status, text) = run(&words);
        assert_eq!(status, 0, "{text}");
        assert!(
            text.starts_with("curl -X 'POST' \\\n")
                && text.ends_with("'https://gw.example:8443/a%20b?c='\\''d'\\''&e'\n"),
            "{text}"
        );
        assert_eq!(text.contains("--data-binary 'it'\\''s'"), data == "it's", "{text}");
        let (status, json) = run(&[&words[..], &["--json"]].concat());
        assert_eq!(status, 0, "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut request = Fake::get("/a%20b?c='d'&e")
            .method(gateway::types::Method::Post)
            .host("gw.example:8443")
            .header("x-a", "b  c");
        for (name, value) in json["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let (_, algorithm) = ALGORITHMS.into_iter().find(|(name, _)| *name == alg).unwrap();
        let key = match algorithm {
            Algorithm::Hs256 => Key::from_secret(Some("k".into()), algorithm, SECRET.as_bytes()),
            _ => Key::from_pem(Some("k".into()), Some(algorithm), public),
        };
        let settings = Signature {
            keys: vec![SignatureKey { key: key.unwrap(), consumer: "k".into() }],
            components: ["@method", "@target-uri", "content-digest", "x-a"].map(str::to_owned).to_vec(),
            max_age: 300,
            leeway: 30,
            required: gateway::auth::signature::Parameter::ALL[..4]
                .iter()
                .copied()
                .filter(|one| one.name() != "expires")
                .collect(),
            fail_open: false,
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
        let mut buffers = Buffers::default();
        let signed =
            SignatureVerifier::from_settings(&settings).unwrap().verify(&request, now, &mut buffers).unwrap().unwrap();
        let digest = signed.digest.unwrap();
        let mut hasher = digest.hasher();
        hasher.update(body.as_bytes());
        assert!(digest.is_of(hasher) && buffers.nonce().len() > 32, "{alg}");
    }
    for (words, found) in [
        (&["sign", "GET", "https://a/", "--keyid", "k", "--alg", "hmac-sha256"][..], "sign needs --key-file"),
        (&["sign", "GET", "/a", "--keyid", "k", "--alg", "hmac-sha256", "--key-file", "hmac.key"], "says no host"),
        (
            &["sign", "get", "https://a/", "--keyid", "k", "--alg", "hmac-sha256", "--key-file", "hmac.key"],
            "is no method",
        ),
        (&["sign", "GET", "https://a/", "--keyid", "k", "--alg", "HS256", "--key-file", "hmac.key"], "is no algorithm"),
        (
            &["sign", "GET", "https://a/", "--keyid", "k", "--alg", "ed25519", "--key-file", "hmac.key"],
            "the key is not a private key",
        ),
        (
            &["sign", "GET", "https://a/", "--keyid", "k", "--alg", "ed25519", "--key-file", "no.key"],
            "cannot read no.key",
        ),
    ] {
        let (status, text) = run(words);
        assert!(status == 2 && text.contains(found) && !text.contains("thirty"), "{words:?}: {status}\n{text}");
    }
}
