//! Balancing: which peer gets the next request.

mod settings;

pub use settings::{
    Algorithm, ArchivedAlgorithm, ArchivedNode, ArchivedRetries, ArchivedRetryOn, ArchivedTimeouts, Node, Retries,
    RetryOn, Timeouts,
};
