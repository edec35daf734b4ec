//! The lists of what is revoked: read, followed, and put into the table that every worker looks at.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use super::leader::{Event, Severity, Watch, counter, read};
use crate::auth::revocation::{self, Revocation};
use crate::auth::{ArchivedScheme, Auth};
use crate::config;
use crate::state::tables::revocations::Revocations;
use crate::state::{Region, Tree};
use crate::types::{Id, Now, SECOND};

/// Beside the kinds: some are revoked by hand, in entries without a list too.
pub(super) const BY_HAND: u64 = 1 << 8;

/// The lists of all `auth` entries, and what is revoked by hand.
#[derive(Default)]
pub(super) struct Lists {
    files: Vec<List>,
    hand: Vec<ByHand>,
    /// What that put into the table: keys and kinds.
    held: (Vec<u64>, u64),
}

/// Something that is revoked by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// The `auth` entry whose tokens are meant; `None` = every one that takes tokens.
    pub auth: Option<String>,
    /// What is revoked.
    pub entry: Revocation,
}

struct List {
    auth: Id,
    path: PathBuf,
    watch: Watch,
    /// What it put into the table; `None` until it was read once.
    entries: Option<(Vec<u64>, u64)>,
}

impl Lists {
    /// Takes up the lists that the policy names now; new ones are read at once.
    pub(super) fn follow(&mut self, region: Region, tree: &Tree<'_>, now: Now, log: &mut dyn FnMut(Event)) {
        let mut old = std::mem::take(&mut self.files);
        let had = old.len();
        let mut is_new = false;
        for auth in tree.each::<Auth>() {
            let ArchivedScheme::Jwt(jwt) = &auth.get().scheme else { continue };
            let Some(path) = jwt.revocation_file.as_ref().map(|path| Path::new(path.as_str())) else { continue };
            let known = old.iter().position(|list| list.auth == auth.id() && list.path == path);
            let list = known.map(|index| old.swap_remove(index)).unwrap_or_else(|| {
                is_new = true;
                let mut list = List { auth: auth.id(), path: path.to_owned(), watch: Watch::new(path), entries: None };
                let text = read(path);
                list.take(region, text, now, log);
                list
            });
            self.files.push(list);
        }
        if !self.hand.is_empty() {
            let held = self.put(region, tree, now).0;
            is_new |= held != self.held;
            self.held = held;
        }
        if is_new || self.files.len() != had {
            self.settle(region, now);
        }
    }

    /// What is revoked by hand from the next policy on.
    pub(super) fn lay(&mut self, hand: Vec<ByHand>) {
        self.hand = hand;
    }

    /// Has `hand` and nothing else be revoked by hand from now on; false where something finds no room.
    pub(super) fn hold(&mut self, region: Region, tree: &Tree<'_>, hand: Vec<ByHand>, now: Now) -> bool {
        self.hand = hand;
        let (held, fits) = self.put(region, tree, now);
        self.held = held;
        self.settle(region, now);
        fits
    }

    /// Puts what is revoked by hand into the table: keys and kinds, and whether there was room for all.
    fn put(&self, region: Region, tree: &Tree<'_>, now: Now) -> ((Vec<u64>, u64), bool) {
        let table = Revocations::new(region.revocation_words());
        let (mut keys, mut kinds, mut fits) = (Vec::new(), 0, true);
        let now = seconds(now);
        for auth in tree.each::<Auth>().filter(|auth| matches!(auth.get().scheme, ArchivedScheme::Jwt(_))) {
            let meant = |one: &&ByHand| one.auth.as_ref().is_none_or(|name| *name == auth.name());
            for ByHand { entry, .. } in self.hand.iter().filter(meant).filter(|one| one.entry.until > now) {
                let key = entry.what.key(region.secret(), auth.id().word());
                fits &= table.put(key, entry.what.before(), entry.until, now).is_ok();
                keys.push(key.max(1));
                kinds |= entry.what.kind() | BY_HAND;
            }
        }
        ((keys, kinds), fits)
    }

    /// Reads what has changed.
    pub(super) fn look(&mut self, region: Region, now: Now, log: &mut dyn FnMut(Event)) {
        let mut changed = false;
        for list in &mut self.files {
            let Some((stamp, text)) = list.watch.look() else { continue };
            list.watch.taken(stamp);
            changed |= list.take(region, text, now, log);
        }
        if changed {
            self.settle(region, now);
        }
    }

    /// Takes out what no list names any more, and says which kinds of entries there are. Where a list could not be read
    /// yet, nobody knows what it names, so nothing is taken out.
    fn settle(&self, region: Region, now: Now) {
        if self.files.iter().all(|list| list.entries.is_some()) {
            let listed = self.files.iter().filter_map(|list| list.entries.as_ref()).flat_map(|(keys, _)| keys);
            let keys: HashSet<u64> = listed.chain(&self.held.0).copied().collect();
            Revocations::new(region.revocation_words()).sweep(seconds(now), |key| keys.contains(&key));
        }
        let listed = self.files.iter().filter_map(|list| list.entries.as_ref());
        let kinds = listed.fold(self.held.1, |all, (_, kinds)| all | kinds);
        if let Some(word) = region.counters().get(counter::REVOKED) {
            word.store(kinds, Relaxed);
        }
    }
}

impl List {
    /// Puts a version of the list into the table; whether it did.
    fn take(&mut self, region: Region, text: Result<String, String>, now: Now, log: &mut dyn FnMut(Event)) -> bool {
        let name = self.path.display();
        let parsed = text.and_then(|text| revocation::parse(&text, config::time));
        let entries = match parsed {
            Ok(entries) => entries,
            Err(error) => {
                let text = format!("{name}: {error}; what was revoked stays so");
                log(Event { severity: Severity::Error, text });
                return false;
            }
        };
        let table = Revocations::new(region.revocation_words());
        let now = seconds(now);
        let mut keys = Vec::with_capacity(entries.len());
        let (mut kinds, mut without) = (0, 0_usize);
        // What was there counts until all that is there now is in the table.
        let kinds_before = region.counters().get(counter::REVOKED).map_or(0, |word| word.load(Relaxed));
        for entry in entries.iter().filter(|entry| entry.until > now) {
            let key = entry.what.key(region.secret(), self.auth.word());
            kinds |= entry.what.kind();
            match table.put(key, entry.what.before(), entry.until, now) {
                // No entry of the table has the key 0.
                Ok(()) => keys.push(key.max(1)),
                Err(_) => without += 1,
            }
        }
        if let Some(word) = region.counters().get(counter::REVOKED) {
            word.store(kinds_before | kinds, Relaxed);
        }
        if without > 0 {
            let text = format!(
                "{name}: {without} of {} entries find no room: the zone has room for some {} revocations",
                entries.len(),
                table.capacity() * 3 / 4
            );
            log(Event { severity: Severity::Error, text });
        } else {
            let text = format!("{name}: {} revocations", keys.len());
            log(Event { severity: Severity::Notice, text });
        }
        self.entries = Some((keys, kinds));
        true
    }
}

/// The wall clock as the table counts it.
pub(super) fn seconds(now: Now) -> u32 {
    u32::try_from(now.wall / SECOND).unwrap_or(u32::MAX)
}
