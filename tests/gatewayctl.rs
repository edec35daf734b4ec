//! The program, run as a person runs it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

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
