//! What an answer says of its being kept, and the one form of a query.
//!
//! The first line is a query, the others are lines of a response's header.

use gateway::cache::control::{Answer, Asker, SECONDS_MAX, Seconds, Verdict};
use gateway::cache::{ArchivedCache, ArchivedQuery, Cache, Canonical, PARAMETERS_MAX, Query, canonical};
use rkyv::rancor::Error;

pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    query(lines.next().unwrap_or_default());
    let lines: Vec<(Vec<u8>, &[u8])> = lines
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            Some((line[..at].to_ascii_lowercase(), &line[at + 1..]))
        })
        .collect();
    for status in [200, 206, 304, 400, 404, 503] {
        answer(status, &lines);
    }
}

fn answer(status: u16, lines: &[(Vec<u8>, &[u8])]) {
    let mut answer = Answer { status, ..Answer::default() };
    let mut backwards = answer;
    lines.iter().for_each(|(name, value)| answer.line(name, value));
    lines.iter().rev().for_each(|(name, value)| backwards.line(name, value));
    // All lines are one list, in which the order means nothing.
    assert_eq!(answer, backwards);
    // A list in several lines is the same list in one.
    let mut one = Answer { status, ..Answer::default() };
    let values: Vec<&[u8]> =
        lines.iter().filter(|(name, _)| name == b"cache-control").map(|(_, value)| *value).collect();
    let balanced = values.iter().all(|value| value.iter().filter(|byte| **byte == b'"').count() == 0);
    if balanced && !values.is_empty() {
        one.line(b"cache-control", &values.join(&b","[..]));
        assert_eq!(one.control, answer.control);
    }
    let cache = Cache {
        zone: "z".to_owned(),
        ttl: vec![(200, 5)],
        query: Query::All,
        headers: Vec::new(),
        cookies: Vec::new(),
        shared: false,
        head: true,
        get: true,
        stale_while_revalidate: 7,
        stale_if_error: 9,
        lock: 0,
        tags: Vec::new(),
    };
    let shared = Cache { shared: true, ..cache.clone() };
    let anyone = verdict(&answer, Asker::default(), &cache);
    for (authorization, known) in [(true, false), (false, true), (true, true)] {
        for cache in [&cache, &shared] {
            let asker = verdict(&answer, Asker { authorization, known }, cache);
            // Credentials never make an answer one that is kept.
            assert!(matches!(asker, Verdict::Leave(_)) || asker == anyone, "{asker:?} {anyone:?}");
        }
    }
    if let Verdict::Keep { fresh, updating, error } = anyone {
        let control = &answer.control;
        assert!(!matches!(status, 206 | 304) && !answer.sets_cookie && answer.vary < 2 && !answer.vary_any);
        assert!(!control.no_store && !control.private && !control.no_cache);
        assert!(fresh.is_none_or(|seconds| (1..=SECONDS_MAX).contains(&seconds)));
        assert!(fresh.is_some() || answer.expires || answer.accel);
        assert!(answer.accel || control.max_age != Seconds::Wrong && control.s_maxage != Seconds::Wrong);
        if control.must_revalidate {
            assert_eq!((updating, error), (0, 0));
        }
    }
}

fn verdict(answer: &Answer, asker: Asker, cache: &Cache) -> Verdict {
    let bytes = rkyv::to_bytes::<Error>(cache).unwrap();
    answer.verdict(asker, rkyv::access::<ArchivedCache, Error>(&bytes).unwrap())
}

fn query(query: &[u8]) {
    let names = vec!["utm_*".to_owned(), "a".to_owned(), "%26".to_owned()];
    for rule in [Query::All, Query::Allow(names.clone()), Query::Deny(names)] {
        let bytes = rkyv::to_bytes::<Error>(&rule).unwrap();
        let rule = rkyv::access::<ArchivedQuery, Error>(&bytes).unwrap();
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        let form = match canonical(query, rule, &mut out, &mut scratch) {
            Canonical::TooLong => {
                assert!(parts(query).count() > PARAMETERS_MAX);
                return;
            }
            Canonical::Same => query.to_vec(),
            Canonical::Written => {
                assert!(out != query);
                out.clone()
            }
        };
        // It is its own form, in order, and no longer.
        let mut more = Vec::new();
        assert_eq!(canonical(&form, rule, &mut more, &mut scratch), Canonical::Same);
        assert!(form.len() <= query.len());
        let sorted = |one: &[u8], other: &[u8]| name(one) <= name(other);
        assert!(parts(&form).zip(parts(&form).skip(1)).all(|(one, other)| sorted(one, other)));
        assert!(parts(&form).count() <= parts(query).count());
        if matches!(rule, ArchivedQuery::All) {
            assert_eq!(parts(&form).count(), parts(query).count());
            // It means the same: the same decoded parameters, those of one name in their order.
            let mut meant: Vec<Vec<u8>> = parts(query).map(decoded).collect();
            let mut means: Vec<Vec<u8>> = parts(&form).map(decoded).collect();
            meant.sort();
            means.sort();
            assert_eq!(meant, means);
        }
    }
}

fn parts(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&').filter(|part| !part.is_empty())
}

fn name(part: &[u8]) -> &[u8] {
    part.split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn decoded(part: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = part;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits {
            Some(digits) => {
                text.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
                rest = &after[2..];
            }
            None => {
                text.push(byte);
                rest = after;
            }
        }
    }
    text
}
