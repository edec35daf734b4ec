//! What holds for every input.

use std::cmp::Ordering;

use gateway::router::order::Candidate;
use gateway::router::pattern::{Host, Path, Rule, Segment, Tail};
use gateway::router::{headers, host, naive, path, query};
use gateway::types::{Method, Methods};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{self, Leniency};

/// Paths made of what paths go wrong with, and of anything.
fn nasty_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"/"[..]).prop_map(<[u8]>::to_vec),
        3 => Just(&b"."[..]).prop_map(<[u8]>::to_vec),
        3 => Just(&b".."[..]).prop_map(<[u8]>::to_vec),
        8 => prop::sample::select(vec![
            "a", "api", "admin", ";", "\\", "%", "%2e", "%2F", "%5c", "%25", "%252e", "%3b", "%%32%65", "25", "2e", "2f", "?", "#", " ", ";x=y",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    vec(piece, 0..12).prop_map(|pieces| {
        let mut path = b"/".to_vec();
        path.extend(pieces.concat());
        path
    })
}

fn segment() -> impl Strategy<Value = Vec<u8>> {
    vec(
        any::<u8>().prop_filter("a slash or a control byte", |byte| *byte >= 0x20 && *byte != 0x7f && *byte != b'/'),
        1..6,
    )
    .prop_filter("dots", |segment| !matches!(&segment[..], b"." | b".."))
}

fn route_path() -> impl Strategy<Value = Path> {
    let literal =
        |segments: &[Vec<u8>]| segments.iter().flat_map(|segment| [b"/", &segment[..]].concat()).collect::<Vec<u8>>();
    let pieces = || vec(prop_oneof![segment().prop_map(Some), Just(None)], 0..5);
    prop_oneof![
        vec(segment(), 1..5).prop_map(move |segments| Path::Exact(literal(&segments))),
        vec(segment(), 0..5).prop_map(move |segments| Path::Prefix(literal(&segments))),
        (pieces(), 0_usize..3).prop_map(|(pieces, tail)| {
            let mut segments: Vec<Segment> = pieces
                .into_iter()
                .enumerate()
                .map(|(index, piece)| piece.map_or(Segment::Param(format!("p{index}")), Segment::Literal))
                .collect();
            // A pattern without parameter and captured tail is an exact path or a prefix.
            if tail != 2 && !segments.iter().any(|segment| matches!(segment, Segment::Param(_))) {
                segments.push(Segment::Param("last".into()));
            }
            let tail = [Tail::None, Tail::Any, Tail::Captured("rest".into())][tail].clone();
            Path::Pattern { segments, tail }
        }),
    ]
}

fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    path::escape(path, &mut |piece| out.extend_from_slice(piece));
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_stripped_climbs_nowhere(rest in nasty_path()) {
        let path = [b"/api", &rest[..]].concat();
        if let Ok(stripped) = path::strip_prefix(&path, b"/api") {
            let wire = escaped(stripped.as_bytes());
            prop_assert!(wire.starts_with(b"/") && !wire.starts_with(b"//"), "{wire:?}");
            prop_assert!(wire.iter().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(byte)), "{wire:?}");
            for decodes in 0..=2 {
                for windows_and_servlets in [false, true] {
                    let resolved = model::resolve(&wire, Leniency { decodes, windows_and_servlets });
                    prop_assert!(!resolved.went_above, "{}", String::from_utf8_lossy(&wire));
                }
            }
        }
    }

    #[test]
    fn what_was_escaped_is_read_as_it_was(path in nasty_path()) {
        let wire = escaped(&path);
        prop_assert_eq!(path::escaped_len(&path), wire.len());
        prop_assert_eq!(model::decode(&wire), path.clone());
        // nginx behind us resolves nothing more in what we checked.
        if let Ok(checked) = path::recheck(&path) && !checked.as_bytes().windows(2).any(|pair| pair == b"//") {
            let read = model::nginx(&escaped(checked.as_bytes())).map(|parsed| parsed.path);
            prop_assert_eq!(read.as_deref(), Some(checked.as_bytes()));
        }
    }

    #[test]
    fn what_goes_out_is_what_was_matched(target in nasty_path()) {
        if let Some(parsed) = model::nginx(&target) && path::check(&parsed.path, parsed.target).is_ok() {
            let verbatim = path::is_verbatim(&parsed.path, parsed.target);
            let raw = target.split(|&byte| byte == b'?').next().unwrap();
            prop_assert_eq!(verbatim, model::decode(raw) == parsed.path);
            let wire = if verbatim { raw.to_vec() } else { escaped(&parsed.path) };
            // A server that resolves nothing and one that resolves everything see the same.
            prop_assert_eq!(&model::decode(&wire), &parsed.path);
            let read = model::nginx(&wire).map(|read| read.path);
            prop_assert_eq!(read, Some(parsed.path));
        }
    }

    #[test]
    fn strict_lets_nothing_through_that_normal_refuses(path in nasty_path(), target in nasty_path()) {
        if path::check_strict(&path, &target).is_ok() {
            prop_assert!(path::check(&path, &target).is_ok());
        }
    }

    #[test]
    fn a_route_path_survives_being_displayed(path in route_path()) {
        prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }

    #[test]
    fn what_parses_survives_being_displayed(text in "/[a-c{}*%2eF/._ ü]{0,12}", name in "[*a-c.A\\[\\]:0-9]{0,12}") {
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }
        if let Ok(host) = Host::parse(&name) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
    }

    #[test]
    fn a_host_of_the_document_answers_to_itself(name in "[A-Ca-c0-9_.-]{1,12}", port in any::<u16>()) {
        if let Ok(parsed) = Host::parse(&name) {
            let mut buf = [0; 256];
            let asked = format!("{name}:{port}").to_uppercase();
            let found = host::normalise(asked.as_bytes(), &mut buf).map(<[u8]>::to_vec);
            prop_assert!(naive::host_matches(&parsed, &found.clone().unwrap()));
            let mut again = [0; 256];
            prop_assert_eq!(host::normalise(&found.clone().unwrap(), &mut again).map(<[u8]>::to_vec), found);
        }
    }

    #[test]
    fn the_order_is_one(
        paths in vec((route_path(), 0..2, 0_usize..2, "[ab]"), 3),
        hosts in vec(prop::sample::select(vec!["*", "a.b", "*.b", "*.a.b"]), 3),
    ) {
        let hosts: Vec<Host> = hosts.into_iter().map(|host| Host::parse(host).unwrap()).collect();
        let all: Vec<Candidate<'_>> = paths.iter().zip(&hosts).map(|((path, priority, conditions, name), host)| {
            Candidate { host, path, priority: *priority, conditions: *conditions, name }
        }).collect();
        let [a, b, c] = all[..] else { unreachable!() };
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    /// matchit knows no hosts, priorities and prefixes, but what it knows it must decide as we do.
    #[test]
    fn the_naive_matcher_agrees_with_matchit(
        patterns in vec("(/(a|b|ab|\\{x\\})){1,3}(/|/\\{\\*rest\\})?", 1..8),
        paths in vec("(/(a|b|ab|c|)){1,4}", 1..8),
    ) {
        let mut peer = matchit::Router::new();
        let mut routes = Vec::new();
        for pattern in patterns {
            // Parameters are numbered by segment, since both ask for different names.
            let segments = pattern.split('/').enumerate().map(|(n, segment)| match segment {
                "{x}" => format!("{{p{n}}}"),
                segment => segment.to_owned(),
            });
            let pattern = segments.collect::<Vec<_>>().join("/");
            if peer.insert(&*pattern, routes.len()).is_ok() {
                routes.push(naive::Route {
                    name: pattern.clone(),
                    rules: vec![Rule { host: Host::Any, path: Path::parse(&pattern).unwrap() }],
                    methods: Methods::ANY,
                    priority: 0,
                    conditions: Vec::new(),
                });
            }
        }
        let ours = naive::Naive::new(routes).unwrap();
        for path in paths {
            let found = match ours.find(b"", path.as_bytes(), Method::Get) {
                naive::Found::Route { route, captures, .. } => Some((route, captures)),
                _ => None,
            };
            let theirs = peer.at(&path).ok().map(|found| {
                (*found.value, found.params.iter().map(|(_, value)| value.as_bytes()).collect::<Vec<_>>())
            });
            prop_assert_eq!(found, theirs, "{} in {:?}", path, ours.routes());
        }
    }

    #[test]
    fn nothing_panics(one in vec(any::<u8>(), 0..300), two in vec(any::<u8>(), 0..40), text in ".{0,40}") {
        let mut buf = [0; 256];
        let _ = host::normalise(&one, &mut buf);
        let _ = host::normalise(&[b"[", &two[..], b"]:80"].concat(), &mut buf);
        for (path, target) in [(&one, &two), (&two, &one)] {
            let _ = path::check(path, target);
            let _ = path::check_strict(path, target);
            let _ = path::is_verbatim(path, target);
            let _ = path::strip_prefix(path, target);
            let _ = path::recheck(path);
            escaped(path);
        }
        let _ = query::is_safe(&one);
        let _ = headers::is_hop_by_hop(&two);
        let _ = headers::is_taken_away(&one, &two);
        for text in [&text, &format!("/{text}"), &format!("[{text}]")] {
            let _ = Path::parse(text).map(|path| naive::path_matches(&path, &one).is_some());
            let _ = Host::parse(text).map(|host| naive::host_matches(&host, &one));
        }
    }
}
