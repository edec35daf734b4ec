//! Calls that read a bounded piece of what is live, answered by whoever has them.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem, etag, matches};
use super::desk::Site;
use super::table::{self, Found, Op};
use super::{Call, Mode, Sent, openapi};
use crate::config::Collection;
use crate::gateway::{Decision, Dry, Sight, Worker};
use crate::router::path;
use crate::types::Now;

/// The most resources of a page, …
const PAGE_MAX: usize = 1_000;
/// … and how many there are where nothing is said.
const PAGE: usize = 100;

/// Answers `call` where this process can; `None` = it is the leader's to answer.
pub fn here(call: &Call, site: &Site, worker: &mut Worker, now: Now) -> Option<Answer> {
    let found = match table::find(call) {
        Ok(found) => found,
        Err(answer) => return Some(answer),
    };
    if site.mode == Mode::File && is_document_write(found.endpoint.op) {
        return Some(file_mode(site));
    }
    if !found.is_here(site.mode) {
        return None;
    }
    if found.endpoint.op == Op::Explain {
        return Some(explain(call, worker, now));
    }
    let secret = worker.region().secret();
    Some(match worker.sight() {
        Some(sight) => read(call, &found, site, &sight, secret, now),
        None => Problem::Internal.because("no document is live"),
    })
}

/// Whether the call changes the document, which in file mode is not the API's.
pub(super) const fn is_document_write(op: Op) -> bool {
    matches!(op, Op::PutConfig | Op::Put | Op::Patch | Op::Delete | Op::Batch | Op::Rollback)
}

pub(super) fn file_mode(site: &Site) -> Answer {
    Problem::FileMode.because(format!(
        "the document is the file {}: edit it there, the gateway takes it up within a second; `gateway_config … \
         mode=api` hands it to this API",
        site.document.display()
    ))
}

/// What the tree and the tables say.
pub(super) fn read(call: &Call, found: &Found, site: &Site, sight: &Sight<'_>, secret: [u64; 2], now: Now) -> Answer {
    let name = found.name(0);
    match found.endpoint.op {
        Op::Status => {
            let mut status = sight.summary(now);
            if let Some(fields) = status.as_object_mut() {
                fields.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
                fields.insert("mode".to_owned(), site.mode.word().into());
                fields.insert("document".to_owned(), site.document.display().to_string().into());
                if site.mode == Mode::Api {
                    fields.insert("revision".to_owned(), sight.revision().into());
                }
            }
            Answer::json(200, &status)
        }
        Op::OpenApi => Answer::json(200, &openapi::page()),
        Op::Breakers => Answer::json(200, &json!({"items": sight.breakers(now)})),
        Op::Breaker => match sight.breaker(name, now) {
            Some(breaker) => Answer::json(200, &breaker),
            None => Problem::NotFound.because(format!("there is no upstream \"{name}\" with a breaker")),
        },
        Op::Canary => match sight.canary(name) {
            Some(canary) => Answer::json(
                200,
                &json!({
                    "route": canary.route,
                    "candidate": canary.candidate,
                    "phase": format!("{:?}", canary.phase).to_lowercase(),
                    "percent": f64::from(canary.share) / 100.0,
                    "step": canary.step,
                    "rollbacks": canary.rollbacks,
                }),
            ),
            None => Problem::NotFound.because(format!("there is no route \"{name}\" with a canary")),
        },
        Op::Nodes => match sight.nodes(name, now) {
            Some(nodes) => Answer::json(200, &nodes),
            None => Problem::NotFound.because(format!("there is no upstream \"{name}\"")),
        },
        Op::List | Op::Get => match found.collection {
            Some(collection) if found.endpoint.op == Op::Get => match sight.resource(collection, name) {
                Ok(Some(value)) => shown(call, &value, &etag(secret, &value.to_string())),
                Ok(None) => missing(collection, name),
                Err(error) => Problem::Internal.because(error.to_string()),
            },
            Some(collection) => page(call, |from, most| {
                let (items, next) = sight.resources(collection, from, most).map_err(|error| error.to_string())?;
                Ok((items, next, sight.count(collection)))
            }),
            None => Problem::Internal.because("a path without a collection"),
        },
        _ => Problem::Internal.because("not a call for this process"),
    }
}

/// One resource, unless the client has it (`If-None-Match`).
pub(super) fn shown(call: &Call, value: &Value, etag: &str) -> Answer {
    match &call.if_none_match {
        Some(condition) if matches(condition, Some(etag)) => Answer::empty(304).tagged(etag),
        _ => Answer::json(200, value).tagged(etag),
    }
}

pub(super) fn missing(collection: Collection, name: &str) -> Answer {
    Problem::NotFound.because(format!("`{}` has no \"{name}\"", collection.name()))
}

/// A page: `fetch` is asked from which place on, and how many.
#[allow(clippy::type_complexity, reason = "items, the next place, how many in all")]
pub(super) fn page(
    call: &Call,
    fetch: impl FnOnce(u32, usize) -> Result<(Vec<Value>, Option<u32>, usize), String>,
) -> Answer {
    let number = |name: &str| match call.parameter(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Problem::Request.because(format!("`{name}` must be a whole number"))),
        },
    };
    let (from, most) = match (number("cursor"), number("limit")) {
        (Ok(from), Ok(most)) => (from.unwrap_or(0), most.map_or(PAGE, |most| most as usize)),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    if !(1..=PAGE_MAX).contains(&most) {
        return Problem::Request.because(format!("`limit` must be 1 to {PAGE_MAX}"));
    }
    match fetch(from, most) {
        Ok((items, next, total)) => Answer::json(200, &json!({"items": items, "total": total, "next": next})),
        Err(error) => Problem::Internal.because(error),
    }
}

/// `{method, url, headers, client}` through the pipeline, over the live state.
fn explain(call: &Call, worker: &mut Worker, now: Now) -> Answer {
    let asked: Value = match serde_json::from_slice(&call.body) {
        Ok(asked) => asked,
        Err(error) => return Problem::Body.because(format!("not JSON: {error}")),
    };
    let sent = match sent(&asked) {
        Ok(sent) => sent,
        Err(error) => return Problem::Body.because(error),
    };
    let mut notes = Dry::default();
    let (decision, ticket) = worker.explain(&sent, now, &mut notes);
    let some = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let lines = |lines: Vec<(&[u8], &[u8])>| -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        lines.into_iter().map(|(name, value)| json!([text(name), text(value)])).collect()
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put(
        "decision",
        match decision {
            Decision::Ask(_) => "ask".into(),
            _ => ticket.decision().into(),
        },
    );
    put("route", some(ticket.route_name()));
    put("upstream", some(ticket.upstream_name()));
    put("variant", some(ticket.variant()));
    put("consumer", some(ticket.consumer()));
    match decision {
        Decision::Reply(reply) => {
            put("status", reply.reason.status().into());
            put("reason", reply.reason.code().into());
            if reply.retry_after > 0 {
                put("retry_after", reply.retry_after.into());
            }
        }
        Decision::Respond(_) => {
            let (status, body) = worker.response();
            put("answer", json!({"status": status, "body": String::from_utf8_lossy(body)}));
        }
        Decision::Forward => {
            let target = match worker.forwarded_path() {
                None => sent.target.clone(),
                Some(decoded) => {
                    let mut target = Vec::new();
                    path::escape(decoded, &mut |bytes| target.extend_from_slice(bytes));
                    if let Some((_, query)) = sent.target.split_once('?') {
                        target.push(b'?');
                        target.extend_from_slice(query.as_bytes());
                    }
                    String::from_utf8_lossy(&target).into_owned()
                }
            };
            put("forwarded", json!({"target": target, "headers": lines(worker.request_headers().collect())}));
        }
        Decision::Ask(_) => {}
    }
    put("response_headers", lines(worker.response_headers().chain(worker.answer_headers()).collect()));
    let notes = notes.0.into_iter();
    put("notes", notes.map(|(step, text)| json!({"step": format!("{step:?}").to_lowercase(), "text": text})).collect());
    Answer::json(200, &Value::Object(fields))
}

/// The request that `asked` describes.
fn sent(asked: &Value) -> Result<Sent, String> {
    const FORM: &str = "must be {\"method\", \"url\", \"headers\": {name: value or list}, \"client\"}";
    let fields = asked.as_object().ok_or(FORM)?;
    if let Some(name) = fields.keys().find(|name| !["method", "url", "headers", "client"].contains(&name.as_str())) {
        return Err(format!("unknown field `{}`: {FORM}", name.chars().take(64).collect::<String>()));
    }
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("`{name}` must be text")),
    };
    let url = text("url")?.ok_or("needs `url`: `https://host/path` or `/path`")?;
    let client = match text("client")? {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(address) => address.parse().map_err(|_| "`client` must be an address".to_owned())?,
    };
    let mut headers = Vec::new();
    let lines = match fields.get("headers") {
        None | Some(Value::Null) => None,
        Some(Value::Object(lines)) => Some(lines),
        Some(_) => return Err("`headers` must be an object".to_owned()),
    };
    for (name, value) in lines.into_iter().flatten() {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let value = value.as_str().ok_or_else(|| "a header's value must be text".to_owned())?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    Sent::new(text("method")?.unwrap_or("GET"), url, headers, client)
}
