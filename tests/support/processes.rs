//! Processes that share memory with the test and are killed somewhere inside.
#![allow(dead_code, clippy::unwrap_used, reason = "tests may, and do not use all of it")]

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub fn fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses no lock that another thread could have held: it allocates, which glibc allows, and works
    // on the region.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Nobody stays behind when the test fails.
        // SAFETY: concerns this process alone.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
        // SAFETY: ends without running what the parent registered.
        unsafe { libc::_exit(code) };
    }
    pid
}

pub fn kill(pid: i32) {
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// How a child ended; waits for it if `wait`.
pub fn reap(pid: i32, wait: bool) -> Option<i32> {
    let mut status = 0;
    // SAFETY: a child of ours.
    let found = unsafe { libc::waitpid(pid, &mut status, if wait { 0 } else { libc::WNOHANG }) };
    (found == pid).then_some(status)
}

pub fn was_killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// Stops a process where it is, until `go_on`.
pub fn stop(pid: i32) {
    let mut status = 0;
    // SAFETY: a child of ours that was not waited for.
    unsafe {
        libc::kill(pid, libc::SIGSTOP);
        assert_eq!(libc::waitpid(pid, &mut status, libc::WUNTRACED), pid);
    }
    assert!(libc::WIFSTOPPED(status), "it ended by itself: {status}");
}

pub fn go_on(pid: i32) {
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(pid, libc::SIGCONT) };
}
