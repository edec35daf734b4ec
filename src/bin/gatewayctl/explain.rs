//! `explain`: what is decided on one request, told by the pipeline itself.

use std::net::{IpAddr, Ipv4Addr};

use gateway::gateway::{Decision, Notes, Ticket};
use serde_json::{Value, json};

use super::args::Args;
use super::live::{Live, now};
use super::{Outcome, document, print, print_json};
use gateway::admin::Sent;

pub fn run(file: &str, method: &str, url: &str, args: &Args) -> Outcome {
    let client = args.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let request = Sent::new(method, url, args.headers.clone(), client)?;
    let mut live = Live::start(&document::load(file, args)?)?;
    let (mut ticket, mut notes) = (Ticket::new(), Notes::default());
    let decision = live.decide(&request, now(), &mut ticket, &mut notes);

    let refusal = match &decision {
        Decision::Reply(reply) => Some(*reply),
        _ => None,
    };
    let forwarded = (decision == Decision::Forward).then(|| forwarded(&live, &request));
    let answer = matches!(decision, Decision::Respond(_)).then(|| live.worker.response());
    let added = lines(live.worker.response_headers().chain(live.worker.answer_headers()));
    if args.json {
        let notes: Vec<Value> = notes
            .0
            .iter()
            .map(|(step, text)| json!({"step": format!("{step:?}").to_lowercase(), "text": text}))
            .collect();
        print_json(&json!({
            "decision": ticket.decision(),
            "route": some(ticket.route_name()),
            "upstream": some(ticket.upstream_name()),
            "consumer": some(ticket.consumer()),
            "status": refusal.map(|reply| reply.reason.status()),
            "reason": refusal.map(|reply| reply.reason.code()),
            "retry_after": refusal.map(|reply| reply.retry_after).filter(|seconds| *seconds > 0),
            "answer": answer.map(|(status, body)| json!({"status": status, "body": String::from_utf8_lossy(body)})),
            "response_headers": added,
            "forwarded": forwarded.as_ref().map(|(path, headers)| json!({"path": path, "headers": headers})),
            "notes": notes,
        }));
    } else {
        let mut text = format!("{method} {url} from {client}\n");
        for (step, note) in &notes.0 {
            text.push_str(&format!("  {:<11} {note}\n", format!("{step:?}").to_lowercase()));
        }
        match (&refusal, &forwarded) {
            (Some(reply), _) => {
                let reason = reply.reason;
                text.push_str(&format!("refused: {} {} ({})\n", reason.status(), reason.code(), reason.detail()));
            }
            (None, Some((path, headers))) => {
                match ticket.upstream_name() {
                    "" => text.push_str("let through: policy alone, nginx's content follows\n"),
                    name => text.push_str(&format!("forwarded to {name}: {method} {path}\n")),
                }
                headers.iter().for_each(|(name, value)| text.push_str(&format!("  {name}: {value}\n")));
            }
            (None, None) => {}
        }
        if let Some((status, body)) = answer {
            text.push_str(&format!("answered here: {status}, {} bytes\n", body.len()));
        }
        if !added.is_empty() {
            text.push_str("the answer carries\n");
            added.iter().for_each(|(name, value)| text.push_str(&format!("  {name}: {value}\n")));
        }
        print(&text);
    }
    Ok(u8::from(refusal.is_some()))
}

/// The target that goes out, and the headers that route and auth set.
fn forwarded(live: &Live, request: &Sent) -> (String, Vec<(String, String)>) {
    let target = match live.worker.forwarded_path() {
        None => request.target.clone(),
        Some(path) => {
            let mut target = Vec::new();
            gateway::router::path::escape(path, &mut |bytes| target.extend_from_slice(bytes));
            if let Some((_, query)) = request.target.split_once('?') {
                target.push(b'?');
                target.extend_from_slice(query.as_bytes());
            }
            String::from_utf8_lossy(&target).into_owned()
        }
    };
    (target, lines(live.worker.request_headers()))
}

fn lines<'l>(lines: impl Iterator<Item = (&'l [u8], &'l [u8])>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    lines.map(|(name, value)| (text(name), text(value))).collect()
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
