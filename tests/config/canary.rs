//! `canary`: what arrives, what is wrong with it.

use gateway::canary::Key;

use super::{assert_errors, load, warnings};

const UPSTREAMS: &str = "upstreams: [{name: u, nodes: [{host: a, port: 1}], timeouts: {read: 3s}}, {name: v, nodes: [{host: b, port: 1}], timeouts: {send: 4s}}]\n";

fn with(canary: &str) -> String {
    format!("{UPSTREAMS}routes: [{{name: r, paths: [/], upstream: u, canary: {canary}}}]\n")
}

#[test]
fn everything_arrives() {
    let document = load(&format!(
        "version: 1\ndefaults: {{timeouts: {{connect: 1s}}, canary: {{variants: [{{name: a, weight: 1}}, {{name: b, weight: 2}}]}}}}\n{UPSTREAMS}{}",
        r#"routes:
  - {name: r, paths: [/], upstream: u, timeouts: {read: 9s}, canary: {variants: [{name: s, weight: 95}, {name: c, weight: 5, upstream: v, timeouts: {connect: 2s}}],
     overrides: {header: "X-Canary:true", cookie: c, users: [z, a, z]}, key: "cookie:Sid", salt: pepper}}
  - {name: d, paths: [/d], upstream: v}
  - {name: n, paths: [/n], reply: {status: 404}}
"#
    ))
    .unwrap()
    .document;
    let [r, d, n] = document.routes.as_slice() else { panic!() };
    let canary = r.canary.as_ref().unwrap();
    let seconds = |index: usize| {
        let timeouts = canary.variants[index].timeouts;
        [timeouts.connect, timeouts.send, timeouts.read].map(|micros| micros / 1_000_000)
    };
    assert_eq!((&*canary.variants[0].upstream, seconds(0)), ("u", [1, 0, 9]));
    assert_eq!((&*canary.variants[1].upstream, seconds(1)), ("v", [2, 4, 9]));
    assert_eq!((&canary.rules.key, &*canary.rules.salt.text), (&Key::Cookie("Sid".into()), "pepper"));
    let overrides = canary.rules.overrides.as_ref().unwrap();
    let header = overrides.header.as_ref().unwrap();
    assert_eq!((&*header.name, header.value.as_deref()), ("x-canary", Some("true")));
    assert_eq!(overrides.cookie.as_ref().unwrap().value, None);
    assert_eq!(overrides.users, ["a", "z"]);
    let by_default = d.canary.as_ref().unwrap();
    assert_eq!((&*by_default.rules.salt.text, &*by_default.variants[1].upstream), ("d", "v"));
    assert!(n.canary.is_none(), "a route that answers by itself has nothing to choose");
}

#[test]
fn what_is_wrong_is_told() {
    let at = "f:3: routes[0].canary";
    let two = "{name: a, weight: 1}, {name: b, weight: 1}";
    let cases: Vec<(String, Vec<String>)> = vec![
        ("{}".into(), vec![format!("{at}: needs `variants`: a list of objects")]),
        ("{variants: [{name: a, weight: 1}]}".into(), vec![format!("{at}.variants: needs at least two variants")]),
        (
            "{variants: [{name: a, weight: 0}, {name: b, weight: 0}]}".into(),
            vec![format!("{at}.variants: all weights are 0, so nobody would be served")],
        ),
        (
            "{variants: [{name: a, weight: 1000000}, {name: b, weight: 1}]}".into(),
            vec![format!("{at}.variants[1]: its share is below 0.01 %, the least that is possible")],
        ),
        (
            "{variants: [{name: a, weight: 1}, {name: a}]}".into(),
            vec![
                format!("{at}.variants[1]: needs `weight`: a share, relative to the other variants'"),
                format!("{at}.variants[1].name: is the name of another variant too"),
            ],
        ),
        (
            "{variants: [{name: a, weight: -1}, {name: b, weight: 1, upstream: elsewhere}]}".into(),
            vec![
                format!("{at}.variants[0].weight: must not be negative"),
                format!("{at}.variants[1].upstream: no upstream is called `elsewhere`"),
            ],
        ),
        (
            format!("{{variants: [{two}], overrides: true}}"),
            vec![format!("{at}.overrides: must be an object, or `false`")],
        ),
        (
            format!("{{variants: [{two}], overrides: {{}}}}"),
            vec![format!("{at}.overrides: needs `header`, `cookie` or `users`; `overrides: false` lets nobody choose")],
        ),
        (
            format!("{{variants: [{two}], overrides: {{header: \"X_Y: a\"}}}}"),
            vec![format!("{at}.overrides.header: nginx drops headers with an underscore in their name; write `-`")],
        ),
        (
            format!("{{variants: [{two}], overrides: {{users: [a], permission: \"a:b\"}}}}"),
            vec![format!(
                "{at}: its `overrides` ask for a `permission` and need `auth`: without it nobody is permitted anything"
            )],
        ),
        (format!("{{variants: [{two}], key: consumer}}"), vec![format!("{at}.key: our word is `user`")]),
        (format!("{{variants: [{two}], mirror: {{}}}}"), vec![format!("{at}.mirror: needs `upstream`: text")]),
        (
            format!("{{variants: [{two}], mirror: {{upstream: elsewhere, percent: 5%}}}}"),
            vec![format!("{at}.mirror.upstream: no upstream is called `elsewhere`")],
        ),
        (
            format!("{{variants: [{two}], mirror: {{upstream: u, percent: 0%}}}}"),
            vec![format!("{at}.mirror.percent: must be above 0 and at most 100%")],
        ),
        (
            format!("{{variants: [{two}], mirror: {{upstream: u, sample_ratio: 1}}}}"),
            vec![format!("{at}.mirror: unknown field `sample_ratio`; our word is `percent`")],
        ),
        (
            format!("{{variants: [{two}], analysis: {{}}}}"),
            vec![format!("{at}: unknown field `analysis`; our word is `promote`")],
        ),
        (
            "{variants: [{name: a, weight: 1}, {name: b, weight: 1}], promote: {steps: [5%, 5%, 0%, 101%, x], every: 0s, minimum_requests: 1}}"
                .into(),
            vec![
                format!("{at}.variants[1].weight: is what `promote` says, as this is the last variant; leave it out"),
                format!("{at}.promote.steps[1]: must be above the share before it"),
                format!("{at}.promote.steps[2]: must be above 0"),
                format!("{at}.promote.steps[3]: must be at most 100%"),
                format!("{at}.promote.steps[4]: must be a percentage such as `20%` or `0.25%`"),
                format!("{at}.promote.every: must be above 0"),
                format!("{at}.promote.minimum_requests: must be at least 10"),
            ],
        ),
        (
            format!("{{variants: [{two}], promote: {{stepWeight: 5}}}}"),
            vec![
                format!("{at}.variants[1].weight: is what `promote` says, as this is the last variant; leave it out"),
                format!("{at}.promote: unknown field `stepWeight`; our word is `steps`: a list of shares"),
            ],
        ),
        (
            format!("{{weighted_upstreams: [], variants: [{two}]}}"),
            vec![format!("{at}: unknown field `weighted_upstreams`; our word is `variants`")],
        ),
    ];
    let texts: Vec<String> = cases.iter().map(|(text, _)| with(text)).collect();
    let lines: Vec<Vec<&str>> = cases.iter().map(|(_, lines)| lines.iter().map(String::as_str).collect()).collect();
    let table: Vec<(&str, &[&str])> =
        texts.iter().zip(&lines).map(|(text, lines)| (text.as_str(), lines.as_slice())).collect();
    assert_errors(&table);
    assert_errors(&[(
        "routes: [{name: r, paths: [/], canary: {variants: [{name: a, weight: 1}, {name: b, weight: 1}]}}]",
        &["f:2: routes[0].canary: needs the route's `upstream`: where no variant goes elsewhere"],
    )]);
}

#[test]
fn what_nobody_can_know_is_a_warning() {
    let two = "{name: a, weight: 1}, {name: b, weight: 1}";
    assert_eq!(
        warnings(&with(&format!("{{variants: [{two}], key: user, overrides: {{users: [a]}}}}"))),
        [
            "f:3: routes[0].canary: its `overrides` name `users`, whom nobody knows on a route without `auth`",
            "f:3: routes[0].canary: its `key` is `user`, whom nobody knows on a route without `auth`: addresses count",
        ]
    );
    assert_eq!(warnings(&with(&format!("{{variants: [{two}]}}"))), [""; 0]);
}
