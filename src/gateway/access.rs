//! `access`: the order of one request, in one place.
//!
//! bans -> path and host -> route (or the one that the place names) -> the route's lists of addresses -> CORS -> limits
//! that need no identity -> auth -> permissions -> limits keyed by identity -> canary -> the route's own answer, or what
//! is forwarded -> breaker.

use super::cache;
use super::caller::{Callers, challenge};
use super::canary::Choice;
use super::decision::{Answer, Decision, Halt, Question, Reply, Respond};
use super::explain::{Recorder, Silent, Step, tell};
use super::fallback::{Resort, fallback_of};
use super::hash_key::Source;
use super::limit::Limits;
use super::object::{ArchivedAddresses, ArchivedRoute, Route, Upstream};
use super::promote::live_words;
use super::route::{Asked, parameter};
use super::ticket::{Passed, Stage, Ticket};
use super::worker::{Out, Worker};
use crate::auth::Auth;
use crate::balancer::{Algorithm, ArchivedRetries, ArchivedTimeouts, PickTable, RetryOn, Timeouts};
use crate::cors::{ArchivedCors, Preflight};
use crate::lists::{Bans, Set};
use crate::router::settings::ArchivedAnswer;
use crate::router::template::{Place, render};
use crate::router::{host, path};
use crate::state::{Blob, Captures, Lookup, View};
use crate::types::{Id, Now, Protocol, Reason, Request, SECOND};

/// In which role a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// For the first time.
    First,
    /// Again, after an internal redirect: routed anew. No limiter is asked twice; one that only the new route names is
    /// asked now, so that a redirect is no way around it.
    Again,
    /// As a subrequest of one that passed what is given: routed, and refused where its route needs more.
    Subrequest(Passed),
}

impl Worker {
    /// Decides on a request. What the later calls need goes into `ticket`; identity headers and the path to forward
    /// can be read from the worker until its next `access`.
    pub fn access(&mut self, request: &impl Request, entry: Entry, now: Now, ticket: &mut Ticket) -> Decision {
        self.access_with(request, entry, now, ticket, &mut Silent)
    }

    /// What is to be found out for the request that [`Decision::Ask`] was just said of; `None` where that is under way
    /// for another request.
    pub fn question(&mut self) -> Option<Question> {
        self.callers.question()
    }

    /// Keeps an answer for all requests to come. Once for each question, also when nobody waits for it any more: so many
    /// may be open at once.
    pub fn learn(&mut self, answer: Answer, now: Now) {
        match answer {
            Answer::Password(answer) => self.callers.logins.end(answer, now.mono),
        }
    }

    /// Decides on a request that has waited for `answer`; from the start, as routes may have changed meanwhile, but no
    /// limiter is asked twice. The other arguments are those of [`Worker::access`].
    pub fn resume(&mut self, answer: Answer, request: &impl Request, now: Now, ticket: &mut Ticket) -> Decision {
        self.resume_with(answer, request, now, ticket, &mut Silent)
    }

    /// [`Worker::resume`], telling `recorder` what happens.
    pub fn resume_with(
        &mut self,
        answer: Answer,
        request: &impl Request,
        now: Now,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Decision {
        let Answer::Password(login) = answer;
        self.callers.logins.lay(Some(login));
        let decision = self.access_with(request, Entry::Again, now, ticket, recorder);
        self.callers.logins.lay(None);
        decision
    }

    /// [`Worker::access`], telling `recorder` what happens.
    pub fn access_with(
        &mut self,
        request: &impl Request,
        entry: Entry,
        now: Now,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Decision {
        self.callers.forget();
        self.out.clear();
        self.begin(request, entry, now, ticket);
        let decided = self.decide(request, entry, now, ticket, recorder);
        if !matches!(decided, Ok(None | Some(Respond::Route))) {
            Self::leave(&self.region, ticket);
        }
        match decided {
            Ok(None) => {
                ticket.stage = Stage::Forwarded;
                Decision::Forward
            }
            Ok(Some(respond)) => {
                ticket.stage = Stage::Forwarded;
                ticket.responded = true;
                Decision::Respond(respond)
            }
            Err(Halt::Reply(reply)) => {
                ticket.awaited.clear();
                ticket.stage = Stage::Refused;
                ticket.refused = Some(reply.reason);
                Decision::Reply(reply)
            }
            Err(Halt::Ask(ask)) => {
                ticket.stage = Stage::Asking;
                Decision::Ask(ask)
            }
        }
    }

    fn begin(&mut self, request: &impl Request, entry: Entry, now: Now, ticket: &mut Ticket) {
        if entry == Entry::Again {
            // What the first look reserved for its own upstream is not used.
            self.cancel_permit(ticket);
            Self::unload(&self.region, ticket);
            if let Some(attempt) = ticket.attempt.take() {
                Self::peers(&self.region).finished(attempt.peer);
            }
        }
        ticket.restart(request.method(), self.reader.slot());
        ticket.shadow = request.terms().shadow;
        if entry != Entry::Again {
            ticket.started = now.mono;
        }
        if entry == Entry::First {
            ticket.counted = true;
            if let Some(shard) = Self::shard(&self.region, self.reader.slot()) {
                shard.connected();
            }
        }
    }

    fn decide<R: Recorder>(
        &mut self,
        request: &impl Request,
        entry: Entry,
        now: Now,
        ticket: &mut Ticket,
        recorder: &mut R,
    ) -> Result<Option<Respond>, Halt> {
        let Self { region, reader, callers, common, expressions, out, rng, .. } = self;
        let view = reader.enter().ok_or(Reply::new(Reason::PolicyNone))?;
        common.follow(&view);
        if let Some(bans) = common.bans {
            banned(&view, bans, request, now, recorder)?;
        }

        path::check(request.path(), request.target()).map_err(Reply::new)?;
        let mut buffer = [0; 256];
        let host = host::normalise(request.host(), &mut buffer).map_err(Reply::new)?;
        let mut asked = Asked { request, host, expressions };
        let named = request.terms().route;
        if let Some(preflight) = Preflight::of(request)
            && let Some(route) = match named {
                None => asked.find_preflight(&view.tree(), &preflight).and_then(|found| found.object::<Route>()),
                Some(name) => view.named::<Route>(name),
            }
            && let Some(cors) = route.get().cors.as_ref()
        {
            ticket.routed(&route);
            admit(&view, &route, request, recorder)?;
            answer_preflight(cors, &preflight, &route, out, recorder);
            return Ok(Some(Respond::Preflight));
        }
        let mut captures = Captures::default();
        let (route, rule) = match named {
            None => matched(&view, &mut asked, &mut captures, recorder)?,
            Some(name) => named_route(&view, name, &mut asked, &mut captures, recorder)?,
        };
        ticket.routed(&route);
        if route.strict {
            path::check_strict(request.path(), request.target()).map_err(Reply::new)?;
        }
        admit(&view, &route, request, recorder)?;
        if let Some(cors) = route.cors.as_ref() {
            ticket.cors = true;
            cors.answer(request.header(b"origin"), &mut |name, pieces| out.response.push(name.as_bytes(), pieces));
        }
        let mut upstream = match route.canary.as_ref() {
            // Which one it is hangs on who the caller is.
            Some(_) => Ok(None),
            // Whether it can serve is said to those whom it concerns: who may come.
            None => enter(&view, route.upstream.id(), &route.timeouts, Some(&route.retries), ticket),
        };
        let spoken = route.protocols.get(request.protocol() as usize).copied().unwrap_or(false);
        if !spoken {
            return Err(Reply::new(Reason::ProtocolRefused).into());
        }

        if let Some(most) = route.max_body.as_ref().map(|most| most.to_native()) {
            // Of a body without a length the adapter counts the bytes as they come.
            ticket.max_body = most;
            if request.content_length().is_some_and(|length| length > most) {
                tell!(recorder, Step::Access, "the body is larger than {most} bytes");
                return Err(Reply::new(Reason::BodyTooLarge).into());
            }
        }
        ticket.elsewhere = route.location.is_some();

        let matched = Matched { request, route: route.get(), rule, captures: &captures };
        let guarded = match entry {
            Entry::Subrequest(passed) => subrequest(&route, passed).map_err(Halt::from).map(|()| None),
            Entry::First | Entry::Again => {
                let limits = Limits { region, view: &view, request, route: &route, rule, captures: &captures, now };
                guard(&view, &route, &limits, callers, ticket, recorder)
            }
        };
        let choice = |auth| {
            let canary = route.get().canary.as_ref()?;
            Some(Choice { view: &view, canary, words: live_words(&route), request, callers, auth })
        };
        let auth = match guarded {
            Ok(auth) => auth,
            Err(halt) => {
                // With `satisfy any` another module may let it in all the same; then it goes the same way.
                if let Halt::Reply(_) = halt {
                    if let Some(choice) = choice(None) {
                        // Whether it can serve matters once the request is let in.
                        let _ = choice.make(ticket, &mut Silent);
                    }
                    matched.prepare(out, &mut Silent)?;
                }
                return Err(halt);
            }
        };
        if let Some(choice) = choice(auth.as_ref()) {
            // A copy is made of what is let in, once.
            if choice.canary.mirror.is_some() && !ticket.shadow && !matches!(entry, Entry::Subrequest(_)) {
                ticket.mirrored = rng.below(10_000) < u32::from(choice.canary.mirror_share.to_native());
                tell!(recorder, Step::Canary, "a copy is {}made", if ticket.mirrored { "" } else { "not " });
            }
            upstream = choice.make(ticket, recorder);
        }
        matched.prepare(out, recorder)?;
        if route.answer.is_some() {
            return Ok(Some(Respond::Route));
        }
        // A subrequest passes on the word of its main request: who is behind it is not known here, so what only some may
        // see is neither kept for it nor given to it.
        let unknown = matches!(entry, Entry::Subrequest(_)) && !route.auth.is_empty();
        if let Some(cached) = route.cache.as_ref().filter(|_| !unknown && !ticket.shadow) {
            let asked = cache::Asked { region, view: &view, request, route: &route, host };
            asked.enter(cached, callers, out, ticket, recorder);
        }
        let Some(upstream) = upstream.transpose() else { return Ok(None) };
        if let Some(fallback) = fallback_of(&route, ticket)
            && !ticket.shadow
        {
            ticket.resort_to(fallback, request.protocol() == Protocol::Grpc);
        }
        let key = |upstream: &Blob<'_, Upstream>, ticket: &Ticket| {
            let claims = auth.is_some().then(|| callers.claims());
            let source = Source { request, route: route.get(), rule, captures: &captures, claims };
            source.key(&upstream.hash_on, ticket)
        };
        if let Ok(upstream) = &upstream
            && !upstream.hash_on.is_empty()
        {
            ticket.key = key(upstream, ticket);
        } else if let Resort::Upstream(id) = ticket.resort
            && let Some(other) = view.object::<Upstream>(id).filter(|other| !other.hash_on.is_empty())
        {
            // Of two that both hash, the other goes by the key of the first: it tells callers apart as well.
            ticket.key = key(&other, ticket);
        }
        if ticket.cache.is_some() && upstream.is_ok() {
            // What the cache answers needs no upstream, and takes no probe's place.
            ticket.put_off = true;
            tell!(recorder, Step::Breaker, "asked where the cache has no answer");
            return Ok(None);
        }
        let entered =
            upstream.and_then(|upstream| Self::enter_upstream(region, &view, &upstream, now, ticket, recorder));
        match entered {
            Ok(()) => Ok(None),
            Err(refusal) => Ok(Self::fall_back(region, &view, &route, refusal, now, ticket, out, recorder)?),
        }
    }

    /// Asks the breaker and earns a piece of the retry budget; the last step, so that nothing is taken for a request
    /// that another step refuses. What is refused here is refused because of the upstream: the route may have a fallback.
    pub(super) fn enter_upstream(
        region: &crate::state::Region,
        view: &View<'_>,
        upstream: &Blob<'_, Upstream>,
        now: Now,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        if let Some(overload) = upstream.overload.as_ref().filter(|overload| overload.key != 0) {
            Self::shed(region, view, overload, ticket, recorder)?;
        }
        let table = view
            .pick_table(upstream)
            .and_then(|words| PickTable::new(words, upstream.peers.len() as u32))
            .map(|table| table.under(upstream.policy.get()).keyed(ticket.key));
        if let Some(table) = table {
            if upstream.policy.max_in_flight != 0 && table.is_busy(&Self::peers(region), now.mono) {
                tell!(
                    recorder,
                    Step::Balancer,
                    "each of {} nodes has {} in flight",
                    upstream.peers.len(),
                    upstream.policy.max_in_flight
                );
                return Err(Reply::later(Reason::UpstreamBusy, SECOND));
            }
            if recorder.listens() {
                tell_peers(upstream, table, recorder);
            }
        }
        if ticket.shadow {
            return shadow_breaker(region, upstream, now, recorder);
        }
        match Self::permit(region, upstream, now, ticket) {
            Ok(None) => {}
            Ok(Some(_)) => tell!(recorder, Step::Breaker, "lets it through"),
            Err(refused) => {
                tell!(recorder, Step::Breaker, "open for {} more µs", refused.retry_after);
                return Err(Reply::later(Reason::BreakerOpen, refused.retry_after));
            }
        }
        super::ejection::explain(region, upstream, now, recorder);
        if recorder.takes() {
            Self::earn(region, upstream, ticket);
        }
        Ok(())
    }

    /// Earns a piece of the retry budget, and sees whether there is one.
    pub(super) fn earn(region: &crate::state::Region, upstream: &Blob<'_, Upstream>, ticket: &mut Ticket) {
        if !ticket.server_retries
            && let Some(shared) = Self::shared(region, upstream)
        {
            let budget = shared.retries();
            budget.request(ticket.retry_budget);
            // Decided now, not when a try has failed: a response that is not tried again goes to the client whole.
            if !budget.has_retry() {
                ticket.offered = 1;
            }
        }
    }
}

/// The route that matches the request, and by which of its rules.
#[inline]
fn matched<'v, Q: Request, R: Recorder>(
    view: &'v View<'_>,
    asked: &mut Asked<'_, Q>,
    captures: &mut Captures,
    recorder: &mut R,
) -> Result<(Blob<'v, Route>, u32), Reply> {
    let found = asked.find(&view.tree(), captures);
    if R::LISTENS {
        asked.tell(&view.tree(), recorder);
    }
    let (route, rule) = match found {
        Lookup::Found(found) => (found.object::<Route>().ok_or(Reply::new(Reason::Internal))?, u32::from(found.rule())),
        Lookup::MethodNotAllowed(allow) => {
            tell!(recorder, Step::Route, "routes match, but none for {}", asked.request.method().name());
            return Err(Reply { allow, ..Reply::new(Reason::RouteMethod) });
        }
        Lookup::None => {
            tell!(recorder, Step::Route, "no route matches");
            return Err(Reply::new(Reason::RouteNone));
        }
    };
    tell!(recorder, Step::Route, "route \"{}\", rule {rule}", route.name());
    Ok((route, rule))
}

/// The route that the request's place names, whatever it would match. Parameters and prefixes are known where the
/// request is one that the route would take by host and path; elsewhere there are none, and no rule has the number that
/// is given then.
#[cold]
fn named_route<'v>(
    view: &'v View<'_>,
    name: &str,
    asked: &mut Asked<'_, impl Request>,
    captures: &mut Captures,
    recorder: &mut impl Recorder,
) -> Result<(Blob<'v, Route>, u32), Reply> {
    let Some(route) = view.named::<Route>(name) else {
        tell!(recorder, Step::Route, "there is no route \"{name}\", which this place names");
        return Err(Reply::new(Reason::RouteGone));
    };
    let wants_rule = !route.strip.is_empty() || route.parameters.iter().any(|names| !names.is_empty());
    let rule = wants_rule.then(|| asked.find_rule(&view.tree(), &route, captures)).flatten();
    tell!(recorder, Step::Route, "route \"{name}\", which this place names");
    Ok((route, rule.map_or(u32::MAX, u32::from)))
}

/// Says what the breaker would, and takes nothing: where the request goes is not for it to judge.
#[cold]
fn shadow_breaker(
    region: &crate::state::Region,
    upstream: &Blob<'_, Upstream>,
    now: Now,
    recorder: &mut impl Recorder,
) -> Result<(), Reply> {
    if super::worker::breaker_state(region, upstream, now) == Some(crate::breaker::State::Open) {
        tell!(recorder, Step::Breaker, "open");
        return Err(Reply::later(Reason::BreakerOpen, SECOND));
    }
    Ok(())
}

/// Says how a node will be chosen; which one is known in advance only where the request's key decides.
fn tell_peers(upstream: &Blob<'_, Upstream>, table: PickTable<'_>, recorder: &mut impl Recorder) {
    let (name, word, peers) = (upstream.name(), table.policy().algorithm.word(), upstream.peers.len());
    match table.home().and_then(|home| upstream.peers.get(home as usize)) {
        Some(peer) => tell!(recorder, Step::Balancer, "\"{name}\": {word} gives its key to {}", peer.name),
        None if table.policy().algorithm == Algorithm::Hash => {
            tell!(recorder, Step::Balancer, "\"{name}\": no key to hash, so round_robin among {peers} nodes");
        }
        None => tell!(recorder, Step::Balancer, "\"{name}\": {word} among {peers} nodes"),
    }
}

/// The upstream with `id`; what the tries need goes into the ticket.
#[inline]
pub(super) fn enter<'v>(
    view: &'v View<'_>,
    id: Id,
    timeouts: &ArchivedTimeouts,
    retries: Option<&ArchivedRetries>,
    ticket: &mut Ticket,
) -> Result<Option<Blob<'v, Upstream>>, Reply> {
    if !id.is_some() {
        return Ok(None);
    }
    ticket.upstream = id;
    ticket.timeouts = Timeouts {
        connect: timeouts.connect.to_native(),
        send: timeouts.send.to_native(),
        read: timeouts.read.to_native(),
    };
    let upstream = view.object::<Upstream>(id);
    match retries {
        None => {
            ticket.server_retries = true;
            let peers = upstream.as_ref().map_or(0, |upstream| upstream.peers.len());
            ticket.allowed = u8::try_from(peers).unwrap_or(u8::MAX);
        }
        Some(ArchivedRetries { attempts, on, idempotent_only, budget, per_try, .. }) => {
            ticket.allowed = *attempts;
            ticket.retry_on = RetryOn { error: on.error, timeout: on.timeout, statuses: on.statuses };
            ticket.idempotent_only = *idempotent_only;
            ticket.per_try = per_try.to_native();
            ticket.retry_budget = budget.to_native();
        }
    }
    let upstream = upstream.ok_or(Reply::new(Reason::UpstreamGone))?;
    ticket.goes_to(&upstream);
    if upstream.peers.is_empty() {
        // Its names do not resolve; the next look at the document may find addresses.
        return Err(Reply::later(Reason::UpstreamNone, SECOND));
    }
    Ok(Some(upstream))
}

/// Asks limits, auth and permissions; says which entry knows the caller.
fn guard<'v, Q: Request>(
    view: &'v View<'_>,
    route: &Blob<'v, Route>,
    limits: &Limits<'_, '_, Q>,
    callers: &mut Callers,
    ticket: &mut Ticket,
    recorder: &mut impl Recorder,
) -> Result<Option<Blob<'v, Auth>>, Halt> {
    let early = route.early.to_native() as usize;
    limits.enter(ticket, recorder)?;
    limits.step(route.limits.get(..early), None, ticket, recorder)?;
    let auth = callers.authenticate(view, route, limits.request, limits.now, ticket, recorder);
    limits.settle(&auth, ticket, recorder);
    let auth = auth?;
    if let Some(requirement) = route.permissions.as_ref() {
        let granted = auth.as_ref().is_some_and(|auth| callers.permits(view, auth, ticket, requirement));
        if !granted {
            tell!(recorder, Step::Permission, "none of what is granted is what is required");
            // Without credentials that were asked for and left out, the right answer is to ask for them.
            let reason = if auth.is_some() { Reason::PermissionMissing } else { Reason::AuthMissing };
            return Err(challenge(view, route, reason).into());
        }
        tell!(recorder, Step::Permission, "granted");
    }
    let claims = auth.is_some().then(|| callers.claims());
    limits.step(route.limits.get(early..), claims, ticket, recorder)?;
    Ok(auth)
}

/// A subrequest has no credentials of its own to show: it may go where anybody may, and where its main request was
/// let in.
fn subrequest(route: &Blob<'_, Route>, passed: Passed) -> Result<(), Reply> {
    let free = route.auth.is_empty() && route.permissions.is_none();
    let same = passed.route.is_some() && passed.route == route.id();
    let known =
        route.permissions.is_none() && passed.auth.is_some() && route.auth.iter().any(|auth| auth.id() == passed.auth);
    if free || same || known { Ok(()) } else { Err(Reply::new(Reason::AuthMissing)) }
}

/// Refuses who is banned.
fn banned(
    view: &View<'_>,
    bans: Id,
    request: &impl Request,
    now: Now,
    recorder: &mut impl Recorder,
) -> Result<(), Reply> {
    let Some(bans) = view.object::<Bans>(bans) else { return Ok(()) };
    let client = request.client();
    match bans.reason(client, now.wall / SECOND) {
        Some(reason) => {
            tell!(recorder, Step::Access, "{client} is banned: {reason}");
            Err(Reply::new(Reason::AccessBanned))
        }
        None => Ok(()),
    }
}

/// Lets in whom the route does not deny, and where it says whom it allows, those alone.
#[inline]
fn admit(
    view: &View<'_>,
    route: &ArchivedRoute,
    request: &impl Request,
    recorder: &mut impl Recorder,
) -> Result<(), Reply> {
    if route.deny.is_none() && route.allow.is_none() {
        return Ok(());
    }
    let client = request.client();
    let is_among = |addresses: &ArchivedAddresses| {
        let mut lists = addresses.lists.iter();
        addresses.set.contains(client)
            || lists.any(|list| view.object::<Set>(list.id()).is_some_and(|list| list.contains(client)))
    };
    let refusal = if route.deny.as_ref().is_some_and(|deny| is_among(deny)) {
        "denied"
    } else if route.allow.as_ref().is_some_and(|allow| !is_among(allow)) {
        "not among those that are allowed"
    } else {
        tell!(recorder, Step::Access, "{client} may come");
        return Ok(());
    };
    tell!(recorder, Step::Access, "{client} is {refusal}");
    Err(Reply::new(Reason::AccessDenied))
}

fn answer_preflight(
    cors: &ArchivedCors,
    preflight: &Preflight<'_>,
    route: &Blob<'_, Route>,
    out: &mut Out,
    recorder: &mut impl Recorder,
) {
    out.status = 204;
    let lines = &mut out.response;
    let allowed = cors.preflight(preflight, route.methods(), &mut |name, pieces| lines.push(name.as_bytes(), pieces));
    let verdict = if allowed { "is allowed" } else { "is not allowed" };
    tell!(recorder, Step::Cors, "preflight for route \"{}\": its origin {verdict}", route.name());
}

/// A request that a route takes.
struct Matched<'a, R> {
    request: &'a R,
    route: &'a ArchivedRoute,
    rule: u32,
    captures: &'a Captures,
}

impl<'a, R: Request> Matched<'a, R> {
    fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        parameter(self.route, self.rule, name, self.captures, self.request.path())
    }

    /// Writes the route's own answer, or what is forwarded.
    #[inline]
    fn prepare(&self, out: &mut Out, recorder: &mut impl Recorder) -> Result<(), Reply> {
        match self.route.answer.as_ref() {
            Some(answer) => self.answer(answer, out, recorder),
            None => self.forward(out, recorder),
        }
    }

    /// Writes the route's own answer.
    fn answer(&self, answer: &ArchivedAnswer, out: &mut Out, recorder: &mut impl Recorder) -> Result<(), Reply> {
        match answer {
            ArchivedAnswer::Reply(reply) => {
                out.reply(reply);
                tell!(recorder, Step::Answer, "{} with {} bytes", out.status, out.body.len());
            }
            ArchivedAnswer::Redirect(redirect) => {
                let write = |text: &mut Vec<u8>| render(&redirect.to, Place::Url, |name| self.parameter(name), text);
                if !out.answer.push_with(b"Location", write) {
                    return Err(Reply::new(Reason::PathRefused));
                }
                out.status = redirect.status.to_native();
                tell!(recorder, Step::Answer, "{}", out.status);
            }
        }
        Ok(())
    }

    /// What goes out is what was matched: a target that says something else than the decoded path is replaced, and a
    /// stripped prefix is taken off, unless the route says which path is forwarded.
    fn forward(&self, out: &mut Out, recorder: &mut impl Recorder) -> Result<(), Reply> {
        let refused = Reply::new(Reason::PathRefused);
        let (route, matched) = (self.route, self.request.path());
        if let Some(template) = route.rewrite.as_ref() {
            let written = &mut out.body;
            if !render(template, Place::Path, |name| self.parameter(name), written) {
                return Err(refused);
            }
            out.path.extend_from_slice(path::recheck(written).map_err(Reply::new)?.as_bytes());
            written.clear();
        } else if let Some(length) = route.strip.get(self.rule as usize) {
            let prefix = matched.get(..length.to_native() as usize).ok_or(refused)?;
            out.path.extend_from_slice(path::strip_prefix(matched, prefix).map_err(Reply::new)?.as_bytes());
        } else if !path::is_verbatim(matched, self.request.target()) {
            out.path.extend_from_slice(matched);
        }
        if !out.path.is_empty() {
            tell!(recorder, Step::Forward, "path {}", String::from_utf8_lossy(&out.path));
        }
        if !crate::router::query::is_safe(self.request.query()) {
            return Err(refused);
        }
        for line in route.headers.iter() {
            let write = |text: &mut Vec<u8>| render(&line.1, Place::Header, |name| self.parameter(name), text);
            if !out.request.push_with(line.0.as_bytes(), write) {
                return Err(refused);
            }
        }
        Ok(())
    }
}
