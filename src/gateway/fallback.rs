//! Where an upstream cannot serve: its breaker is open, it is overloaded, it has no peer, no try has come to an answer. Then its route's
//! `fallback` says what the client gets, and without one the refusal is the answer.
//!
//! Whoever refuses because of an upstream while it is entered returns the refusal from `enter_upstream`; all of them
//! meet in [`Worker::fall_back`], and none knows what becomes of it. Later, in the tries, an upstream that has nothing
//! left gives way to the other one inside [`Worker::pick`]; what the tries of that one come to is the end, so there is
//! no chain. An answer of the route is asked for by the adapter with [`Worker::failed`], instead of the 502 or 504 that
//! it would make.

use super::decision::{Reply, Respond};
use super::explain::{Recorder, Silent, Step, tell};
use super::object::{ArchivedFallback, ArchivedRoute, Route, Upstream};
use super::ticket::Ticket;
use super::worker::{Out, Worker};
use crate::balancer::{PickTable, Tried};
use crate::router::settings::ArchivedStaticReply;
use crate::state::{Blob, Region, View};
use crate::types::{Id, Now, Reason};

/// What is left for a request whose upstream cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resort {
    /// Nothing: the refusal is the answer.
    None,
    /// The route has an answer.
    Reply,
    /// Another upstream serves.
    Upstream(Id),
    /// The server's cache may have something.
    Stale,
}

impl Ticket {
    /// Takes up what the route has for a request; an answer means nothing to a gRPC client.
    #[cold]
    pub(super) fn resort_to(&mut self, fallback: &ArchivedFallback, is_grpc: bool) {
        self.resort = match fallback {
            ArchivedFallback::Reply(_) if is_grpc => Resort::None,
            ArchivedFallback::Reply(_) => Resort::Reply,
            ArchivedFallback::Upstream(id) => Resort::Upstream(id.id()),
            ArchivedFallback::Stale => Resort::Stale,
        };
    }

    /// Whether another upstream serves once this one has nothing left.
    #[must_use]
    pub fn has_alternate(&self) -> bool {
        matches!(self.resort, Resort::Upstream(_))
    }

    /// Whether [`Worker::failed`] knows better than a 502 or 504 should all tries fail.
    #[must_use]
    pub fn has_last_word(&self) -> bool {
        self.resort == Resort::Reply || self.barred.is_some()
    }

    /// Whether the server's cache may answer with what is stale, should all tries fail.
    #[must_use]
    pub fn takes_stale(&self) -> bool {
        self.resort == Resort::Stale
    }

    /// The upstream has had its tries: the next [`Worker::pick`] is for the other one.
    pub fn give_up(&mut self) {
        self.allowed = self.tries;
    }
}

impl Worker {
    /// What becomes of a request that its upstream refused with `refusal`: nothing was sent yet.
    #[cold]
    #[allow(clippy::too_many_arguments, reason = "the parts of a worker are borrowed one by one")]
    pub(super) fn fall_back(
        region: &Region,
        view: &View<'_>,
        route: &ArchivedRoute,
        refusal: Reply,
        now: Now,
        ticket: &mut Ticket,
        out: &mut Out,
        recorder: &mut impl Recorder,
    ) -> Result<Option<Respond>, Reply> {
        match ticket.resort {
            Resort::None => return Err(refusal),
            Resort::Reply => {
                let Some(ArchivedFallback::Reply(reply)) = fallback_of(route, ticket) else { return Err(refusal) };
                Self::cancel(region, view, ticket);
                out.path.clear();
                out.request.clear();
                last_word(reply, &refusal, out);
                tell!(
                    recorder,
                    Step::Fallback,
                    "{}: {} with {} bytes",
                    refusal.reason.code(),
                    out.status,
                    out.body.len()
                );
                ticket.fallen = Some(refusal.reason);
                ticket.resort = Resort::None;
                return Ok(Some(Respond::Route));
            }
            Resort::Upstream(id) => {
                Self::divert(region, view, refusal, now, ticket).inspect_err(|_| {
                    tell!(recorder, Step::Fallback, "the other upstream cannot serve either");
                })?;
                if let Some(upstream) = view.object::<Upstream>(id) {
                    Self::earn(region, &upstream, ticket);
                }
                tell!(recorder, Step::Fallback, "{}: upstream \"{}\"", refusal.reason.code(), ticket.upstream_name());
            }
            Resort::Stale => {
                Self::cancel(region, view, ticket);
                ticket.barred = Some(refusal);
                tell!(recorder, Step::Fallback, "{}: what the cache still has", refusal.reason.code());
                ticket.fallen = Some(refusal.reason);
            }
        }
        Ok(None)
    }

    /// As [`Worker::fall_back`], of a request that has met the cache first: what the route answers is said in the end, and
    /// until then the cache may have something.
    #[cold]
    pub(super) fn turn_away(
        region: &Region,
        view: &View<'_>,
        refusal: Reply,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<(), Reply> {
        if let Resort::Upstream(id) = ticket.resort
            && Self::divert(region, view, refusal, now, ticket).is_ok()
        {
            if let Some(upstream) = view.object::<Upstream>(id) {
                Self::earn(region, &upstream, ticket);
            }
            return Ok(());
        }
        Self::cancel(region, view, ticket);
        ticket.barred = Some(refusal);
        Err(refusal)
    }

    /// Turns to the other upstream, once; `refusal` where there is none, or where it cannot serve either. What the first
    /// one's breaker is to hear of it is said now, as the end of the request belongs to the other.
    #[cold]
    pub(super) fn divert(
        region: &Region,
        view: &View<'_>,
        refusal: Reply,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<(), Reply> {
        let has_tried = ticket.tries > 0;
        if !has_tried {
            Self::cancel(region, view, ticket);
        }
        let Resort::Upstream(id) = ticket.resort else { return Err(refusal) };
        ticket.resort = Resort::None;
        Self::judge(region, view, ticket, false, now);
        let upstream = view.object::<Upstream>(id).filter(|upstream| !upstream.peers.is_empty()).ok_or(refusal)?;
        let table = table(view, &upstream).map(|table| table.under(upstream.policy.get()).keyed(ticket.key));
        if upstream.policy.max_in_flight != 0
            && table.is_some_and(|table| table.is_busy(&Self::peers(region), now.mono))
        {
            return Err(refusal);
        }
        if let Some(overload) = upstream.overload.as_ref().filter(|overload| overload.key != 0) {
            Self::shed(region, view, overload, ticket, &mut Silent).map_err(|_| refusal)?;
        }
        Self::permit(region, &upstream, now, ticket).map_err(|_| refusal)?;
        ticket.goes_to(&upstream);
        (ticket.tries, ticket.stale, ticket.table, ticket.tried) = (0, false, 0, Tried::new());
        ticket.fallen = Some(if has_tried { Reason::UpstreamFailed } else { refusal.reason });
        Ok(())
    }

    /// All tries have failed, and the client would be sent `status`, 502 or 504. What it gets instead can be read from
    /// the worker as for [`super::Decision::Respond`]; else it is refused. To be asked where [`Ticket::has_last_word`].
    ///
    /// # Errors
    /// The refusal.
    pub fn failed(&mut self, ticket: &mut Ticket, status: u16) -> Result<Respond, Reply> {
        self.out.clear();
        let reason = match (status, ticket.tries) {
            (_, 0) => Reason::UpstreamNone,
            (504, _) => Reason::UpstreamTimeout,
            _ => Reason::UpstreamFailed,
        };
        let refusal = ticket.barred.unwrap_or(Reply::new(reason));
        if ticket.resort == Resort::Reply
            && let Some(view) = self.reader.enter()
            && let Some(route) = view.object::<Route>(ticket.route)
            && let Some(ArchivedFallback::Reply(reply)) = fallback_of(&route, ticket)
        {
            last_word(reply, &refusal, &mut self.out);
            ticket.fallen = Some(refusal.reason);
            return Ok(Respond::Route);
        }
        ticket.refused = Some(refusal.reason);
        Err(refusal)
    }
}

fn table<'v>(view: &'v View<'_>, upstream: &Blob<'v, Upstream>) -> Option<PickTable<'v>> {
    view.pick_table(upstream).and_then(|words| PickTable::new(words, upstream.peers.len() as u32))
}

/// What the route has for a request whose upstream cannot serve; with a canary, what its variant has.
#[inline]
pub(super) fn fallback_of<'r>(route: &'r ArchivedRoute, ticket: &Ticket) -> Option<&'r ArchivedFallback> {
    match route.canary.as_deref() {
        None => route.fallback.as_deref(),
        Some(canary) => {
            let variant = canary.variants.iter().find(|variant| variant.key.to_native() == ticket.variant)?;
            variant.fallback.as_deref()
        }
    }
}

/// Writes the route's answer; when to come back is said where the refusal would say so.
fn last_word(reply: &ArchivedStaticReply, refusal: &Reply, out: &mut Out) {
    out.reply(reply);
    let is_said = reply.headers.iter().any(|line| line.0.eq_ignore_ascii_case("retry-after"));
    if refusal.retry_after > 0 && out.status == 503 && !is_said {
        out.answer.push(b"Retry-After", &[refusal.retry_after.to_string().as_bytes()]);
    }
}
