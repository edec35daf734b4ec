//! Who sends a request: credentials looked for, verified or known from a moment ago, and held against what is required.

use super::decision::Reply;
use super::explain::{Recorder, Step, tell};
use super::object::{Consumer, Role, Route};
use super::ticket::{Passed, Ticket};
use crate::auth::{
    ArchivedAuth, ArchivedJwt, ArchivedRequirement, ArchivedScheme, Auth, Claims, Found, List, Lookup as Token,
    TokenCache, Verifier, allows, find_token, is_token,
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
            let ArchivedScheme::Jwt(jwt) = &auth.scheme;
            let outcome = match find_token(request, &jwt.source) {
                Token::Absent => {
                    optional |= auth.optional;
                    continue;
                }
                Token::Malformed => Err(Reason::AuthMalformed),
                Token::Found(token) => self.verify(&auth, token, now),
            };
            match outcome {
                Ok(()) => {
                    self.admit(view, &auth, jwt, ticket, recorder)?;
                    ticket.passed = Passed { route: route.id(), auth: auth.id() };
                    self.known = Some(auth.id().slot);
                    tell!(recorder, Step::Auth, "\"{}\" knows the caller", auth.name());
                    return Ok(Some(auth));
                }
                Err(reason) => {
                    tell!(recorder, Step::Auth, "\"{}\" refuses: {}", auth.name(), reason.code());
                    refused = Some(reason);
                }
            }
        }
        match refused {
            Some(reason) => Err(Reply::new(reason)),
            None if optional => {
                ticket.passed = Passed { route: route.id(), ..Passed::default() };
                Ok(None)
            }
            None => Err(Reply::new(Reason::AuthMissing)),
        }
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

    /// Whether the consumer that the token names may come in; its name goes into the ticket.
    fn admit(
        &self,
        view: &View<'_>,
        auth: &Blob<'_, Auth>,
        jwt: &ArchivedJwt,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        let claims = self.claims();
        let consumer = claims.consumer(&jwt.consumer_claim);
        if let Some(name) = consumer
            && view.named::<Consumer>(name).is_some_and(|consumer| !consumer.enabled)
        {
            tell!(recorder, Step::Auth, "\"{}\": consumer \"{name}\" is not enabled", auth.name());
            return Err(Reply::new(Reason::AuthClaims));
        }
        ticket.names.consumer.set_text(consumer.or_else(|| claims.subject()).unwrap_or_default());
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
        let ArchivedScheme::Jwt(jwt) = &auth.scheme;
        let own = jwt.permissions_claim.as_ref().map_or_else(List::empty, |claim| claims.list(claim));
        if allows(own.clone(), requirement) {
            return true;
        }
        let consumer = view.named::<Consumer>(ticket.consumer());
        let roles = jwt
            .roles_claim
            .as_ref()
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
        let ArchivedScheme::Jwt(jwt) = &auth.scheme;
        let headers = jwt.headers.iter().map(|entry| (Box::from(entry.0.as_str()), Box::from(entry.1.as_str())));
        Some(Self { id, seq, verifier: Verifier::new(jwt).ok()?, headers: headers.collect() })
    }
}
