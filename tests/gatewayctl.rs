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
    let vectors: serde_json::Value = serde_json::from_str(include_str!("data/own/jwks_cases.json")).unwrap();
    let good = &vectors["meta"]["good_key"];
    write(
        "set.json",
        &serde_json::json!({"keys": [good, {"kty": "XYZ", "kid": "q\n"}, {"kty": "RSA", "use": "enc"}]}).to_string(),
    );
    let folder = env!("CARGO_TARGET_TMPDIR");
    write(
        "idp.yaml",
        &format!(
            "version: 1\nauth:\n- {{name: f, jwt: {{issuer: i, audience: a, jwks: {{file: \"{folder}/set.json\"}}}}}}\n\
             - {{name: u, jwt: {{issuer: i, audience: a, jwks: {{url: \"https://i.invalid/jwks\"}}}}}}\n\
             routes: [{{name: a, paths: [/a], auth: [f]}}, {{name: b, paths: [/b], auth: [u]}}]\n"
        ),
    );
    write("none.json", "{\"keys\": []}");
    write("tiny", "tiny\n");
    write("logins.yaml", "version: 1\nauth: [{name: l, basic: {file: /none/htpasswd}}]\n");
    for (words, code, found) in [
        (
            &["jwks", "check", "set.json"][..],
            0,
            "\"rsa1\"  RSA  RS256  usable\n\"q\\n\"  XYZ  -  left out: key type or curve \"XYZ\" is not supported\nwithout kid  RSA  -  left out: `use`",
        ),
        (&["jwks", "check", "set.json"], 0, "set.json: 1 of 3 keys usable\n"),
        (&["jwks", "check", "set.json", "--json"], 0, "\"usable\": 1"),
        (&["jwks", "check", "none.json"], 1, "none.json: refused: no usable key\n"),
        (&["jwks", "check", "a.yaml"], 1, "a.yaml: refused: the set is not strict JSON\n"),
        (&["jwks", "check", "nowhere.json"], 2, "cannot read nowhere.json"),
        (&["jwks", "check", "http://127.0.0.1:1/"], 2, "gatewayctl: http://127.0.0.1:1/: "),
        (&["jwks", "check", "https://u@a/"], 2, "gatewayctl: https://u@a/: must be a URL without user and password"),
        (&["explain", "idp.yaml", "GET", "/a", "-H", "Authorization: Bearer x.y.z"], 1, "refused: 401 auth.malformed"),
        (
            &["explain", "idp.yaml", "GET", "/b", "-H", "Authorization: Bearer x.y.z"],
            1,
            "refused: 503 auth.keys_unavailable",
        ),
        (&["jwks"], 2, "`jwks` takes other arguments"),
        (&["check", "a.yaml"], 0, "a.yaml: right; routes 1, upstreams 1, warnings 0\n"),
        (&["check", "a.yaml", "--json"], 0, "\"ok\": true"),
        (&["check", "secret.yaml"], 1, "the environment variable `JWT_SECRET` is not set"),
        (&["check", "secret.yaml", "--secrets-missing-ok"], 0, "right"),
        (&["check", "logins.yaml"], 1, "auth[0].basic.file: cannot read `/none/htpasswd`"),
        (&["check", "logins.yaml", "--secrets-missing-ok"], 0, "right"),
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
        (
            &["hash-key", "another-key-of-them"],
            0,
            "sha256:53c346188687305e6fc3165956b18a0a4a70c287e5daa3f5c60c83a60143ce2e\n",
        ),
        (&["hash-key", "short"], 2, "the key has 5 bytes; 16 to 512 are possible"),
        (&["hash-key", "with a blank in the middle"], 2, "visible ASCII"),
        (&["hash-key", "a", "b"], 2, "`hash-key` takes other arguments"),
        (&["token"], 2, "token needs --alg"),
        (&["token", "--alg", "none", "--secret-file", "long"], 2, "no algorithm is called `none`"),
        (&["token", "--alg", "HS256"], 2, "HS256 takes --secret-file, and that alone"),
        (&["token", "--alg", "RS256", "--secret-file", "long"], 2, "RS256 takes --key-file, and that alone"),
        (&["token", "--alg", "HS256", "--secret-file", "log"], 0, "eyJ"),
        (&["token", "--alg", "HS256", "--secret-file", "tiny"], 2, "tiny has 4 bytes"),
        (&["token", "--alg", "HS256", "--secret-file", "nowhere"], 2, "cannot read nowhere"),
        (&["token", "--alg", "ES256", "--key-file", "tiny"], 2, "tiny is no private key for ES256"),
        (&["token", "--alg", "HS256", "--secret-file", "log", "--exp", "soon"], 2, "`soon` is no duration"),
        (&["token", "--alg", "HS256", "--secret-file", "log", "--claim", "x"], 2, "`x` is no claim"),
        (&["--help"], 0, "gatewayctl replay ACCESS_LOG A B"),
    ] {
        let (status, text) = run(words);
        assert!(status == code && text.contains(found), "{words:?}: {status}\n{text}");
    }
}

/// Runs with `input` as standard input.
fn piped(words: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewayctl"));
    let command = command.args(words).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn keys() {
    let (code, made) = run(&["hash-key"]);
    let (key, hash) = made.strip_prefix("key   ").unwrap().trim_end().split_once("\nhash  ").unwrap();
    assert_eq!((code, key.len()), (0, 43));
    assert_eq!(run(&["hash-key", "--", key]).1.trim_end(), hash);
    assert_eq!(piped(&["hash-key", "-"], &format!("{key}\n")).trim_end(), hash);
    assert_ne!(run(&["hash-key"]).1, made);
    write(
        "keys.yaml",
        &format!(
            "version: 1\nauth: [{{name: k, api_key: {{}}}}]\nconsumers: [{{name: acme, api_key: \"{hash}\"}}]\n\
             routes: [{{name: r, paths: [/*], auth: [k]}}]\n"
        ),
    );
    let header = format!("X-API-Key: {key}");
    let (code, text) = run(&["explain", "keys.yaml", "GET", "/", "--json", "-H", &header]);
    assert!(code == 0 && text.contains("\"consumer\": \"acme\""), "{text}");
}

#[test]
fn tokens() {
    write("secret", "a secret that is longer than 32 bytes\n");
    let folder = env!("CARGO_TARGET_TMPDIR");
    let mut keys = format!("        - {{kid: HS256, alg: HS256, secret: \"$file://{folder}/secret\"}}\n");
    for (alg, options) in [
        ("RS256", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("PS384", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ("ES256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("ES384", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("EdDSA", &["ED25519"]),
    ] {
        let openssl = |words: &[&str]| {
            let made = Command::new("openssl").args(words).current_dir(folder).output();
            made.is_ok_and(|out| out.status.success())
        };
        let (private, public) = (format!("{alg}.key"), format!("{alg}.pub"));
        let words = [&["genpkey", "-out", &private, "-algorithm"], options].concat();
        if !openssl(&words) || !openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]) {
            eprintln!("skipped: no openssl for {alg}");
            continue;
        }
        keys.push_str(&format!("        - {{kid: {alg}, alg: {alg}, pem: \"$file://{folder}/{public}\"}}\n"));
    }
    write(
        "tokens.yaml",
        &format!(
            "version: 1\nauth:\n  - name: t\n    jwt:\n      issuer: i\n      audience: a\n      claims: {{permissions: p}}\n      \
             keys:\n{keys}routes: [{{name: r, paths: [/*], auth: [t], permissions: {{any: [\"x:y\"]}}}}]\n"
        ),
    );
    let explain = |token: &str| {
        let header = format!("Authorization: Bearer {}", token.trim_end());
        run(&["explain", "tokens.yaml", "GET", "/", "--json", "-H", &header])
    };
    let common = ["--issuer", "i", "--audience", "a", "--sub", "ada", "--claim", "p=[\"x:y\"]"];
    let mut tried = 0;
    for alg in ["HS256", "RS256", "PS384", "ES256", "ES384", "EdDSA"] {
        if !keys.contains(&format!("kid: {alg}")) {
            continue;
        }
        let file = if alg == "HS256" { "secret".to_owned() } else { format!("{alg}.key") };
        let option = if alg == "HS256" { "--secret-file" } else { "--key-file" };
        let words = [&["token", "--alg", alg, option, &file, "--kid", alg], &common[..]].concat();
        let (code, token) = run(&words);
        assert_eq!(code, 0, "{alg}: {token}");
        let (code, text) = explain(&token);
        assert!(code == 0 && text.contains("\"consumer\": \"ada\""), "{alg}: {text}");
        let (_, late) = run(&[&words[..], &["--exp", "-1h"]].concat());
        assert!(explain(&late).1.contains("auth.expired"), "{alg}");
        tried += 1;
    }
    assert!(tried >= 1);
}

#[test]
fn a_password_is_looked_at_at_once() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    write("htpasswd", "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n");
    write(
        "password.yaml",
        &format!(
            "version: 1\nauth: [{{name: l, basic: {{file: {folder}/htpasswd}}}}]\nroutes: [{{name: r, paths: [/*], auth: [l]}}]\n"
        ),
    );
    // ann:secret and ann:Secret.
    for (text, code, found) in
        [("YW5uOnNlY3JldA==", 0, "\"consumer\": \"ann\""), ("YW5uOlNlY3JldA==", 1, "\"reason\": \"auth.password\"")]
    {
        let header = format!("Authorization: Basic {text}");
        let (status, text) = run(&["explain", "password.yaml", "GET", "/", "--json", "-H", &header]);
        assert!(status == code && text.contains(found), "{text}");
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

/// Every command that the help names is taken, and completed.
#[test]
fn commands_are_helped_and_completed_from_one_table() {
    let (code, help) = run(&["help"]);
    assert_eq!((code, help.as_str()), (0, run(&["--help"]).1.as_str()));
    let (code, script) = run(&["completion", "bash"]);
    assert_eq!(code, 0);
    let forms: Vec<&str> = help.lines().filter_map(|line| line.trim().strip_prefix("gatewayctl ")).collect();
    assert!(forms.len() > 30, "{help}");
    for form in forms.iter().filter(|form| !form.starts_with("looks")) {
        let word = form.split(' ').next().unwrap();
        assert!(script.contains(word), "{word} is not completed");
        // As a word that nobody would mean.
        let (code, said) = run(&[word, "a", "b", "c", "d", "e", "f"]);
        assert!(code == 2 && said.contains(&format!("`{word}` takes other arguments")), "{word}: {code} {said}");
    }
    for shell in ["bash", "zsh"] {
        write(&format!("completion.{shell}"), &run(&["completion", shell]).1);
    }
    let checked =
        Command::new("bash").args(["-n", "completion.bash"]).current_dir(env!("CARGO_TARGET_TMPDIR")).output();
    assert!(checked.unwrap().status.success());
    assert_eq!(run(&["completion", "fish"]).0, 2);
}

#[test]
fn a_gateway_that_is_not_there_or_wants_a_token() {
    let env = [("GATEWAY_TOKEN", "0123456789abcdef"), ("GATEWAY_URL", "http://127.0.0.1:1")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewayctl"));
    let out = command.args(["status"]).envs(env).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(2) && said.contains("http://127.0.0.1:1: "), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewayctl"));
    let out = command.args(["status"]).env_remove("GATEWAY_TOKEN").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(2) && said.contains("--token-file"), "{said}");
}
