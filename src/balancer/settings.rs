use rkyv::{Archive, Deserialize, Serialize};

/// How a peer is chosen.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Algorithm {
    /// In proportion to weight, latency and error rate.
    #[default]
    Adaptive,
    /// nginx's smooth weighted sequence, one for all workers.
    RoundRobin,
    /// The fewest requests in flight for its weight.
    LeastConn,
    /// Of two drawn by weight the one with the smaller product of latency and requests in flight.
    P2cEwma,
    /// By a key of the request, consistently.
    Hash,
    /// In proportion to weight.
    Random,
}

impl Algorithm {
    /// Every algorithm with its word in the document.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("adaptive", Self::Adaptive),
        ("round_robin", Self::RoundRobin),
        ("least_conn", Self::LeastConn),
        ("p2c_ewma", Self::P2cEwma),
        ("hash", Self::Hash),
        ("random", Self::Random),
    ];

    /// Its word in the document.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, other)| *other == self).map_or("", |(word, _)| word)
    }

    /// Whether its picks follow the written-out sequence.
    pub(super) const fn takes_turns(self) -> bool {
        matches!(self, Self::RoundRobin | Self::LeastConn | Self::Hash)
    }
}

/// How the peers of an upstream are chosen, beside their weights.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Policy {
    /// Which peer is next.
    pub algorithm: Algorithm,
    /// So many requests at most are in flight at each; 0 = no limit.
    pub max_in_flight: u32,
    /// For so long, microseconds, the weight of a peer that is new or has returned grows to the whole; 0 = at once.
    pub slow_start: u64,
}

impl ArchivedPolicy {
    /// The same as a value.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Policy {
        Policy {
            algorithm: match self.algorithm {
                ArchivedAlgorithm::Adaptive => Algorithm::Adaptive,
                ArchivedAlgorithm::RoundRobin => Algorithm::RoundRobin,
                ArchivedAlgorithm::LeastConn => Algorithm::LeastConn,
                ArchivedAlgorithm::P2cEwma => Algorithm::P2cEwma,
                ArchivedAlgorithm::Hash => Algorithm::Hash,
                ArchivedAlgorithm::Random => Algorithm::Random,
            },
            max_in_flight: self.max_in_flight.to_native(),
            slow_start: self.slow_start.to_native(),
        }
    }
}

/// One server of an upstream as the document names it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Host name or address literal.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Static weight, at least 1.
    pub weight: u32,
    /// 0 serves first, higher numbers when no lower one is available.
    pub priority: u8,
}

/// When a peer is left alone for a while, checked.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// So many failures in a row, at least 1, …
    pub failures: u16,
    /// … within this many microseconds eject a peer.
    pub window: u64,
    /// So many failures in a row do, however long they take; 0 = not looked at.
    pub consecutive: u16,
    /// A peer of which more requests per 1,000 fail, and many more than of its peers, is ejected; 0 = not looked at.
    pub error_ratio: u16,
    /// So many requests in an interval, at least, are compared; at least 1.
    pub minimum_calls: u32,
    /// So many of 100 peers may be out at a time.
    pub most: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        let window = 10 * crate::types::SECOND;
        Self { failures: 5, window, consecutive: 0, error_ratio: 0, minimum_calls: 20, most: 50 }
    }
}

impl Ejection {
    /// How many of `peers` may be out at a time.
    #[must_use]
    pub const fn most(&self, peers: usize) -> u32 {
        (peers as u64 * self.most as u64 / 100) as u32
    }
}

impl ArchivedEjection {
    /// The settings in the machine's own byte order.
    #[must_use]
    pub const fn settings(&self) -> Ejection {
        Ejection {
            failures: self.failures.to_native(),
            window: self.window.to_native(),
            consecutive: self.consecutive.to_native(),
            error_ratio: self.error_ratio.to_native(),
            minimum_calls: self.minimum_calls.to_native(),
            most: self.most,
        }
    }
}

/// Which outcomes are tried again elsewhere.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryOn {
    /// Connection refused, reset, or garbage instead of a response.
    pub error: bool,
    /// No answer in time.
    pub timeout: bool,
    /// HTTP statuses, one bit each: 500, 502, 503, 504, 403, 404, 429.
    pub statuses: u8,
}

impl RetryOn {
    /// The statuses that nginx can try again on, in the order of their bits.
    pub const STATUSES: [u16; 7] = [500, 502, 503, 504, 403, 404, 429];

    /// Whether `status` is tried again.
    #[must_use]
    pub fn has(self, status: u16) -> bool {
        Self::STATUSES.iter().enumerate().any(|(bit, other)| *other == status && self.statuses & 1 << bit != 0)
    }
}

/// When and how often a request is tried again, checked: `attempts` is 1 to 16, the budget at most 100 %.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retries {
    /// Tries in all, the first included.
    pub attempts: u8,
    /// What is tried again.
    pub on: RetryOn,
    /// Only methods that may be sent twice (RFC 9110, 9.2.2); connect failures are tried again for any method.
    pub idempotent_only: bool,
    /// Retries per 1,000 requests, beside a small constant.
    pub budget: u16,
    /// How long a try may take until the response header is there, microseconds; 0 = as the timeouts say.
    pub per_try: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            // error, timeout, http_502, http_503
            on: RetryOn { error: true, timeout: true, statuses: 0b0000_0110 },
            idempotent_only: true,
            budget: 200,
            per_try: 0,
        }
    }
}

/// Upstream timeouts, microseconds; 0 = nginx's own setting stays.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Timeouts {
    /// To establish a connection.
    pub connect: u64,
    /// Between two writes of the request.
    pub send: u64,
    /// Between two reads of the response.
    pub read: u64,
}
