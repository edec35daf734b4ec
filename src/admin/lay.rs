//! Calls that lay something over the document, in file mode as in api mode, and those that are done once.
//!
//! An overlay is saved before it counts, so what was acknowledged is there for the next leader too.

use serde_json::{Map, Value, json};

use super::Call;
use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::overlays::{self, Laid, OVERLAYS_MAX, forced};
use super::table::{Found, Op};
use crate::auth::revocation::token_digest;
use crate::balancer::Algorithm;
use crate::config::scalar::duration;
use crate::config::{self, Collection, rfc3339};
use crate::gateway::{ByHand, CanaryCommand, CanaryError, Leader, Overlay, Purge, node_name};
use crate::state::Folder;
use crate::types::{Now, SECOND};

/// The largest weight, as in a document, …
const WEIGHT_MAX: u32 = 1_000_000;
/// … and where `algorithm` is `hash`.
const RING_MAX: u32 = 100;

impl Desk {
    /// Answers a call about what is laid over the document.
    pub(super) fn lay(&mut self, call: &Call, found: &Found, leader: &mut Leader, now: Now) -> Result<Answer, Answer> {
        if call.flag("dry_run") {
            return Err(Problem::Request.because("`dry_run` is for writes of the document"));
        }
        let name = found.name(0);
        match found.endpoint.op {
            Op::Overlays => {
                let items: Vec<Value> = self.sheet.0.iter().map(Laid::to_json).collect();
                Ok(Answer::json(200, &json!({"total": items.len(), "items": items})))
            }
            Op::EndOverlay => {
                if !self.sheet.0.iter().any(|laid| laid.id() == name) {
                    return Err(Problem::NotFound.because(format!("there is no overlay \"{name}\"")));
                }
                if let Some(route) = name.strip_prefix("canaries/") {
                    // There may be no such canary any more.
                    let _ = leader.canary(route, CanaryCommand::Release);
                }
                self.end_overlay(name, leader, now)
            }
            Op::PatchNode => {
                let node = found.name(1);
                let upstream = leader.sight().and_then(|sight| sight.upstream(name));
                let upstream =
                    upstream.ok_or_else(|| Problem::NotFound.because(format!("there is no upstream \"{name}\"")))?;
                if !upstream.nodes.iter().any(|other| node_name(other) == node) {
                    let detail = format!("upstream \"{name}\" has no node \"{node}\" in the document");
                    return Err(Problem::NotFound.because(detail));
                }
                match weight(&fields(call, &["weight", "drain"])?)? {
                    // On a ring each unit takes room.
                    Some(weight) if upstream.policy.algorithm == Algorithm::Hash && weight > RING_MAX => {
                        Err(Problem::Body
                            .because(format!("where `algorithm` is `hash`, `weight` is at most {RING_MAX}")))
                    }
                    Some(weight) => {
                        let overlay = Overlay::Weight { upstream: name.to_owned(), node: node.to_owned(), weight };
                        self.put_overlay(overlay, call, leader, now)
                    }
                    None => self.end_overlay(&format!("nodes/{name}/{node}"), leader, now),
                }
            }
            Op::PutBreaker => {
                if leader.sight().and_then(|sight| sight.breaker(name, now)).is_none() {
                    return Err(Problem::NotFound.because(format!("there is no upstream \"{name}\" with a breaker")));
                }
                let fields = fields(call, &["state"])?;
                match fields.get("state").and_then(Value::as_str) {
                    Some("auto") => self.end_overlay(&format!("breakers/{name}"), leader, now),
                    word => match word.and_then(forced) {
                        Some(forced) => {
                            let overlay = Overlay::Breaker { upstream: name.to_owned(), forced };
                            self.put_overlay(overlay, call, leader, now)
                        }
                        None => Err(Problem::Body.because("`state` must be `open`, `closed` or `auto`")),
                    },
                }
            }
            Op::PutCanary => self.put_canary(name, call, leader, now),
            Op::EndCanary => {
                leader.canary(name, CanaryCommand::Release).map_err(|error| no_canary(name, error))?;
                self.end_overlay(&format!("canaries/{name}"), leader, now)
            }
            Op::PostBan => {
                let overlay = ban(&fields(call, &["cidr", "ttl", "until", "reason"])?, now)?;
                self.put_overlay(overlay, call, leader, now)
            }
            Op::Revoke => {
                let known = ["jti", "sub", "sha256", "token", "auth", "before", "until", "ttl"];
                let overlay = revocation(fields(call, &known)?, now)?;
                if let Overlay::Revocation(ByHand { auth: Some(auth), .. }) = &overlay {
                    let found = leader.sight().and_then(|sight| sight.resource(Collection::Auth, auth).ok().flatten());
                    if found.is_none_or(|found| found.get("jwt").is_none()) {
                        return Err(Problem::NotFound.because(format!("there is no `auth` \"{auth}\" with `jwt`")));
                    }
                }
                self.put_overlay(overlay, call, leader, now)
            }
            _ => purge(call, leader),
        }
    }

    fn put_canary(&mut self, route: &str, call: &Call, leader: &mut Leader, now: Now) -> Result<Answer, Answer> {
        const FORM: &str =
            "must be {\"percent\": 0 to 100} or {\"action\": \"pause\", \"resume\", \"promote\" or \"rollback\"}";
        let fields = fields(call, &["percent", "action"])?;
        let command = match (fields.get("percent"), fields.get("action").and_then(Value::as_str)) {
            (Some(percent), None) => {
                let share = percent.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
                CanaryCommand::Set((share.ok_or_else(|| Problem::Body.because(FORM))? * 100.0).round() as u16)
            }
            (None, Some("pause")) => CanaryCommand::Pause,
            (None, Some("resume")) => CanaryCommand::Resume,
            (None, Some("promote")) => CanaryCommand::Set(10_000),
            (None, Some("rollback")) => CanaryCommand::Abort,
            _ => return Err(Problem::Body.because(FORM)),
        };
        // Says what cannot be done, before anything is kept.
        leader.canary(route, command).map_err(|error| no_canary(route, error))?;
        if command == CanaryCommand::Resume {
            return self.end_overlay(&format!("canaries/{route}"), leader, now);
        }
        self.put_overlay(Overlay::Canary { route: route.to_owned(), command }, call, leader, now)
    }

    fn put_overlay(&mut self, overlay: Overlay, call: &Call, leader: &mut Leader, now: Now) -> Result<Answer, Answer> {
        let laid = Laid { overlay, who: call.who.clone(), at: rfc3339(now.wall / SECOND) };
        let mut sheet = self.sheet.clone();
        sheet.expire(now);
        sheet.put(laid.clone());
        if sheet.0.len() > OVERLAYS_MAX {
            return Err(Problem::Body.because(format!("there are {OVERLAYS_MAX} overlays already")));
        }
        self.turn(sheet, leader, now)?;
        let value = laid.to_json();
        Ok(Answer { record: Some(json!({"overlay": value})), ..Answer::json(200, &value) })
    }

    /// Ends an overlay; that there is none is no fault, as it ends the same.
    fn end_overlay(&mut self, id: &str, leader: &mut Leader, now: Now) -> Result<Answer, Answer> {
        let mut sheet = self.sheet.clone();
        let was_there = sheet.remove(id);
        sheet.expire(now);
        self.turn(sheet, leader, now)?;
        let value = json!({"id": id, "ended": was_there});
        Ok(Answer { record: Some(json!({"overlay_ended": id})), ..Answer::json(200, &value) })
    }

    /// Saves `sheet` and has it count.
    fn turn(&mut self, sheet: super::overlays::Sheet, leader: &mut Leader, now: Now) -> Result<(), Answer> {
        let folder = Folder::new(&self.site().state);
        let unsaved = |error| Problem::Storage.because(format!("the overlay cannot be saved: {error}"));
        sheet.save(&folder).map_err(unsaved)?;
        if let Err(error) = leader.relay(sheet.overlays(), now) {
            let _ = self.sheet.save(&folder);
            return Err(Answer::unpublished(&error));
        }
        self.sheet = sheet;
        Ok(())
    }
}

fn no_canary(route: &str, error: CanaryError) -> Answer {
    match error {
        CanaryError::NoPromotion => Problem::Body.because(format!("\"{route}\": {error}")),
        _ => Problem::NotFound.because(format!("\"{route}\": {error}")),
    }
}

/// The body's fields, which are some of `known`.
fn fields(call: &Call, known: &[&str]) -> Result<Map<String, Value>, Answer> {
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(fields)) if !fields.is_empty() && fields.keys().all(|name| known.contains(&name.as_str())) => {
            Ok(fields)
        }
        _ => Err(Problem::Body.because(format!("must be an object of {}", known.join(", ")))),
    }
}

/// `{weight}` or `{drain}`; `None` = the document's own weight.
fn weight(fields: &Map<String, Value>) -> Result<Option<u32>, Answer> {
    match (fields.get("weight"), fields.get("drain")) {
        (Some(Value::Null), None) | (None, Some(Value::Bool(false))) => Ok(None),
        (None, Some(Value::Bool(true))) => Ok(Some(0)),
        (Some(weight), None) => {
            let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
            let weight = weight.filter(|weight| *weight <= WEIGHT_MAX);
            weight
                .map(Some)
                .ok_or_else(|| Problem::Body.because(format!("`weight` must be 0 to {WEIGHT_MAX}, or null")))
        }
        _ => Err(Problem::Body.because("must be {\"weight\": number or null} or {\"drain\": true or false}")),
    }
}

/// `{cidr, ttl or until, reason}`.
fn ban(fields: &Map<String, Value>, now: Now) -> Result<Overlay, Answer> {
    let wrong = |detail: String| Problem::Body.because(detail);
    let text = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(format!("`{name}` must be text"))),
    };
    let cidr = text("cidr")?.ok_or_else(|| wrong("needs `cidr`".to_owned()))?;
    config::ranges(&cidr).map(drop).map_err(|error| wrong(format!("`cidr` {error}")))?;
    let seconds = now.wall / SECOND;
    let until = match (text("ttl")?, text("until")?) {
        (None, None) => 0,
        (Some(ttl), None) => {
            let micros = duration(&ttl).map_err(|error| wrong(format!("`ttl` {error}")))?;
            seconds + micros.div_ceil(SECOND).max(1)
        }
        (None, Some(until)) => config::time(&until).map_err(|error| wrong(format!("`until` {error}")))?,
        _ => return Err(wrong("`ttl` or `until`, not both".to_owned())),
    };
    let reason = text("reason")?.unwrap_or_default();
    if reason.len() > 1_024 || reason.chars().any(char::is_control) {
        return Err(wrong("`reason` has at most 1024 bytes and no control characters".to_owned()));
    }
    Ok(Overlay::Ban { cidr, until, reason })
}

/// `{jti}`, `{sub, before}`, `{sha256}` or `{token}`, with `{auth, ttl or until}`. Of a token its hash is kept.
fn revocation(mut fields: Map<String, Value>, now: Now) -> Result<Overlay, Answer> {
    if let Some((name, _)) = fields.iter().find(|(_, value)| !value.is_string()) {
        return Err(Problem::Body.because(format!("`{name}` must be text")));
    }
    if let Some(Value::String(token)) = fields.remove("token") {
        let digest: String = token_digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        if fields.insert("sha256".to_owned(), digest.into()).is_some() {
            return Err(Problem::Body.because("`token` or `sha256`, not both"));
        }
    }
    if let Some(Value::String(ttl)) = fields.remove("ttl") {
        let micros = duration(&ttl).map_err(|error| Problem::Body.because(format!("`ttl` {error}")))?;
        let until = rfc3339((now.wall / SECOND).saturating_add(micros.div_ceil(SECOND).max(1)));
        if fields.insert("until".to_owned(), until.into()).is_some() {
            return Err(Problem::Body.because("`ttl` or `until`, not both"));
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    overlays::revocation(&text).map(Overlay::Revocation).map_err(|error| Problem::Body.because(error))
}

/// `{all: true}`, `{route}`, `{tag}` or `{host, path}`.
fn purge(call: &Call, leader: &mut Leader) -> Result<Answer, Answer> {
    let fields = fields(call, &["all", "route", "tag", "host", "path"])?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let what = match (fields.len(), text("route"), text("tag"), text("host"), text("path")) {
        (1, Some(route), ..) => Purge::Route(route),
        (1, _, Some(tag), ..) => Purge::Tag(tag),
        (2, None, None, Some(host), Some(path)) => Purge::Path { host, path },
        (1, None, None, None, None) if fields.get("all") == Some(&Value::Bool(true)) => Purge::All,
        _ => {
            return Err(
                Problem::Body.because("must be {\"all\": true}, {\"route\"}, {\"tag\"} or {\"host\", \"path\"}")
            );
        }
    };
    match leader.purge(what) {
        true => {
            let value = json!({"purged": fields});
            Ok(Answer { record: Some(value.clone()), ..Answer::json(200, &value) })
        }
        false => Err(Problem::NotFound.because("nothing of that name is cached")),
    }
}
