//! The processes of one machine: workers that come and go, the leader, and the region that they share.

use std::collections::BTreeMap;

use gateway::config::{self, Secrets};
use gateway::gateway::{Leader, Worker};
use gateway::state::{HeapRegion, Identity, Reader, Region};
use gateway::types::{Kind, Now, SECOND};

use crate::document::Document;
use crate::random::Random;
use crate::trace::{Checked, Violation, broken};

/// Workers look at their clock once a turn of their event loop, so it is late by so much at most, microseconds.
pub const LAG: u64 = 5_000;

/// Where the monotonic and the wall clock begin, microseconds.
const BOOT: u64 = 1_000 * SECOND;
const EPOCH: u64 = 1_800_000_000 * SECOND;

/// A worker process.
pub struct Member {
    pub worker: Worker,
    /// What its clock shows: never later than the time, never back.
    clock: u64,
    /// An old one that only ends what it has under way.
    pub leaving: bool,
    /// How many requests it has under way.
    pub busy: u64,
}

pub struct Fleet {
    pub members: BTreeMap<u32, Member>,
    pub leader: Option<Leader>,
    /// Looks at the policy for the checks.
    pub observer: Reader,
    /// How far the wall clock was set ahead, microseconds; may be negative.
    pub stepped: i64,
    started: u32,
    /// Handles to it are in all of the above: dropped last.
    heap: HeapRegion,
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("{path}: no such file"))
    }
}

impl Fleet {
    pub fn new(random: &mut Random) -> Result<Self, Violation> {
        let failed = |text: String| Violation { invariant: "start", text };
        let heap =
            HeapRegion::new(16 << 20, [random.word(), random.word()]).map_err(|error| failed(error.to_string()))?;
        let leader = Leader::take(heap.region(), Identity::current()).map_err(|error| failed(format!("{error:?}")))?;
        let observer = Reader::claim(heap.region(), Identity::current()).ok_or_else(|| failed("no seat".to_owned()))?;
        Ok(Self { members: BTreeMap::new(), leader, observer, stepped: 0, started: 0, heap })
    }

    pub fn region(&self) -> Region {
        self.heap.region()
    }

    /// Both clocks as they are.
    pub fn now(&self, time: u64) -> Now {
        Now { mono: BOOT + time, wall: (EPOCH + BOOT + time).saturating_add_signed(self.stepped) }
    }

    /// A worker and both clocks as it knows them.
    pub fn member(&mut self, id: u32, time: u64, random: &mut Random) -> Option<(&mut Member, Now)> {
        let stepped = self.stepped;
        let member = self.members.get_mut(&id)?;
        member.clock = member.clock.max((BOOT + time).saturating_sub(random.below(LAG)));
        let now = Now { mono: member.clock, wall: (EPOCH + member.clock).saturating_add_signed(stepped) };
        Some((member, now))
    }

    /// The id that `name` has now, in one word; 0 = none.
    pub fn id_of(&self, kind: Kind, name: &str) -> u64 {
        self.observer.enter().and_then(|view| view.id_of(kind, name)).map_or(0, |id| id.word())
    }

    /// Starts a worker.
    pub fn start(&mut self, random: &mut Random) -> Result<u32, Violation> {
        let seed = [random.word(), random.word()];
        let Some(worker) = Worker::start(self.region(), Identity::current(), seed) else {
            return broken("seats", format!("no seat for one more worker beside {}", self.members.len()));
        };
        self.started += 1;
        self.members.insert(self.started, Member { worker, clock: 0, leaving: false, busy: 0 });
        Ok(self.started)
    }

    /// Those that take new requests.
    pub fn serving(&self) -> Vec<u32> {
        self.members.iter().filter(|(_, member)| !member.leaving).map(|(id, _)| *id).collect()
    }

    /// Whoever is first makes itself leader.
    pub fn take_over(&mut self) -> Checked {
        match Leader::take(self.region(), Identity::current()) {
            Ok(Some(leader)) => {
                self.leader = Some(leader);
                Ok(())
            }
            Ok(None) => broken("lease", "the lease of a dead leader is not to be had".to_owned()),
            Err(corrupt) => broken("lease", format!("the next leader finds {corrupt:?}")),
        }
    }

    /// Publishes `document`; `false`: not now, there is no leader or an old generation is in the way.
    pub fn publish(&mut self, document: &Document, time: u64) -> Result<bool, Violation> {
        let now = self.now(time);
        let Some(leader) = &mut self.leader else { return Ok(false) };
        let text = document.text();
        let checked = match config::parse(&text, "sim.yaml", &NoSecrets) {
            Ok(checked) => checked,
            Err(errors) => return broken("document", format!("{errors}\n{text}")),
        };
        match leader.publish(&checked.document, now) {
            Ok(_) => {
                leader.follow(now, &mut |_| ());
                Ok(true)
            }
            Err(error) if error.is_passing() => Ok(false),
            Err(error) => broken("publish", error.to_string()),
        }
    }
}
