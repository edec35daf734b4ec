//! The state folder: what outlives all processes, a file each.
//!
//! A file is written beside its name, synced, and renamed into place, and then the folder is synced: whoever reads it,
//! after a crash or a cut of power too, finds the old content or the new one, whole. Files are 0600 and links are not
//! followed: the folder belongs to the user of the workers, and the master, which reads it at a start, may be root.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder that `gateway_state` names.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`, which somebody else makes.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes `content` what `name` holds; on return it is on the disk.
    ///
    /// # Errors
    /// `name` holds what it held.
    pub fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let fresh = self.0.join(format!(".{name}~{}", std::process::id()));
        let written = self.write(&fresh, content).and_then(|()| fs::rename(&fresh, self.0.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written.and_then(|()| self.sync())
    }

    /// Whether there is a file `name`.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        fs::symlink_metadata(self.0.join(name)).is_ok_and(|meta| meta.is_file())
    }

    /// What `name` holds; `None` where there is no such file.
    ///
    /// # Errors
    /// It cannot be read, is no plain file, or has more than `most` bytes.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(name, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() > most {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("no file of at most {most} bytes")));
        }
        let mut content = Vec::with_capacity(meta.len() as usize + 1);
        file.take(most).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Removes `name`; whether it was there.
    ///
    /// # Errors
    /// It stays.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.0.join(name)) {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what processes left here that died while they wrote.
    pub fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let writer = name.to_str().filter(|name| name.starts_with('.')).and_then(|name| name.rsplit_once('~'));
            if let Some(pid) = writer.and_then(|(_, pid)| pid.parse::<u32>().ok())
                && !Path::new("/proc").join(pid.to_string()).exists()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Opens `name`, unless it is a link.
    fn open(&self, name: &str, how: &mut OpenOptions) -> io::Result<File> {
        // Without blocking: whoever owns the folder may have put a pipe there.
        how.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(self.0.join(name))
    }

    /// Has the folder's own content on the disk.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        // What a process of the same number left is no file of ours.
        let _ = fs::remove_file(path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gateway-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder::new(&path)
    }

    #[test]
    fn a_file_is_what_was_saved_last_and_nobody_elses() {
        let folder = folder("saved");
        assert_eq!(folder.read("a", 10).unwrap(), None);
        folder.save("a", b"one").unwrap();
        folder.save("a", b"two").unwrap();
        assert_eq!(folder.read("a", 3).unwrap().unwrap(), b"two");
        assert!(folder.read("a", 2).is_err(), "too large");
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(folder.remove("a").unwrap() && !folder.remove("a").unwrap());

        fs::write(folder.path().join("real"), "secret").unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        assert!(folder.read("link", 100).is_err(), "links are not followed");
        folder.save("link", b"mine").unwrap();
        assert_eq!(fs::read(folder.path().join("real")).unwrap(), b"secret", "nor written through");
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(folder.read("folder", 100).is_err() && folder.save("folder", b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left of what failed");
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(folder.save("a", b"").is_err());
    }

    #[test]
    fn what_the_dead_left_goes() {
        let folder = folder("left");
        let mine = format!(".a~{}", std::process::id());
        for name in [".a~4194305", mine.as_str(), "a~4194305", ".a"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        folder.tidy();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.len() == 3 && !left.iter().any(|name| name == ".a~4194305"), "{left:?}");
        fs::remove_dir_all(folder.path()).unwrap();
    }
}
