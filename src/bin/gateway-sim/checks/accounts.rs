//! Accounting closes: what is counted is what was.

use crate::trace::{Checked, broken};

#[derive(Default)]
pub struct Accounts {
    /// Requests that were completed.
    pub completed: u64,
    /// Those that were forwarded, refused, aborted, and gone with their worker.
    pub forwarded: u64,
    pub refused: u64,
    pub aborted: u64,
    pub killed: u64,
    /// Bytes that the policy took at first.
    pub base: Option<usize>,
}

impl Accounts {
    /// Holds the metrics against what happened. `flying` requests are under way in living workers, and `lost` more may
    /// still be counted, as their workers died a moment ago.
    pub fn metrics(&self, text: &str, flying: u64, lost: u64) -> Checked {
        let counted = sum(text, "gateway_requests_total");
        if counted != self.completed {
            return broken("metrics", format!("{counted} requests are counted, {} were completed", self.completed));
        }
        let active = sum(text, "gateway_active_connections");
        if active < flying || active > flying + lost {
            let text = format!("{active} requests are counted in flight; {flying} are, {lost} died with their workers");
            return broken("in flight", text);
        }
        Ok(())
    }

    /// Holds the bytes that the first document takes now against what it took at first. Ids are given anew, so the
    /// shape of the tree may differ a little.
    pub fn memory(&self, live: usize) -> Checked {
        match self.base {
            Some(base) if live > base + base / 4 + 4_096 => {
                broken("memory", format!("the first document took {base} bytes and takes {live} now"))
            }
            _ => Ok(()),
        }
    }
}

/// The sum of all series of one name.
fn sum(text: &str, name: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).map(|value| value as u64).sum()
}
