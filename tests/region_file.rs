//! A region in a file: who may use it, what is found again, and what is brought over into another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gateway::config;
use gateway::gateway::{Decision, Entry, Leader, Outcome, Standing, Ticket, TryEnd, Worker};
use gateway::state::{FileError, FileRegion, Found, Identity, Region};
use gateway::types::Now;
use support::{Fake, TestSecrets, at};

const SIZE: usize = 4 << 20;
const SECRET: [u64; 2] = [7, 8];
const DOCUMENT: &str = "
version: 1
limiters: [{name: few, key: [ip], rate: 1/h, burst: 3}]
upstreams:
  - {name: other, nodes: [{host: 127.0.0.1, port: 2}]}
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1, window: 10s, open_for: 60s}}
routes:
  - {name: gone, paths: ['/gone'], upstream: other}
  - {name: limited, paths: ['/limited'], upstream: other, limits: [few]}
  - {name: r, paths: ['/*'], upstream: u}
";

fn place(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("gateway-file-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn make(path: &Path) -> FileRegion {
    let mut made = FileRegion::make(path, SIZE, SECRET, true).unwrap();
    made.install().unwrap();
    made
}

fn document(text: &str) -> config::Document {
    config::parse(text, "d", &TestSecrets).unwrap().document
}

/// What `path` is answered: the status of a refusal, 0 where it is passed on.
fn asked(worker: &mut Worker, path: &str, now: Now, answer: u16) -> u16 {
    let mut ticket = Ticket::new();
    let status = match worker.access(&Fake::get(path), Entry::First, now, &mut ticket) {
        Decision::Reply(reply) => reply.reason.status(),
        Decision::Forward => {
            worker.pick(&mut ticket, now, |_| ()).unwrap();
            worker.tried(&mut ticket, TryEnd::Answered(answer), now);
            0
        }
        other => panic!("{other:?}"),
    };
    worker.complete(&mut ticket, &Outcome { status: 200, upstream_status: answer, aborted: false }, now);
    status
}

/// Spends the limit and opens the breaker.
fn used(region: Region, now: Now) {
    let mut worker = Worker::start(region, Identity::current(), SECRET).unwrap();
    let statuses: Vec<_> = (0..4).map(|_| asked(&mut worker, "/limited", now, 200)).collect();
    assert_eq!(statuses, [0, 0, 0, 429]);
    assert_eq!((asked(&mut worker, "/x", now, 500), asked(&mut worker, "/x", now, 500)), (0, 503));
}

fn led(region: Region, text: &str, now: Now) {
    let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
    leader.publish(&document(text), now).unwrap();
    leader.tick(now, &mut |_| ());
}

#[test]
fn what_is_in_it_is_there_again() {
    let path = place("again");
    let first = make(&path);
    led(first.region(), DOCUMENT, at(1.0));
    used(first.region(), at(1.0));
    let generation = first.region().generation();
    drop(first);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.len()), (0o600, SIZE as u64));

    let Found::Whole(again) = FileRegion::open(&path, SIZE).unwrap() else { panic!("another") };
    let region = again.region();
    assert_eq!((region.generation(), region.secret()), (generation, SECRET));
    let mut worker = Worker::start(region, Identity::current(), SECRET).unwrap();
    assert_eq!((asked(&mut worker, "/limited", at(2.0), 200), asked(&mut worker, "/x", at(2.0), 200)), (429, 503));
    led(region, DOCUMENT, at(2.0));
    assert_eq!(region.generation(), generation, "the document is live already");
    drop((worker, again));
    fs::remove_file(&path).unwrap();
    assert!(matches!(FileRegion::open(&path, SIZE), Ok(Found::Nothing)));
}

#[test]
fn what_is_no_region_is_not_misread() {
    let path = place("useless");
    drop(make(&path));
    let spoiled = |at: u64, bytes: &[u8]| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bytes, at).unwrap();
        match FileRegion::open(&path, SIZE) {
            Ok(Found::Useless(why)) => why,
            _ => panic!("it is believed"),
        }
    };
    for (at, bytes, told) in
        [(0, [1; 8], "something else"), (8, 3u64.to_ne_bytes(), "layout 3"), (64, [9; 8], "something else")]
    {
        drop(make(&path));
        assert!(spoiled(at, &bytes).contains(told), "{told}");
    }
    // Another start of the machine, and nobody had it on the disk before.
    drop(make(&path));
    assert_eq!(spoiled(1040, &[5; 8]), "was in use when the machine went down");
    drop(make(&path));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(SIZE as u64 / 2).unwrap();
    assert!(matches!(FileRegion::open(&path, SIZE), Ok(Found::Useless(_))), "cut");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5).unwrap();
    assert!(matches!(FileRegion::open(&path, SIZE), Ok(Found::Useless(_))), "cut short");

    drop(make(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(FileRegion::open(&path, SIZE), Err(FileError::NotOurs)));
    fs::remove_file(&path).unwrap();
    symlink("/etc/hostname", &path).unwrap();
    assert!(matches!(FileRegion::open(&path, SIZE), Err(FileError::System("open", _))));
    fs::remove_file(&path).unwrap();
}

#[test]
fn nobody_but_a_relative_may_use_it_at_once() {
    let path = place("used");
    let mine = make(&path);
    assert!(matches!(FileRegion::open(&path, SIZE), Err(FileError::InUse(_))), "nobody said whose it is");
    let stranger = Identity::of(1);
    mine.region().belongs_to(stranger);
    assert!(matches!(FileRegion::open(&path, SIZE), Err(FileError::InUse(1))), "another's");
    mine.region().belongs_to(Identity::current());
    assert!(matches!(FileRegion::open(&path, SIZE), Ok(Found::Whole(_))), "the same master, at a reload");
    // The process that a master starts is its child.
    // SAFETY: the child opens a file and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = match FileRegion::open(&path, SIZE) {
            Ok(Found::Whole(_)) => 0,
            _ => 1,
        };
        // SAFETY: ends the child alone.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "its child, at an upgrade");
    drop(mine);
    assert!(matches!(FileRegion::open(&path, SIZE), Ok(Found::Whole(_))), "nobody");
    // Two that begin at the same time.
    fs::remove_file(&path).unwrap();
    let mut one = FileRegion::make(&path, SIZE, SECRET, false).unwrap();
    one.install().unwrap();
    assert!(
        FileRegion::make(&path, SIZE, SECRET, false)
            .is_ok_and(|mut two| matches!(two.install(), Err(FileError::InUse(0))))
    );
    let folder = path.parent().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let left = fs::read_dir(folder).unwrap().filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_str().is_some_and(|other| other.starts_with(&name)))
    });
    assert_eq!(left.count(), 1, "nothing is left beside it");
    fs::remove_file(&path).unwrap();
}

/// The tables of `from` in a region of `size` bytes, by the clock of `now`.
fn carried(from: &FileRegion, path: &Path, size: usize, booted: bool, now: Now) -> FileRegion {
    let to = FileRegion::make(path, size, SECRET, true).unwrap();
    let mut leader = Leader::take(to.region(), Identity::current()).unwrap().unwrap();
    let text = DOCUMENT.replace("name: gone, paths: ['/gone']", "name: new, paths: ['/new']");
    leader.carry(from.region(), booted, Standing::Current, &document(&text), now).unwrap();
    drop(leader);
    to
}

#[test]
fn another_size_keeps_what_it_can() {
    let path = place("size");
    let old = make(&path);
    led(old.region(), DOCUMENT, at(1.0));
    used(old.region(), at(1.0));
    for size in [2 << 20, 16 << 20, SIZE] {
        let new = carried(&old, &path, size, false, at(2.0));
        let mut worker = Worker::start(new.region(), Identity::current(), SECRET).unwrap();
        assert_eq!(asked(&mut worker, "/limited", at(2.0), 200), 429, "the bucket in {size}");
        assert_eq!(asked(&mut worker, "/x", at(2.0), 200), 503, "the breaker in {size}");
        assert_eq!(asked(&mut worker, "/new", at(2.0), 200), 0);
        assert!(new.region().generation() > old.region().generation(), "generations go on");
        assert_eq!(asked(&mut worker, "/x", at(61.5), 200), 0, "and it ends when it would have");
    }
    drop(old);
    fs::remove_file(&path).unwrap();
}

#[test]
fn after_a_start_of_the_machine_times_are_as_far_as_they_were() {
    let path = place("boot");
    let old = make(&path);
    // The machine ran for long; the bucket was emptied and the breaker opened at 1,000,000 s.
    led(old.region(), DOCUMENT, at(1_000_000.0));
    used(old.region(), at(1_000_000.0));
    // It is off for 30 s, and its clock begins anew.
    let begin = Now { mono: 5_000_000, wall: at(1_000_030.0).wall };
    let later = |seconds: u64| begin.plus(seconds * 1_000_000);
    let new = carried(&old, &path, SIZE, true, begin);
    let mut worker = Worker::start(new.region(), Identity::current(), SECRET).unwrap();
    assert_eq!(asked(&mut worker, "/limited", later(0), 200), 429);
    assert_eq!(asked(&mut worker, "/x", later(29), 200), 503, "open for 60 s");
    assert_eq!(asked(&mut worker, "/x", later(31), 200), 0, "of which 30 were over");
    assert_eq!(asked(&mut worker, "/limited", later(3_500), 200), 429, "one an hour");
    assert_eq!(asked(&mut worker, "/limited", later(3_571), 200), 0);
    // A wall clock that went back meanwhile gives nothing and takes nothing.
    let back = Now { mono: 5_000_000, wall: at(10.0).wall };
    let new = carried(&old, &path, SIZE, true, back);
    let mut worker = Worker::start(new.region(), Identity::current(), SECRET).unwrap();
    assert_eq!(asked(&mut worker, "/x", back.plus(59_000_000), 200), 503);
    assert_eq!(asked(&mut worker, "/x", back.plus(61_000_000), 200), 0);
    drop(old);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_damaged_tree_is_not_brought_over() {
    let path = place("tree");
    let old = make(&path);
    led(old.region(), DOCUMENT, at(1.0));
    // Most of what lies behind the tables is the tree.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for at in (SIZE as u64 * 11 / 16..SIZE as u64).step_by(64) {
        file.write_all_at(&[0xff; 4], at).unwrap();
    }
    let to = FileRegion::make(&path, SIZE, SECRET, true).unwrap();
    let mut leader = Leader::take(to.region(), Identity::current()).unwrap().unwrap();
    assert!(leader.carry(old.region(), false, Standing::Current, &document(DOCUMENT), at(2.0)).is_err());
    drop((leader, to, old));
    fs::remove_file(&path).unwrap();
}
