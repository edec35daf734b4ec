//! Passwords that were looked at a moment ago, and those that are being looked at.
//!
//! A browser sends its password with every request, and each look costs milliseconds on purpose. A process keeps what
//! came of the last ones under a keyed hash of user, password and the hash that it was held against: the password
//! itself is nowhere, and an edit of the hash is another key. A right one is known for five minutes, a wrong one for ten
//! seconds. A wrong one never takes the place of a right one, so that who guesses crowds out other guesses alone.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::{BuildHasher, Hasher, RandomState};
use zeroize::Zeroizing;

use super::password::verify_password;
use crate::types::SECOND;

/// How many logins a process knows: sets of four.
const SETS: usize = 256;
const WAYS: usize = 4;

/// How long a right password is known, microseconds, …
const RIGHT_FOR: u64 = 300 * SECOND;
/// … and a wrong one.
const WRONG_FOR: u64 = 10 * SECOND;

/// How many passwords may be looked at at once by one process.
pub const LOGINS_MAX: usize = 64;

/// A login under a keyed hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Login([u8; 16]);

/// A password to be held against a hash: takes milliseconds, so somewhere else than where requests are decided.
pub struct LoginQuestion {
    login: Login,
    /// Gone from memory with the question, whether it was answered or not.
    password: Zeroizing<Vec<u8>>,
    hash: String,
    /// Whether the hash is the user's own; else the answer is known, and what counts is the time it takes.
    is_own: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginAnswer {
    /// Which login it was.
    pub login: Login,
    /// Whether the password is right; `None` where it could not be found out.
    pub right: Option<bool>,
}

/// The logins of one process.
pub struct Logins {
    key: [u8; 16],
    places: Box<[[Place; WAYS]]>,
    under_way: Vec<Login>,
    /// The answer that the request at hand has waited for, whatever else the cache keeps.
    answer: Option<LoginAnswer>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    login: Login,
    right: bool,
    /// Microseconds of the monotonic clock; 0 is free.
    until: u64,
}

impl LoginQuestion {
    /// Of `login`, which is held against `hash`.
    #[must_use]
    pub fn new(login: Login, password: &str, hash: &str, is_own: bool) -> Self {
        Self { login, password: password.as_bytes().to_vec().into(), hash: hash.to_owned(), is_own }
    }

    /// Which login it is.
    #[must_use]
    pub fn login(&self) -> Login {
        self.login
    }

    /// Finds out. This takes its time.
    #[must_use]
    pub fn answer(self) -> LoginAnswer {
        let right = verify_password(&self.password, &self.hash) & self.is_own;
        LoginAnswer { login: self.login, right: Some(right) }
    }
}

impl std::fmt::Debug for LoginQuestion {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("LoginQuestion(…)")
    }
}

impl Default for Logins {
    fn default() -> Self {
        let places = vec![[Place::default(); WAYS]; SETS].into_boxed_slice();
        Self { key: random_key(), places, under_way: Vec::with_capacity(LOGINS_MAX), answer: None }
    }
}

/// A key for hashes that nobody else can compute.
pub(super) fn random_key() -> [u8; 16] {
    let mut key = [0; 16];
    if aws_lc_rs::rand::fill(&mut key).is_err() {
        // The system's generator by another way.
        let word = || RandomState::new().build_hasher().finish();
        key = (u128::from(word()) << 64 | u128::from(word())).to_le_bytes();
    }
    key
}

impl Logins {
    /// Names a login: `password` of `user`, held against `hash`, which may be somebody else's.
    #[must_use]
    pub fn login(&self, user: &str, password: &str, hash: &str, is_own: bool) -> Login {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for text in [user, password, hash] {
            hasher.write_u64(text.len() as u64);
            hasher.write(text.as_bytes());
        }
        hasher.write_u8(u8::from(is_own));
        Login(hasher.finish128().as_bytes())
    }

    /// Whether the password is right, as far as that is known at `now` (microseconds, monotonic).
    #[must_use]
    pub fn find(&self, login: Login, now: u64) -> Option<bool> {
        if let Some(LoginAnswer { right: Some(right), login: answered }) = self.answer
            && answered == login
        {
            return Some(right);
        }
        let is_it = |place: &&Place| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&place.login.0, &login.0).is_ok() && place.until > now
        };
        self.places.get(index(login))?.iter().find(is_it).map(|place| place.right)
    }

    /// Notes that `login` is being looked at. `Ok(true)`: by nobody yet, so somebody has to begin.
    ///
    /// # Errors
    ///
    /// So many are being looked at that another one has to come back later.
    pub fn begin(&mut self, login: Login) -> Result<bool, Busy> {
        if self.under_way.contains(&login) {
            return Ok(false);
        }
        if self.under_way.len() >= LOGINS_MAX {
            return Err(Busy);
        }
        self.under_way.push(login);
        Ok(true)
    }

    /// Keeps what came of a look, found out by `now`.
    pub fn end(&mut self, answer: LoginAnswer, now: u64) {
        self.under_way.retain(|login| *login != answer.login);
        let Some(right) = answer.right else { return };
        let until = now + if right { RIGHT_FOR } else { WRONG_FOR };
        let Some(set) = self.places.get_mut(index(answer.login)) else { return };
        // Its own place, else one that is over, else a wrong one's, else the oldest.
        let worth = |place: &Place| match place.login == answer.login {
            true => (0, 0),
            false if place.until <= now => (1, 0),
            false => (2 + u8::from(place.right), place.until),
        };
        let Some(place) = set.iter_mut().min_by_key(|place| worth(place)) else { return };
        if right || worth(place) < (3, 0) {
            *place = Place { login: answer.login, right, until };
        }
    }

    /// Lays `answer` before the request at hand; `None` takes it away again.
    pub fn lay(&mut self, answer: Option<LoginAnswer>) {
        self.answer = answer;
    }

    /// Whether it is known that the answer which the request at hand has waited for cannot be found.
    #[must_use]
    pub fn has_failed(&self, login: Login) -> bool {
        self.answer.is_some_and(|answer| answer.login == login && answer.right.is_none())
    }
}

/// Too many logins at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

fn index(login: Login) -> usize {
    let [low, high, ..] = login.0;
    usize::from(u16::from_le_bytes([low, high])) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(login: Login, right: bool) -> LoginAnswer {
        LoginAnswer { login, right: Some(right) }
    }

    #[test]
    fn what_was_found_out_is_known_for_a_while() {
        let mut logins = Logins::default();
        let (right, wrong) = (logins.login("a", "b", "h", true), logins.login("a", "c", "h", true));
        assert_eq!(logins.find(right, 1), None);
        logins.end(answer(right, true), 1);
        logins.end(answer(wrong, false), 1);
        for (login, at, expected) in [
            (right, 1, Some(true)),
            (right, RIGHT_FOR, Some(true)),
            (right, RIGHT_FOR + 1, None),
            (wrong, 1, Some(false)),
            (wrong, WRONG_FOR, Some(false)),
            (wrong, WRONG_FOR + 1, None),
        ] {
            assert_eq!(logins.find(login, at), expected, "{at}");
        }
        for other in [
            logins.login("a", "b", "g", true),
            logins.login("a", "b", "h", false),
            logins.login("ab", "", "h", true),
            logins.login("", "ab", "h", true),
            Logins::default().login("a", "b", "h", true),
        ] {
            assert_eq!(logins.find(other, 1), None, "{other:?}");
        }
    }

    #[test]
    fn guesses_crowd_out_guesses() {
        let mut logins = Logins::default();
        let good: Vec<Login> = (0..50).map(|n| logins.login("a", &n.to_string(), "h", true)).collect();
        for (at, login) in good.iter().enumerate() {
            logins.end(answer(*login, true), 1 + at as u64);
        }
        let before = good.iter().filter(|login| logins.find(**login, 200) == Some(true)).count();
        assert!(before > 40, "of 50 in 256 sets of four");
        for n in 0..100_000 {
            let login = logins.login("b", &n.to_string(), "h", false);
            logins.end(answer(login, false), 100);
        }
        let known = good.iter().filter(|login| logins.find(**login, 200) == Some(true)).count();
        assert_eq!(known, before);
        assert_eq!(logins.places.iter().flatten().filter(|place| place.until > 0).count(), SETS * WAYS);
    }

    #[test]
    fn so_many_at_once() {
        let mut logins = Logins::default();
        let all: Vec<Login> = (0..LOGINS_MAX + 1).map(|n| logins.login("a", &n.to_string(), "h", true)).collect();
        for login in &all[..LOGINS_MAX] {
            assert_eq!((logins.begin(*login), logins.begin(*login)), (Ok(true), Ok(false)));
        }
        assert_eq!(logins.begin(all[LOGINS_MAX]), Err(Busy));
        assert_eq!(logins.begin(all[0]), Ok(false), "who waits for another's answer takes no place");
        logins.end(LoginAnswer { login: all[0], right: None }, 1);
        assert_eq!(logins.begin(all[LOGINS_MAX]), Ok(true));
        assert_eq!(logins.find(all[0], 1), None);
    }

    #[test]
    fn nobodys_password_is_wrong_even_if_it_fits() {
        let hash = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
        for (is_own, expected) in [(true, true), (false, false)] {
            let question = LoginQuestion::new(Login::default(), "password", hash, is_own);
            assert_eq!(format!("{question:?}"), "LoginQuestion(…)");
            assert_eq!(question.answer().right, Some(expected));
        }
    }
}
