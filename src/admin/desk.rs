//! The leader's side: the document as it was written, its revisions, and the calls that change them.
//!
//! A write is applied to the source in place, the whole is checked as a start would check it, saved, made live, and only
//! then acknowledged. So what was acknowledged is on the disk, what is on the disk was right, and of a write that fails
//! anywhere nothing is left: the source is put back, the revision removed. Whoever dies in between leaves the old
//! revision or the new one, and the next leader goes on from the last that there is.
//!
//! The check reads the whole document also where one resource of 100,000 was changed: names, conflicts of routes and
//! `defaults` hang together over all of it, and a second set of rules for a part would one day disagree with the first.
//! The tree is written only where something differs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::answer::{Answer, Problem, entry, etag, matches};
use super::merge::merge;
use super::overlays::Sheet;
use super::reads::{self, file_mode, is_document_write, missing, page, shown};
use super::revisions::{Revision, Revisions};
use super::source::{Source, Undo};
use super::table::{self, Found, Op};
use super::{Call, Mode};
use crate::config::{self, Change, Checked, Collection, Document, HIDDEN, Secrets, rfc3339};
use crate::gateway::{Event, Leader, Published, Severity, read_text};
use crate::state::Folder;
use crate::types::{Now, SECOND};

/// The most calls of a batch.
const BATCH_MAX: usize = 1_000;
/// The most changes that an answer or a revision names.
const CHANGES_MAX: usize = 1_000;

/// What nginx.conf says.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where the policy comes from.
    pub mode: Mode,
    /// The document, or the first one.
    pub document: PathBuf,
    /// The folder of what outlives the region.
    pub state: PathBuf,
}

/// The leader's desk.
pub struct Desk {
    site: Site,
    secrets: Box<dyn Secrets>,
    /// In api mode, once it has begun.
    held: Option<Held>,
    /// What is laid over the document.
    pub(super) sheet: Sheet,
}

/// What api mode holds.
struct Held {
    revisions: Revisions,
    source: Source,
    document: Document,
    /// The number of the last revision.
    number: u64,
    /// The tag of the source, worked out when somebody asks for it.
    etag: Option<String>,
}

/// One change of the source that was made and can be undone.
struct Step {
    collection: Collection,
    name: String,
    undo: Undo,
    /// The text that the resource was read from, whose lines the client knows.
    raw: Option<String>,
    created: bool,
}

/// What a write did.
struct Done {
    published: Published,
    warnings: Vec<config::Problem>,
    changes: Vec<Change>,
}

impl Desk {
    /// A desk that has not begun.
    #[must_use]
    pub fn new(site: Site, secrets: Box<dyn Secrets>) -> Self {
        Self { site, secrets, held: None, sheet: Sheet::default() }
    }

    /// What nginx.conf says.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Takes the policy up where the last leader left it: in file mode the file is followed, in api mode the last
    /// revision is made live; the first one is the document that nginx.conf names.
    pub fn begin(&mut self, leader: &mut Leader, now: Now, log: &mut dyn FnMut(Event)) {
        match Sheet::read(&Folder::new(&self.site.state), now) {
            Ok(sheet) => self.sheet = sheet,
            Err(text) => log(Event { severity: Severity::Error, text }),
        }
        leader.lay(self.sheet.overlays());
        if self.site.mode == Mode::File {
            leader.watch(&self.site.document);
            return;
        }
        match self.take_up(leader, now, log) {
            Ok(()) => {}
            Err(lines) => lines.into_iter().for_each(|text| log(Event { severity: Severity::Error, text })),
        }
    }

    fn take_up(&mut self, leader: &mut Leader, now: Now, log: &mut dyn FnMut(Event)) -> Result<(), Vec<String>> {
        let state = self.site.state.display().to_string();
        let revisions = Revisions::open(&self.site.state).map_err(|error| vec![format!("{state}: {error}")])?;
        let numbers = revisions.numbers().map_err(|error| vec![format!("{state}: {error}")])?;
        let Some(last) = numbers.last().copied() else {
            return self.seed(revisions, leader, now, log);
        };
        let mut wrong = Vec::new();
        for number in numbers.into_iter().rev() {
            let name = format!("revision {number}");
            let Revision { source, .. } = match revisions.load(number) {
                Ok(revision) => revision,
                Err(error) => {
                    wrong.push(format!("{name}: {error}"));
                    continue;
                }
            };
            match config::parse(&source.text(), &name, &*self.secrets) {
                Ok(Checked { document, .. }) => match leader.publish(&document, now) {
                    Ok(_) => {
                        leader.set_revision(number);
                        self.held = Some(Held { revisions, source, document, number: last, etag: None });
                        for text in wrong {
                            log(Event { severity: Severity::Error, text });
                        }
                        let text = format!("{name} is live");
                        log(Event { severity: Severity::Notice, text });
                        return Ok(());
                    }
                    Err(error) => wrong.push(format!("{name}: {error}")),
                },
                Err(errors) => wrong.extend(errors.problems().iter().map(ToString::to_string)),
            }
        }
        Err(wrong)
    }

    fn seed(
        &mut self,
        revisions: Revisions,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<(), Vec<String>> {
        let name = self.site.document.display().to_string();
        let text = read_text(&self.site.document).map_err(|error| vec![format!("{name}: {error}")])?;
        let lines = |errors: config::Errors| errors.problems().iter().map(ToString::to_string).collect::<Vec<_>>();
        let Checked { document, .. } = config::parse(&text, &name, &*self.secrets).map_err(lines)?;
        let value = config::read_value(&text, &name).map_err(lines)?;
        let source = Source::new(value).ok_or_else(|| vec![format!("{name}: is no object")])?;
        let about = json!({"revision": 1, "at": rfc3339(now.wall / SECOND), "action": format!("seed {name}")});
        revisions.save(1, &about, &source.text()).map_err(|error| vec![format!("revision 1: {error}")])?;
        leader.publish(&document, now).map_err(|error| vec![format!("{name}: {error}")])?;
        leader.set_revision(1);
        self.held = Some(Held { revisions, source, document, number: 1, etag: None });
        log(Event { severity: Severity::Notice, text: format!("{name} is revision 1") });
        Ok(())
    }

    /// Answers `call`.
    pub fn answer(&mut self, call: &Call, leader: &mut Leader, now: Now, log: &mut dyn FnMut(Event)) -> Answer {
        if call.until != 0 && now.mono >= call.until {
            return Problem::Timeout.because("nobody waits for this any more, so nothing was done");
        }
        match table::find(call) {
            Ok(found) => self.dispatch(call, &found, leader, now, log).unwrap_or_else(|problem| problem),
            Err(answer) => answer,
        }
    }

    fn dispatch(
        &mut self,
        call: &Call,
        found: &Found,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Answer, Answer> {
        let op = found.endpoint.op;
        if is_document_write(op) && self.site.mode == Mode::File {
            return Err(file_mode(&self.site));
        }
        if call.parameter("dry_run").is_some_and(|word| !matches!(word.as_str(), "" | "true" | "1" | "false" | "0")) {
            return Err(Problem::Request.because("`dry_run` must be `true`, `false`, or stand alone"));
        }
        match op {
            Op::Config => self.config(call, leader),
            Op::Validate => self.validate(call, leader),
            Op::List | Op::Get if self.site.mode == Mode::Api => self.resources(call, found, leader),
            Op::PutConfig => self.put_config(call, leader, now, log),
            Op::Put | Op::Patch | Op::Delete => self.edit(call, found, leader, now, log),
            Op::Batch => self.batch(call, leader, now, log),
            Op::Revisions | Op::Revision | Op::Diff => self.revisions(found),
            Op::Rollback => self.rollback(call, found, leader, now, log),
            Op::Overlays
            | Op::EndOverlay
            | Op::PatchNode
            | Op::PutBreaker
            | Op::PutCanary
            | Op::EndCanary
            | Op::PostBan
            | Op::Revoke
            | Op::Purge => self.lay(call, found, leader, now),
            _ => {
                let sight = leader.sight().ok_or_else(|| Problem::Internal.because("no document is live"))?;
                Ok(reads::read(call, found, &self.site, &sight, leader.secret(), now))
            }
        }
    }

    fn config(&mut self, call: &Call, leader: &Leader) -> Result<Answer, Answer> {
        let secret = leader.secret();
        let (value, etag) = match &mut self.held {
            Some(held) => {
                let etag = held.etag(secret);
                let mut value = held.source.value();
                config::redact(&mut value);
                (value, etag)
            }
            None => {
                let value = config::to_value(&live(leader)?);
                let etag = etag(secret, &value.to_string());
                (value, etag)
            }
        };
        Ok(shown(call, &value, &etag))
    }

    fn validate(&self, call: &Call, leader: &Leader) -> Result<Answer, Answer> {
        let (_, checked) = self.read_body(call)?;
        let changes = match &self.held {
            Some(held) => config::diff(&held.document, &checked.document),
            None => config::diff(&live(leader)?, &checked.document),
        };
        Ok(Answer::json(
            200,
            &json!({
                "valid": true,
                "warnings": told(&checked.warnings),
                "changes": named(&changes),
                "changes_total": changes.len(),
            }),
        ))
    }

    fn resources(&self, call: &Call, found: &Found, leader: &Leader) -> Result<Answer, Answer> {
        let held = self.held()?;
        let collection = found.collection.ok_or_else(|| Problem::Internal.because("a path without a collection"))?;
        let redacted = |value: &Value| {
            let mut value = value.clone();
            config::redact_resource(&mut value, collection.fields());
            value
        };
        if found.endpoint.op == Op::Get {
            let name = found.name(0);
            let value = held.source.get(collection, name).ok_or_else(|| missing(collection, name))?;
            return Ok(shown(call, &redacted(value), &etag(leader.secret(), &value.to_string())));
        }
        Ok(page(call, |from, most| {
            let all = held.source.list(collection);
            let from = from as usize;
            let items: Vec<Value> = all.iter().skip(from).take(most).map(redacted).collect();
            let next = (from.saturating_add(most) < all.len()).then_some((from + most) as u32);
            Ok((items, next, all.len()))
        }))
    }

    fn put_config(
        &mut self,
        call: &Call,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Answer, Answer> {
        let secret = leader.secret();
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        if let Some(condition) = &call.if_match
            && !matches(condition, Some(&held.etag(secret)))
        {
            return Err(Problem::Precondition.because("the document is another one than `If-Match` says"));
        }
        let (source, checked) = self.read_body(call)?;
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        let before = std::mem::replace(&mut held.source, source);
        match self.commit(call, checked, leader, now, log) {
            Ok(done) if call.flag("dry_run") => {
                self.put_back(before);
                Ok(self.done(200, &done, call, now))
            }
            Ok(done) => {
                let etag = self.held.as_mut().ok_or_else(not_begun)?.etag(secret);
                Ok(self.done(200, &done, call, now).tagged(&etag))
            }
            Err(answer) => {
                self.put_back(before);
                Err(answer)
            }
        }
    }

    fn put_back(&mut self, source: Source) {
        if let Some(held) = &mut self.held {
            held.source = source;
            held.etag = None;
        }
    }

    fn edit(
        &mut self,
        call: &Call,
        found: &Found,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Answer, Answer> {
        let secret = leader.secret();
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        let step = held.apply(call, found, secret)?;
        let (created, collection, name) = (step.created, step.collection, step.name.clone());
        let done = self.carry_out(vec![step], call, leader, now, log)?;
        let status = if created && !call.flag("dry_run") { 201 } else { 200 };
        let answer = self.done(status, &done, call, now);
        let held = self.held.as_ref().ok_or_else(not_begun)?;
        Ok(match held.source.get(collection, &name).filter(|_| !call.flag("dry_run")) {
            Some(value) => answer.tagged(&etag(secret, &value.to_string())),
            None => answer,
        })
    }

    fn batch(
        &mut self,
        call: &Call,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Answer, Answer> {
        let calls = calls(call)?;
        let secret = leader.secret();
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        let mut steps: Vec<Step> = Vec::new();
        for (index, one) in calls.iter().enumerate() {
            let found = match table::find(one) {
                Ok(found) if matches!(found.endpoint.op, Op::Put | Op::Patch | Op::Delete) => Ok(found),
                Ok(_) => Err(Problem::Body.because("a batch takes PUT, PATCH and DELETE of single resources")),
                Err(answer) => Err(answer),
            };
            match found.and_then(|found| held.apply(one, &found, secret)) {
                Ok(step) => steps.push(step),
                Err(answer) => {
                    held.undo(steps);
                    return Err(within(answer, index));
                }
            }
        }
        // In a text with the lines of several bodies no line is anybody's.
        steps.iter_mut().for_each(|step| step.raw = None);
        let done = self.carry_out(steps, call, leader, now, log)?;
        Ok(self.done(200, &done, call, now))
    }

    /// Checks what the source has become, saves it and makes it live; else undoes `steps`.
    fn carry_out(
        &mut self,
        steps: Vec<Step>,
        call: &Call,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Done, Answer> {
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        let checked = held.check(&steps, &*self.secrets);
        let done = checked.and_then(|checked| self.commit(call, checked, leader, now, log));
        if done.is_err() || call.flag("dry_run") {
            self.held.as_mut().ok_or_else(not_begun)?.undo(steps);
        }
        done
    }

    /// Saves the source, which is `checked`, and makes it live. A dry run, and one that changes nothing, says what would
    /// be and does nothing.
    fn commit(
        &mut self,
        call: &Call,
        checked: Checked,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Done, Answer> {
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        let Checked { document, warnings } = checked;
        let changes = config::diff(&held.document, &document);
        if call.flag("dry_run") {
            return Ok(Done { published: Published::default(), warnings, changes });
        }
        let number = held.number + 1;
        let about = json!({
            "revision": number,
            "at": rfc3339(now.wall / SECOND),
            "who": call.who,
            "from": call.from,
            "action": format!("{} {}", call.method, call.path),
            "changes": named(&changes),
            "changes_total": changes.len(),
        });
        held.revisions
            .save(number, &about, &held.source.text())
            .map_err(|error| Problem::Storage.because(format!("the revision cannot be saved: {error}")))?;
        match leader.publish(&document, now) {
            Ok(published) => {
                held.document = document;
                held.number = number;
                held.etag = None;
                held.revisions.prune();
                leader.set_revision(number);
                leader.follow(now, log);
                let who = if call.who.is_empty() { "somebody" } else { &call.who };
                let text = format!(
                    "revision {number} by {who}: {} {}, generation {}, {} objects written, {} removed",
                    call.method, call.path, published.generation, published.written, published.removed
                );
                log(Event { severity: Severity::Notice, text });
                Ok(Done { published, warnings, changes })
            }
            Err(error) => {
                held.revisions.forget(number);
                Err(Answer::unpublished(&error))
            }
        }
    }

    fn done(&self, status: u16, done: &Done, call: &Call, _: Now) -> Answer {
        let number = self.held.as_ref().map_or(0, |held| held.number);
        let dry = call.flag("dry_run");
        let mut warnings: Vec<Value> = told(&done.warnings);
        warnings.extend(done.published.warnings.iter().map(|text| entry(0, 0, "", text)));
        let mut body = json!({
            "revision": number,
            "changes": named(&done.changes),
            "changes_total": done.changes.len(),
            "warnings": warnings,
        });
        if let Some(fields) = body.as_object_mut() {
            match dry {
                true => fields.insert("dry_run".to_owned(), true.into()),
                false => fields.insert("generation".to_owned(), done.published.generation.into()),
            };
        }
        let mut answer = Answer::json(status, &body);
        let before = if dry { number } else { number.saturating_sub(1) };
        answer.record = Some(json!({
            "dry_run": dry,
            "revision_before": before,
            "revision": number,
            "changes": named(&done.changes),
            "changes_total": done.changes.len(),
        }));
        answer
    }

    fn revisions(&self, found: &Found) -> Result<Answer, Answer> {
        if self.site.mode == Mode::File {
            return Err(Problem::NotFound.because("in file mode there are no revisions: the file's history is its own"));
        }
        let held = self.held()?;
        match found.endpoint.op {
            Op::Revisions => {
                let mut numbers = held.revisions.numbers().map_err(unreadable)?;
                numbers.reverse();
                let items: Vec<Value> =
                    numbers.iter().filter_map(|number| held.revisions.about(*number).ok()).collect();
                Ok(Answer::json(200, &json!({"items": items, "total": items.len(), "live": held.number})))
            }
            Op::Revision => {
                let Revision { mut about, source } = held.revision(found.name(0))?;
                let mut document = source.value();
                config::redact(&mut document);
                if let Some(fields) = about.as_object_mut() {
                    fields.insert("document".to_owned(), document);
                }
                Ok(Answer::json(200, &about))
            }
            _ => {
                let read = |name: &str| {
                    let revision = held.revision(name)?;
                    let checked = config::parse(&revision.source.text(), &format!("revision {name}"), &*self.secrets);
                    checked.map_err(|errors| Answer::invalid(&errors, |problem| (0, problem.path.clone())))
                };
                let changes = config::diff(&read(found.name(0))?.document, &read(found.name(1))?.document);
                Ok(Answer::json(200, &json!({"changes": named(&changes), "changes_total": changes.len()})))
            }
        }
    }

    fn rollback(
        &mut self,
        call: &Call,
        found: &Found,
        leader: &mut Leader,
        now: Now,
        log: &mut dyn FnMut(Event),
    ) -> Result<Answer, Answer> {
        let held = self.held.as_mut().ok_or_else(not_begun)?;
        if let Some(condition) = &call.if_match
            && !matches(condition, Some(&held.etag(leader.secret())))
        {
            return Err(Problem::Precondition.because("the document is another one than `If-Match` says"));
        }
        let Revision { source, .. } = held.revision(found.name(0))?;
        let checked = config::parse(&source.text(), "revision", &*self.secrets)
            .map_err(|errors| Answer::invalid(&errors, |problem| (0, problem.path.clone())))?;
        let before = std::mem::replace(&mut held.source, source);
        let done = self.commit(call, checked, leader, now, log);
        if done.is_err() || call.flag("dry_run") {
            self.put_back(before);
        }
        let done = done?;
        Ok(self.done(200, &done, call, now))
    }

    /// The document in the body of `call`, as it was written and checked. Where it hides secrets that the live one has,
    /// they are put in.
    fn read_body(&self, call: &Call) -> Result<(Source, Checked), Answer> {
        let text = std::str::from_utf8(&call.body).map_err(|_| Problem::Body.because("the body is not UTF-8"))?;
        let wrong = |errors: config::Errors| Answer::invalid(&errors, |problem| (problem.line, problem.path.clone()));
        let mut value = config::read_value(text, "body").map_err(wrong)?;
        let checked = if text.contains(HIDDEN) {
            let old = self.held.as_ref().map(|held| held.source.value());
            config::restore_document(&mut value, old.as_ref()).map_err(|path| hides(&path))?;
            config::parse(&value.to_string(), "body", &*self.secrets)
                .map_err(|errors| Answer::invalid(&errors, |problem| (0, problem.path.clone())))?
        } else {
            config::parse(text, "body", &*self.secrets).map_err(wrong)?
        };
        let source = Source::new(value).ok_or_else(|| Problem::Body.because("the document is an object"))?;
        Ok((source, checked))
    }

    fn held(&self) -> Result<&Held, Answer> {
        self.held.as_ref().ok_or_else(not_begun)
    }
}

impl Held {
    fn etag(&mut self, secret: [u64; 2]) -> String {
        self.etag.get_or_insert_with(|| etag(secret, &self.source.text())).clone()
    }

    fn revision(&self, name: &str) -> Result<Revision, Answer> {
        let none = || Problem::NotFound.because(format!("there is no revision \"{name}\""));
        let number: u64 = name.parse().map_err(|_| none())?;
        self.revisions.load(number).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => none(),
            _ => unreadable(error),
        })
    }

    fn undo(&mut self, mut steps: Vec<Step>) {
        while let Some(step) = steps.pop() {
            self.source.undo(step.undo);
        }
    }

    /// Changes the source as `call` says.
    fn apply(&mut self, call: &Call, found: &Found, secret: [u64; 2]) -> Result<Step, Answer> {
        let (Some(collection), name) = (found.collection, found.name(0)) else {
            return Err(Problem::Internal.because("a path without a collection"));
        };
        let old = self.source.get(collection, name);
        let tag = old.map(|old| etag(secret, &old.to_string()));
        let fails = call.if_match.as_ref().is_some_and(|condition| !matches(condition, tag.as_deref()))
            || call.if_none_match.as_ref().is_some_and(|condition| matches(condition, tag.as_deref()));
        if fails {
            return Err(Problem::Precondition.because(match &tag {
                Some(_) => format!("\"{name}\" is another one than the condition says"),
                None => format!("there is no \"{name}\""),
            }));
        }
        let created = old.is_none();
        let (value, raw) = match found.endpoint.op {
            Op::Delete => {
                let undo = self.source.remove(collection, name).ok_or_else(|| missing(collection, name))?;
                return Ok(Step { collection, name: name.to_owned(), undo, raw: None, created: false });
            }
            Op::Put => {
                let text =
                    std::str::from_utf8(&call.body).map_err(|_| Problem::Body.because("the body is not UTF-8"))?;
                let mut value = object(text)?;
                let raw = named_as(&mut value, collection, name, text)?;
                (value, Some(raw))
            }
            _ => {
                let patch: Value = serde_json::from_slice(&call.body).map_err(|error| not_json(&error))?;
                let mut value = old.ok_or_else(|| missing(collection, name))?.clone();
                merge(&mut value, &patch);
                if value.get(collection.key()).and_then(Value::as_str) != Some(name) {
                    return Err(Problem::Body.because(format!("`{}` cannot be changed", collection.key())));
                }
                (value, None)
            }
        };
        let mut restored = value;
        let hid = raw.as_ref().is_none_or(|raw| raw.contains(HIDDEN));
        if hid {
            config::restore_resource(&mut restored, old, collection.fields()).map_err(|path| hides(&path))?;
        }
        let undo = self.source.put(collection, name, restored);
        Ok(Step { collection, name: name.to_owned(), undo, raw: raw.filter(|_| !hid), created })
    }

    /// The source checked; the problems of the one resource that was written have the lines of its body.
    fn check(&self, steps: &[Step], secrets: &dyn Secrets) -> Result<Checked, Answer> {
        let [Step { collection, name, raw: Some(raw), .. }] = steps else {
            return config::parse(&self.source.text(), "document", secrets)
                .map_err(|errors| Answer::invalid(&errors, |problem| (0, problem.path.clone())));
        };
        let lines = raw.lines().count() as u32 + 1;
        let place = self.source.index(*collection, name).unwrap_or(usize::MAX);
        let prefix = format!("{}[{place}]", collection.name());
        config::parse(&self.source.spliced(*collection, name, raw), "body", secrets).map_err(|errors| {
            Answer::invalid(&errors, |problem| {
                let line = if (2..=lines).contains(&problem.line) { problem.line - 1 } else { 0 };
                let path = match problem.path.strip_prefix(&prefix) {
                    Some(inner) if line > 0 => inner.trim_start_matches('.').to_owned(),
                    _ => problem.path.clone(),
                };
                (line, path)
            })
        })
    }
}

/// The calls of a batch: `{"calls": [{"method", "path", "body", "if_match"}]}`.
fn calls(call: &Call) -> Result<Vec<Call>, Answer> {
    let batch: Value = serde_json::from_slice(&call.body).map_err(|error| not_json(&error))?;
    let form = || Problem::Body.because("must be {\"calls\": [{\"method\", \"path\", \"body\", \"if_match\"}]}");
    let list = batch.get("calls").and_then(Value::as_array).ok_or_else(form)?;
    if batch.as_object().is_some_and(|fields| fields.len() > 1) {
        return Err(form());
    }
    if list.is_empty() || list.len() > BATCH_MAX {
        return Err(Problem::Body.because(format!("a batch has 1 to {BATCH_MAX} calls")));
    }
    let read = |one: &Value| {
        let text = |name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
        let method = text("method")?;
        let known = ["method", "path", "body", "if_match", "if_none_match"];
        if one.as_object()?.keys().any(|name| !known.contains(&name.as_str())) {
            return None;
        }
        let content_type = match method.as_str() {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        Some(Call {
            path: text("path")?,
            if_match: text("if_match"),
            if_none_match: text("if_none_match"),
            content_type: content_type.to_owned(),
            body: one.get("body").map(|body| body.to_string().into_bytes()).unwrap_or_default(),
            method,
            ..Call::default()
        })
    };
    let read = |(index, one): (usize, &Value)| read(one).ok_or_else(|| within(form(), index));
    list.iter().enumerate().map(read).collect()
}

/// The answer with the call of the batch that it is about.
fn within(mut answer: Answer, index: usize) -> Answer {
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(&answer.body) {
        let detail = fields.get("detail").and_then(Value::as_str).unwrap_or_default();
        fields.insert("detail".to_owned(), format!("calls[{index}]: {detail}").into());
        answer.body = format!("{}\n", Value::Object(fields)).into_bytes();
    }
    answer
}

fn object(text: &str) -> Result<Value, Answer> {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(Problem::Body.because("a resource is an object")),
        Err(error) => Err(not_json(&error)),
    }
}

/// Gives the resource the name that the path has, where its body has none; the text with it.
fn named_as(value: &mut Value, collection: Collection, name: &str, text: &str) -> Result<String, Answer> {
    let key = collection.key();
    match value.get(key) {
        Some(Value::String(other)) if other == name => return Ok(text.to_owned()),
        Some(_) => {
            return Err(Problem::Body.because(format!("`{key}` must be \"{name}\", as in the path, or left out")));
        }
        None => {}
    }
    let Some(fields) = value.as_object_mut() else { return Err(Problem::Body.because("a resource is an object")) };
    let comma = if fields.is_empty() { "" } else { "," };
    fields.insert(key.to_owned(), name.into());
    let field = format!("{{\"{key}\":{}{comma}", Value::from(name));
    Ok(text.replacen('{', &field, 1))
}

/// What the tree has.
fn live(leader: &Leader) -> Result<Document, Answer> {
    let sight = leader.sight().ok_or_else(|| Problem::Internal.because("no document is live"))?;
    sight.document().map_err(|error| Problem::Internal.because(error.to_string()))
}

fn named(changes: &[Change]) -> Vec<Value> {
    changes.iter().take(CHANGES_MAX).map(Change::to_json).collect()
}

fn told(warnings: &[config::Problem]) -> Vec<Value> {
    warnings.iter().map(|one| entry(0, 0, &one.path, &one.message)).collect()
}

fn not_json(error: &serde_json::Error) -> Answer {
    Problem::Body.with(
        format!("the body is not JSON: {error}"),
        json!([entry(error.line() as u32, error.column() as u32, "", &error.to_string())]),
    )
}

fn hides(path: &str) -> Answer {
    let message = format!("`{HIDDEN}` stands for a secret that there is not: write a reference to it, or its value");
    Problem::Invalid.with(format!("{path}: {message}"), json!([entry(0, 0, path, &message)]))
}

fn unreadable(error: std::io::Error) -> Answer {
    Problem::Storage.because(format!("the revisions cannot be read: {error}"))
}

fn not_begun() -> Answer {
    Problem::Internal.because("no revision could be taken up: the error log says why")
}
