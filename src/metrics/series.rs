use super::{NO_ROUTE, Names, OTHER_DURATION, OTHER_REQUESTS, OTHER_UPSTREAM};
use crate::types::{Id, Method, Reason};

/// The name of a slot of a shard: one word, made of ids and numbers at hand, with no text and no hash of text.
///
/// Bits, from the top: kind 4; then for kinds of a route: id slot 24, low half of the birth 16, method 4, status
/// group 10, 5 zero, whether there is a route 1 (where it says why: 4 zero, reason 8, 7 zero, 1); for others: 60 bits of
/// a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series(pub u64);

const REQUESTS: u64 = 1;
const DURATION: u64 = 2;
const UPSTREAM: u64 = 3;
const LIMITED: u64 = 4;
const SHADOWED: u64 = 5;
const VARIANT: u64 = 6;

/// What a [`Series`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Fifteen statuses of one route and method.
    Requests { route: RouteRef, method: Method, group: u16 },
    /// Request durations of one route and method.
    Duration { route: RouteRef, method: Method },
    /// Upstream durations of the peer with this key.
    Upstream(u64),
    /// Hits of one rule on one route.
    Limited,
    /// Requests to one variant of one route.
    Variant,
    /// Requests of one route that would have been refused for one reason.
    Shadowed { route: RouteRef, reason: Option<Reason> },
}

/// What is left of a route's id in a series: its slot and the low half of its birth; `None` = no route.
pub(super) type RouteRef = Option<(u32, u16)>;

impl Series {
    /// The bits of a peer's key that a series holds, and by which [`Names::peer`] is asked.
    pub const PEER_KEY: u64 = (1 << 60) - 1;

    /// Word of a slot of limit hits that counts them; 1 and 2 hold the id words of route and rule.
    pub const LIMITED_COUNT: usize = 3;

    /// The request counts of `route` and `method` for the statuses of `group` ([`status_place`]).
    #[must_use]
    #[inline]
    pub const fn requests(route: Id, method: Method, group: u16) -> Self {
        Self(REQUESTS << 60 | of_route(route) | (method as u64) << 16 | (group as u64 & 0x3ff) << 6)
    }

    /// The request durations of `route` and `method`.
    #[must_use]
    #[inline]
    pub const fn duration(route: Id, method: Method) -> Self {
        Self(DURATION << 60 | of_route(route) | (method as u64) << 16)
    }

    /// The upstream durations of the peer with `key` (63 bits over upstream, host and port; 60 count).
    #[must_use]
    #[inline]
    pub const fn upstream(key: u64) -> Self {
        Self(UPSTREAM << 60 | key & Self::PEER_KEY)
    }

    /// The hits of limiter `rule` on `route`.
    #[must_use]
    #[inline]
    pub const fn limited(route: Id, rule: Id) -> Self {
        let mixed = route.word().rotate_left(29) ^ rule.word().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(LIMITED << 60 | mixed >> 4)
    }

    /// Words of a slot of a variant's requests: 1 and 2 hold the route's id word and the variant's key; then those that
    /// were answered, …
    pub const VARIANT_GOOD: usize = 3;
    /// … those that failed, …
    pub const VARIANT_ERRORS: usize = 4;
    /// … the microseconds to the answers, …
    pub const VARIANT_MICROS: usize = 5;
    /// … the sum of their logarithms (`canary::log`) …
    pub const VARIANT_LOGS: usize = 6;
    /// … and that of the squares of these.
    pub const VARIANT_SQUARES: usize = 7;

    /// The requests to the variant with `key` (`canary::key_of`) of `route`.
    #[must_use]
    #[inline]
    pub const fn variant(route: Id, key: u64) -> Self {
        let mixed = route.word().rotate_left(31) ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(VARIANT << 60 | mixed >> 4)
    }

    /// The requests of `route` that would have been refused for `reason`.
    #[must_use]
    pub const fn shadowed(route: Id, reason: Reason) -> Self {
        Self(SHADOWED << 60 | of_route(route) | (reason as u64) << 8)
    }

    /// A number to spread series over a table with.
    #[must_use]
    #[inline]
    pub const fn hash(self) -> u32 {
        ((self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// The label values: (route, method), (upstream, peer), (route, rule) or (route, reason). `None` where a name is gone, or the word
    /// is no series. `about` is words 1 and 2 of the slot, which say whose limit hits it counts.
    #[must_use]
    pub fn labels(self, about: [u64; 2], names: &dyn Names) -> Option<(&str, &str)> {
        let name = |route: RouteRef| match route {
            None => Some(NO_ROUTE),
            Some((slot, birth)) => names.route(slot, birth),
        };
        match self.meaning()? {
            Meaning::Requests { route, method, .. } | Meaning::Duration { route, method } => {
                Some((name(route)?, method.name()))
            }
            Meaning::Upstream(key) => names.peer(key),
            Meaning::Variant => {
                let [route, key] = about;
                names.variant(Id { slot: route as u32, birth: (route >> 32) as u32 }, key)
            }
            Meaning::Shadowed { route, reason } => Some((name(route)?, reason?.code())),
            Meaning::Limited => {
                let [route, rule] = about.map(|word| Id { slot: word as u32, birth: (word >> 32) as u32 });
                Some((name(route.is_some().then_some((route.slot, route.birth as u16)))?, names.rule(rule)?))
            }
        }
    }

    /// The reserved slot whose words take up this series' words one by one when its name is gone; `None` where one
    /// word of [`super::HEAD`] takes the sum of them all.
    #[must_use]
    pub fn heir(self) -> Option<usize> {
        match self.meaning()? {
            Meaning::Requests { group: 0, .. } => Some(OTHER_REQUESTS),
            Meaning::Duration { .. } => Some(OTHER_DURATION),
            Meaning::Upstream(_) => Some(OTHER_UPSTREAM),
            Meaning::Requests { .. } | Meaning::Limited | Meaning::Shadowed { .. } | Meaning::Variant => None,
        }
    }

    /// Whether this is a slot of a variant's requests.
    #[must_use]
    pub const fn is_variant(self) -> bool {
        self.0 >> 60 == VARIANT
    }

    /// Whether this is a slot of what would have been refused.
    #[must_use]
    pub const fn is_shadowed(self) -> bool {
        self.0 >> 60 == SHADOWED
    }

    /// Whether this is a slot of limit hits.
    #[must_use]
    pub const fn is_limited(self) -> bool {
        self.0 >> 60 == LIMITED
    }

    pub(super) fn meaning(self) -> Option<Meaning> {
        let route = (self.0 & 1 != 0).then_some(((self.0 >> 36) as u32 & 0xff_ffff, (self.0 >> 20) as u16));
        let method = Method::from_number((self.0 >> 16) as u8 & 0xf);
        match self.0 >> 60 {
            REQUESTS => Some(Meaning::Requests { route, method, group: (self.0 >> 6) as u16 & 0x3ff }),
            DURATION => Some(Meaning::Duration { route, method }),
            UPSTREAM => Some(Meaning::Upstream(self.0 & Self::PEER_KEY)),
            LIMITED => Some(Meaning::Limited),
            VARIANT => Some(Meaning::Variant),
            SHADOWED => {
                let number = (self.0 >> 8) as u8;
                let reason = Reason::ALL.iter().copied().find(|reason| *reason as u8 == number);
                Some(Meaning::Shadowed { route, reason })
            }
            _ => None,
        }
    }
}

#[inline]
const fn of_route(route: Id) -> u64 {
    (route.slot as u64 & 0xff_ffff) << 36 | (route.birth as u64 & 0xffff) << 20 | route.is_some() as u64
}

/// Statuses of group 0, in the order of their words; the first seven share the cache line of the key.
const COMMON: [u16; 15] = [200, 201, 204, 304, 401, 404, 429, 301, 302, 400, 403, 500, 502, 503, 504];

/// In which group of statuses `status` is counted, and in which word of the group's slot (1 to 15). Group 0 is what
/// nearly all requests end with; the others are runs of fifteen numbers.
#[must_use]
#[inline]
pub const fn status_place(status: u16) -> (u16, usize) {
    let word = match status {
        200 => 1,
        201 => 2,
        204 => 3,
        304 => 4,
        401 => 5,
        404 => 6,
        429 => 7,
        301 => 8,
        302 => 9,
        400 => 10,
        403 => 11,
        500 => 12,
        502 => 13,
        503 => 14,
        504 => 15,
        _ => {
            // Three digits; anything else is nginx's 000.
            let status = if status > 999 { 0 } else { status };
            return (1 + status / 15, 1 + status as usize % 15);
        }
    };
    (0, word)
}

/// The status that word `word` (1 to 15) of a slot of `group` counts.
pub(super) fn status(group: u16, word: usize) -> Option<u16> {
    let index = word.checked_sub(1)?;
    match group.checked_sub(1) {
        None => COMMON.get(index).copied(),
        Some(run) => Some(run * 15 + u16::try_from(index).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_place_of_its_own() {
        for number in 0..1_000 {
            let (group, word) = status_place(number);
            assert!((1..=15).contains(&word) && group < 1 << 10);
            assert_eq!(status(group, word), Some(number));
        }
        assert_eq!(status_place(1_000), status_place(0));
    }

    #[test]
    fn series_mean_what_they_were_made_of() {
        for (slot, birth) in [(0, 1), (0, 65_536), (7, 3), (0xff_ffff, 0xffff)] {
            let id = Id { slot, birth };
            let route = Some((slot, birth as u16));
            for method in Method::ALL {
                assert_eq!(Series::duration(id, method).meaning(), Some(Meaning::Duration { route, method }));
                assert_eq!(
                    Series::requests(id, method, 67).meaning(),
                    Some(Meaning::Requests { route, method, group: 67 })
                );
            }
        }
        assert_eq!(
            Series::duration(Id::NONE, Method::Get).meaning(),
            Some(Meaning::Duration { route: None, method: Method::Get })
        );
        assert_eq!(Series::upstream(u64::MAX >> 1).meaning(), Some(Meaning::Upstream(Series::PEER_KEY)));
        assert_eq!(
            Series::limited(Id { slot: 1, birth: 1 }, Id { slot: 2, birth: 2 }).meaning(),
            Some(Meaning::Limited)
        );
        for reason in Reason::ALL.iter().copied() {
            let series = Series::shadowed(Id { slot: 7, birth: 3 }, reason);
            assert_eq!(series.meaning(), Some(Meaning::Shadowed { route: Some((7, 3)), reason: Some(reason) }));
        }
        for word in [0, 1, 14 << 60, u64::MAX] {
            assert_eq!(Series(word).meaning(), None);
        }
    }
}
