use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::settings::BUCKETS;

/// Headers of a request by which some servers take it for another one: for another path, host, scheme or method.
/// Requests that have one are in the key with it, so that whoever sends one fills an entry of their own.
pub const OVERRIDES: [&[u8]; 15] = [
    b"x-original-url",
    b"x-rewrite-url",
    b"x-original-uri",
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
    b"x-forwarded-prefix",
    b"x-forwarded-path",
    b"x-forwarded-scheme",
    b"x-forwarded-ssl",
    b"x-forwarded-server",
    b"x-host",
    b"x-original-host",
    b"forwarded",
    b"front-end-https",
];

/// What a field of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Field {
    Scheme = 1,
    Host,
    Authority,
    /// As it is sent.
    Path,
    /// The same, where nginx may write a byte of it otherwise than we do.
    Rewritten,
    Query,
    /// The name of a header, before its values.
    Header,
    /// The name of a cookie, before its values.
    Cookie,
    Value,
    /// The `auth` entry that knew the caller, before who that is.
    Auth,
    Consumer,
    /// A header that tells the backend who the caller is.
    Identity,
    Authorization,
    /// A header of [`OVERRIDES`].
    Override,
    Variant,
    /// A number that a purge makes larger, after what it is the number of.
    Generation,
}

/// A key; both halves together are the digest.
pub type Key = [u64; 2];

/// Makes the key of an answer: SipHash-2-4 with 128 bits over what the request is, under the region's secret.
///
/// Each field begins with its kind and its length, so no two lists of fields are the same bytes. Clients choose most of
/// what goes in; without the secret nobody can find two requests with one key, and none are met by chance (after 2^40
/// entries with a probability of 2^-49).
#[derive(Clone)]
pub struct KeyHasher(SipHasher24);

impl KeyHasher {
    /// Begins a key of the route with id word `route` under `secret`.
    #[must_use]
    #[inline]
    pub fn new(secret: [u64; 2], route: u64) -> Self {
        let [low, high] = secret;
        let mut hasher = SipHasher24::new_with_keys(low, high);
        hasher.write_u64(route);
        Self(hasher)
    }

    /// Adds a field.
    #[inline]
    pub fn field(&mut self, field: Field, bytes: &[u8]) -> &mut Self {
        self.head(field, bytes.len());
        self.piece(bytes)
    }

    /// Begins a field of `length` bytes that come in pieces.
    #[inline]
    pub fn head(&mut self, field: Field, length: usize) -> &mut Self {
        self.0.write_u64((field as u64) << 56 | length as u64);
        self
    }

    /// Adds a piece of the field that was begun.
    #[inline]
    pub fn piece(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write(bytes);
        self
    }

    /// Adds a number that a purge makes larger, and what it belongs to.
    #[inline]
    pub fn generation(&mut self, of: u64, number: u64) -> &mut Self {
        self.head(Field::Generation, 16);
        self.0.write_u64(of);
        self.0.write_u64(number);
        self
    }

    /// The key.
    #[must_use]
    #[inline]
    pub fn finish(&self) -> Key {
        let hash = self.0.finish128();
        [hash.h1, hash.h2]
    }
}

/// The group that a path is purged with: that of a host, in lower case and without port, and a decoded path.
#[must_use]
#[inline]
pub fn bucket(secret: [u64; 2], host: &[u8], path: &[u8]) -> usize {
    let [low, high] = secret;
    let mut hasher = SipHasher13::new_with_keys(low, high);
    hasher.write_u64(host.len() as u64);
    hasher.write(host);
    hasher.write(path);
    hasher.finish() as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &[(Field, &[u8])]) -> Key {
        let mut hasher = KeyHasher::new([1, 2], 0);
        for (field, bytes) in fields {
            hasher.field(*field, bytes);
        }
        hasher.finish()
    }

    #[test]
    fn fields_do_not_run_into_one_another() {
        let lists: [&[(Field, &[u8])]; 8] = [
            &[],
            &[(Field::Path, b"")],
            &[(Field::Query, b"")],
            &[(Field::Path, b""), (Field::Query, b"")],
            &[(Field::Host, b"a.examplec"), (Field::Path, b"/c")],
            &[(Field::Host, b"a.example"), (Field::Path, b"c/c")],
            &[(Field::Value, b"a"), (Field::Value, b"bc")],
            &[(Field::Value, b"ab"), (Field::Value, b"c")],
        ];
        for (index, one) in lists.iter().enumerate() {
            assert_eq!(key(one), key(one));
            assert!(lists[..index].iter().all(|other| key(other) != key(one)), "{one:?}");
        }
        assert_ne!(KeyHasher::new([1, 2], 1).finish(), KeyHasher::new([1, 2], 2).finish());
        assert_ne!(KeyHasher::new([1, 2], 1).finish(), KeyHasher::new([2, 1], 1).finish());
        let numbered = |number| KeyHasher::new([1, 2], 1).generation(7, number).finish();
        assert_ne!(numbered(1), numbered(2));
    }

    #[test]
    fn pieces_are_the_whole() {
        let mut pieces = KeyHasher::new([1, 2], 0);
        pieces.head(Field::Path, 5).piece(b"/a").piece(b"").piece(b"%20");
        assert_eq!(pieces.finish(), key(&[(Field::Path, b"/a%20")]));
    }

    #[test]
    fn paths_spread_over_their_groups() {
        let mut seen = vec![0; BUCKETS];
        for n in 0..64 * BUCKETS {
            seen[bucket([1, 2], b"a.example", format!("/{n}").as_bytes())] += 1;
        }
        assert!(seen.iter().all(|count| (20..140).contains(count)), "{seen:?}");
        assert_ne!(bucket([1, 2], b"ab", b"/c"), bucket([1, 2], b"a", b"b/c"));
    }
}
