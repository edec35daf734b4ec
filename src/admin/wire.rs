//! A call and its answer on their way between two processes: a head of JSON in one message, the body beside it.

use serde_json::{Value, json};

use super::{Answer, Call};

/// The head of `call`; its body travels by itself.
#[must_use]
pub fn encode_call(call: &Call) -> Vec<u8> {
    json!({
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "if_match": call.if_match,
        "if_none_match": call.if_none_match,
        "content_type": call.content_type,
        "who": call.who,
        "from": call.from,
        "until": call.until,
    })
    .to_string()
    .into_bytes()
}

/// The call with this head and body; `None` where the head is none.
#[must_use]
pub fn decode_call(head: &[u8], body: Vec<u8>) -> Option<Call> {
    let head: Value = serde_json::from_slice(head).ok()?;
    let text = |name: &str| head.get(name)?.as_str().map(str::to_owned);
    Some(Call {
        method: text("method")?,
        path: text("path")?,
        query: text("query")?,
        if_match: text("if_match"),
        if_none_match: text("if_none_match"),
        content_type: text("content_type")?,
        body,
        who: text("who")?,
        from: text("from")?,
        until: head.get("until")?.as_u64()?,
    })
}

/// The head of `answer`; what the audit log says is said where it was written.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    json!({"status": answer.status, "content_type": answer.content_type, "headers": answer.headers})
        .to_string()
        .into_bytes()
}

/// The answer with this head and body; `None` where the head is none.
#[must_use]
pub fn decode_answer(head: &[u8], body: Vec<u8>) -> Option<Answer> {
    let head: Value = serde_json::from_slice(head).ok()?;
    Some(Answer {
        status: head.get("status")?.as_u64()?.try_into().ok()?,
        content_type: head.get("content_type")?.as_str()?.to_owned(),
        headers: serde_json::from_value(head.get("headers")?.clone()).ok()?,
        body,
        record: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let call = Call {
            method: "PUT".into(),
            path: "/v1/routes/a%22".into(),
            query: "x=\"".into(),
            if_match: Some("\"1\"".into()),
            content_type: "application/json".into(),
            body: b"{}".to_vec(),
            who: "ann".into(),
            from: "::1".into(),
            until: u64::MAX,
            ..Call::default()
        };
        assert_eq!(decode_call(&encode_call(&call), call.body.clone()), Some(call));
        let answer = Answer::json(200, &json!([1])).tagged("\"e\"");
        assert_eq!(decode_answer(&encode_answer(&answer), answer.body.clone()), Some(answer));
        assert_eq!(decode_call(b"{}", Vec::new()), None);
        assert_eq!(decode_answer(b"\xff", Vec::new()), None);
    }
}
