//! What the workers may read. The master is root, as a rule, and they are not: the leader, which is one of them or the
//! cache manager, reads the document and its secrets again at each edit, so what it cannot read is told at the start.
//!
//! Rights are more than a file's mode: folders, groups, access lists, security modules. So nobody computes them; a child
//! becomes the workers' user and reads. The state folder is written by that user, and what it says is read that way
//! alone: whoever got hold of a worker must not have the master read files for him.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway::config::{Secrets, SystemSecrets};
use nginx_sys::{ngx_core_conf_t, ngx_core_module, ngx_cycle_t};

/// Who the workers of a cycle are.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    user: libc::uid_t,
    group: libc::gid_t,
    name: &'a CStr,
}

impl<'a> Workers<'a> {
    /// `None` where they are who this process is.
    ///
    /// # Safety
    ///
    /// `cycle` is live, and its whole configuration is read.
    pub unsafe fn of(cycle: *mut ngx_cycle_t) -> Option<Self> {
        // SAFETY: the caller's promise: every cycle has a configuration of the core module, whose strings live as long.
        unsafe {
            let core = (*(*cycle).conf_ctx.add(ngx_core_module.index)).cast::<ngx_core_conf_t>().as_ref()?;
            if libc::geteuid() != 0 || core.username.is_null() || core.user == 0 {
                return None;
            }
            Some(Self { user: core.user, group: core.group, name: CStr::from_ptr(core.username) })
        }
    }

    /// Which of `paths` they cannot read, a line each.
    pub fn unreadable(self, paths: &[String]) -> Vec<String> {
        let said = self.run(|| {
            let mut said = Vec::new();
            for path in paths {
                // Not only opened: a folder can be.
                let read = File::open(path).and_then(|mut file| file.read(&mut [0]));
                if let Err(error) = read {
                    let user = self.name.to_string_lossy();
                    said.push(format!("{path}: cannot be read by \"{user}\", who the workers are: {error}"));
                }
            }
            said.join("\n").into_bytes()
        });
        match said {
            Ok(said) => String::from_utf8_lossy(&said).lines().map(str::to_owned).collect(),
            Err(why) => vec![why],
        }
    }

    /// What `body` returns as one of them, at the time of a start or a reload, where this process has one thread.
    fn run(self, body: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, String> {
        let failed = |what| format!("{what}: {}", std::io::Error::last_os_error());
        let mut ends = [-1; 2];
        // SAFETY: two writable descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(failed("no pipe to another process"));
        }
        let [from, to] = ends;
        // SAFETY: this process has one thread, so the child may do as it likes; it ends in `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let answer = catch_unwind(AssertUnwindSafe(|| self.become_one().then(body))).ok().flatten();
            // SAFETY: the end of the pipe that is for us.
            let mut pipe = ManuallyDrop::new(unsafe { File::from_raw_fd(to) });
            let sent = answer.is_some_and(|answer| {
                let mut whole = answer;
                // Tells a whole answer from one that was cut.
                whole.push(b'.');
                std::io::Write::write_all(&mut *pipe, &whole).is_ok()
            });
            // SAFETY: ends the child alone, with nothing of the parent's undone.
            unsafe { libc::_exit(i32::from(!sent)) };
        }
        let mut answer = Vec::new();
        // SAFETY: both ends are ours; the child has copies.
        unsafe {
            libc::close(to);
            let mut pipe = File::from_raw_fd(from);
            if child < 0 {
                return Err(failed("no process to look what the workers may read"));
            }
            let _ = pipe.read_to_end(&mut answer);
            // Signals are blocked in a master that reloads; at a start nobody waits for children yet.
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        if answer.pop() == Some(b'.') { Ok(answer) } else { Err(format!("nobody could become {:?}", self.name)) }
    }

    /// What nginx does in each worker.
    fn become_one(self) -> bool {
        // SAFETY: plain system calls of a child with one thread; the name is a valid string.
        unsafe {
            libc::setgid(self.group) == 0
                && libc::initgroups(self.name.as_ptr(), self.group) == 0
                && libc::setuid(self.user) == 0
        }
    }

    fn read(self, read: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let mut said = self.run(|| match read() {
            Ok(mut content) => {
                content.push(1);
                content
            }
            Err(why) => {
                let mut said = why.into_bytes();
                said.push(0);
                said
            }
        })?;
        match said.pop() {
            Some(1) => Ok(said),
            _ => Err(String::from_utf8_lossy(&said).into_owned()),
        }
    }
}

/// Secrets as the workers see them: their files, and the environment, which nginx hands on to them.
pub struct AsWorkers<'a>(pub Option<Workers<'a>>);

impl AsWorkers<'_> {
    /// Runs `read` as one of the workers.
    pub fn read(&self, read: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        match self.0 {
            Some(workers) => workers.read(read),
            None => read(),
        }
    }
}

impl Secrets for AsWorkers<'_> {
    fn env(&self, name: &str) -> Option<String> {
        SystemSecrets.env(name)
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.read(|| SystemSecrets.file(path))
    }

    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        self.read(|| SystemSecrets.list(path))
    }
}
