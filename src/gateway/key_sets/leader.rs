//! What the leader does for key sets: it follows the entries, fetches, stores and gives up.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::{CONFIRMED, WANTED, WORDS, is_from};
use crate::auth::jwks::{Answer, KEEP, Refresh, Verdict};
use crate::auth::{Algorithm, ArchivedJwks, ArchivedScheme, Auth, Jwks, Key, KeySet};
use crate::gateway::leader::{Event, Severity, Watch};
use crate::gateway::object::FetchedKeys;
use crate::gateway::publish::digest;
use crate::net::http;
use crate::state::{Full, Tree, Writer};
use crate::types::{Kind, Now};

/// The sets that the leader looks after.
#[derive(Default)]
pub struct KeySets {
    /// The generation whose entries these are.
    generation: u32,
    sets: Vec<Set>,
}

struct Set {
    name: String,
    source: Jwks,
    allowed: Vec<Algorithm>,
    refresh: Refresh,
    place: Place,
    /// What was last told of it; the same is not told twice in a row.
    told: String,
}

enum Place {
    File {
        watch: Watch,
        /// Whether the file as it was taken is the set that is used.
        is_good: bool,
    },
    Url(Option<Receiver<Result<Answer, String>>>),
}

impl KeySets {
    /// Does what is due, and nothing that takes long.
    pub fn tick(&mut self, writer: &mut Writer, now: Now, log: &mut dyn FnMut(Event)) {
        if self.generation != writer.view().generation() {
            self.follow(&writer.view(), now);
        }
        for set in &mut self.sets {
            set.tick(writer, now, log);
        }
        // What was written here changed no entry.
        self.generation = writer.view().generation();
    }

    /// Takes in the entries of `tree`; those that were there before go on as they were.
    fn follow(&mut self, tree: &Tree<'_>, now: Now) {
        let mut before = std::mem::take(&mut self.sets);
        for auth in tree.each::<Auth>() {
            let ArchivedScheme::Jwt(jwt) = &auth.scheme else { continue };
            let Some(source) = jwt.jwks.as_ref().map(read) else { continue };
            let allowed: Vec<Algorithm> = jwt.algorithms.iter().map(Algorithm::from).collect();
            let live = tree.named::<FetchedKeys>(auth.name()).filter(|live| is_from(&live.source, &source));
            let same = |set: &Set| set.name == auth.name() && set.source == source && set.allowed == allowed;
            let old = before.iter().position(same).map(|index| before.swap_remove(index));
            // An entry that was away for a moment has lost its keys.
            if let Some(old) = old.filter(|old| old.refresh.has_set() == live.is_some()) {
                self.sets.push(old);
                continue;
            }
            let is_remote = matches!(source, Jwks::Url { .. });
            let mut refresh = Refresh::new(allowed.clone(), is_remote);
            if let Some(live) = live {
                let confirmed =
                    live.table().and_then(|words| words.get(CONFIRMED)).map_or(0, |word| word.load(Relaxed));
                refresh.resume(now.mono, now.wall.saturating_sub(confirmed));
            }
            let place = match &source {
                Jwks::File(path) => Place::File { watch: Watch::new(path.as_ref()), is_good: false },
                Jwks::Url { .. } => Place::Url(None),
            };
            let name = auth.name().to_owned();
            self.sets.push(Set { name, source, allowed, refresh, place, told: String::new() });
        }
    }
}

/// Reads the sets that come from files, once, and fetches nothing: for tools that decide as a gateway would.
pub fn read_key_files(writer: &mut Writer, now: Now, log: &mut dyn FnMut(Event)) {
    let mut files = KeySets::default();
    files.follow(&writer.view(), now);
    for set in files.sets.iter_mut().filter(|set| matches!(set.place, Place::File { .. })) {
        set.tick(writer, now, log);
    }
}

impl Set {
    fn tick(&mut self, writer: &mut Writer, now: Now, log: &mut dyn FnMut(Event)) {
        match &mut self.place {
            Place::File { watch, is_good } => {
                // Two looks agree; at the start at once, since nobody gets in until then.
                let first = if watch.taken.is_none() { watch.look() } else { None };
                match first.or_else(|| watch.look()) {
                    Some((stamp, Ok(text))) => {
                        watch.taken = stamp;
                        *is_good = false;
                        self.refresh.started(now.mono);
                        let answer = Answer { status: 200, body: text.into_bytes(), ..Answer::default() };
                        let is_set = self.answered(&answer, writer, now, log);
                        if let Place::File { is_good, .. } = &mut self.place {
                            *is_good = is_set;
                        }
                    }
                    Some((_, Err(why))) => self.failed(&why, now, log),
                    None if *is_good && watch.is_taken() => {
                        self.refresh.confirm(now.mono);
                        self.confirm(writer, now);
                    }
                    None => {}
                }
            }
            Place::Url(under_way) => match under_way.as_ref().map(Receiver::try_recv) {
                None | Some(Err(TryRecvError::Empty)) => {}
                Some(answer) => {
                    *under_way = None;
                    match answer {
                        Ok(Ok(answer)) => drop(self.answered(&answer, writer, now, log)),
                        Ok(Err(why)) => self.failed(&why, now, log),
                        Err(_) => self.failed("fetching ended without an answer", now, log),
                    }
                }
            },
        }
        if self.refresh.expire(now.mono) {
            self.forget(writer, now, log);
        }
        if matches!(self.place, Place::Url(_)) {
            if self.is_wanted(writer) {
                self.refresh.unknown_kid(now.mono);
            }
            if self.refresh.is_due(now.mono) {
                self.fetch(now, log);
            }
        }
    }

    fn fetch(&mut self, now: Now, log: &mut dyn FnMut(Event)) {
        let Jwks::Url { url, ca } = &self.source else { return };
        let etag = self.refresh.started(now.mono).map(str::to_owned);
        match http::begin(http::Get { url: url.clone(), ca: ca.clone(), etag }) {
            Ok(receiver) => self.place = Place::Url(Some(receiver)),
            Err(error) => self.failed(&format!("no thread to fetch it: {error}"), now, log),
        }
    }

    /// True when the answer is the set that is used from now on.
    fn answered(&mut self, answer: &Answer, writer: &mut Writer, now: Now, log: &mut dyn FnMut(Event)) -> bool {
        match self.refresh.answer(now.mono, answer, now.mono) {
            Verdict::Set(KeySet { keys, left_out }) => match self.put(writer, keys, now) {
                Ok(count) => {
                    if let Some(count) = count {
                        let keys = if count == 1 { "key" } else { "keys" };
                        self.tell(Severity::Notice, &format!("{count} {keys} from {}", self.shown()), log);
                        for error in left_out {
                            log(self.event(Severity::Warning, &format!("left out: {error}")));
                        }
                    }
                    self.told.clear();
                    return true;
                }
                Err(full) => {
                    self.refresh.lost(now.mono, now.mono);
                    self.tell(Severity::Error, &full.to_string(), log);
                }
            },
            Verdict::Confirmed => {
                self.told.clear();
                self.confirm(writer, now);
            }
            Verdict::Refused(why) => self.refused(&why.to_string(), log),
        }
        false
    }

    fn failed(&mut self, why: &str, now: Now, log: &mut dyn FnMut(Event)) {
        self.refresh.failed(now.mono, now.mono);
        self.refused(why, log);
    }

    fn refused(&mut self, why: &str, log: &mut dyn FnMut(Event)) {
        let (severity, then) = match self.refresh.has_set() {
            true => (Severity::Warning, "the last good set stays"),
            false => (Severity::Error, "there is no set yet"),
        };
        self.tell(severity, &format!("{}: {why}; {then}", self.shown()), log);
    }

    /// Makes `keys` the live set; how many where they are others than before.
    fn put(&mut self, writer: &mut Writer, keys: Vec<Key>, now: Now) -> Result<Option<usize>, Full> {
        let count = keys.len();
        let object = FetchedKeys { source: self.source.clone(), keys };
        let digest = digest(&(&object.source, &object.keys));
        if writer.view().digest_of(Kind::KeySet, &self.name) == Some(digest) {
            self.confirm(writer, now);
            return Ok(None);
        }
        let mut transaction = writer.begin();
        transaction.put_with_table(&self.name, &object, digest, WORDS, &[0, now.wall])?;
        transaction.commit();
        // The words may have been carried over.
        self.confirm(writer, now);
        Ok(Some(count))
    }

    fn forget(&mut self, writer: &mut Writer, now: Now, log: &mut dyn FnMut(Event)) {
        let mut transaction = writer.begin();
        match transaction.remove(Kind::KeySet, &self.name) {
            Ok(_) => {
                transaction.commit();
                self.tell(Severity::Error, "was not confirmed for 24 h and is given up", log);
            }
            Err(full) => {
                // Over as it is, the next tick tries again.
                self.refresh.resume(now.mono, KEEP);
                self.tell(Severity::Error, &format!("cannot be given up: {full}"), log);
            }
        }
    }

    fn confirm(&self, writer: &Writer, now: Now) {
        self.word(writer, CONFIRMED, |word| word.store(now.wall, Relaxed));
    }

    fn is_wanted(&self, writer: &Writer) -> bool {
        self.word(writer, WANTED, |word| word.load(Relaxed) != 0 && word.swap(0, Relaxed) != 0).unwrap_or(false)
    }

    fn word<T>(&self, writer: &Writer, index: usize, take: impl FnOnce(&AtomicU64) -> T) -> Option<T> {
        let set = writer.view().named::<FetchedKeys>(&self.name)?;
        set.table()?.get(index).map(take)
    }

    fn shown(&self) -> &str {
        match &self.source {
            Jwks::File(path) => path,
            // Some issuers take a secret in the query.
            Jwks::Url { url, .. } => url.split_once('?').map_or(url, |(place, _)| place),
        }
    }

    fn tell(&mut self, severity: Severity, text: &str, log: &mut dyn FnMut(Event)) {
        if self.told != text {
            text.clone_into(&mut self.told);
            log(self.event(severity, text));
        }
    }

    fn event(&self, severity: Severity, text: &str) -> Event {
        Event { severity, text: format!("keys of \"{}\": {text}", self.name) }
    }
}

fn read(archived: &ArchivedJwks) -> Jwks {
    match archived {
        ArchivedJwks::File(path) => Jwks::File(path.as_str().to_owned()),
        ArchivedJwks::Url { url, ca } => {
            Jwks::Url { url: url.as_str().to_owned(), ca: ca.as_ref().map(|path| path.as_str().to_owned()) }
        }
    }
}
