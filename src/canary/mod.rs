//! Canaries: which variant of a service serves a request.
//!
//! Somebody is let through to the variant that an override names: a header, before a cookie, before the list of users.
//! Everybody else falls into one of 10,000 buckets by a salted hash of who they are ([`bucket`]), so shares have two
//! decimals of a percent, the same caller meets the same variant on every node and after every restart, and two routes
//! with different salts try their luck on different people. [`place`] says whose bucket it is.
//!
//! **Raising a share only adds callers.** Variants own ranges of buckets. The first variant is the baseline and has what
//! the others leave in the middle; the second, fourth, … grow from the bottom up and the third, fifth, … from the top
//! down. With two or three variants the callers of a canary hang on its own share alone: whatever is done to the rest,
//! they stay as long as it does not shrink. No rule can promise as much to four (three that may each have half of the
//! buckets cannot keep out of each other's way); with any number nobody leaves a variant whose share rises while no
//! other does.

mod choose;
mod promote;
mod settings;

pub use choose::{Rule, Who, bucket, overridden, place, with_live};
pub use promote::{ArchivedPromote, CERTAIN, Event, Phase, Promote, STEPS_MAX, State, Tally, Verdict, Why, log};
pub use settings::{
    ArchivedKey, ArchivedOverrides, ArchivedRules, BUCKETS, Key, Mark, Overrides, Rules, Salt, VARIANTS_MAX, key_of,
};
