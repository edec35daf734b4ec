//! Tokens that were verified a moment ago, so that the same one need not be verified again.
//!
//! A client sends one token with hundreds of requests; the signature and the claims are the same each time. A process
//! keeps the last tokens that it found good, each with the claims it read out of it. What is found here is good until
//! the token expires, its `auth` entry is written anew (another generation of keys or rules), or the clock steps back
//! before the moment at which it was verified. Only good tokens get in, so nobody can crowd the cache without having
//! been let in, and a wrong guess never gets past the comparison of the whole token.

use super::Claims;
use crate::types::Id;

/// How many tokens a process keeps. Each takes the token and its claims, some two kilobytes as tokens commonly are.
const PLACES: usize = 1_024;

/// Longer tokens are verified every time; they are rare and would take the memory of many.
const LENGTH_MAX: usize = 4_096;

/// The cache of one process.
pub struct TokenCache {
    places: Vec<Place>,
}

/// What was verified, and by what.
#[derive(Default)]
struct Place {
    auth: Id,
    /// The generation that wrote the `auth` entry; a place with 0 is free.
    seq: u32,
    token: Vec<u8>,
    /// Microseconds since the epoch.
    from: u64,
    /// Microseconds since the epoch; not good at this instant and later.
    until: u64,
    claims: Claims,
}

/// Where a token was found; good until the next [`TokenCache::keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(usize);

impl Default for TokenCache {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| Place::default()).collect() }
    }
}

impl TokenCache {
    /// Looks for `token` as the `auth` entry `auth` of generation `seq` verified it, good at `wall` (microseconds since
    /// the epoch).
    #[inline]
    #[must_use]
    pub fn find(&self, auth: Id, seq: u32, token: &[u8], wall: u64) -> Option<Found> {
        let index = index(token)?;
        let place = self.places.get(index)?;
        let good = place.seq == seq
            && place.auth == auth
            && (place.from..place.until).contains(&wall)
            && place.token.len() == token.len()
            // Not to be learnt from how long it takes: the signature is what makes a token worth stealing.
            && aws_lc_rs::constant_time::verify_slices_are_equal(&place.token, token).is_ok();
        good.then_some(Found(index))
    }

    /// The claims of a token that was found.
    #[inline]
    #[must_use]
    pub fn claims(&self, found: Found) -> Option<&Claims> {
        self.places.get(found.0).map(|place| &place.claims)
    }

    /// The claims of a token that was found, to note something in.
    #[inline]
    #[must_use]
    pub fn claims_mut(&mut self, found: Found) -> Option<&mut Claims> {
        self.places.get_mut(found.0).map(|place| &mut place.claims)
    }

    /// Keeps `token`, verified at `wall` and good until `until`, and takes its claims; `claims` holds the former
    /// occupant's buffers afterwards, without its claims. `None`: the token is not kept, and its claims stay where
    /// they are.
    pub fn keep(
        &mut self,
        auth: Id,
        seq: u32,
        token: &[u8],
        wall: u64,
        until: u64,
        claims: &mut Claims,
    ) -> Option<Found> {
        if token.len() > LENGTH_MAX || seq == 0 {
            return None;
        }
        let index = index(token)?;
        let place = self.places.get_mut(index)?;
        place.token.clear();
        place.token.extend_from_slice(token);
        (place.auth, place.seq, place.from, place.until) = (auth, seq, wall, until);
        std::mem::swap(&mut place.claims, claims);
        claims.clear();
        Some(Found(index))
    }
}

/// A token's place: by its last bytes, which are its signature's and as good as random in every token that gets in.
#[inline]
fn index(token: &[u8]) -> Option<usize> {
    let (_, tail) = token.split_last_chunk::<8>()?;
    // The very last character carries only part of its bits.
    let mixed = (u64::from_le_bytes(*tail) << 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((mixed >> 32) as usize % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: Id = Id { slot: 3, birth: 1 };
    const TOKEN: &[u8] = b"header.payload.signature";

    #[test]
    fn what_was_kept_is_found_only_as_it_was() {
        let mut cache = TokenCache::default();
        let mut claims = Claims::new();
        assert_eq!(cache.find(AUTH, 7, TOKEN, 50), None);
        let kept = cache.keep(AUTH, 7, TOKEN, 50, 100, &mut claims).unwrap();
        assert_eq!(cache.find(AUTH, 7, TOKEN, 50), Some(kept));
        assert_eq!(cache.find(AUTH, 7, TOKEN, 99), Some(kept));
        assert!(cache.claims(kept).is_some());
        for (auth, seq, token, wall, why) in [
            (AUTH, 7, TOKEN, 100, "expired"),
            (AUTH, 7, TOKEN, 49, "the clock stepped back"),
            (AUTH, 8, TOKEN, 50, "the entry was written anew"),
            (Id { slot: 4, birth: 1 }, 7, TOKEN, 50, "another entry's keys"),
            (Id { slot: 3, birth: 2 }, 7, TOKEN, 50, "another entry in the same slot"),
            (AUTH, 7, b"another.payload.signature", 50, "another token with the same end"),
            (AUTH, 7, b"Header.payload.signature", 50, "one bit"),
            (AUTH, 7, b"ignature", 50, "its end alone"),
            (AUTH, 7, b"", 50, "nothing"),
        ] {
            assert_eq!(cache.find(auth, seq, token, wall), None, "{why}");
        }
    }

    #[test]
    fn the_last_one_stays_and_long_ones_are_not_kept() {
        let mut cache = TokenCache::default();
        let mut claims = Claims::new();
        assert_eq!(cache.keep(AUTH, 7, &[b'a'; LENGTH_MAX + 1], 0, 1, &mut claims), None);
        assert_eq!(cache.keep(AUTH, 7, b"short", 0, 1, &mut claims), None);
        let _ = cache.keep(AUTH, 7, b"one.one.signature", 0, 9, &mut claims);
        let _ = cache.keep(AUTH, 7, b"two.two.signature", 0, 9, &mut claims);
        assert_eq!(cache.find(AUTH, 7, b"one.one.signature", 1), None);
        assert!(cache.find(AUTH, 7, b"two.two.signature", 1).is_some());
    }
}
