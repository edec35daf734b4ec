//! Signed requests: whose signature it is, that it comes once, and what the body must be.

use std::sync::atomic::Ordering::Relaxed;

use super::leader::counter;
use super::object::Consumer;
use super::ticket::Ticket;
use crate::auth::Auth;
use crate::auth::signature::{ArchivedSignature, Buffers, SignatureVerifier};
use crate::state::tables::nonce::{Nonce, Nonces};
use crate::state::{Blob, Region, View};
use crate::types::{Id, Now, Reason, Request, SECOND};

/// What one process knows of keys that requests are signed with.
#[derive(Default)]
pub(super) struct Signatures {
    /// Sorted by the slot of their `auth` entry.
    known: Vec<Known>,
    buffers: Buffers,
    /// Where nonces are kept, and this worker's slot.
    place: Option<(Region, u32)>,
}

struct Known {
    id: Id,
    seq: u32,
    verifier: SignatureVerifier,
}

/// A signature that let a request in, for when the same request comes here again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    auth: Id,
    seq: u32,
    key: usize,
}

/// Whether a signature was made before the region was, so that its nonce may have been seen in one that is lost. The
/// age of the region is what counts: the wall clock may have been set since.
fn is_older(region: Region, created: Option<u64>, now: Now) -> bool {
    let born = region.counters().get(counter::BORN).map_or(0, |word| word.load(Relaxed));
    let age = now.mono.saturating_sub(born);
    created.is_some_and(|created| created < now.wall.saturating_sub(age) / SECOND)
}

impl Signatures {
    pub(super) fn keep_in(&mut self, region: Region, worker: u32) {
        self.place = Some((region, worker));
    }

    /// Whether `request` is signed; then its consumer and its digest are in the ticket, and its nonce is used up.
    pub(super) fn verify(
        &mut self,
        view: &View<'_>,
        auth: &Blob<'_, Auth>,
        settings: &ArchivedSignature,
        request: &impl Request,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<bool, Reason> {
        let (id, seq) = (auth.id(), auth.seq());
        // After an internal redirect it is still the same request: its nonce was used up by itself, and nginx may have
        // changed its method.
        if let Some(before) = ticket.signed
            && (before.auth, before.seq) == (id, seq)
        {
            return self.admit(view, settings, before, ticket).map(|()| true);
        }
        let index = self.index_of(auth, settings).ok_or(Reason::AuthKeyUnknown)?;
        let known = self.known.get(index).ok_or(Reason::Internal)?;
        let Some(signed) = known.verifier.verify(request, now.wall, &mut self.buffers)? else { return Ok(false) };
        let accepted = Accepted { auth: id, seq, key: signed.key };
        self.admit(view, settings, accepted, ticket)?;
        let nonce = self.buffers.nonce();
        if !nonce.is_empty() {
            let outcome = self.place.map_or(Nonce::Full, |(region, worker)| {
                let nonces = Nonces::new(region.nonce_words(), region.secret());
                match nonces.insert(nonce, now.wall / SECOND, signed.until, worker) {
                    Nonce::Fresh if is_older(region, signed.created, now) => Nonce::Full,
                    outcome => outcome,
                }
            });
            match outcome {
                Nonce::Fresh => {}
                Nonce::Full if settings.fail_open => {}
                Nonce::Full => return Err(Reason::AuthNonceStore),
                Nonce::Replayed => return Err(Reason::AuthReplay),
            }
        }
        ticket.signed = Some(accepted);
        ticket.digest = signed.digest;
        Ok(true)
    }

    fn admit(
        &self,
        view: &View<'_>,
        settings: &ArchivedSignature,
        accepted: Accepted,
        ticket: &mut Ticket,
    ) -> Result<(), Reason> {
        let name = settings.keys.get(accepted.key).map(|key| key.consumer.as_str()).ok_or(Reason::Internal)?;
        if view.named::<Consumer>(name).is_some_and(|consumer| !consumer.enabled) {
            return Err(Reason::AuthConsumer);
        }
        ticket.names.consumer.set_text(name);
        Ok(())
    }

    /// The place of an entry's verifier, parsed at its first use and when the entry was written anew.
    fn index_of(&mut self, auth: &Blob<'_, Auth>, settings: &ArchivedSignature) -> Option<usize> {
        let (id, seq) = (auth.id(), auth.seq());
        let found = self.known.binary_search_by_key(&id.slot, |known| known.id.slot);
        if let Ok(index) = found
            && self.known.get(index).is_some_and(|known| known.id == id && known.seq == seq)
        {
            return Some(index);
        }
        let known = Known { id, seq, verifier: SignatureVerifier::new(settings).ok()? };
        match found {
            Ok(index) => *self.known.get_mut(index)? = known,
            Err(index) => self.known.insert(index, known),
        }
        Some(found.unwrap_or_else(|index| index))
    }
}
