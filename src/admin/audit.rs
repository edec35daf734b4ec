//! The audit log: one line of JSON for every call that changes something and for every one that is refused.
//!
//! Whoever answers a call writes its line, with one append. No secret can stand in it: changes are named by resource and
//! field, bodies and queries are not repeated.

use serde_json::{Map, Value};

use super::{Answer, Call, table};
use crate::config::rfc3339;
use crate::types::{Now, SECOND};

/// The line of a call that was answered, if it has one: it would change something, or it was not let in.
#[must_use]
pub fn line(call: &Call, answer: &Answer, now: Now) -> Option<String> {
    let writes = table::find(call).is_ok_and(|found| found.endpoint.writes);
    let is_unread = !matches!(call.method.as_str(), "GET" | "HEAD") && answer.status >= 400;
    let is_refused = matches!(answer.status, 401 | 403 | 429);
    (writes || is_unread || is_refused).then(|| written(call, answer, now, 0))
}

/// The line of a call that was refused, and of `unsaid` others for which none was written: guesses come by the thousand.
#[must_use]
pub fn refused(call: &Call, answer: &Answer, now: Now, unsaid: u64) -> String {
    written(call, answer, now, unsaid)
}

fn written(call: &Call, answer: &Answer, now: Now, unsaid: u64) -> String {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("timestamp", rfc3339(now.wall / SECOND).into());
    put("who", if call.who.is_empty() { Value::Null } else { call.who.as_str().into() });
    put("from", call.from.as_str().into());
    put("method", call.method.as_str().into());
    put("path", cut(&call.path).into());
    put("status", answer.status.into());
    if answer.status >= 400 {
        let problem: Option<Value> = serde_json::from_slice(&answer.body).ok();
        put("code", problem.and_then(|problem| problem.get("code").cloned()).unwrap_or_default());
    }
    if unsaid > 0 {
        put("unsaid", unsaid.into());
    }
    if let Some(Value::Object(record)) = &answer.record {
        record.iter().for_each(|(name, value)| put(name, value.clone()));
    }
    let mut text = Value::Object(fields).to_string();
    text.push('\n');
    text
}

/// What stands in a path is the client's, who need not have been let in.
fn cut(path: &str) -> &str {
    path.get(..path.floor_char_boundary(512)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::Problem;

    #[test]
    fn writes_and_refusals_have_a_line() {
        let now = Now { mono: 1, wall: 1_800_000_000 * SECOND };
        let call = |method: &str, path: &str| Call {
            method: method.into(),
            path: path.into(),
            content_type: "application/json".into(),
            who: "ann".into(),
            from: "192.0.2.1".into(),
            ..Call::default()
        };
        let good = Answer { record: Some(json!({"revision": 7})), ..Answer::json(200, &json!({})) };
        let text = line(&call("PUT", "/v1/routes/a"), &good, now).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({"timestamp": "2027-01-15T08:00:00Z", "who": "ann", "from": "192.0.2.1", "method": "PUT",
                "path": "/v1/routes/a", "status": 200, "revision": 7})
        );
        assert!(text.ends_with("}\n") && !text.trim_end().contains('\n'));
        let refused = Problem::Token.because("no");
        assert!(line(&call("GET", "/v1/status"), &refused, now).unwrap().contains("\"admin.token\""));
        assert_eq!(line(&call("GET", "/v1/status"), &good, now), None);
        assert_eq!(line(&call("POST", "/v1/explain"), &good, now), None);
        assert!(line(&call("PUT", "/v1/status"), &Problem::Method.because("no"), now).is_some());
    }
}
