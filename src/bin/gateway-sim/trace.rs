//! What happened last, and a digest of all that happened: equal seeds give equal digests.

use std::collections::VecDeque;

/// So many lines are shown with a violation.
const KEPT: usize = 40;

/// Something that must not be.
#[derive(Debug)]
pub struct Violation {
    /// Which promise is broken.
    pub invariant: &'static str,
    pub text: String,
}

pub type Checked = Result<(), Violation>;

/// Says what is broken.
pub fn broken<T>(invariant: &'static str, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text })
}

pub struct Trace {
    lines: VecDeque<String>,
    digest: u64,
    pub verbose: bool,
}

impl Trace {
    pub fn new(verbose: bool) -> Self {
        Self { lines: VecDeque::new(), digest: 0xcbf2_9ce4_8422_2325, verbose }
    }

    /// Notes what happened at `now`.
    pub fn note(&mut self, now: u64, text: &str) {
        let line = format!("{:>12.6} {text}", now as f64 / 1e6);
        // FNV-1a.
        self.digest =
            line.bytes().fold(self.digest, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        if self.verbose {
            println!("{line}");
        }
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
