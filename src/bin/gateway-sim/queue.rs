//! What is still to happen, in the order of its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens at one moment of the simulated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A client of this crowd asks.
    Arrive(u32),
    /// The request has come in whole, and goes out.
    Send(u64),
    /// The response header of this try of a request is there.
    Header(u64, u32),
    /// The response of this try is there.
    End(u64, u32),
    /// No connection.
    Refused(u64, u32),
    /// A kept connection turned out to be closed.
    Stale(u64, u32),
    /// No answer in time.
    Timeout(u64, u32),
    /// The client goes away.
    Abort(u64),
    /// The leader's turn.
    Tick,
    /// The workers' turn for what is no request.
    Tidy,
    /// All is looked over.
    Look,
    /// A worker is killed.
    Kill,
    /// One is started in its place.
    Start,
    /// New workers take over from the old ones.
    Reload,
    /// An old worker has waited long enough for its requests.
    Expire(u32),
    /// The document is edited.
    Edit,
    /// The leader is killed …
    Behead,
    /// … and somebody takes over.
    Takeover,
    /// The wall clock steps.
    Step,
    /// A server gets into trouble …
    Trouble,
    /// … and is well again.
    Relief(u32),
    /// Somebody forces a breaker.
    Force,
    /// The next part of the run begins.
    Part(u32),
}

#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
}

impl Queue {
    /// `event` is to happen at `time`; of several at one time, the first that was said.
    pub fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.heap.push(Reverse((time, self.count, event)));
    }

    pub fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((time, _, event))| (time, event))
    }
}
