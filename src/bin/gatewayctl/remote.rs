//! Commands for a gateway that runs, over its admin API.

use std::fmt::Write;
use std::time::Duration;

use gateway::net::http::{Call, send};
use serde_json::{Value, json};

use crate::args::Args;
use crate::{Outcome, print, print_json};

/// Where `gateway_admin` is looked for.
const URL: &str = "http://127.0.0.1:9180";
/// How often `top` looks.
const EVERY: Duration = Duration::from_secs(1);

/// A gateway and the token that it wants.
struct Gateway<'a> {
    url: String,
    token: String,
    ca: Option<&'a str>,
}

/// What the gateway said, or that it refused, which was told.
type Said = Result<Option<Value>, String>;

/// The command of `words`, if it is one of these.
pub fn run(words: &[&str], args: &Args) -> Option<Outcome> {
    if args.dry_run && !matches!(words.first(), Some(&("apply" | "delete" | "rollback"))) {
        return Some(Err("--dry-run is for apply, delete and rollback".to_owned()));
    }
    let call = |method, path: String, body: Option<Value>| -> Option<Outcome> {
        Some(Gateway::of(args).and_then(|gateway| gateway.shown(method, &path, body.as_ref(), args)))
    };
    match words {
        ["status"] => call("GET", "/v1/status".to_owned(), None),
        ["top"] => Some(Gateway::of(args).and_then(|gateway| top(&gateway, args))),
        ["get"] => call("GET", "/v1/config".to_owned(), None),
        ["get", kind] => Some(Gateway::of(args).and_then(|gateway| list(&gateway, kind, args))),
        ["get", kind, name] => call("GET", format!("/v1/{}/{}", escaped(kind), escaped(name)), None),
        ["apply", file] => Some(Gateway::of(args).and_then(|gateway| apply(&gateway, file, None, args))),
        ["apply", file, kind, name] => {
            Some(Gateway::of(args).and_then(|gateway| apply(&gateway, file, Some((kind, name)), args)))
        }
        ["delete", kind, name] => call("DELETE", dry(&format!("/v1/{}/{}", escaped(kind), escaped(name)), args), None),
        ["diff", file] => Some(Gateway::of(args).and_then(|gateway| diff(&gateway, file, args))),
        ["revisions"] => call("GET", "/v1/revisions".to_owned(), None),
        ["revisions", number] => call("GET", format!("/v1/revisions/{}", escaped(number)), None),
        ["revisions", "diff", old, new] => {
            call("GET", format!("/v1/revisions/{}/diff/{}", escaped(old), escaped(new)), None)
        }
        ["rollback", number] => call("POST", dry(&format!("/v1/revisions/{}/rollback", escaped(number)), args), None),
        ["nodes", upstream] => call("GET", format!("/v1/upstreams/{}/nodes", escaped(upstream)), None),
        ["drain", upstream, node] => call("PATCH", of_node(upstream, node), Some(json!({"drain": true}))),
        ["undrain", upstream, node] => call("PATCH", of_node(upstream, node), Some(json!({"drain": false}))),
        ["weight", upstream, node, weight] => {
            let weight = match *weight {
                "auto" => Value::Null,
                number => match number.parse::<u32>() {
                    Ok(number) => number.into(),
                    Err(_) => return Some(Err(format!("`{number}` is no weight: a number, or `auto`"))),
                },
            };
            call("PATCH", of_node(upstream, node), Some(json!({"weight": weight})))
        }
        ["breakers"] => call("GET", "/v1/breakers".to_owned(), None),
        ["breaker", upstream, state] => {
            call("PUT", format!("/v1/breakers/{}", escaped(upstream)), Some(json!({"state": state})))
        }
        ["canary", route] => call("GET", of_canary(route), None),
        ["canary", route, "set", percent] => match percent.trim_end_matches('%').parse::<f64>() {
            Ok(percent) => call("PUT", of_canary(route), Some(json!({"percent": percent}))),
            Err(_) => Some(Err(format!("`{percent}` is no share: a number of percent"))),
        },
        ["canary", route, action] => call("PUT", of_canary(route), Some(json!({"action": action}))),
        ["ban", block] => call("POST", "/v1/bans".to_owned(), Some(with(json!({"cidr": block}), args))),
        ["revoke", kind @ ("jti" | "sub" | "sha256" | "token"), value] => {
            let value = match stdin(value) {
                Ok(value) => value,
                Err(error) => return Some(Err(error)),
            };
            let mut body = json!({});
            if let Some(fields) = body.as_object_mut() {
                fields.insert((*kind).to_owned(), value.into());
            }
            call("POST", "/v1/revocations".to_owned(), Some(with(body, args)))
        }
        ["purge", "all"] => call("POST", "/v1/cache/purge".to_owned(), Some(json!({"all": true}))),
        ["purge", "route", name] => call("POST", "/v1/cache/purge".to_owned(), Some(json!({"route": name}))),
        ["purge", "tag", tag] => call("POST", "/v1/cache/purge".to_owned(), Some(json!({"tag": tag}))),
        ["purge", "path", host, path] => {
            call("POST", "/v1/cache/purge".to_owned(), Some(json!({"host": host, "path": path})))
        }
        ["overlays"] => call("GET", "/v1/overlays".to_owned(), None),
        ["overlays", "end", id] => call("DELETE", format!("/v1/overlays/{}", escaped(id)), None),
        _ => None,
    }
}

fn of_node(upstream: &str, node: &str) -> String {
    format!("/v1/upstreams/{}/nodes/{}", escaped(upstream), escaped(node))
}

fn of_canary(route: &str) -> String {
    format!("/v1/routes/{}/canary", escaped(route))
}

fn dry(path: &str, args: &Args) -> String {
    if args.dry_run { format!("{path}?dry_run") } else { path.to_owned() }
}

/// What the options of a ban or a revocation add to it.
fn with(mut body: Value, args: &Args) -> Value {
    if let Some(fields) = body.as_object_mut() {
        for (name, value) in [("ttl", &args.lasts), ("reason", &args.reason), ("auth", &args.auth)] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.as_str().into());
            }
        }
    }
    body
}

/// `-` stands for a line of standard input: what others may not see in the list of processes.
fn stdin(word: &str) -> Result<String, String> {
    if word != "-" {
        return Ok(word.to_owned());
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| format!("standard input: {error}"))?;
    Ok(line.trim().to_owned())
}

/// A name as one segment of a path.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => out.push(char::from(byte)),
            byte => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

impl<'a> Gateway<'a> {
    fn of(args: &'a Args) -> Result<Self, String> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = args.url.clone().or_else(|| env("GATEWAY_URL")).unwrap_or_else(|| URL.to_owned());
        let token = match &args.token_file {
            Some(path) => first_token(path)?,
            None => env("GATEWAY_TOKEN").ok_or("no token: name its file with --token-file, or set GATEWAY_TOKEN")?,
        };
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, ca: args.ca.as_deref() })
    }

    /// Sends a call; a refusal is told and `None`. `file` is what lines of the body are lines of.
    fn call(&self, method: &str, path: &str, body: &[u8], kind: &str, file: &str) -> Said {
        let url = format!("{}{path}", self.url);
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("Authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("Content-Type", kind));
        }
        let call = Call { method, url: &url, ca: self.ca, headers: &headers, body };
        let (status, body) = send(&call).map_err(|error| format!("{}: {error}", self.url))?;
        let said: Value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body)
                .map_err(|_| format!("{url}: what answered {status} is no admin API of a gateway"))?,
        };
        if (200..300).contains(&status) {
            return Ok(Some(said));
        }
        for line in problem(status, &said, file) {
            eprintln!("gatewayctl: {line}");
        }
        Ok(None)
    }

    fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Said {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let text = body.map(Value::to_string).unwrap_or_default();
        self.call(method, path, text.as_bytes(), kind, "-")
    }

    fn shown(&self, method: &str, path: &str, body: Option<&Value>, args: &Args) -> Outcome {
        Ok(match self.json(method, path, body)? {
            None => 1,
            Some(Value::Null) => 0,
            Some(said) if args.json => {
                print_json(&said);
                0
            }
            Some(said) => {
                print(&text(&said));
                0
            }
        })
    }
}

/// The first token of a file of tokens, as `gateway_admin` reads it: `NAME TOKEN` a line, or a token alone.
fn first_token(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token = lines.next().and_then(|line| line.split_whitespace().last());
    token.map(str::to_owned).ok_or_else(|| format!("{path}: there is no token in it"))
}

/// A refusal, a line for each thing that is wrong.
fn problem(status: u16, said: &Value, file: &str) -> Vec<String> {
    let text = |name: &str| said.get(name).map(short).unwrap_or_default();
    let mut lines =
        vec![format!("{status} {}: {}", text("code"), text("detail")).trim_end_matches([':', ' ']).to_owned()];
    for error in said.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| error.get(name).map(short).unwrap_or_default();
        let line = error.get("line").and_then(Value::as_u64).unwrap_or(0);
        lines.push(format!("{file}:{line}: {}: {}", part("path"), part("message")));
    }
    lines
}

/// An answer for people: `name: value` lines, nested ones indented; lists of objects as tables.
fn text(said: &Value) -> String {
    let nodes = said.get("nodes").filter(|_| said.get("upstream").is_some());
    match said.get("items").or(nodes).and_then(Value::as_array) {
        Some(items) => table(items),
        None => {
            let mut out = String::new();
            nested(&mut out, said, 0);
            out
        }
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_deep = matches!(value, Value::Object(fields) if !fields.is_empty())
                    || matches!(value, Value::Array(items) if items.iter().any(Value::is_object));
                match is_deep {
                    true => {
                        let _ = writeln!(out, "{:depth$}{name}:", "");
                        nested(out, value, depth + 2);
                    }
                    false => drop(writeln!(out, "{:depth$}{name}: {}", "", short(value))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = writeln!(out, "{:depth$}- {}", "", short(item));
            }
        }
        other => drop(writeln!(out, "{:depth$}{}", "", short(other))),
    }
}

/// A value in one line, without the quotes of a text.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Null => "-".to_owned(),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}

/// Objects as lines: the columns are the members of the first whose values are short.
fn table(items: &[Value]) -> String {
    let Some(first) = items.first().and_then(Value::as_object) else {
        return items.iter().fold(String::new(), |out, item| out + &short(item) + "\n");
    };
    let names: Vec<&String> = first
        .iter()
        .filter(|(_, value)| !matches!(value, Value::Object(_)) && short(value).len() <= 60)
        .map(|(name, _)| name)
        .collect();
    let mut rows = vec![names.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>()];
    rows.extend(
        items.iter().map(|item| names.iter().map(|name| short(item.get(*name).unwrap_or(&Value::Null))).collect()),
    );
    aligned(&rows)
}

fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    rows.iter().fold(String::new(), |mut out, row| {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out += line.join("  ").trim_end();
        out.push('\n');
        out
    })
}

/// All of a collection, page by page.
fn list(gateway: &Gateway<'_>, kind: &str, args: &Args) -> Outcome {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/{}?limit=1000{cursor}", escaped(kind));
        let Some(page) = gateway.json("GET", &path, None)? else { return Ok(1) };
        let Some(more) = page.get("items").and_then(Value::as_array) else {
            print_json(&page);
            return Ok(0);
        };
        items.extend(more.iter().cloned());
        match page.get("next") {
            Some(Value::String(next)) => cursor = format!("&cursor={}", escaped(next)),
            Some(Value::Number(next)) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    if args.json {
        print_json(&Value::Array(items));
    } else {
        print(&table(&items));
    }
    Ok(0)
}

/// A file, and its type.
fn body(file: &str) -> Result<(Vec<u8>, &'static str), String> {
    let text = match file {
        "-" => {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            text
        }
        path => std::fs::read(path).map_err(|error| format!("{path}: {error}"))?,
    };
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    Ok((text, if is_json { "application/json" } else { "application/yaml" }))
}

fn apply(gateway: &Gateway<'_>, file: &str, one: Option<(&str, &str)>, args: &Args) -> Outcome {
    let (text, kind) = body(file)?;
    let path = match one {
        None => "/v1/config".to_owned(),
        Some(_) if kind != "application/json" => return Err(format!("{file}: a single resource is written as JSON")),
        Some((kind, name)) => format!("/v1/{}/{}", escaped(kind), escaped(name)),
    };
    let Some(said) = gateway.call("PUT", &dry(&path, args), &text, kind, file)? else { return Ok(1) };
    changes(&said, args);
    Ok(0)
}

fn diff(gateway: &Gateway<'_>, file: &str, args: &Args) -> Outcome {
    let (text, kind) = body(file)?;
    let Some(said) = gateway.call("POST", "/v1/config/validate", &text, kind, file)? else { return Ok(2) };
    changes(&said, args);
    let differs = said.get("changes").and_then(Value::as_array).is_some_and(|changes| !changes.is_empty());
    Ok(u8::from(differs))
}

/// What a write has changed, or would.
fn changes(said: &Value, args: &Args) {
    if args.json {
        return print_json(said);
    }
    let mut out = String::new();
    for change in said.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| change.get(name).and_then(Value::as_str).unwrap_or_default();
        let sign = match part("change") {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let fields = change.get("fields").and_then(Value::as_array).into_iter().flatten().map(short);
        let fields = fields.collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            out,
            "{sign} {} {}{}{fields}",
            part("kind"),
            part("name"),
            if fields.is_empty() { "" } else { ": " }
        );
    }
    if let Some(revision) = said.get("revision").and_then(Value::as_u64) {
        let _ = writeln!(out, "revision {revision}");
    }
    print(&out);
}

/// The nodes of all upstreams, again and again.
fn top(gateway: &Gateway<'_>, args: &Args) -> Outcome {
    let mut before: Vec<(String, u64)> = Vec::new();
    let mut looked = std::time::Instant::now();
    for turn in 0_u64.. {
        let Some(page) = gateway.json("GET", "/v1/upstreams?limit=1000", None)? else { return Ok(1) };
        let took = looked.elapsed().as_secs_f64().max(0.001);
        looked = std::time::Instant::now();
        let mut rows = vec![
            ["UPSTREAM", "NODE", "STATE", "WEIGHT", "SHARE", "REQ/S", "LATENCY", "ERRORS", "IN FLIGHT"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let mut seen = Vec::new();
        for upstream in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = upstream.get("name").and_then(Value::as_str) else { continue };
            let path = format!("/v1/upstreams/{}/nodes", escaped(name));
            // One that an edit has just removed is left out.
            let Ok(Some(of)) = gateway.json("GET", &path, None) else { continue };
            let breaker = of.get("breaker").map_or_else(|| "-".to_owned(), short);
            for node in of.get("nodes").and_then(Value::as_array).into_iter().flatten() {
                let number = |field: &str| node.get(field).and_then(Value::as_f64);
                let label = node.get("node").map(short).unwrap_or_default();
                let key = format!("{name} {label}");
                let picks = node.get("picks").and_then(Value::as_u64).unwrap_or(0);
                let last = before.iter().find(|(known, _)| *known == key).map(|(_, picks)| *picks);
                seen.push((key, picks));
                let state = match node.get("ejected") {
                    Some(Value::Object(_)) => "ejected".to_owned(),
                    _ if breaker != "-" && breaker != "closed" => breaker.clone(),
                    _ if number("weight") == Some(0.0) => "drained".to_owned(),
                    _ => "serves".to_owned(),
                };
                rows.push(vec![
                    name.to_owned(),
                    label,
                    state,
                    node.get("weight").map(short).unwrap_or_default(),
                    format!("{:.1} %", number("share").unwrap_or(0.0) * 100.0),
                    last.map_or_else(
                        || "-".to_owned(),
                        |last| format!("{:.1}", picks.saturating_sub(last) as f64 / took),
                    ),
                    number("latency").map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3)),
                    format!("{:.1} %", number("errors").unwrap_or(0.0) * 100.0),
                    node.get("in_flight").map(short).unwrap_or_default(),
                ]);
            }
        }
        before = seen;
        // Rates need two looks.
        if args.once {
            if turn > 0 {
                print(&aligned(&rows));
                return Ok(0);
            }
        } else {
            print(&format!("\x1b[H\x1b[2J{}  {}\n\n{}", gateway.url, "end with ^C", aligned(&rows)));
        }
        std::thread::sleep(EVERY);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment() {
        assert_eq!(escaped("10.0.0.0/8"), "10.0.0.0%2F8");
        assert_eq!(escaped("a b?%"), "a%20b%3F%25");
        assert_eq!(escaped("[::1]:80"), "%5B::1%5D:80");
    }

    #[test]
    fn problems_name_file_line_and_path() {
        let said = json!({"code": "config.invalid", "detail": "1 error", "errors": [
            {"line": 3, "path": "routes[0].paths", "message": "must not be empty"}]});
        assert_eq!(
            problem(422, &said, "g.yaml"),
            ["422 config.invalid: 1 error", "g.yaml:3: routes[0].paths: must not be empty"]
        );
        assert_eq!(problem(502, &Value::Null, "-"), ["502"]);
    }

    #[test]
    fn answers_are_for_people() {
        let said = json!({"generation": 3, "zone": {"fill": 0.5}, "names": ["a", "b"]});
        assert_eq!(text(&said), "generation: 3\nnames: [\"a\",\"b\"]\nzone:\n  fill: 0.5000\n");
        let said = json!({"items": [{"name": "a", "paths": ["/a"]}, {"name": "long", "x": 1}]});
        assert_eq!(text(&said), "NAME  PATHS\na     [\"/a\"]\nlong  -\n");
    }
}
