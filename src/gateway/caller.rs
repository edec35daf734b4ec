//! Who sends a request: credentials looked for, verified or known from a moment ago, and held against what is required.

use super::decision::{Challenges, Reply};
use super::explain::{Recorder, Step, tell};
use super::object::{ApiKey, Consumer, Role, Route};
use super::signature::Signatures;
use super::ticket::{Passed, Ticket};
use crate::auth::{
    ArchivedApiKey, ArchivedAuth, ArchivedJwt, ArchivedRequirement, ArchivedScheme, Auth, Claims, Found, List, Lookup,
    TokenCache, Verifier, allows, digest, find_key, find_token, is_token,
};
use crate::state::{Blob, View};
use crate::types::{Id, Now, Reason, Request};

/// What one process knows of callers. Crypto keys cannot live in shared memory, and neither do parsed claims.
#[derive(Default)]
pub(super) struct Callers {
    keys: Keys,
    tokens: TokenCache,
    /// Claims of the token that was verified last and is not in the cache.
    scratch: Claims,
    /// The `auth` entry that knew the caller of the request that was looked at last …
    known: Option<u32>,
    /// … and where that caller's claims are; `None` = in `scratch`.
    found: Option<Found>,
    pub(super) signatures: Signatures,
}

/// Parsed verifiers, sorted by the slot of their `auth` entry: there are few, and a search beats a hash of the slot.
/// Crypto keys cannot live in shared memory.
#[derive(Default)]
pub(super) struct Keys(Vec<Known>);

/// An `auth` entry as this process uses it.
pub(super) struct Known {
    id: Id,
    /// The generation that wrote the entry; another means that the keys changed.
    seq: u32,
    pub verifier: Verifier,
    /// Header name in lower case, claim.
    headers: Box<[(Box<str>, Box<str>)]>,
}

/// What an `auth` entry says of a request whose credentials are not refused.
enum Seen {
    /// It has none of this kind.
    Nothing,
    /// Its consumer, or the subject of its token, is in the ticket.
    Caller,
}

impl Callers {
    /// Forgets the last request's caller.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.found = None;
    }

    /// The claims of the caller of the request that was looked at last.
    pub(super) fn claims(&self) -> &Claims {
        self.found.and_then(|found| self.tokens.claims(found)).unwrap_or(&self.scratch)
    }

    /// The headers that tell a backend who the caller is: name in lower case, value.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers = self.known.and_then(|slot| self.keys.of(slot)).map_or(&[][..], |known| &known.headers);
        let claims = self.claims();
        headers
            .iter()
            .filter_map(|(name, claim)| claims.header_value(claim).map(|value| (name.as_bytes(), value.as_bytes())))
    }

    /// Any of the route's `auth` entries lets a request in. `None`: it is anonymous, and may be.
    pub(super) fn authenticate<'v>(
        &mut self,
        view: &'v View<'_>,
        route: &Blob<'v, Route>,
        request: &impl Request,
        now: Now,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<Option<Blob<'v, Auth>>, Reply> {
        if route.auth.is_empty() {
            ticket.passed = Passed { route: route.id(), ..Passed::default() };
            return Ok(None);
        }
        let mut refused = None;
        let mut optional = false;
        for id in route.auth.iter() {
            let auth = view.object::<Auth>(id.id()).ok_or(Reply::new(Reason::Internal))?;
            let outcome = match &auth.scheme {
                ArchivedScheme::Jwt(jwt) => self.jwt(view, &auth, jwt, request, now, ticket),
                ArchivedScheme::ApiKey(settings) => self.api_key(view, settings, request, ticket),
                ArchivedScheme::Signature(settings) => {
                    self.signatures.verify(view, &auth, settings, request, now, ticket).map(|signed| match signed {
                        true => {
                            self.scratch.clear();
                            Seen::Caller
                        }
                        false => Seen::Nothing,
                    })
                }
            };
            match outcome {
                Ok(Seen::Nothing) => optional |= auth.optional,
                Ok(Seen::Caller) => {
                    ticket.passed = Passed { route: route.id(), auth: auth.id() };
                    tell!(recorder, Step::Auth, "\"{}\" knows the caller", auth.name());
                    return Ok(Some(auth));
                }
                Err(reason) => {
                    // Another entry may know the caller by something else.
                    self.forget();
                    tell!(recorder, Step::Auth, "\"{}\" refuses: {}", auth.name(), reason.code());
                    refused = Some(reason);
                }
            }
        }
        match refused {
            None if optional => {
                ticket.passed = Passed { route: route.id(), ..Passed::default() };
                Ok(None)
            }
            reason => Err(challenge(view, route, reason.unwrap_or(Reason::AuthMissing))),
        }
    }

    fn jwt(
        &mut self,
        view: &View<'_>,
        auth: &Blob<'_, Auth>,
        jwt: &ArchivedJwt,
        request: &impl Request,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<Seen, Reason> {
        let token = match find_token(request, &jwt.source) {
            Lookup::Absent => return Ok(Seen::Nothing),
            Lookup::Malformed => return Err(Reason::AuthMalformed),
            Lookup::Found(token) => token,
        };
        self.verify(auth, token, now)?;
        let claims = self.claims();
        let consumer = claims.consumer(&jwt.consumer_claim);
        if let Some(name) = consumer
            && view.named::<Consumer>(name).is_some_and(|consumer| !consumer.enabled)
        {
            return Err(Reason::AuthConsumer);
        }
        ticket.names.consumer.set_text(consumer.or_else(|| claims.subject()).unwrap_or_default());
        self.known = Some(auth.id().slot);
        Ok(Seen::Caller)
    }

    fn api_key(
        &mut self,
        view: &View<'_>,
        settings: &ArchivedApiKey,
        request: &impl Request,
        ticket: &mut Ticket,
    ) -> Result<Seen, Reason> {
        let key = match find_key(request, &settings.source) {
            Lookup::Absent => return Ok(Seen::Nothing),
            Lookup::Malformed => return Err(Reason::AuthMalformed),
            Lookup::Found(key) => key,
        };
        // Found by its hash, so that how long it takes tells nothing of any key.
        let digest = digest(key);
        let name = std::str::from_utf8(&digest).map_err(|_| Reason::Internal)?;
        let owner = view.named::<ApiKey>(name).ok_or(Reason::AuthKeyUnknown)?;
        let consumer = view.object::<Consumer>(owner.consumer.id()).ok_or(Reason::AuthKeyUnknown)?;
        if !consumer.enabled {
            return Err(Reason::AuthConsumer);
        }
        ticket.names.consumer.set(consumer.name_bytes());
        // No token, no claims, whatever the last request had.
        self.scratch.clear();
        Ok(Seen::Caller)
    }

    /// Verifies `token`, or finds that it was verified a moment ago; its claims are [`Callers::claims`] then.
    fn verify(&mut self, auth: &Blob<'_, Auth>, token: &[u8], now: Now) -> Result<(), Reason> {
        self.found = self.tokens.find(auth.id(), auth.seq(), token, now.wall);
        if self.found.is_some() {
            return Ok(());
        }
        if !is_token(token) {
            return Err(Reason::AuthMalformed);
        }
        let known = self.keys.verifier(auth).ok_or(Reason::AuthKeyUnknown)?;
        known.verifier.verify(token, now.wall, &mut self.scratch)?;
        let until = known.verifier.good_until(&self.scratch);
        self.found = self.tokens.keep(auth.id(), auth.seq(), token, now.wall, until, &mut self.scratch);
        Ok(())
    }

    /// Whether what the token, its roles and its consumer grant is what the route requires.
    pub(super) fn permits(
        &self,
        view: &View<'_>,
        auth: &Blob<'_, Auth>,
        ticket: &Ticket,
        requirement: &ArchivedRequirement,
    ) -> bool {
        let claims = self.claims();
        let jwt = match &auth.scheme {
            ArchivedScheme::Jwt(jwt) => Some(jwt),
            ArchivedScheme::ApiKey(_) | ArchivedScheme::Signature(_) => None,
        };
        let list = jwt.and_then(|jwt| jwt.permissions_claim.as_ref());
        let own = list.map_or_else(List::empty, |claim| claims.list(claim));
        if allows(own.clone(), requirement) {
            return true;
        }
        let consumer = view.named::<Consumer>(ticket.consumer());
        let roles = jwt
            .and_then(|jwt| jwt.roles_claim.as_ref())
            .into_iter()
            .flat_map(|claim| claims.list(claim))
            .filter_map(|name| view.named::<Role>(name))
            .chain(
                consumer
                    .iter()
                    .flat_map(|consumer| consumer.roles.iter())
                    .filter_map(|id| view.object::<Role>(id.id())),
            );
        // All that is granted counts together: `all` may be met by pieces from several places.
        let granted = own
            .chain(consumer.iter().flat_map(|consumer| consumer.permissions.iter().map(|name| name.as_str())))
            .chain(roles.flat_map(|role| role.get().permissions.iter().map(|name| name.as_str())));
        allows(granted, requirement)
    }
}

/// A refusal that says with what the route lets in.
pub(super) fn challenge(view: &View<'_>, route: &Blob<'_, Route>, reason: Reason) -> Reply {
    let entries = route.auth.iter().filter_map(|id| view.object::<Auth>(id.id()));
    let challenges = entries.fold(Challenges::default(), |all, auth| all.with(&auth.scheme));
    Reply { challenges, ..Reply::new(reason) }
}

impl Keys {
    /// The verifier of an `auth` entry, parsed at its first use and when the entry was written anew.
    pub(super) fn verifier(&mut self, auth: &Blob<'_, crate::auth::Auth>) -> Option<&Known> {
        let id = auth.id();
        let fresh = self.of(id.slot).is_some_and(|known| known.id == id && known.seq == auth.seq());
        if !fresh {
            let known = Known::new(id, auth.seq(), auth)?;
            match self.0.binary_search_by_key(&id.slot, |known| known.id.slot) {
                Ok(index) => *self.0.get_mut(index)? = known,
                Err(index) => self.0.insert(index, known),
            }
        }
        self.of(id.slot)
    }

    fn of(&self, slot: u32) -> Option<&Known> {
        self.0.binary_search_by_key(&slot, |known| known.id.slot).ok().and_then(|index| self.0.get(index))
    }
}

impl Known {
    fn new(id: Id, seq: u32, auth: &ArchivedAuth) -> Option<Self> {
        let ArchivedScheme::Jwt(jwt) = &auth.scheme else { return None };
        let headers = jwt.headers.iter().map(|entry| (Box::from(entry.0.as_str()), Box::from(entry.1.as_str())));
        Some(Self { id, seq, verifier: Verifier::new(jwt).ok()?, headers: headers.collect() })
    }
}
