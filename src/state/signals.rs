//! Threads that hear no signal.

use std::ptr;

/// Runs `start` with all signals blocked in this thread, as a thread that it starts will have them for ever: a host's
/// signals are for the host's own threads.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    /// Gives the thread its own signals back, also when `start` panics.
    struct Restore(Option<libc::sigset_t>);

    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = &self.0 {
                // SAFETY: the set was filled by the call that blocked the signals.
                unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
            }
        }
    }

    // SAFETY: a set of signals is plain bits, which the calls below fill.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both sets are ours and writable.
    let done = unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before)
    };
    let _restore = Restore((done == 0).then_some(before));
    start()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether SIGTERM is blocked in this thread.
    fn blocked() -> bool {
        // SAFETY: a set of signals is plain bits, which the call fills.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
            libc::sigismember(&set, libc::SIGTERM) == 1
        }
    }

    #[test]
    fn a_thread_keeps_what_it_was_started_with() {
        assert!(!blocked());
        let thread = without_signals(|| std::thread::spawn(blocked));
        assert!(thread.join().unwrap());
        assert!(!blocked());
        assert!(std::panic::catch_unwind(|| without_signals(|| panic!("on purpose"))).is_err());
        assert!(!blocked());
    }
}
