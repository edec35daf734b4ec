//! Who sends a request: credentials looked for, verified or known from a moment ago, and held against what is required.

use std::sync::atomic::Ordering::Relaxed;

use super::decision::{Ask, Challenges, Halt, Question, Reply};
use super::explain::{Recorder, Step, tell};
use super::key_sets::{self, Sets};
use super::leader::counter;
use super::object::{ApiKey, Consumer, FetchedKeys, Role, Route};
use super::revoke::{BY_HAND, seconds};
use super::signature::Signatures;
use super::ticket::{Passed, Ticket};
use crate::auth::revocation;
use crate::auth::{
    ArchivedApiKey, ArchivedAuth, ArchivedBasic, ArchivedJwt, ArchivedKey, ArchivedMtls, ArchivedRequirement,
    ArchivedScheme, Auth, Busy, CREDENTIALS_MAX, Certificates, Claims, Credentials, Found, List, LoginQuestion, Logins,
    Lookup, TokenCache, Verifier, allows, digest, find_credentials, find_key, find_token, holds, is_token, matches,
};
use crate::state::tables::revocations::{FOR_EVER, Revocations};
use crate::state::{Blob, Region, View};
use crate::types::{Certificate, Id, Now, Reason, Request, SECOND};

/// How often a request may have to ask.
const ASKS_MAX: u8 = 8;

/// What one process knows of callers. Crypto keys cannot live in shared memory, and neither do parsed claims.
pub(super) struct Callers {
    region: Region,
    keys: Keys,
    /// Which keys that were fetched belong to which entry.
    sets: Sets,
    tokens: TokenCache,
    pub logins: Logins,
    certificates: Certificates,
    /// What the request that was looked at last wants to have found out.
    question: Option<LoginQuestion>,
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
    /// The generation that wrote the entry, or its keys where that was later; another means that one of them changed.
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
    /// Nobody knows yet; what to find out is in the question.
    Unknown,
}

impl Callers {
    /// Knows nobody yet.
    pub(super) fn new(region: Region) -> Self {
        let (keys, sets, tokens, logins) = Default::default();
        let (certificates, signatures, scratch) = Default::default();
        let (question, known, found) = (None, None, None);
        Self { region, keys, sets, tokens, logins, certificates, signatures, question, scratch, known, found }
    }

    /// Forgets the last request's caller.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.found = None;
        self.question = None;
    }

    /// What is to be found out for the request that was looked at last, unless that is under way for another.
    pub(super) fn question(&mut self) -> Option<Question> {
        self.question.take().map(Question::Password)
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
    ) -> Result<Option<Blob<'v, Auth>>, Halt> {
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
                ArchivedScheme::Mtls(settings) => self.certificate(view, settings, request, ticket),
                ArchivedScheme::Basic(settings) => self.password(view, settings, request, now, ticket),
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
                // Another entry may know the caller without having to ask.
                Ok(Seen::Unknown) => tell!(recorder, Step::Auth, "\"{}\" has to look at a password", auth.name()),
                Ok(Seen::Caller) => {
                    ticket.passed = Passed { route: route.id(), auth: auth.id() };
                    self.question = None;
                    tell!(recorder, Step::Auth, "\"{}\" knows the caller", auth.name());
                    return Ok(Some(auth));
                }
                Err(reason) => {
                    // Another entry may know the caller by something else.
                    (self.known, self.found) = (None, None);
                    tell!(recorder, Step::Auth, "\"{}\" refuses: {}", auth.name(), reason.code());
                    // What cannot be checked might have been right: the client is to come back with it.
                    if refused != Some(Reason::AuthKeysUnavailable) {
                        refused = Some(reason);
                    }
                }
            }
        }
        if let Some(question) = self.question.take() {
            return Err(self.ask(question, ticket));
        }
        match refused {
            None if optional => {
                ticket.passed = Passed { route: route.id(), ..Passed::default() };
                Ok(None)
            }
            Some(Reason::AuthKeysUnavailable) => {
                Err(Reply::later(Reason::AuthKeysUnavailable, key_sets::RETRY_AFTER).into())
            }
            reason => Err(challenge(view, route, reason.unwrap_or(Reason::AuthMissing)).into()),
        }
    }

    /// Asks, unless too many do.
    fn ask(&mut self, question: LoginQuestion, ticket: &mut Ticket) -> Halt {
        let login = question.login();
        ticket.asks = ticket.asks.saturating_add(1);
        // More entries than a route can name would have to forget each other's answers for a request to come so far.
        if ticket.asks > ASKS_MAX {
            return Reply::later(Reason::AuthBusy, SECOND).into();
        }
        match self.logins.begin(login) {
            Ok(is_first) => {
                self.question = Some(question).filter(|_| is_first);
                Halt::Ask(Ask::Password(login))
            }
            Err(Busy) => Reply::later(Reason::AuthBusy, SECOND).into(),
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
        self.verify(view, auth, jwt, token, now)?;
        let revoked = self.region.counters().get(counter::REVOKED).map_or(0, |word| word.load(Relaxed));
        if revoked != 0
            && (jwt.revocation_file.is_some() || revoked & BY_HAND != 0)
            && self.is_revoked(auth, token, revoked, now)
        {
            return Err(Reason::AuthRevoked);
        }
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

    /// Whether a good token is on the list of its entry. The table is asked each time, also for tokens that are known.
    fn is_revoked(&mut self, auth: &Blob<'_, Auth>, token: &[u8], kinds: u64, now: Now) -> bool {
        let region = self.region;
        let claims = match self.found {
            Some(found) => self.tokens.claims_mut(found),
            None => Some(&mut self.scratch),
        };
        let Some(claims) = claims else { return false };
        let (secret, scope) = (region.secret(), auth.id().word());
        let [id, subject, whole] = claims.marks(|claims| {
            let mark = |kind, text: Option<&str>| {
                text.map_or(0, |text| revocation::key(secret, scope, kind, text.as_bytes()).max(1))
            };
            let digest = revocation::token_digest(token);
            [
                mark(revocation::ID, claims.id()),
                mark(revocation::SUBJECT, claims.subject()),
                revocation::key(secret, scope, revocation::TOKEN, &digest).max(1),
            ]
        });
        let issued = claims.issued().map_or(0, |issued| issued / SECOND);
        let table = Revocations::new(region.revocation_words());
        let now = seconds(now);
        let has = |kind: u64, key: u64| {
            let found = (kinds & kind != 0 && key != 0).then(|| table.find(key, now)).flatten();
            found.is_some_and(|before| before == FOR_EVER || issued < u64::from(before))
        };
        has(revocation::ID, id) || has(revocation::SUBJECT, subject) || has(revocation::TOKEN, whole)
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

    fn password(
        &mut self,
        view: &View<'_>,
        settings: &ArchivedBasic,
        request: &impl Request,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<Seen, Reason> {
        let mut buffer = [0; CREDENTIALS_MAX];
        let (user, password) = match find_credentials(request, &mut buffer) {
            Credentials::Absent => return Ok(Seen::Nothing),
            Credentials::Malformed => return Err(Reason::AuthMalformed),
            Credentials::Found { user, password } => (user, password),
        };
        let (hash, is_own) = settings.hash_of(user);
        let login = self.logins.login(user, password, hash, is_own);
        match self.logins.find(login, now.mono) {
            Some(true) => {}
            Some(false) => return Err(Reason::AuthPassword),
            None if self.logins.has_failed(login) => return Err(Reason::Internal),
            None => {
                // One at a time: its answer may make the others needless.
                self.question.get_or_insert_with(|| LoginQuestion::new(login, password, hash, is_own));
                return Ok(Seen::Unknown);
            }
        }
        if view.named::<Consumer>(user).is_some_and(|consumer| !consumer.enabled) {
            return Err(Reason::AuthConsumer);
        }
        ticket.names.consumer.set_text(user);
        self.scratch.clear();
        Ok(Seen::Caller)
    }

    fn certificate(
        &mut self,
        view: &View<'_>,
        settings: &ArchivedMtls,
        request: &impl Request,
        ticket: &mut Ticket,
    ) -> Result<Seen, Reason> {
        let subject = match request.certificate() {
            Certificate::Absent => return Ok(Seen::Nothing),
            Certificate::Failed => return Err(Reason::AuthCertificate),
            Certificate::Verified { subject } => subject,
        };
        let name =
            self.certificates.owner(settings, subject, || request.certificate_pem()).ok_or(Reason::AuthCertificate)?;
        if view.named::<Consumer>(name).is_some_and(|consumer| !consumer.enabled) {
            return Err(Reason::AuthConsumer);
        }
        ticket.names.consumer.set_text(name);
        self.scratch.clear();
        Ok(Seen::Caller)
    }

    /// Verifies `token`, or finds that it was verified a moment ago; its claims are [`Callers::claims`] then.
    fn verify(
        &mut self,
        view: &View<'_>,
        auth: &Blob<'_, Auth>,
        jwt: &ArchivedJwt,
        token: &[u8],
        now: Now,
    ) -> Result<(), Reason> {
        let set = match jwt.jwks.is_some() {
            false => None,
            true => match self.sets.of(view, auth) {
                None if is_token(token) => return Err(Reason::AuthKeysUnavailable),
                None => return Err(Reason::AuthMalformed),
                set => set,
            },
        };
        // Generations only grow: the later of two changes when either does.
        let seq = set.map_or(auth.seq(), |set| auth.seq().max(set.seq));
        self.found = self.tokens.find(auth.id(), seq, token, now.wall);
        if self.found.is_some() {
            return Ok(());
        }
        if !is_token(token) {
            return Err(Reason::AuthMalformed);
        }
        let set = set.and_then(|set| view.object::<FetchedKeys>(set.id));
        let keys = set.as_ref().map_or(&*jwt.keys, |set| &*set.get().keys);
        let known = self.keys.verifier(auth, seq, keys).ok_or(Reason::AuthKeyUnknown)?;
        if let Err(reason) = known.verifier.verify(token, now.wall, &mut self.scratch) {
            if let Some(set) = &set
                && known.verifier.may_be_outdated(reason)
            {
                key_sets::want(view, set);
            }
            return Err(reason);
        }
        let until = known.verifier.good_until(&self.scratch);
        self.found = self.tokens.keep(auth.id(), seq, token, now.wall, until, &mut self.scratch);
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
            ArchivedScheme::ApiKey(_)
            | ArchivedScheme::Mtls(_)
            | ArchivedScheme::Basic(_)
            | ArchivedScheme::Signature(_) => None,
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
        let required = |name: &str| {
            own.clone().any(|granted| matches(granted, name))
                || consumer.iter().any(|consumer| consumer.permissions.cover(name))
                || roles.clone().any(|role| role.permissions.cover(name))
        };
        holds(requirement, required)
    }
}

/// A refusal that says with what the route lets in.
pub(super) fn challenge(view: &View<'_>, route: &Blob<'_, Route>, reason: Reason) -> Reply {
    let entries = route.auth.iter().filter_map(|id| view.object::<Auth>(id.id()));
    let challenges = entries.fold(Challenges::default(), |all, auth| all.with(&auth.scheme));
    Reply { challenges, ..Reply::new(reason) }
}

impl Keys {
    /// The verifier of an `auth` entry with `keys`, parsed at its first use and when `seq` is another one.
    pub(super) fn verifier(
        &mut self,
        auth: &Blob<'_, crate::auth::Auth>,
        seq: u32,
        keys: &[ArchivedKey],
    ) -> Option<&Known> {
        let id = auth.id();
        let fresh = self.of(id.slot).is_some_and(|known| known.id == id && known.seq == seq);
        if !fresh {
            let known = Known::new(id, seq, auth, keys)?;
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
    fn new(id: Id, seq: u32, auth: &ArchivedAuth, keys: &[ArchivedKey]) -> Option<Self> {
        let ArchivedScheme::Jwt(jwt) = &auth.scheme else { return None };
        let headers = jwt.headers.iter().map(|entry| (Box::from(entry.0.as_str()), Box::from(entry.1.as_str())));
        Some(Self { id, seq, verifier: Verifier::with_keys(jwt, keys).ok()?, headers: headers.collect() })
    }
}
