//! Which process this is, in one word, and whether the process behind such a word still lives.

use std::fs;
use std::io::ErrorKind;

/// A process: its id and when it began, so that another process that got the same id later is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// The low half of the start time, in clock ticks since boot; 0 = not known.
    pub start: u32,
}

impl Identity {
    /// A process that never lives: its id is above the largest that Linux gives (2^22).
    pub const NOBODY: Self = Self { pid: i32::MAX as u32, start: 1 };

    /// This process. Call it after the fork.
    #[must_use]
    pub fn current() -> Self {
        Self::of(std::process::id())
    }

    /// The process with this id.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, start: stat(pid).ok().flatten().map_or(0, |(_, start)| start) }
    }

    /// Both halves in one word: `pid << 32 | start`; 0 only for no process.
    #[must_use]
    pub const fn word(self) -> u64 {
        (self.pid as u64) << 32 | self.start as u64
    }

    /// The identity behind a word.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self { pid: (word >> 32) as u32, start: word as u32 }
    }

    /// Whether the process still runs. A zombie does not, though it answers signals.
    ///
    /// Where `/proc` hides other users' processes or is not mounted, a process counts as alive as long as its id
    /// does: never by time, because a paused writer that is taken for dead would go on to write into reused memory.
    #[must_use]
    pub fn is_alive(self) -> bool {
        if self.pid == 0 {
            return false;
        }
        match stat(self.pid) {
            Ok(Some((state, start))) => {
                let same = self.start == 0 || start == self.start;
                same && !matches!(state, b'Z' | b'X' | b'x')
            }
            Ok(None) => exists(self.pid),
            // Not there, or hidden.
            Err(error) if error.kind() == ErrorKind::NotFound => exists(self.pid),
            Err(_) => exists(self.pid),
        }
    }
}

/// State and start time (low half) from `/proc/PID/stat`; `None` when it does not read as expected (proc(5)).
fn stat(pid: u32) -> std::io::Result<Option<(u8, u32)>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/stat"))?))
}

fn parse(stat: &[u8]) -> Option<(u8, u32)> {
    // The second field is the program's name in parentheses and may hold anything, parentheses included.
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start: u64 = fields.nth(18)?.parse().ok()?;
    Some((state, start as u32))
}

fn exists(pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    let answer = unsafe { libc::kill(pid as libc::pid_t, 0) };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let line = b"77 (a) R b) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4294967299 1 2";
        assert_eq!(parse(line), Some((b'S', 3)));
        assert_eq!(parse(b"77 (x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_living_the_dead_and_the_reborn() {
        let me = Identity::current();
        assert!(me.is_alive() && me.start != 0);
        assert_eq!(Identity::from_word(me.word()), me);
        assert!(!Identity { start: me.start.wrapping_add(1), ..me }.is_alive(), "the same id, another process");
        assert!(!Identity { pid: 0, start: 0 }.is_alive() && !Identity::NOBODY.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // A zombie until it is waited for.
        // SAFETY: waits for the child without reaping it.
        unsafe {
            let mut info = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
        }
        let (state, start) = stat(pid).unwrap().unwrap();
        assert_eq!(state, b'Z');
        assert!(exists(pid) && !Identity { pid, start }.is_alive());
        child.wait().unwrap();
        assert!(!Identity { pid, start }.is_alive());
    }
}
