//! The log: a request's record becomes a line on its way to the file.

use super::ticket::Ticket;
use super::worker::Worker;
use crate::auth::Auth;
use crate::log::redact::Redact;
use crate::log::{Clock, LINE_MAX, Record};
use crate::state::tables::lines::{self, Lines};

/// Where lines go, and what is needed to make them.
pub(super) struct Log {
    pub lines: Lines<'static>,
    clock: Clock,
    redact: Redact,
    /// How many of the names to hide are the operator's; the policy's stand behind them.
    own: usize,
    /// The generation whose names those are.
    generation: u32,
    line: Vec<u8>,
}

impl Worker {
    /// Sends lines to `lines` from now on; `redact` says what of a query they hide, beside the parameters in which the
    /// policy looks for credentials.
    pub fn log_to(&mut self, lines: Lines<'static>, redact: Redact) {
        const { assert!(LINE_MAX <= lines::LINE_MAX, "every line finds room") };
        lines.adopt(self.reader.slot());
        let own = redact.names.len();
        let line = Vec::with_capacity(LINE_MAX);
        self.log = Some(Log { lines, clock: Clock::default(), redact, own, generation: 0, line });
    }

    /// Writes a line about a request. False where it was dropped, which is counted, or where there is no log.
    pub fn log(&mut self, record: &Record<'_>) -> bool {
        let slot = self.reader.slot();
        let Some(log) = &mut self.log else { return false };
        if let Some(view) = self.reader.enter().filter(|view| view.generation() != log.generation) {
            log.generation = view.generation();
            log.redact.names.truncate(log.own);
            let names = view.each::<Auth>();
            names.for_each(|auth| {
                log.redact.names.extend(auth.get().secret_parameters().map(|name| name.as_bytes().into()))
            });
        }
        record.write(&mut log.clock, &log.redact, &mut log.line);
        log.lines.push(slot, &log.line)
    }

    /// Who sent the request that was looked at last: the subject of its token, else the consumer; empty for the
    /// anonymous.
    #[must_use]
    pub fn user<'w>(&'w self, ticket: &'w Ticket) -> &'w str {
        self.claim(ticket, "sub").filter(|subject| !subject.is_empty()).unwrap_or(ticket.consumer())
    }
}
