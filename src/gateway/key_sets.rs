//! Keys of `jwt` entries that come from elsewhere: the leader fetches them, the tree holds them, workers ask for more.
//!
//! A set is an object of its own beside the `auth` entry whose name it has. Nothing on the way of a request waits: a
//! worker that meets an unknown `kid` raises a flag beside the set, refuses the token, and the leader's next tick sees
//! the flag. What is fetched when, and what is believed, [`crate::auth::jwks`] decides.

mod leader;

use std::sync::atomic::Ordering::Relaxed;

pub(super) use leader::KeySets;
pub use leader::read_key_files;

use super::object::FetchedKeys;
use crate::auth::{ArchivedJwks, Auth, Jwks, Scheme};
use crate::config::Document;
use crate::state::{Blob, Tree, View};
use crate::types::{Id, Now, SECOND};

/// What a client is told to wait while there are no keys, microseconds: a second try is mostly enough at a start.
pub(super) const RETRY_AFTER: u64 = 5 * SECOND;

/// The words beside a set.
const WANTED: usize = 0;
const CONFIRMED: usize = 1;
/// What they mean; another meaning would be another number.
const WORDS: u64 = 1;

/// Says that a token names a key that `set` has not.
#[cold]
pub(super) fn want(view: &View<'_>, set: &Blob<'_, FetchedKeys>) {
    // Read first: workers under a flood of such tokens must not fight for the line.
    if let Some(word) = view.tree().pick_table(set).and_then(|words| words.get(WANTED))
        && word.load(Relaxed) == 0
    {
        word.store(1, Relaxed);
    }
}

/// The names of the sets in `tree` that go on under `document`: their entries are there and name the same place.
pub(super) fn kept<'d>(tree: &Tree<'_>, document: &'d Document) -> impl Iterator<Item = &'d str> {
    document.auth.iter().filter_map(move |auth| {
        let Scheme::Jwt(jwt) = &auth.scheme else { return None };
        let source = jwt.jwks.as_ref()?;
        tree.named::<FetchedKeys>(&auth.name).is_some_and(|set| is_from(&set.source, source)).then_some(&*auth.name)
    })
}

/// The names of the sets in `tree`, and how many seconds ago each was last confirmed.
pub(super) fn ages<'v>(tree: &Tree<'v>, now: Now) -> Vec<(&'v str, f64)> {
    tree.each::<FetchedKeys>()
        .filter_map(|set| {
            let confirmed = set.table()?.get(CONFIRMED)?.load(Relaxed);
            Some((set.name(), now.wall.saturating_sub(confirmed) as f64 / SECOND as f64))
        })
        .collect()
}

fn is_from(archived: &ArchivedJwks, source: &Jwks) -> bool {
    match (archived, source) {
        (ArchivedJwks::File(old), Jwks::File(new)) => old.as_str() == new,
        (ArchivedJwks::Url { url: old, ca: old_ca }, Jwks::Url { url: new, ca: new_ca }) => {
            old.as_str() == new && old_ca.as_ref().map(|path| path.as_str()) == new_ca.as_deref()
        }
        _ => false,
    }
}

/// A set as one process found it.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub id: Id,
    /// The generation that wrote it.
    pub seq: u32,
}

/// Where one process found the set of each entry, so that a request follows a number and not a name.
#[derive(Default)]
pub(super) struct Sets(Vec<Looked>);

struct Looked {
    auth: Id,
    /// The generation that was looked at; whatever changes makes another one.
    generation: u32,
    found: Option<Found>,
}

impl Sets {
    /// The set of an entry; `None` = there is none yet, or none any more.
    #[inline]
    pub(super) fn of(&mut self, view: &View<'_>, auth: &Blob<'_, Auth>) -> Option<Found> {
        let known = self.0.iter().find(|looked| looked.auth == auth.id() && looked.generation == view.generation());
        match known {
            Some(looked) => looked.found,
            None => self.look(view, auth),
        }
    }

    #[cold]
    fn look(&mut self, view: &View<'_>, auth: &Blob<'_, Auth>) -> Option<Found> {
        let set = view.named::<FetchedKeys>(auth.name());
        let found = set.map(|set| Found { id: set.id(), seq: set.seq() });
        // Also those of entries that are gone, whose slots will be others'.
        self.0.retain(|looked| looked.auth != auth.id() && looked.generation == view.generation());
        self.0.push(Looked { auth: auth.id(), generation: view.generation(), found });
        found
    }
}
