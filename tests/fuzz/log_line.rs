//! A line of the log, read back: it is one line, it is JSON, and it says what the record said.

use gateway::log::redact::Redact;
use gateway::log::{Clock, HIDDEN, LINE_MAX, Record, TEXT_MAX, Try};
use serde_json::Value;

pub fn run(data: &[u8]) {
    // Every text is a piece of the input; the first bytes say where pieces end.
    let (cuts, rest) = data.split_at(data.len().min(8));
    let mut left = rest;
    let mut piece = |index: usize| {
        let length = cuts.get(index).map_or(0, |cut| usize::from(*cut) * usize::from(*cut) / 8).min(left.len());
        let (text, behind) = left.split_at(length);
        left = behind;
        text
    };
    let [uri, args, host, user_agent, referer, method] = [0, 1, 2, 3, 4, 5].map(&mut piece);
    let tries: Vec<Try<'_>> = left
        .chunks(21)
        .take(20)
        .map(|chunk| Try {
            address: chunk,
            status: chunk.first().map_or(0, |byte| u16::from(*byte) * 3),
            time: chunk.get(1).map(|byte| u64::from(*byte) << 20),
        })
        .collect();
    let number = cuts.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let record = Record {
        wall: number % 10_000_000_000_000_000,
        uri,
        args,
        host,
        user_agent,
        referer,
        method,
        status: number as u16,
        bytes_sent: number,
        request_time: number >> 20,
        tries: &tries,
        gateway_time: (number % 3 > 0).then_some(number >> 30),
        ..Record::default()
    };
    let redact = Redact { all: number % 5 == 0, names: vec![b"own".as_slice().into()] };
    let mut line = Vec::new();
    record.write(&mut Clock::default(), &redact, &mut line);

    assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
    let text = std::str::from_utf8(&line).expect("UTF-8");
    assert!(text.ends_with('\n') && !text[..text.len() - 1].contains(|c: char| c.is_control()), "{text:?}");
    let value: Value = serde_json::from_str(text).expect("JSON");
    for (name, said) in [("uri", uri), ("host", host), ("user_agent", user_agent), ("method", method)] {
        assert_eq!(value[name].as_str(), shown(said).as_deref(), "{name}");
    }
    for (name, said) in [("status", u64::from(record.status)), ("bytes_sent", number), ("tries", tries.len() as u64)] {
        assert_eq!(value[name].as_u64(), Some(said), "{name}");
    }
    assert_eq!(value["request_time"].as_f64(), Some((number >> 20) as f64 / 1e3));
    check_query(value["args"].as_str().unwrap_or_default(), args, &redact);
    if let Some(mark) = referer.iter().position(|byte| *byte == b'?') {
        let text = value["referer"].as_str().expect("a referer");
        let query = text.split_once('?').map(|halves| halves.1).expect("a query");
        check_query(query, &referer[mark + 1..], &redact);
    }
    let times = &value["upstream_response_time"];
    match tries.as_slice() {
        [] => assert!(times.is_null()),
        [one] => assert_eq!(times.as_f64(), one.time.map(|time| time as f64 / 1e3)),
        several => assert_eq!(times.as_array().expect("a list").len(), several.len().min(16)),
    }
}

/// A text as a line shows it.
fn shown(text: &[u8]) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text.len() <= TEXT_MAX {
        return Some(String::from_utf8_lossy(text).into_owned());
    }
    let is_inside = |at: &usize| text[*at] & 0xc0 == 0x80;
    let end = (TEXT_MAX - 3..=TEXT_MAX).rev().find(|at| !is_inside(at)).unwrap_or(TEXT_MAX);
    Some(format!("{}...", String::from_utf8_lossy(&text[..end])))
}

/// No value of a secret is in what is shown, and everything else is.
fn check_query(shown: &str, query: &[u8], redact: &Redact) {
    if query.len() > TEXT_MAX {
        return;
    }
    let split = |byte: &u8| matches!(byte, b'&' | b';');
    let expected: Vec<String> = query
        .split(split)
        .map(|pair| match pair.iter().position(|byte| *byte == b'=') {
            Some(at) if at + 1 < pair.len() && redact.hides(&pair[..at]) => {
                format!("{}={HIDDEN}", String::from_utf8_lossy(&pair[..at]))
            }
            _ => String::from_utf8_lossy(pair).into_owned(),
        })
        .collect();
    let found: Vec<&str> = shown.split(['&', ';']).collect();
    assert_eq!(found, expected);
}
