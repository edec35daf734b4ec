use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// Makes the key of a bucket: SipHash-1-3 over the limiter and the parts of its key, under the region's secret.
///
/// Clients choose what goes in (addresses, headers, cookies), so the hash is keyed: who does not know the secret can
/// neither aim at another's bucket nor crowd one window of the table.
#[derive(Clone)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// Begins a key of the limiter with id word `limiter` under `secret`.
    #[must_use]
    #[inline]
    pub fn new(secret: [u64; 2], limiter: u64) -> Self {
        let [low, high] = secret;
        let mut hasher = SipHasher13::new_with_keys(low, high);
        hasher.write_u64(limiter);
        Self(hasher)
    }

    /// Adds one part of the key. The length goes in before the bytes, so `ab, c` is not `a, bc`.
    #[inline]
    pub fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write_u64(bytes.len() as u64);
        self.0.write(bytes);
        self
    }

    /// Adds a part that is absent, which is another key than any that is there, the empty one included.
    #[inline]
    pub fn absent(&mut self) -> &mut Self {
        self.0.write_u64(u64::MAX);
        self
    }

    /// Adds an address: IPv4 whole, IPv6 by its /64 because one client commonly has all of that, an IPv4 address
    /// inside IPv6 (`::ffff:a.b.c.d`) as the IPv4 one that it is.
    #[inline]
    pub fn address(&mut self, address: IpAddr) -> &mut Self {
        match address.to_canonical() {
            IpAddr::V4(address) => self.part(&address.octets()),
            IpAddr::V6(address) => self.part(&((u128::from(address) >> 64) as u64).to_be_bytes()),
        }
    }

    /// The key; never 0, also not in its lower 56 bits, which are what the table of buckets compares.
    #[must_use]
    #[inline]
    pub fn finish(&self) -> u64 {
        match self.0.finish() {
            hash if hash << 8 == 0 => 1,
            hash => hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(limiter: u64, parts: &[&[u8]]) -> u64 {
        let mut hasher = KeyHasher::new([1, 2], limiter);
        for part in parts {
            hasher.part(part);
        }
        hasher.finish()
    }

    fn address(address: &str) -> u64 {
        KeyHasher::new([1, 2], 0).address(address.parse().unwrap()).finish()
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_eq!(key(1, &[b"a", b"b"]), key(1, &[b"a", b"b"]));
        let keys = [
            key(1, &[]),
            key(2, &[]),
            key(1, &[b""]),
            key(1, &[b"", b""]),
            key(1, &[b"ab", b"c"]),
            key(1, &[b"a", b"bc"]),
            KeyHasher::new([1, 2], 1).absent().finish(),
            KeyHasher::new([2, 1], 1).finish(),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != one), "{index}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_ne!(address("::192.0.2.1"), address("192.0.2.1"), "the deprecated form is IPv6");
    }
}
