//! Revisions: every document that was acknowledged, numbered, in files that are whole or not there.
//!
//! The first line of a file says who made the revision, when and what changed; the second is the document as it was
//! written, references to secrets unresolved.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::source::Source;
use crate::config::{self, Checked, Secrets};
use crate::gateway::DOCUMENT_MAX;
use crate::state::Folder;

/// So many are kept, …
const KEPT: usize = 100;
/// … as long as they take no more than so many bytes; the last ten always are.
const KEPT_BYTES: u64 = 1 << 30;
const KEPT_ALWAYS: usize = 10;

/// The largest file of a revision, bytes: a document in JSON is longer than in YAML, but not by that much.
const FILE_MAX: u64 = 4 * DOCUMENT_MAX;

/// The folder of revisions.
#[derive(Debug)]
pub struct Revisions(Folder);

/// A revision that was read.
#[derive(Debug)]
pub struct Revision {
    /// What is known of it: `revision`, `at`, `who`, `from`, `action`, `changes`.
    pub about: Value,
    /// The document as it was written.
    pub source: Source,
}

impl Revisions {
    /// The revisions in the folder `state`; their own folder is made where there is none, and what a killed process left
    /// half written is removed.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = Folder::new(&state.join("revisions"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.path())?;
        File::open(state)?.sync_all()?;
        folder.tidy();
        Ok(Self(folder))
    }

    /// The numbers that there are, in their order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn numbers(&self) -> io::Result<Vec<u64>> {
        numbers(self.0.path())
    }

    /// What is known of a revision, without its document.
    ///
    /// # Errors
    /// There is no such revision, or it cannot be read.
    pub fn about(&self, number: u64) -> io::Result<Value> {
        let mut line = String::new();
        BufReader::new(File::open(self.path(number))?).take(DOCUMENT_MAX).read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    /// A revision.
    ///
    /// # Errors
    /// There is no such revision, or it cannot be read.
    pub fn load(&self, number: u64) -> io::Result<Revision> {
        load(&self.0, number)
    }

    /// Keeps a revision: once this returns it is there whatever happens.
    ///
    /// # Errors
    /// It cannot be written; then it is not there.
    pub fn save(&self, number: u64, about: &Value, document: &str) -> io::Result<()> {
        let name = file_name(number);
        let saved = self.0.save(&name, format!("{about}\n{document}\n").as_bytes());
        if saved.is_err() {
            // It may be there, and only not for sure.
            let _ = self.0.remove(&name);
        }
        saved
    }

    /// Takes a revision back that did not go live.
    pub fn forget(&self, number: u64) {
        let _ = self.0.remove(&file_name(number));
    }

    /// Removes the oldest where there are too many.
    pub fn prune(&self) {
        let Ok(numbers) = self.numbers() else { return };
        let mut bytes = 0;
        for (index, number) in numbers.iter().rev().enumerate() {
            let path = self.path(*number);
            bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
            if index >= KEPT || index >= KEPT_ALWAYS && bytes > KEPT_BYTES {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.path().join(file_name(number))
    }
}

/// The last revision that is right.
#[derive(Debug)]
pub struct Last {
    /// Its number.
    pub number: u64,
    /// Its document.
    pub checked: Checked,
    /// What is wrong with later ones, a line each.
    pub wrong: Vec<String>,
}

/// The last revision in the folder `state` that is right; `None` where there is no revision at all. For a start, before there is a leader: nothing is written.
///
/// # Errors
/// What is wrong with each of them, a line each, where none is right.
pub fn last_document(state: &Path, secrets: &dyn Secrets) -> Result<Option<Last>, Vec<String>> {
    let folder = Folder::new(&state.join("revisions"));
    let all = match numbers(folder.path()) {
        Ok(all) if !all.is_empty() => all,
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(vec![format!("{}: {error}", folder.path().display())]);
        }
        _ => return Ok(None),
    };
    let mut wrong = Vec::new();
    for number in all.into_iter().rev() {
        let name = folder.path().join(file_name(number)).display().to_string();
        match load(&folder, number) {
            Ok(revision) => match config::parse(&revision.source.text(), &name, secrets) {
                Ok(checked) => return Ok(Some(Last { number, checked, wrong })),
                Err(errors) => wrong.extend(errors.problems().iter().map(ToString::to_string)),
            },
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    Err(wrong)
}

fn file_name(number: u64) -> String {
    format!("{number}.json")
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn load(folder: &Folder, number: u64) -> io::Result<Revision> {
    let content = folder.read(&file_name(number), FILE_MAX)?.ok_or(ErrorKind::NotFound)?;
    let text = String::from_utf8(content).map_err(io::Error::other)?;
    let (about, document) = text.split_once('\n').ok_or_else(|| io::Error::other("is no revision"))?;
    let source = serde_json::from_str(document).ok().and_then(Source::new);
    Ok(Revision {
        about: serde_json::from_str(about).map_err(io::Error::other)?,
        source: source.ok_or_else(|| io::Error::other("is no revision"))?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revisions_are_kept_and_the_oldest_go() {
        let state = std::env::temp_dir().join(format!("gateway-revisions-{}", std::process::id()));
        fs::create_dir_all(state.join("revisions")).unwrap();
        let half = state.join("revisions/.7.json~4294967295");
        fs::write(&half, "half").unwrap();
        let revisions = Revisions::open(&state).unwrap();
        assert!(!half.exists());
        for number in 1..=KEPT as u64 + 3 {
            revisions.save(number, &json!({"revision": number}), "{\"version\":1}").unwrap();
        }
        revisions.prune();
        let numbers = revisions.numbers().unwrap();
        assert_eq!((numbers.len(), numbers[0]), (KEPT, 4));
        assert_eq!(revisions.about(5).unwrap(), json!({"revision": 5}));
        assert_eq!(revisions.load(5).unwrap().source.value(), json!({"version": 1}));
        revisions.forget(5);
        assert!(revisions.load(5).is_err());
        fs::remove_dir_all(state).unwrap();
    }
}
