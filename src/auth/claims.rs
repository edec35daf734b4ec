use super::json::{Document, Kind, Value};

/// The claims of a token that was verified, and the buffers in which the next one is read.
///
/// One per worker: after the first tokens nothing is allocated. Claims are walked where they lie; only strings with
/// escapes are held a second time. A failed verification leaves no claims, so nobody can act on unverified ones.
///
/// Dotted names walk objects: `realm_access.roles` is the member `roles` of the member `realm_access`. Where a claim
/// is itself called by a name with dots (`https://example.com/roles`), the whole name goes before its parts.
#[derive(Default)]
pub struct Claims {
    pub(super) payload: Document,
    pub(super) header: Document,
    pub(super) signature: Vec<u8>,
    pub(super) memo: Memo,
    pub(super) times: Times,
    /// The keys under which the token may be revoked: its id, its subject, itself; 0 = has none. `None` until asked for.
    pub(super) marks: Option<[u64; 3]>,
}

/// The header that this worker accepted last. An issuer's headers are all alike, so most are known by their bytes.
#[derive(Default)]
pub(super) struct Memo {
    /// As it stood in the token, base64url.
    pub header: Vec<u8>,
    /// Which verifier accepted it; 0 = none.
    pub verifier: u64,
    /// The only key that it leads to.
    pub key: usize,
}

/// Registered times, in microseconds since the epoch.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    pub expires: Option<i64>,
    pub issued: Option<i64>,
}

impl Claims {
    /// Empty claims with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the token, not the buffers.
    pub fn clear(&mut self) {
        self.payload.clear();
        self.times = Times::default();
        self.marks = None;
    }

    /// The keys under which the token may be revoked: its id, its subject, itself; 0 = it has none. `make` finds them once
    /// a token.
    #[inline]
    pub fn marks(&mut self, make: impl FnOnce(&Self) -> [u64; 3]) -> [u64; 3] {
        match self.marks {
            Some(marks) => marks,
            None => {
                let marks = make(self);
                self.marks = Some(marks);
                marks
            }
        }
    }

    /// The token's subject, `sub`; it holds no control characters.
    #[inline]
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.top("sub")
    }

    /// The token's id, `jti`; it holds no control characters.
    #[inline]
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.top("jti")
    }

    /// When the token expires, `exp`, in microseconds since the epoch, without leeway.
    #[inline]
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.times.expires.and_then(|at| u64::try_from(at).ok())
    }

    /// When the token was issued, `iat`, in microseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn issued(&self) -> Option<u64> {
        self.times.issued.and_then(|at| u64::try_from(at).ok())
    }

    /// The string claim at the dotted `path`; `None` where it is absent or of another type.
    #[inline]
    #[must_use]
    pub fn string(&self, path: &str) -> Option<&str> {
        self.find(path)?.string()
    }

    /// The words of the claim at the dotted `path`: a space-separated string or an array of strings. Any other type
    /// has none, and neither has an array with anything but strings in it.
    #[must_use]
    pub fn list(&self, path: &str) -> List<'_> {
        List(match self.find(path) {
            Some(value) if value.kind() == Kind::String => Words::String(value.text()),
            Some(value) if value.kind() == Kind::Array => {
                match value.children().all(|element| element.kind() == Kind::String) {
                    true => Words::Array(value.children()),
                    false => Words::String(""),
                }
            }
            _ => Words::String(""),
        })
    }

    /// The claim at the dotted `path` as a header value: a string, or a number or boolean as the token spells it.
    /// `None` for other types, for empty strings and where a control character would end the header.
    #[inline]
    #[must_use]
    pub fn header_value(&self, path: &str) -> Option<&str> {
        let value = self.find(path)?;
        match value.kind() {
            Kind::String | Kind::Number | Kind::True | Kind::False => {
                Some(value.text()).filter(|text| !text.is_empty() && printable(text))
            }
            Kind::Null | Kind::Array | Kind::Object => None,
        }
    }

    /// The consumer that the claim at the dotted `path` names: a string or a number, of at most 256 bytes and
    /// without control characters.
    #[inline]
    #[must_use]
    pub fn consumer(&self, path: &str) -> Option<&str> {
        let value = self.find(path)?;
        match value.kind() {
            Kind::String | Kind::Number => {
                Some(value.text()).filter(|text| (1..=256).contains(&text.len()) && printable(text))
            }
            _ => None,
        }
    }

    /// Whether there is a claim at the dotted `path` that is not null.
    #[inline]
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some_and(|value| value.kind() != Kind::Null)
    }

    fn top(&self, name: &str) -> Option<&str> {
        self.payload.object()?.member(name)?.string()
    }

    fn find(&self, path: &str) -> Option<Value<'_>> {
        find(self.payload.object()?, path)
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Claims are personal data and the buffers hold signatures.
        f.debug_struct("Claims").field("read", &self.payload.root().is_some()).finish_non_exhaustive()
    }
}

fn find<'a>(object: Value<'a>, path: &str) -> Option<Value<'a>> {
    if let Some(value) = object.member(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (name, rest) = path.split_at_checked(dot)?;
        find(object.member(name)?, rest.get(1..)?)
    })
}

/// Whether nothing in `text` ends a header, a log line or a key.
#[inline]
pub(super) fn printable(text: &str) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = text.as_bytes().as_chunks();
    let mut hit = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The top bit of a byte that went below zero: a control, or DEL. A borrow comes only from such a byte.
        hit |= (word.wrapping_sub(ONES * 0x20) | (word ^ (ONES * 0x7f)).wrapping_sub(ONES)) & !word;
    }
    hit & (ONES << 7) == 0 && rest.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f)
}

/// The words of a list claim.
#[derive(Clone)]
pub struct List<'a>(Words<'a>);

#[derive(Clone)]
enum Words<'a> {
    String(&'a str),
    Array(super::json::Children<'a>),
}

impl List<'_> {
    /// A list without words.
    #[must_use]
    pub fn empty() -> Self {
        Self(Words::String(""))
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Words::Array(elements) => elements.next().and_then(Value::string),
            Words::String(rest) => {
                // OAuth scopes are separated by single spaces (RFC 6749, 3.3); more do no harm.
                let text = rest.trim_start_matches(' ');
                if text.is_empty() {
                    return None;
                }
                let end = text.bytes().position(|byte| byte == b' ').unwrap_or(text.len());
                let (word, behind) = text.split_at_checked(end)?;
                *rest = behind;
                Some(word)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn controls_are_found_wherever_they_stand() {
        for len in 0..20 {
            for place in 0..=len {
                for byte in 0..=0x7f_u8 {
                    let mut text = "x\u{e9}~ ".repeat(5).chars().take(len).collect::<Vec<_>>();
                    text.insert(place, char::from(byte));
                    let text: String = text.into_iter().collect();
                    assert_eq!(printable(&text), !byte.is_ascii_control(), "{text:?}");
                }
            }
        }
    }
}
