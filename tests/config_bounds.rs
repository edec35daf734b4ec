//! Large, hostile and random documents: they cost time and memory in proportion, and never a panic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write;

use gateway::config::{Checked, Errors, Secrets, parse};
use proptest::prelude::*;

struct Nothing;

impl Secrets for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        Some("kD83nf0sL2mZq9xVb4tYw7cRh1uEj6GaPp".to_owned())
    }

    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no file".to_owned())
    }
}

fn load(text: &str) -> Result<Checked, Errors> {
    parse(text, "f", &Nothing)
}

const EXAMPLE: &str = include_str!("../conf/gateway.yaml");

/// A document with `count` routes and as many upstreams.
fn document(count: usize) -> String {
    let mut text =
        String::from("version: 1\ndefaults: {timeouts: {read: 5s}}\nlimiters: [{name: ip, key: [ip], rate: 1/s}]\n");
    text.push_str("upstreams:\n");
    for number in 0..count {
        writeln!(text, "- {{name: u{number}, nodes: [{{host: 10.0.0.1, port: 80}}, {{host: 10.0.0.2, port: 80}}]}}")
            .unwrap();
    }
    text.push_str("routes:\n");
    for number in 0..count {
        writeln!(
            text,
            "- name: r{number}\n  hosts: [h{}.example]\n  paths: [\"/a{number}/*\", \"/b{number}/{{id}}\"]\n  upstream: u{number}\n  limits: [ip]",
            number % 1000
        )
        .unwrap();
    }
    text
}

#[test]
fn a_hundred_thousand_routes() {
    // Without optimisation a tenth of them takes as long.
    let count = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let text = document(count);
    let before = std::time::Instant::now();
    let checked = load(&text).unwrap();
    eprintln!("{} bytes in {:?}", text.len(), before.elapsed());
    assert_eq!(checked.document.routes.len(), count);
    assert_eq!(checked.document.upstreams.len(), count);
    assert!(checked.warnings.is_empty());
}

#[test]
fn what_is_wrong_everywhere_is_told_a_thousand_times() {
    let good = document(2_000);
    for (from, to) in [
        ("  upstream: u", "  upstream: v"),
        ("  hosts: [h", "  host: [h"),
        ("- name: r", "- name: same #"),
        ("  limits: [ip]", "  limits: [pi]"),
        ("port: 80}]", "port: 0}]"),
    ] {
        let text = good.replace(from, to);
        let before = std::time::Instant::now();
        let errors = load(&text).unwrap_err();
        eprintln!("{from:?}: {:?}", before.elapsed());
        assert_eq!(errors.problems().len(), 1_001, "for {from:?}");
    }
    // Nothing tells them apart.
    let mut same = String::from("version: 1\nroutes:\n");
    for number in 0..2_000 {
        writeln!(same, "- {{name: r{number}, paths: [/a, /b]}}").unwrap();
    }
    assert_eq!(load(&same).unwrap_err().problems().len(), 1_001);
}

#[test]
fn what_unfolds_is_bounded() {
    // 80 hosts by 100 paths, shared by many routes through aliases.
    let list = |prefix: &str| (0..100).map(|number| format!("{prefix}{number}")).collect::<Vec<_>>().join(",");
    let mut text = format!(
        "version: 1\ndefaults: {{hosts: [{}]}}\nroutes:\n- {{name: a, paths: &p [{}]}}\n",
        list("h").split(',').take(80).collect::<Vec<_>>().join(","),
        list("/")
    );
    for number in 0..300 {
        writeln!(text, "- {{name: r{number}, priority: {number}, paths: *p}}").unwrap();
    }
    let errors = load(&text).unwrap_err().to_string();
    assert!(errors.contains("more than 2000000 pairs of a host and a path"), "{errors}");

    let told = |hosts: &str, paths: &str| {
        load(&format!("version: 1\nroutes: [{{name: a, hosts: [{hosts}], paths: [{paths}]}}]\n"))
            .unwrap_err()
            .to_string()
    };
    let tail = "bytes, at most 256000 are possible: make several routes of it";
    assert_eq!(
        told(&list("h"), &format!("{}, /x", list("/"))),
        format!("f:2: routes[0]: its 10100 pairs of a host and a path take 300890 {tail}")
    );
    let wide: Vec<String> = (0..5).map(|number| format!("/{number}{}", "x".repeat(1000))).collect();
    assert_eq!(
        told(&list("h"), &wide.join(",")),
        format!("f:2: routes[0]: its 500 pairs of a host and a path take 514450 {tail}")
    );
    let limiters: String = (0..17).map(|number| format!("{{name: l{number}, key: [ip], rate: 1/s}},")).collect();
    assert_eq!(
        load(&format!(
            "version: 1\nlimiters: [{limiters}]\nroutes: [{{name: a, paths: [/a], limits: [{}]}}]\n",
            list("l").split(',').take(17).collect::<Vec<_>>().join(",")
        ))
        .unwrap_err()
        .to_string(),
        "f:3: routes[0].limits: 17 limits on one route, at most 16 are possible"
    );
    let large = format!("version: 1\n# {}\n", "x".repeat(64 << 20));
    assert_eq!(load(&large).unwrap_err().to_string(), "f: the document is larger than 64 MiB");
}

/// One line of the example, or what a person might type in its place.
fn mutated() -> impl Strategy<Value = String> {
    let lines = EXAMPLE.lines().count();
    let edit = (
        0..lines,
        0..200usize,
        prop_oneof![
            "[ -~]{0,8}",
            Just("{".to_owned()),
            Just("]".to_owned()),
            Just(": ".to_owned()),
            Just("&a ".to_owned()),
            Just("*a".to_owned()),
            Just("\n".to_owned()),
            Just("!!int ".to_owned()),
            Just("null".to_owned()),
            Just("-1".to_owned()),
            Just("99999999999999999999".to_owned()),
            "\\PC{0,4}",
        ],
        0..4usize,
    );
    proptest::collection::vec(edit, 1..4).prop_map(|edits| {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        for (line, column, text, removed) in edits {
            let Some(line) = lines.get_mut(line) else { continue };
            let characters: Vec<char> = line.chars().collect();
            let column = column % (characters.len() + 1);
            let rest = characters.iter().skip(column + removed);
            *line = characters.iter().take(column).copied().chain(text.chars()).chain(rest.copied()).collect();
        }
        lines.join("\n")
    })
}

fn check(text: &str) {
    match load(text) {
        Ok(checked) => assert_eq!(checked.document.version, 1),
        Err(errors) => assert!(!errors.problems().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn yaml_shaped_text_never_panics(text in "([a-z]{0,3}|[\\[\\]{}:,&*!|>'\"%@`#?\\-~ \n\t\\\\]|- |: |\n  ){0,60}") {
        check(&format!("version: 1\n{text}"));
        check(&text);
    }

    #[test]
    fn mutated_documents_never_panic(text in mutated()) {
        check(&text);
    }
}
