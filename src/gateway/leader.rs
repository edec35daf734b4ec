//! What must be done once for all workers: watch the document, keep the pick tables fresh, reclaim what is replaced.
//!
//! The leader is whoever holds the region's lease, and the tree's only writer. Its host calls [`Leader::tick`] every
//! 250 ms; no client waits on it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use super::ejection::Ejections;
use super::key_sets::KeySets;
use super::object::Upstream;
use super::overlay::Overlays;
use super::promote::Promotions;
use super::publish::{PublishError, Published, publish_over};
use super::revoke::Lists;
use super::worker::inherit;
use crate::balancer::{PickTable, Seat};
use crate::config::{self, Checked, Secrets, SystemSecrets};
use crate::state::carry::{self, Carried};
use crate::state::tables::nonce::Nonces;
use crate::state::tables::peers::Peers;
use crate::state::tables::rate::RateTable;
use crate::state::tables::shards::Shard;
use crate::state::{Corrupt, Folder, Identity, Reader, Region, Stats, Writer, give_back};
use crate::types::{Now, SECOND};

/// The largest document that is read, bytes.
pub const DOCUMENT_MAX: u64 = 64 << 20;

/// The file of the state folder with the last document that was taken, as it was read.
pub const LAST_GOOD: &str = "document.yaml";

/// Counters of the region that this folder owns, by their index among [`Region::counters`].
pub(super) mod counter {
    /// Wall clock of the last change of the policy, microseconds.
    pub const CHANGED: usize = 8;
    /// How full the tree's arena is, millionths.
    pub const ARENA: usize = 9;
    /// How full the table of rate keys is, millionths.
    pub const RATES: usize = 10;
    /// Which kinds of revocations there are, a bit each.
    pub const REVOKED: usize = 11;
    /// How full the table of nonces is, millionths.
    pub const NONCES: usize = 12;
    /// Monotonic clock of the first policy, microseconds: what happened before is not in the region.
    pub const BORN: usize = 13;
    /// What the live policy is to the document: a [`super::Standing`].
    pub const STANDING: usize = 14;
    /// The number of the revision that is live; 0 where the document is a file.
    pub const REVISION: usize = 40;
}

/// What the live policy is to the document that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is what the document says.
    Current = 0,
    /// The document was refused; what it said before is live.
    Refused = 1,
    /// There was no good document at the start; what was live last before it is live.
    LastGood = 2,
}

impl Standing {
    /// How it is in `region`. All but [`Standing::Current`] is degraded.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        match region.counters().get(counter::STANDING).map_or(0, |word| word.load(Relaxed)) {
            1 => Self::Refused,
            2 => Self::LastGood,
            _ => Self::Current,
        }
    }

    fn note(self, region: &Region) {
        if let Some(word) = region.counters().get(counter::STANDING) {
            word.store(self as u64, Relaxed);
        }
    }
}

/// Why nothing was brought over.
#[derive(Debug)]
pub enum CarryError {
    /// What was to be brought over cannot be believed.
    Damaged(Corrupt),
    /// The document does not fit.
    Unfit(PublishError),
}

/// Something that an operator should read in the log.
#[derive(Clone, Debug)]
pub struct Event {
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub text: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something was refused or cannot go on.
    Error,
    /// Something works but not as it should.
    Warning,
    /// Something changed as it should.
    Notice,
}

/// The one that holds the lease.
pub struct Leader {
    region: Region,
    identity: Identity,
    pub(super) writer: Writer,
    /// A reader of its own, for the pick tables; without one they wait for the next tick.
    reader: Option<Reader>,
    watch: Option<Watch>,
    folder: Option<Folder>,
    pub(super) overlays: Overlays,
    pub(super) revoked: Lists,
    /// The generation whose lists are followed.
    followed: u32,
    key_sets: KeySets,
    promotions: Promotions,
    walk: Walk,
    nonces: Walk,
    /// When seats and averages were last looked after, microseconds.
    tended: u64,
    ejections: Ejections,
}

/// How far the walk over a table has come, and what it has seen.
#[derive(Default)]
struct Walk {
    from: usize,
    live: u64,
    slots: u64,
}

impl Leader {
    /// Takes the lease; `None` while a live process has it.
    ///
    /// # Errors
    /// The tree was damaged beyond recovery.
    pub fn take(region: Region, identity: Identity) -> Result<Option<Self>, Corrupt> {
        let Some(writer) = Writer::take(region, identity)? else { return Ok(None) };
        let reader = Reader::claim(region, identity);
        if let Some(reader) = &reader {
            inherit(&region, reader.slot());
        }
        Ok(Some(Self {
            region,
            identity,
            writer,
            reader,
            watch: None,
            folder: None,
            overlays: Overlays::default(),
            revoked: Lists::default(),
            followed: 0,
            key_sets: KeySets::default(),
            promotions: Promotions::default(),
            walk: Walk::default(),
            nonces: Walk::default(),
            tended: 0,
            ejections: Ejections::default(),
        }))
    }

    /// Makes `document`, as it is watched, the live policy.
    ///
    /// # Errors
    /// It does not fit; the live policy is untouched.
    pub fn publish(&mut self, document: &config::Document, now: Now) -> Result<Published, PublishError> {
        self.publish_as(Standing::Current, document, now)
    }

    /// Makes `document` the live policy; `standing` says what it is to the one that is watched.
    ///
    /// # Errors
    /// It does not fit; the live policy is untouched.
    pub fn publish_as(
        &mut self,
        standing: Standing,
        document: &config::Document,
        now: Now,
    ) -> Result<Published, PublishError> {
        if let Some(born) = self.region.counters().get(counter::BORN) {
            let _ = born.compare_exchange(0, now.mono.max(1), Relaxed, Relaxed);
        }
        let done = publish_over(self.region, &mut self.writer, document, &self.overlays, now)?;
        self.settle_overlays();
        standing.note(&self.region);
        if done.written + done.removed > 0
            && let Some(changed) = self.region.counters().get(counter::CHANGED)
        {
            changed.store(now.wall, Relaxed);
        }
        Ok(done)
    }

    /// Brings what is in `from` over into this leader's region, which is empty and has the same secret, and makes
    /// `document` its policy; `booted`: the machine was started anew since `from` was used.
    ///
    /// # Errors
    /// The tree of `from` is damaged: nothing is brought over. Or the document does not fit.
    pub fn carry(
        &mut self,
        from: Region,
        booted: bool,
        standing: Standing,
        document: &config::Document,
        now: Now,
    ) -> Result<Published, CarryError> {
        let names = carry::names(from, self.identity).map_err(CarryError::Damaged)?;
        let how = Carried::of(&from, booted, now);
        carry::tables(&from, &self.region, how, now);
        if let Some(born) = self.region.counters().get(counter::BORN) {
            let keeps = carry::keeps_nonces(&from, &self.region);
            // What the clock cannot tell is that everything from before the machine's start is older.
            let moved = how.time(born.load(Relaxed));
            born.store(
                if !keeps {
                    now.mono
                } else if moved > now.mono {
                    1
                } else {
                    moved.max(1)
                },
                Relaxed,
            );
        }
        self.writer.adopt(how.generation, names);
        let done = self.publish_as(standing, document, now).map_err(CarryError::Unfit);
        self.writer.adopt_no_more();
        done
    }

    /// Ends as a process does that is killed. For simulators, whose processes are one.
    pub fn die(self) {
        self.writer.die();
        if let Some(reader) = self.reader {
            reader.die(false);
        }
    }

    /// How the policy's memory is used.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// Compares the allocator of the policy's memory with the policy, as [`Writer::check`] does.
    ///
    /// # Errors
    /// They differ.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.writer.check()
    }

    /// The worker slot that counts for the leader, if it got one.
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        self.reader.as_ref().map(Reader::slot)
    }

    pub(super) fn region(&self) -> Region {
        self.region
    }

    pub(super) fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    /// Follows the document at `path` from now on.
    pub fn watch(&mut self, path: &Path) {
        self.watch = Some(Watch::new(path));
    }

    /// Keeps in `folder` what is to outlive the region.
    pub fn keep_in(&mut self, folder: Folder) {
        folder.tidy();
        self.folder = Some(folder);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, log: &mut dyn FnMut(Event)) {
        self.region.stamp(now);
        if let Some(mut watch) = self.watch.take() {
            if self.look(&mut watch, now, log) {
                give_back();
            }
            self.watch = Some(watch);
        }
        self.follow(now, log);
        self.revoked.look(self.region, now, log);
        self.key_sets.tick(&mut self.writer, now, log);
        if now.mono.saturating_sub(self.tended) >= SECOND {
            self.tended = now.mono;
            self.reap();
            if let Some(view) = self.reader.as_ref().and_then(Reader::enter) {
                self.promotions.tick(&self.region, &view, now, log);
            }
            Peers::new(self.region.peer_words()).tend(now.mono);
        }
        if let Some(view) = self.reader.as_ref().and_then(Reader::enter) {
            self.ejections.tick(&self.region, &view, now, log);
        }
        self.build_tables(now);
        self.writer.reclaim();
        self.walk_rates(now);
        self.walk_nonces(now);
        let stats = self.writer.stats();
        self.set(counter::ARENA, (stats.arena - stats.free) as u64, stats.arena as u64);
    }

    /// Has what is laid over the document, and nothing else, be revoked by hand; false where something finds no room.
    pub(super) fn hold_revocations(&mut self, now: Now) -> bool {
        let Some(view) = self.reader.as_ref().and_then(Reader::enter) else { return false };
        self.revoked.hold(self.region, &view.tree(), self.overlays.revocations(), now)
    }

    /// Takes up what the policy of this generation names beside itself.
    pub fn follow(&mut self, now: Now, log: &mut dyn FnMut(Event)) {
        let Some(view) = self.reader.as_ref().and_then(Reader::enter) else { return };
        if self.followed != view.generation() {
            self.followed = view.generation();
            self.revoked.follow(self.region, &view.tree(), now, log);
        }
    }

    /// Takes the slots of workers that were killed, so that nothing of theirs waits for a worker that takes them by
    /// chance.
    fn reap(&self) {
        while let Some(seat) = Reader::claim_dead(self.region, self.identity) {
            inherit(&self.region, seat.slot());
        }
    }

    fn set(&self, counter: usize, part: u64, whole: u64) {
        if let Some(word) = self.region.counters().get(counter) {
            word.store(part.saturating_mul(1_000_000) / whole.max(1), Relaxed);
        }
    }

    /// Frees buckets that are full again, a piece of the table a tick: the whole of it within a minute.
    fn walk_rates(&mut self, now: Now) {
        let rates = RateTable::new(self.region.rate_words());
        let piece = rates.groups().div_ceil(240).max(1);
        // A bucket that is full by now may not be so by the clock of a worker, which is read once a turn of its loop.
        let fill = rates.sweep(self.walk.from, piece, now.mono.saturating_sub(SECOND));
        self.walk.live += fill.live;
        self.walk.slots += fill.slots;
        self.walk.from += piece;
        if self.walk.from >= rates.groups() {
            self.set(counter::RATES, self.walk.live, self.walk.slots);
            self.walk = Walk::default();
        }
    }

    /// The same for nonces whose time is over.
    fn walk_nonces(&mut self, now: Now) {
        let nonces = Nonces::new(self.region.nonce_words(), self.region.secret());
        let piece = nonces.capacity().div_ceil(240).max(1);
        self.nonces.live += nonces.sweep(self.nonces.from, piece, now.wall / SECOND);
        self.nonces.from += piece;
        if self.nonces.from >= nonces.capacity() {
            self.set(counter::NONCES, self.nonces.live, nonces.capacity() as u64);
            self.nonces = Walk::default();
        }
    }

    /// Takes a version of the document that is there and was not taken yet; whether there was one.
    fn look(&mut self, watch: &mut Watch, now: Now, log: &mut dyn FnMut(Event)) -> bool {
        let name = watch.path.display().to_string();
        let Some((stamp, read)) = watch.look() else { return false };
        let lines = match read {
            Ok(text) => match parse(&text, &name, &SystemSecrets) {
                Ok(checked) => match self.publish(&checked.document, now) {
                    Ok(done) => {
                        watch.taken = stamp;
                        self.save(&text, log);
                        for warning in checked.warnings.iter().map(ToString::to_string).chain(done.warnings) {
                            log(Event { severity: Severity::Warning, text: warning });
                        }
                        if done.written + done.removed > 0 {
                            let text = format!(
                                "{name}: generation {}, {} objects written, {} removed",
                                done.generation, done.written, done.removed
                            );
                            log(Event { severity: Severity::Notice, text });
                        }
                        return true;
                    }
                    // A worker is still in an old generation: what it keeps will be free, so the same text is tried
                    // again.
                    Err(error) if error.is_passing() => {
                        if std::mem::replace(&mut watch.waiting, stamp) != stamp {
                            let text = format!("{name}: {error}; it is tried again");
                            log(Event { severity: Severity::Warning, text });
                        }
                        return true;
                    }
                    Err(error) => vec![format!("{name}: {error}")],
                },
                Err(lines) => lines,
            },
            Err(error) => vec![format!("{name}: {error}")],
        };
        // The live policy stays; the same bytes are not tried again.
        watch.taken = stamp;
        if Standing::of(&self.region) == Standing::Current {
            Standing::Refused.note(&self.region);
        }
        if let Some(shard) = self.reader.as_ref().and_then(|reader| Shard::new(self.region.shard_words(reader.slot())))
        {
            shard.config_error();
        }
        for text in lines {
            log(Event { severity: Severity::Error, text });
        }
        true
    }

    /// Keeps a document that went live, for a start at which there is no good one. As it was read: references to secrets
    /// stay references.
    fn save(&self, text: &str, log: &mut dyn FnMut(Event)) {
        let Some(folder) = &self.folder else { return };
        if folder.read(LAST_GOOD, DOCUMENT_MAX).is_ok_and(|kept| kept.is_some_and(|kept| kept == text.as_bytes())) {
            return;
        }
        if let Err(error) = folder.save(LAST_GOOD, text.as_bytes()) {
            let text = format!("{}: the document cannot be kept: {error}", folder.path().display());
            log(Event { severity: Severity::Error, text });
        }
    }

    /// Brings the odds of every upstream with several peers up to date.
    fn build_tables(&self, now: Now) {
        let Some(view) = self.reader.as_ref().and_then(Reader::enter) else { return };
        let peers = Peers::new(self.region.peer_words());
        for upstream in view.each::<Upstream>() {
            let Some(words) = view.pick_table(&upstream) else { continue };
            let Some(table) = PickTable::new(words, upstream.peers.len() as u32) else { continue };
            if table.is_due(now.mono) {
                let seats = upstream.peers.iter().map(|peer| Seat {
                    weight: peer.weight.to_native(),
                    priority: peer.priority,
                    slot: peer.slot.to_native(),
                });
                table.under(upstream.policy.get()).build(seats, &peers, now.mono);
            }
        }
    }
}

/// A file that is followed by looking at it: links are followed, so a mounted Kubernetes volume works.
pub(super) struct Watch {
    path: PathBuf,
    /// What the last look saw.
    seen: Option<Stamp>,
    /// What was last taken, or refused.
    pub taken: Option<Stamp>,
    /// What could not be taken yet.
    waiting: Option<Stamp>,
    /// Whether the last look failed; each failure is told once.
    failing: bool,
}

/// What tells two versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()), size: meta.size() }
    }
}

impl Watch {
    /// Follows `path`; its first version is still to be taken.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, taken: None, waiting: None, failing: false }
    }

    /// A version was taken, or refused.
    pub(super) fn taken(&mut self, stamp: Option<Stamp>) {
        self.taken = stamp;
    }

    /// Whether the file rests as it was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.seen.is_some() && self.seen == self.taken
    }

    /// The text of a version that was not taken yet, once two looks agree on it: a file that is being written to is
    /// left alone until it rests.
    #[allow(clippy::type_complexity)]
    pub(super) fn look(&mut self) -> Option<(Option<Stamp>, Result<String, String>)> {
        let stamp = match fs::metadata(&self.path) {
            Ok(meta) => Stamp::of(&meta),
            Err(error) => {
                let told = std::mem::replace(&mut self.failing, true);
                self.seen = None;
                return (!told).then(|| (self.taken, Err(format!("cannot be looked at: {error}"))));
            }
        };
        self.failing = false;
        let rests = self.seen.replace(stamp) == Some(stamp);
        if !rests || self.taken == Some(stamp) {
            return None;
        }
        let text = read(&self.path);
        // A change during the read is met by the next look.
        let same = fs::metadata(&self.path).is_ok_and(|meta| Stamp::of(&meta) == stamp);
        same.then_some((Some(stamp), text))
    }
}

/// Checks `text`, which is called `name` in what is wrong with it.
///
/// # Errors
/// Every mistake in it, a line each.
pub fn check_document(text: &[u8], name: &str, secrets: &dyn Secrets) -> Result<Checked, Vec<String>> {
    let text = std::str::from_utf8(text).map_err(|error| vec![format!("{name}: {error}")])?;
    parse(text, name, secrets)
}

/// Reads and checks the document at `path`, as a start and a reload do.
///
/// # Errors
/// Every mistake in it, a line each, with file, line and path.
pub fn read_document(path: &Path) -> Result<Checked, Vec<String>> {
    read_document_with(path, &SystemSecrets)
}

/// The same, with secrets from elsewhere.
///
/// # Errors
/// As [`read_document`].
pub fn read_document_with(path: &Path, secrets: &dyn Secrets) -> Result<Checked, Vec<String>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|error| vec![format!("{name}: {error}")])?;
    parse(&text, &name, secrets)
}

/// A document that is right; else every mistake in it, a line each.
fn parse(text: &str, name: &str, secrets: &dyn Secrets) -> Result<Checked, Vec<String>> {
    config::parse(text, name, secrets)
        .map_err(|errors| errors.problems().iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// The text of the document at `path`.
///
/// # Errors
/// It cannot be read, is too large, or is no text.
pub fn read_text(path: &Path) -> Result<String, String> {
    read(path)
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(format!("is larger than {DOCUMENT_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
