//! Wrong tokens of the admin API, counted in a bucket for each address.
//!
//! While the bucket is empty no token from there is looked at, be it the right one: else whoever guesses would learn
//! that it was, however fast he goes.

use std::net::IpAddr;

use super::worker::Worker;
use crate::limiter::{KeyHasher, Quota};
use crate::state::tables::rate::Outcome;
use crate::types::{Now, SECOND};

/// So many wrong tokens at once, …
pub const GUESSES_BURST: u32 = 10;
/// … and so many a second after that.
pub const GUESSES_RATE: u64 = 1;

/// No limiter has this id.
const SCOPE: u64 = u64::MAX;

impl Worker {
    /// Whether a token from `client` is looked at now; else after so many microseconds it will be.
    ///
    /// # Errors
    /// The wait.
    pub fn may_guess(&self, client: IpAddr, now: Now) -> Result<(), u64> {
        let Some((key, quota)) = self.guesses(client) else { return Ok(()) };
        let looked = Self::rates(&self.region).look(key, &quota, 1, now.mono);
        looked.map(drop).map_err(|refused| refused.retry_after().unwrap_or(SECOND))
    }

    /// Counts a wrong token from `client`; whether there was still room for it.
    pub fn guessed_wrong(&self, client: IpAddr, now: Now) -> bool {
        let Some((key, quota)) = self.guesses(client) else { return true };
        matches!(Self::rates(&self.region).take(key, &quota, 1, now.mono), Outcome::Taken(_))
    }

    fn guesses(&self, client: IpAddr) -> Option<(u64, Quota)> {
        let quota = Quota::new(GUESSES_RATE, SECOND, GUESSES_BURST).ok()?;
        let mut hasher = KeyHasher::new(self.region.secret(), SCOPE);
        hasher.address(client);
        Some((hasher.finish(), quota))
    }
}
