//! `replay`: a log's requests, decided by two documents.
//!
//! Logs hold no credentials, so what needs them is refused by both; differences in routes, lists, methods and limits
//! without identity are seen, and so is a route that asks for credentials in one document alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, stderr, stdin};
use std::net::{IpAddr, Ipv4Addr};

use gateway::config::time;
use gateway::gateway::{Silent, Ticket};
use gateway::types::{Now, SECOND};
use serde_json::{Value, json};

use super::args::Args;
use super::live::Live;
use super::{Outcome, document, print, print_json};
use gateway::admin::Sent;

/// The longest line of a log, in bytes; what is longer is passed over.
const LINE_MAX: u64 = 1 << 20;

/// How many kinds of differences are listed.
const SHOWN: usize = 20;

/// From the first document's verdict to the second's: how often, and the first such request.
type Differences = HashMap<(String, String), (u64, String)>;

pub fn run(log: &str, old: &str, new: &str, args: &Args) -> Outcome {
    let mut old = Live::start(&document::load(old, args)?)?;
    let mut new = Live::start(&document::load(new, args)?)?;
    let cannot = |error: std::io::Error| format!("cannot read {log}: {error}");
    let (mut reader, size): (Box<dyn BufRead>, u64) = if log == "-" {
        (Box::new(stdin().lock()), 0)
    } else {
        let file = File::open(log).map_err(cannot)?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(BufReader::with_capacity(1 << 18, file)), size)
    };
    let mut bar = Bar { on: !args.json && stderr().is_terminal() && size > 0, size, read: 0, shown: u64::MAX };
    let (mut requests, mut unread) = (0_u64, 0_u64);
    let mut found: Differences = HashMap::new();
    let mut now = Now { mono: SECOND, wall: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).map_err(cannot)?;
        if length == 0 {
            break;
        }
        bar.step(length as u64);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let Some((request, seconds)) = parse(text, args) else {
            unread += 1;
            continue;
        };
        requests += 1;
        // The log's own time where it has one; it never steps back.
        let at = seconds.map_or(now.wall, |seconds| seconds.saturating_mul(SECOND)).max(now.wall);
        now = Now { mono: at.saturating_add(SECOND), wall: at };
        let (before, after) = (verdict(&mut old, &request, now), verdict(&mut new, &request, now));
        if before != after {
            let entry = found
                .entry((before, after))
                .or_insert_with(|| (0, format!("{} {}", request.method.name(), request.target)));
            entry.0 += 1;
        }
    }
    bar.end();
    if requests == 0 && unread > 0 {
        return Err(format!("none of the {unread} lines of {log} is a JSON line of ours or nginx's combined format"));
    }
    let differs = !found.is_empty();
    report(requests, unread, found, args);
    Ok(u8::from(differs))
}

/// What is decided on `request`, in words.
fn verdict(live: &mut Live, request: &Sent, now: Now) -> String {
    let mut ticket = Ticket::new();
    let _ = live.decide(request, now, &mut ticket, &mut Silent);
    match (ticket.decision(), ticket.route_name()) {
        ("refuse", "") => format!("refused ({})", ticket.reason()),
        ("refuse", route) => format!("refused by route {route} ({})", ticket.reason()),
        (_, route) if ticket.upstream_name().is_empty() => format!("route {route}"),
        (_, route) => format!("route {route} to {}", ticket.upstream_name()),
    }
}

fn report(requests: u64, unread: u64, found: Differences, args: &Args) {
    let total: u64 = found.values().map(|(count, _)| count).sum();
    let mut kinds: Vec<_> = found.into_iter().collect();
    kinds.sort_by(|one, other| other.1.0.cmp(&one.1.0).then_with(|| one.0.cmp(&other.0)));
    if args.json {
        let list: Vec<Value> = kinds
            .iter()
            .map(|((before, after), (count, example))| {
                json!({"count": count, "before": before, "after": after, "example": example})
            })
            .collect();
        print_json(&json!({"requests": requests, "different": total, "unread_lines": unread, "differences": list}));
        return;
    }
    let end = if total == 0 { "." } else { ":" };
    let mut text = format!("of {} requests {} would be decided otherwise{end}\n", grouped(requests), grouped(total));
    for ((before, after), (count, example)) in kinds.iter().take(SHOWN) {
        text.push_str(&format!("{:>11}  {before} -> {after}, such as {example}\n", grouped(*count)));
    }
    if kinds.len() > SHOWN {
        text.push_str(&format!("             and {} other kinds\n", kinds.len() - SHOWN));
    }
    if unread > 0 {
        text.push_str(&format!("{} lines could not be read\n", grouped(unread)));
    }
    print(&text);
}

/// `1,000,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A line's request, and its time in seconds where it has one.
fn parse(line: &str, args: &Args) -> Option<(Sent, Option<u64>)> {
    if line.starts_with('{') { parse_json(line, args) } else { parse_combined(line, args) }
}

fn parse_json(line: &str, args: &Args) -> Option<(Sent, Option<u64>)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut url = text("uri")?.to_owned();
    if let Some(query) = text("args").filter(|_| !url.contains('?')) {
        url.push('?');
        url.push_str(query);
    }
    let mut headers = Vec::new();
    for (field, header) in [("user_agent", "user-agent"), ("referer", "referer")] {
        headers.extend(text(field).map(|value| (header.to_owned(), value.to_owned())));
    }
    headers.extend(text("host").or(args.host.as_deref()).map(|host| ("host".to_owned(), host.to_owned())));
    let client = text("client_ip").and_then(|text| text.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let request = Sent::new(text("method")?, &url, headers, client).ok()?;
    Some((request, text("timestamp").and_then(|text| time(text).ok())))
}

/// nginx's `combined`: address - user [time] "request" status bytes "referer" "user agent".
fn parse_combined(line: &str, args: &Args) -> Option<(Sent, Option<u64>)> {
    let (address, rest) = line.split_once(' ')?;
    let (stamp, rest) = rest.split_once('[')?.1.split_once("] \"")?;
    let (asked, rest) = rest.split_once("\" ")?;
    let mut words = asked.split(' ');
    let (method, url) = (words.next()?, words.next()?);
    let mut quoted = rest.split('"').skip(1).step_by(2);
    let mut headers = Vec::new();
    for header in ["referer", "user-agent"] {
        headers.extend(quoted.next().filter(|value| *value != "-").map(|value| (header.to_owned(), value.to_owned())));
    }
    headers.extend(args.host.as_ref().map(|host| ("host".to_owned(), host.clone())));
    let request = Sent::new(method, url, headers, address.parse().ok()?).ok()?;
    Some((request, local_time(stamp)))
}

/// `24/Nov/2026:09:30:00 +0000`.
fn local_time(stamp: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, rest) = stamp.split_once(':')?;
    let mut date = date.split('/');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (clock, zone) = rest.split_once(' ')?;
    let (hours, minutes) = zone.split_at_checked(3)?;
    time(&format!("{year}-{month:02}-{day}T{clock}{hours}:{minutes}")).ok()
}

/// How far a log is read, on a terminal.
struct Bar {
    on: bool,
    size: u64,
    read: u64,
    shown: u64,
}

impl Bar {
    fn step(&mut self, length: u64) {
        self.read += length;
        let percent = (self.read.saturating_mul(100) / self.size.max(1)).min(100);
        if self.on && percent != self.shown {
            self.shown = percent;
            let done = percent as usize / 4;
            eprint!("\r[{}{}] {percent:3} %", "#".repeat(done), " ".repeat(25 - done));
        }
    }

    fn end(&self) {
        if self.on {
            eprint!("\r{}\r", " ".repeat(40));
        }
    }
}
