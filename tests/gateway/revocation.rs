//! Tokens that are refused though they are good.

use std::fs;
use std::path::PathBuf;

use gateway::gateway::{Event, Severity};
use gateway::types::SECOND;
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::token;

/// A list in a file of its own.
struct List(PathBuf);

impl List {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-revoked-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn write(&self, text: &str) {
        // By rename, as a careful operator does; the size differs each time.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    fn document(&self) -> String {
        format!(
            r#"version: 1
auth:
  - {{name: staff, jwt: {{issuer: "https://a", audience: api, keys: [{{alg: HS256, secret: "$env://SECRET"}}],
      revocation: {{file: "{}"}}}}}}
  - {{name: others, jwt: {{issuer: "https://a", audience: api, keys: [{{alg: HS256, secret: "$env://SECRET"}}]}}}}
routes: [{{name: r, paths: ["/*"], auth: [staff]}}, {{name: o, paths: ["/o"], auth: [others]}}]
"#,
            self.0.display()
        )
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Secrets of the tests, and files as they are.
struct Files;

impl gateway::config::Secrets for Files {
    fn env(&self, name: &str) -> Option<String> {
        crate::support::TestSecrets.env(name)
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        fs::read(path).map_err(|error| error.to_string())
    }
}

fn start(list: &List) -> Gateway {
    let mut gateway = Gateway::new("version: 1\nroutes: [{name: r, paths: [/a]}]\n", 2);
    let checked = gateway::config::parse(&list.document(), "f", &Files).unwrap();
    gateway.leader.publish(&checked.document, at(0.0)).unwrap();
    gateway.leader.follow(at(0.0), &mut |_| {});
    gateway
}

/// Two looks of the leader, and what it said.
fn look(gateway: &mut Gateway) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..2 {
        gateway.leader.tick(at(1.0), &mut |event| events.push(event));
    }
    events
}

#[test]
fn what_is_on_the_list_is_refused_by_every_worker_at_once() {
    let list = List::new("acts", "jti j-1\n");
    let mut gateway = start(&list);
    let now = at(0.0).wall / SECOND;
    let issued = |sub: &str, jti: &str, iat: u64| token(sub, json!({"jti": jti, "iat": iat}));
    let (one, two, late) =
        (issued("anna", "j-1", now - 50), issued("anna", "j-2", now - 50), issued("anna", "j-3", now - 5));
    let bare = token("anna", json!({}));
    let verdicts = |gateway: &mut Gateway, worker: usize| {
        [&one, &two, &late, &bare].map(|token| gateway.verdict(worker, &Fake::get("/").bearer(token), at(2.0)))
    };
    for worker in [0, 1] {
        assert_eq!(verdicts(&mut gateway, worker), ["auth.revoked", "forward", "forward", "forward"]);
    }
    // Known tokens are refused from the next request on; those without a time of issue count as old.
    let before = gateway::config::rfc3339(now - 10);
    list.write(&format!("sub anna before {before} # left\n"));
    look(&mut gateway);
    for worker in [0, 1] {
        assert_eq!(verdicts(&mut gateway, worker), ["auth.revoked", "auth.revoked", "forward", "auth.revoked"]);
    }
    // Another entry has another list, and what is taken out is good again.
    assert_eq!(gateway.verdict(0, &Fake::get("/o").bearer(&one), at(2.0)), "forward");
    let digest = gateway::auth::digest(two.as_bytes());
    list.write(&format!("token sha256:{}\nsub bob\n", std::str::from_utf8(&digest).unwrap()));
    look(&mut gateway);
    assert_eq!(verdicts(&mut gateway, 1), ["forward", "auth.revoked", "forward", "forward"]);
    list.write("");
    look(&mut gateway);
    assert_eq!(verdicts(&mut gateway, 0), ["forward"; 4]);
}

#[test]
fn a_list_that_cannot_be_read_changes_nothing() {
    let list = List::new("bad", "jti j-1\n");
    let mut gateway = start(&list);
    let request = Fake::get("/").bearer(&token("anna", json!({"jti": "j-1"})));
    for text in ["jti\n", "kid k\n\n"] {
        list.write(text);
        let events = look(&mut gateway);
        assert!(
            events.iter().any(|event| event.severity == Severity::Error && event.text.contains("line 1")),
            "{events:?}"
        );
        assert_eq!(gateway.verdict(0, &request, at(2.0)), "auth.revoked");
    }
    fs::remove_file(&list.0).unwrap();
    assert!(look(&mut gateway).iter().any(|event| event.text.contains("cannot be looked at")));
    assert_eq!(gateway.verdict(0, &request, at(2.0)), "auth.revoked");
}

#[test]
fn entries_end_and_a_full_table_is_told() {
    let until = gateway::config::rfc3339(at(100.0).wall / SECOND);
    let list = List::new("ends", &format!("jti j-1 until {until}\n"));
    let mut gateway = start(&list);
    let request = Fake::get("/").bearer(&token("anna", json!({"jti": "j-1"})));
    assert_eq!(gateway.verdict(0, &request, at(99.0)), "auth.revoked");
    assert_eq!(gateway.verdict(0, &request, at(100.0)), "forward");
    let many: String = (0..60_000).map(|n| format!("jti many-{n}\n")).collect();
    list.write(&many);
    let events = look(&mut gateway);
    assert!(events.iter().any(|event| event.text.contains("of 60000 entries find no room")), "{events:?}");
}
