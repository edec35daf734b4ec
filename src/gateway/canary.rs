//! The step that chooses among a route's variants: after everything that may refuse a request, since it needs to know
//! the caller, and before the breaker, which is that of the upstream that it chooses.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::access::enter;
use super::caller::Callers;
use super::complete::Outcome;
use super::decision::Reply;
use super::explain::{Recorder, Step, tell};
use super::object::{ArchivedCanary, Upstream};
use super::ticket::Ticket;
use crate::auth::{Auth, cookies};
use crate::canary::{ArchivedKey, Rule, State, Who, bucket, overridden, place, with_live};
use crate::state::tables::shards::Shard;
use crate::state::{Blob, View};
use crate::types::{Now, Reason, Request};

/// What a choice is made of.
pub(super) struct Choice<'a, 'v, R> {
    pub view: &'v View<'v>,
    pub canary: &'v ArchivedCanary,
    /// The words that live beside the route.
    pub words: Option<&'v [AtomicU64]>,
    pub request: &'a R,
    pub callers: &'a Callers,
    /// The entry that knows the caller.
    pub auth: Option<&'a Blob<'v, Auth>>,
}

impl<'v, R: Request> Choice<'_, 'v, R> {
    /// The upstream of the variant that serves the request; variant and upstream go into the ticket.
    pub fn make(&self, ticket: &mut Ticket, recorder: &mut impl Recorder) -> Result<Option<Blob<'v, Upstream>>, Reply> {
        let (index, rule) = self.choose(ticket);
        let variant = self.canary.variants.get(index).ok_or(Reply::new(Reason::Internal))?;
        match rule {
            Rule::Header => tell!(recorder, Step::Canary, "variant \"{}\", as the header says", variant.name),
            Rule::Cookie => tell!(recorder, Step::Canary, "variant \"{}\", as the cookie says", variant.name),
            Rule::User => tell!(recorder, Step::Canary, "variant \"{}\", as the user is on the list", variant.name),
            Rule::Share(bucket) => {
                tell!(recorder, Step::Canary, "variant \"{}\" by share, bucket {bucket} of 10000", variant.name);
            }
        }
        ticket.variant = variant.key.to_native();
        ticket.names.variant.set(variant.name.as_bytes());
        enter(self.view, variant.upstream.id(), &variant.timeouts, Some(&variant.retries), ticket)
    }

    #[inline]
    fn choose(&self, ticket: &Ticket) -> (usize, Rule) {
        let ArchivedCanary { variants, rules, .. } = self.canary;
        let user = self.user(ticket);
        if let Some(overrides) = rules.overrides.as_ref() {
            let header = overrides.header.as_ref().and_then(|mark| self.header(&mark.name));
            let cookie = overrides.cookie.as_ref().and_then(|mark| self.cookie(&mark.name));
            let named = |name: &[u8]| variants.iter().position(|variant| variant.name.as_bytes() == name);
            let chosen = overridden(overrides, header, cookie, user, named, variants.len().saturating_sub(1));
            if let Some(chosen) = chosen.filter(|_| self.may_choose(ticket)) {
                return chosen;
            }
        }
        let name = match &rules.key {
            ArchivedKey::User => user.map(str::as_bytes),
            ArchivedKey::Ip => None,
            ArchivedKey::Header(name) => self.header(name),
            ArchivedKey::Cookie(name) => self.cookie(name),
        };
        let who = name.map_or_else(|| Who::Address(self.request.client()), Who::Name);
        let [low, high] = rules.salt.key;
        let bucket = bucket([low.to_native(), high.to_native()], who);
        let weights = variants.iter().map(|variant| u64::from(variant.weight.to_native()));
        let live = self.words.and_then(<[_]>::first).and_then(|word| State::live(word.load(Relaxed)));
        let index = match live {
            None => place(bucket, weights),
            Some(share) => place(bucket, with_live(weights, share)),
        };
        (index, Rule::Share(bucket))
    }

    /// The token's subject, else the consumer.
    fn user<'t>(&'t self, ticket: &'t Ticket) -> Option<&'t str> {
        self.auth?;
        let user = self.callers.claims().subject().unwrap_or_else(|| ticket.consumer());
        (!user.is_empty()).then_some(user)
    }

    fn may_choose(&self, ticket: &Ticket) -> bool {
        let Some(permission) = self.canary.permission.as_ref() else { return true };
        self.auth.is_some_and(|auth| self.callers.permits(self.view, auth, ticket, permission))
    }

    /// A header that comes several times says nothing.
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.request.header(name.as_bytes()).one()
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let line = self.request.header(b"cookie").one()?;
        cookies(line).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }
}

/// Counts how a request with a variant ended: as its client saw it, after all tries. Who leaves before there is an answer
/// has waited at least so long; a refusal of ours says nothing of the variant, unless it was the upstream that had to be
/// spared or was not there.
pub(super) fn count(shard: Shard<'_>, ticket: &Ticket, outcome: &Outcome, now: Now) {
    let blames_variant = |reason| {
        use Reason::{BreakerOpen, UpstreamFailed, UpstreamGone, UpstreamNone, UpstreamTimeout};
        matches!(reason, BreakerOpen | UpstreamNone | UpstreamGone | UpstreamFailed | UpstreamTimeout)
    };
    // In shadow mode somebody else serves it.
    if ticket.shadow || ticket.refused.is_some_and(|reason| !blames_variant(reason)) {
        return;
    }
    // What somebody else answered in its place was none of its successes.
    if ticket.fallen.is_some() {
        return shard.variant(ticket.route, ticket.variant, None);
    }
    let status = if outcome.upstream_status == 0 { outcome.status } else { outcome.upstream_status };
    if !outcome.aborted && (status >= 500 && status != 501) {
        return shard.variant(ticket.route, ticket.variant, None);
    }
    if ticket.sent != 0 {
        let end = if ticket.answered == 0 { now.mono } else { ticket.answered };
        shard.variant(ticket.route, ticket.variant, Some(end.saturating_sub(ticket.sent)));
    }
}
