use proptest::prelude::*;

use super::*;

const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const OCT: &str = r#"{"kty":"oct","alg":"HS256","k":"a0Q4M25mMHNMMm1acTl4VmI0dFl3N2NSaDF1RWo2R2FQcA"}"#;

fn set(keys: &str) -> Answer {
    Answer { status: 200, body: format!("{{\"keys\":[{keys}]}}").into_bytes(), ..Answer::default() }
}

fn remote() -> Refresh {
    Refresh::new(Vec::new(), true)
}

/// With a good set since `now`.
fn good(now: u64) -> Refresh {
    let mut refresh = remote();
    refresh.started(now);
    assert!(matches!(refresh.answer(now, &set(KEY), 0), Verdict::Set(_)));
    refresh
}

#[test]
fn what_replaces_a_set() {
    let html = Answer { body: b"<html>hello</html>".to_vec(), ..set("") };
    let large = Answer { body: vec![b' '; SET_MAX + 1], ..set("") };
    let padded = {
        let mut body = set(KEY).body;
        body.resize(SET_MAX, b' ');
        Answer { body, ..set("") }
    };
    let private = KEY.replace("\"kid\"", "\"d\":\"AA\",\"kid\"");
    let other = KEY.replace("\"a\"", "\"b\"");
    for (answer, expected) in [
        (set(KEY), "1 key, 0 left out"),
        (set(&format!("{KEY},{{\"kty\":\"XYZ\"}}")), "1 key, 1 left out"),
        (set(&format!("{KEY},{OCT}")), "1 key, 1 left out"),
        (padded, "1 key, 0 left out"),
        (set(""), "no usable key"),
        (set(OCT), "no usable key"),
        (set(&format!("{other},{private}")), "key \"a\": a private key; give the public part alone"),
        (html, "the set is not strict JSON"),
        (large, "larger than 1048576 bytes"),
        (Answer { body: vec![0xff], ..set("") }, "not UTF-8 text"),
        (Answer { status: 500, ..set(KEY) }, "the answer has status 500"),
        (Answer { status: 302, ..set(KEY) }, "the answer has status 302"),
        (Answer { status: 206, ..set(KEY) }, "the answer has status 206"),
        (Answer { status: 304, ..Answer::default() }, "the answer has status 304"),
    ] {
        for mut refresh in [remote(), good(0)] {
            let had = refresh.has_set();
            refresh.started(SECOND);
            let found = match refresh.answer(SECOND, &answer, 0) {
                Verdict::Set(set) => format!("{} key, {} left out", set.keys.len(), set.left_out.len()),
                Verdict::Confirmed => "confirmed".to_owned(),
                Verdict::Refused(why) => why.to_string(),
            };
            assert_eq!(found, expected);
            assert_eq!(refresh.has_set(), had || expected.starts_with('1'), "{expected}");
        }
    }
}

#[test]
fn a_files_secrets_are_taken_and_a_urls_are_not() {
    assert_eq!(read_set(&set(OCT).body, &[], false).unwrap().keys.len(), 1);
    assert_eq!(read_set(&set(OCT).body, &[], true).unwrap_err(), Refused::Set(KeyError::None));
}

#[test]
fn keys_that_do_not_say_their_algorithm() {
    use Algorithm::{EdDsa, Es256, Ps256, Rs256, Rs512};
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/own/jwks_cases.json")).unwrap();
    let mut rsa = document["meta"]["good_key"].clone();
    let says = rsa.to_string();
    rsa.as_object_mut().unwrap().remove("alg");
    let silent = rsa.to_string();
    for (key, allowed, expected) in [
        (silent.as_str(), vec![], None),
        (&silent, vec![EdDsa], None),
        (&silent, vec![Rs256], Some(Rs256)),
        (&silent, vec![Es256, Ps256, Rs512], Some(Ps256)),
        (&says, vec![], Some(Rs256)),
        (&says, vec![Es256, Rs512, Rs256], Some(Rs256)),
        (&says, vec![Rs512], None),
        (KEY, vec![], Some(EdDsa)),
        (KEY, vec![Rs256, EdDsa], Some(EdDsa)),
        (KEY, vec![Rs256], None),
    ] {
        let found = read_set(&set(key).body, &allowed, true).ok().map(|set| set.keys[0].algorithm);
        assert_eq!(found, expected, "{key} {allowed:?}");
    }
}

#[test]
fn when_it_is_fetched_again() {
    for (max_age, jitter, expected) in [
        (None, 0, 600),
        (None, 59 * SECOND, 541),
        (Some(0), 0, 60),
        (Some(300), 0, 300),
        (Some(300), 30 * SECOND, 270),
        (Some(86_400), 0, 43_200),
        (Some(u64::MAX), 0, 43_200),
    ] {
        let mut refresh = remote();
        assert!(refresh.is_due(7 * SECOND));
        refresh.started(7 * SECOND);
        assert!(!refresh.is_due(u64::MAX), "one at a time");
        refresh.answer(8 * SECOND, &Answer { max_age, ..set(KEY) }, jitter);
        let at = (8 + expected) * SECOND;
        assert_eq!([refresh.is_due(at - 1), refresh.is_due(at)], [false, true], "{max_age:?} {jitter}");
    }
}

#[test]
fn failures_are_repeated_ever_later() {
    for (mut refresh, pauses) in
        [(remote(), vec![1, 2, 4, 8, 16, 30, 30]), (good(0), vec![1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])]
    {
        let mut now = 600 * SECOND;
        for pause in pauses {
            assert!(refresh.is_due(now));
            refresh.started(now);
            match pause % 3 {
                0 => refresh.failed(now, 0),
                _ => assert!(matches!(refresh.answer(now, &set(""), 0), Verdict::Refused(_))),
            }
            assert!(!refresh.is_due(now + pause * SECOND - 1), "{pause}");
            now += pause * SECOND;
        }
        refresh.started(now);
        refresh.answer(now, &set(KEY), 0);
        now += 600 * SECOND;
        refresh.started(now);
        refresh.failed(now, 0);
        assert!(refresh.is_due(now + SECOND), "begins anew");
    }
}

#[test]
fn an_unknown_kid_fetches_once_in_30_seconds_whatever_comes_of_it() {
    type End = fn(&mut Refresh, u64);
    let ends: [End; 4] = [
        |refresh, now| drop(refresh.answer(now, &set(KEY), 0)),
        |refresh, now| drop(refresh.answer(now, &set(""), 0)),
        |refresh, now| drop(refresh.answer(now, &Answer { status: 500, ..Answer::default() }, 0)),
        |refresh, now| refresh.failed(now, 0),
    ];
    for end in ends {
        let mut refresh = good(0);
        refresh.unknown_kid(SECOND);
        assert!(refresh.is_due(SECOND));
        refresh.started(SECOND);
        refresh.unknown_kid(2 * SECOND);
        end(&mut refresh, 2 * SECOND);
        assert!(!refresh.is_due(31 * SECOND), "the background has its own time");
        refresh.unknown_kid(31 * SECOND - 1);
        assert!(!refresh.is_due(31 * SECOND - 1));
        refresh.unknown_kid(31 * SECOND);
        assert!(refresh.is_due(31 * SECOND));
    }
}

#[test]
fn a_condition_is_sent_and_what_it_brings_counts() {
    let mut refresh = remote();
    assert_eq!(refresh.started(0), None);
    refresh.answer(0, &Answer { etag: Some("\"1\"".into()), ..set(KEY) }, 0);
    let at = 23 * HOUR;
    assert_eq!(refresh.started(at), Some("\"1\""));
    let unchanged = Answer { status: 304, max_age: Some(120), ..Answer::default() };
    assert!(matches!(refresh.answer(at, &unchanged, 0), Verdict::Confirmed));
    assert!(refresh.is_due(at + 120 * SECOND));
    assert!(!refresh.expire(at + KEEP - 1) && refresh.expire(at + KEEP));
    assert_eq!(refresh.started(at + KEEP), None, "the condition goes with the set");
}

#[test]
fn a_set_is_kept_for_a_day() {
    let mut refresh = good(0);
    for hour in 1..24 {
        refresh.started(hour * HOUR);
        refresh.answer(hour * HOUR, &set(""), 0);
        assert!(!refresh.expire(hour * HOUR) && refresh.has_set());
    }
    assert!(refresh.expire(KEEP) && !refresh.has_set() && !refresh.expire(KEEP));
    let resumed = |age| {
        let mut refresh = remote();
        refresh.resume(HOUR, age);
        refresh
    };
    let mut refresh = resumed(23 * HOUR);
    assert!(refresh.is_due(HOUR) && refresh.has_set());
    assert!(!refresh.expire(2 * HOUR - 1) && refresh.expire(2 * HOUR));
    assert!(resumed(25 * HOUR).expire(HOUR));
}

#[test]
fn cache_control() {
    for (header, expected) in [
        ("max-age=300", Some(300)),
        ("public, max-age=19845, must-revalidate, no-transform", Some(19_845)),
        ("Max-Age=\"7\"", Some(7)),
        ("max-age=60,no-store", None),
        ("no-cache, max-age=60", None),
        ("max-age=-1", None),
        ("max-age", None),
        ("s-maxage=60", None),
        ("", None),
    ] {
        assert_eq!(max_age(header), expected, "{header}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Unknown,
    Good,
    Empty,
    Failed,
}

fn event() -> impl Strategy<Value = (u64, Event)> {
    let kinds = prop_oneof![Just(Event::Unknown), Just(Event::Good), Just(Event::Empty), Just(Event::Failed)];
    // Mostly seconds, now and then hours.
    (prop_oneof![4 => 0..40 * SECOND, 1 => 0..7 * HOUR], kinds)
}

proptest! {
    /// Whatever happens, unknown names bring about one fetch in 30 s, and a good set is there for exactly a day.
    #[test]
    fn rules_hold_in_any_order(events in prop::collection::vec(event(), 1..200), jitter: u64) {
        let mut refresh = remote();
        let (mut now, mut asked, mut last_good) = (0, None::<u64>, None::<u64>);
        for (wait, event) in events {
            now += wait;
            if refresh.expire(now) {
                prop_assert!(last_good.take().is_some_and(|at| now >= at + KEEP), "lost early at {now}");
            }
            prop_assert_eq!(refresh.has_set(), last_good.is_some(), "at {}", now);
            let under_way = refresh.under_way.is_some();
            match event {
                Event::Unknown => refresh.unknown_kid(now),
                _ if !under_way => {}
                Event::Good => {
                    prop_assert!(matches!(refresh.answer(now, &set(KEY), jitter), Verdict::Set(_)));
                    last_good = Some(now);
                }
                Event::Empty => drop(refresh.answer(now, &set(""), jitter)),
                Event::Failed => refresh.failed(now, jitter),
            }
            if refresh.is_due(now) {
                if now < refresh.next {
                    prop_assert!(asked.is_none_or(|at| now >= at + COOLDOWN), "asked twice: {asked:?} {now}");
                }
                let by_name = refresh.wanted;
                refresh.started(now);
                if by_name {
                    asked = Some(now);
                }
            }
        }
    }
}
