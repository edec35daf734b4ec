//! A region in a mapped file, which keeps everything while no process runs.
//!
//! **Who may use it.** The protocols of a region are made for any number of processes, so what must not be shared is
//! the policy, not the memory: two nginx with two documents would undo each other's. Whoever maps the file holds a
//! shared lock (`flock`) on it, and its workers inherit that with the descriptor: the lock is free when the last of
//! them has ended, however. A file that nobody holds belongs to whoever comes. One that is held is open to a *relative*
//! alone: a process that is one of the masters that the header names (a reload), or whose parent is (a binary upgrade:
//! the old master starts the new one). Both then work on the same region; the lease decides who leads, and moves when
//! the old ones have ended. Anybody else is refused. The header has room for two masters, as there are at an upgrade;
//! workers note theirs after the fork, since a master changes its number when it becomes a daemon.
//!
//! **What is found.** The same layout, the same size and the same start of the machine: it is used as it is; a `kill -9`
//! of all processes leaves it as a `kill -9` of one does. Another layout, a damaged header or tree, or a machine that
//! went down before everything was on the disk: nothing in it is believed, and a new one takes its place. Another size,
//! or a machine that was started anew after an orderly end: [`carry`](super::carry) brings over what is in it.
//!
//! **A new region is a new file**, made beside the old one and renamed over it when it is complete: whoever has the
//! old one mapped keeps it until its end. Its blocks are reserved when it is made, since a disk that is full later would
//! end processes in the middle of a store. It is 0600 and the master's; workers inherit the mapping and open nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{Identity, Region, RegionError};

/// A region in a file, mapped until it is dropped; handles must not be used after that.
pub struct FileRegion {
    region: Region,
    base: NonNull<u8>,
    size: usize,
    /// Holds the lock.
    file: File,
    path: PathBuf,
    /// Where it stands until it is complete, and whether another stands in its place.
    beside: Option<(PathBuf, bool)>,
}

// SAFETY: it owns a mapping, which any thread may unmap.
unsafe impl Send for FileRegion {}
// SAFETY: it hands out `Region` alone, which is `Sync`.
unsafe impl Sync for FileRegion {}

/// What there was at a path.
pub enum Found {
    /// A region that can be used as it is.
    Whole(FileRegion),
    /// A region whose content has to be brought over into another; `true`: from before the machine was started.
    Other(FileRegion, bool),
    /// Nothing.
    Nothing,
    /// Something that is no region of ours to use, and why.
    Useless(String),
}

/// Why a file cannot be used at all.
#[derive(Debug)]
pub enum FileError {
    /// The operating system refused something.
    System(&'static str, io::Error),
    /// Another process, or a group of them, uses it.
    InUse(u32),
    /// It is somebody else's, others can read it, or it is no plain file.
    NotOurs,
    /// No region can be made of it.
    Region(RegionError),
}

impl fmt::Display for FileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(what, error) => write!(out, "{what} failed: {error}"),
            Self::InUse(0) => out.write_str("is used by another nginx"),
            Self::InUse(pid) => write!(out, "is used by another nginx, whose master is or was process {pid}"),
            Self::NotOurs => out.write_str("is no plain file that belongs to this user alone (0600)"),
            Self::Region(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for FileError {}

impl FileRegion {
    /// Opens what is at `path` for a region of `size` bytes.
    ///
    /// # Errors
    /// It must not be used, or not by this process.
    pub fn open(path: &Path, size: usize) -> Result<Found, FileError> {
        let how = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = match OpenOptions::new().read(true).write(true).custom_flags(how).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(FileError::System("open", error)),
        };
        let meta = file.metadata().map_err(|error| FileError::System("stat", error))?;
        // SAFETY: asks who this process is.
        if !meta.is_file() || meta.uid() != unsafe { libc::geteuid() } || meta.mode() & 0o077 != 0 {
            return Err(FileError::NotOurs);
        }
        let length = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        // What is too short for a header is held by nobody.
        if length < Region::SMALLEST {
            return Ok(Found::Useless(format!("has {length} bytes")));
        }
        let base = map(&file, length)?;
        let mapped = Mapped { base, size: length };
        // SAFETY: mapped until `mapped` is dropped, or the region that it becomes a part of.
        let attached = unsafe { Region::attach(base, length) };
        // SAFETY: as above; only the masters are looked at, which stand there in every layout.
        let header = unsafe { Region::whatever(base, length) }.map_err(FileError::Region)?;
        lock(&file, &header)?;
        let region = match attached {
            Ok(region) => region,
            Err(error) => return Ok(Found::Useless(error.to_string())),
        };
        std::mem::forget(mapped);
        let found = Self { region, base, size: length, file, path: path.to_owned(), beside: None };
        let booted = region.boot().load(Relaxed) != boot();
        if booted && region.clean().load(Relaxed) == 0 {
            return Ok(Found::Useless("was in use when the machine went down".to_owned()));
        }
        if booted || length != size {
            return Ok(Found::Other(found, booted));
        }
        region.clean().store(0, SeqCst);
        Ok(Found::Whole(found))
    }

    /// Makes a new one, which takes its place at `path` with [`FileRegion::install`]; `replaces`: of another, which this
    /// process may give up.
    ///
    /// # Errors
    /// There is no room, or no right, for it.
    pub fn make(path: &Path, size: usize, secret: [u64; 2], replaces: bool) -> Result<Self, FileError> {
        let mut beside = path.to_owned().into_os_string();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        // What a process left that was killed here.
        let _ = fs::remove_file(&beside);
        let made = Self::make_at(&beside, size, secret);
        if made.is_err() {
            let _ = fs::remove_file(&beside);
        }
        made.map(|mut made| {
            (made.path, made.beside) = (path.to_owned(), Some((beside, replaces)));
            made
        })
    }

    fn make_at(beside: &Path, size: usize, secret: [u64; 2]) -> Result<Self, FileError> {
        let how = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(beside);
        let file = how.map_err(|error| FileError::System("create", error))?;
        let length = i64::try_from(size).map_err(|_| FileError::Region(RegionError::TooLarge { most: size }))?;
        // SAFETY: a descriptor of ours; the call changes the file alone.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => {}
            error => return Err(FileError::System("posix_fallocate", io::Error::from_raw_os_error(error))),
        }
        shared(&file)?;
        let base = map(&file, size)?;
        let mapped = Mapped { base, size };
        // SAFETY: fresh bytes of a file are zero, and nobody else has it; mapped until the region is dropped.
        let region = unsafe { Region::format(base, size, secret) }.map_err(FileError::Region)?;
        std::mem::forget(mapped);
        region.boot().store(boot(), Relaxed);
        Ok(Self { region, base, size, file, path: beside.to_owned(), beside: None })
    }

    /// Puts a new one in its place; one that is there already stays.
    ///
    /// # Errors
    /// The old file stays what it was.
    pub fn install(&mut self) -> Result<(), FileError> {
        let Some((beside, replaces)) = self.beside.take() else { return Ok(()) };
        let done = if replaces { fs::rename(&beside, &self.path) } else { fs::hard_link(&beside, &self.path) };
        if !replaces || done.is_err() {
            let _ = fs::remove_file(&beside);
        }
        match done {
            // Another nginx began at the same time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(FileError::InUse(0)),
            other => other.map_err(|error| FileError::System("rename", error)),
        }
    }

    /// The handle.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }

    /// Has everything on the disk and says so, if nobody uses the region any more: for the last process.
    pub fn settle(&self) {
        let is_alive = |word: u64| Identity::from_word(word).is_alive();
        let mine = Identity::current().word();
        let others = self.region.masters().map(|master| master.load(Relaxed)).into_iter();
        let in_use = others.filter(|master| *master != mine).any(is_alive)
            || self.region.seats().any(|seat| seat.owner.is_alive())
            || is_alive(self.region.writer());
        if in_use || self.beside.is_some() {
            return;
        }
        // SAFETY: the mapping is ours.
        let sync = |length| unsafe { libc::msync(self.base.as_ptr().cast(), length, libc::MS_SYNC) } == 0;
        if sync(self.size) {
            self.region.clean().store(1, SeqCst);
            sync(4096);
        }
    }
}

impl Drop for FileRegion {
    fn drop(&mut self) {
        drop(Mapped { base: self.base, size: self.size });
        if let Some((beside, _)) = &self.beside {
            let _ = fs::remove_file(beside);
        }
        // The lock goes with the last descriptor of this one.
        let _ = &self.file;
    }
}

impl Region {
    /// Notes the master of a process that uses the region, which is its parent, or itself. After the fork.
    pub fn belongs_to(&self, master: Identity) {
        let word = master.word();
        let masters = self.masters();
        if masters.iter().any(|slot| slot.load(Relaxed) == word) {
            return;
        }
        for slot in masters {
            let found = slot.load(Relaxed);
            if !Identity::from_word(found).is_alive() && slot.compare_exchange(found, word, SeqCst, Relaxed).is_ok() {
                return;
            }
        }
    }
}

struct Mapped {
    base: NonNull<u8>,
    size: usize,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: whoever made this gave up the mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

fn map(file: &File, size: usize) -> Result<NonNull<u8>, FileError> {
    // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
    let base = unsafe {
        let (rights, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        libc::mmap(ptr::null_mut(), size, rights, how, file.as_raw_fd(), 0)
    };
    let failed = || FileError::System("mmap", io::Error::last_os_error());
    NonNull::new(base.cast::<u8>()).filter(|base| base.as_ptr().cast() != libc::MAP_FAILED).ok_or_else(failed)
}

/// Takes a shared lock: where nobody holds the file, or a relative does.
fn lock(file: &File, header: &Region) -> Result<(), FileError> {
    // SAFETY: a descriptor of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let me = Identity::current().word();
        // SAFETY: asks who the parent is.
        let parent = Identity::of(unsafe { libc::getppid() }.cast_unsigned()).word();
        let masters = header.masters().map(|master| master.load(Relaxed));
        if !masters.iter().any(|master| *master == me || *master == parent) {
            return Err(FileError::InUse(masters.into_iter().map(|master| (master >> 32) as u32).max().unwrap_or(0)));
        }
    }
    shared(file)
}

fn shared(file: &File) -> Result<(), FileError> {
    // SAFETY: a descriptor of ours.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } {
        0 => Ok(()),
        // Somebody else came in between.
        _ => Err(FileError::InUse(0)),
    }
}

/// Which start of the machine this is; never 0.
fn boot() -> u64 {
    // 32 hexadecimal digits with hyphens between; where it cannot be read, every start is another one.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().replace('-', "");
    let digits = id.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    digits.unwrap_or_else(|| RandomState::new().hash_one(0)).max(1)
}
