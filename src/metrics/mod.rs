//! Metrics: what is counted, and the text that Prometheus reads.
//!
//! Every worker counts into a shard of its own, a table of [`SLOT`]-word slots in the region that one process writes
//! and everybody reads (`state::tables::shards`). Here is what both sides agree on: how a series is named by one word
//! ([`Series`]) without hashing any text, where in a slot a status or a latency goes, and how all shards together
//! become text ([`render`]).
//!
//! | family | labels | slots |
//! |---|---|---|
//! | `gateway_requests_total` | route, method, status | 15 statuses of one (route, method) |
//! | `gateway_request_duration_seconds` | route, method | a histogram |
//! | `gateway_upstream_duration_seconds` | upstream, peer | a histogram |
//! | `gateway_rate_limit_hits_total` | route, rule | a counter |
//! | `gateway_canary_requests_total`, `gateway_canary_errors_total`, `gateway_canary_duration_seconds` | route, variant | counters, of which promotions make use too |
//! | `gateway_shadow_refusals_total` | route, reason | a counter |
//! | `gateway_active_connections`, `gateway_panics_total`, `gateway_config_errors_total` | | the shard's first slot |
//!
//! Labels are names from the policy, so a client cannot make series. What has no slot, because the shard is full or
//! the name is gone, is counted under [`OTHER`]; what reached no route under [`NO_ROUTE`].

mod histogram;
mod render;
mod series;
mod sums;

pub use histogram::{BOUNDS, bucket};
pub use render::{BreakerGauge, CanaryGauge, Gauges, LoadGauge, LogGauge, Names, UpstreamGauge, render};
pub use series::{Series, status_place};

/// Words in a slot: two cache lines.
pub const SLOT: usize = 16;

/// The label of what has no series of its own.
pub const OTHER: &str = "other";

/// The route label of what never reached one.
pub const NO_ROUTE: &str = "-";

/// Slots at the start of each shard that are not hashed: [`HEAD`] and the three `OTHER_…`.
pub const RESERVED: usize = 4;

/// The slot of counters without labels.
pub const HEAD: usize = 0;
/// The slot of request counts without a series: the common statuses.
pub const OTHER_REQUESTS: usize = 1;
/// The slot of request durations without a series.
pub const OTHER_DURATION: usize = 2;
/// The slot of upstream durations without a series.
pub const OTHER_UPSTREAM: usize = 3;

/// Words of the slot [`HEAD`].
pub mod head {
    /// Connections at this moment: a gauge.
    pub const CONNECTIONS: usize = 1;
    /// Panics that were caught.
    pub const PANICS: usize = 2;
    /// Configurations that were refused.
    pub const CONFIG_ERRORS: usize = 3;
    /// Requests without a series whose status is not a common one.
    pub const OTHER_STATUS: usize = 4;
    /// Limit hits without a series.
    pub const OTHER_LIMITED: usize = 5;
    /// Slots in use; the writer's own.
    pub const USED: usize = 6;
    /// A sweep under way: {how many there were, u32; the slot whose numbers are being moved, plus 1, u32, or 0}.
    pub const SWEEP: usize = 7;

    /// Requests that would have been refused, without a series.
    pub const OTHER_SHADOWED: usize = 8;
    /// Requests to variants without a series: answered, …
    pub const OTHER_VARIANT: usize = 9;
    /// … failed, …
    pub const OTHER_VARIANT_ERRORS: usize = 10;
    /// … and the microseconds to the answers.
    pub const OTHER_VARIANT_MICROS: usize = 11;

    /// The slot whose numbers are being moved, as [`SWEEP`] says.
    #[must_use]
    pub const fn swept_slot(word: u64) -> Option<usize> {
        (word as u32 as usize).checked_sub(1)
    }
}
