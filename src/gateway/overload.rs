//! Overload control around the calls of a request: `access` refuses what is above the limit, `pick` counts, the response
//! header ends that, and the end of the try is a sample.
//!
//! Nothing is taken in `access`: a client that sends its body slowly, or is refused by a later step, is no load. The
//! limit is a controlled variable and not a promise, so that those who were let in at the same moment may be a few more
//! does no harm.

use super::decision::Reply;
use super::explain::{Recorder, Step, tell};
use super::object::{ArchivedLoadPlace, Consumer, Upstream};
use super::ticket::Ticket;
use super::worker::Worker;
use crate::overload::{Mode, admits};
use crate::state::tables::overload::Loads;
use crate::state::tables::places::Place;
use crate::state::{Blob, Region, View};
use crate::types::{Now, Reason, SECOND};

/// After so long it is worth asking again: some windows later, in microseconds.
const RETRY_AFTER: u64 = SECOND;

impl ArchivedLoadPlace {
    /// The place of a request of `worker`.
    pub(super) fn place(&self, worker: u32) -> Place {
        Place { slot: self.slot.to_native(), worker, key: self.key.to_native() }
    }
}

impl Worker {
    pub(super) fn loads(region: &Region) -> Loads<'_> {
        Loads::new(region.place_words())
    }

    /// Refuses a request above the limit of its upstream, the lowest priority first; in shadow mode it is only counted.
    pub(super) fn shed(
        region: &Region,
        view: &View<'_>,
        overload: &ArchivedLoadPlace,
        ticket: &Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        let place = overload.place(ticket.shard);
        let loads = Self::loads(region);
        let Some(load) = loads.load(place) else { return Ok(()) };
        let settings = overload.settings.settings();
        let (limit, busy) = (load.state.limit(&settings), load.in_flight);
        // Whom everybody's share has room for needs no name.
        let priority = if admits(limit, busy, i32::MIN) { i32::MIN } else { priority(view, ticket) };
        if admits(limit, busy, priority) {
            tell!(recorder, Step::Overload, "{busy} at work, {limit:.1} may be: lets it through");
            return Ok(());
        }
        loads.shed(place);
        if settings.mode == Mode::Enforce {
            tell!(recorder, Step::Overload, "{busy} at work, {limit:.1} may be: refuses priority {priority}");
            return Err(Reply::later(Reason::OverloadShed, RETRY_AFTER));
        }
        tell!(recorder, Step::Overload, "{busy} at work, {limit:.1} may be: would refuse priority {priority}");
        Ok(())
    }

    /// The request is at a peer of `upstream` and waits for its response header.
    #[inline]
    pub(super) fn load(region: &Region, upstream: &Blob<'_, Upstream>, ticket: &mut Ticket) {
        if upstream.overload.is_some() || ticket.sampled.key != 0 {
            Self::load_one(region, upstream, ticket);
        }
    }

    #[inline(never)]
    fn load_one(region: &Region, upstream: &Blob<'_, Upstream>, ticket: &mut Ticket) {
        let place = upstream.overload.as_ref().map_or(Place::default(), |overload| overload.place(ticket.shard));
        if ticket.sampled.key != place.key {
            // What was tried before was another upstream.
            Self::unload(region, ticket);
            ticket.sampled = place;
        }
        if place.key != 0 && ticket.load.key == 0 {
            ticket.load = Self::places(region).enter(place, u32::MAX).unwrap_or_default();
        }
    }

    /// It does not wait any more.
    #[inline]
    pub(super) fn unload(region: &Region, ticket: &mut Ticket) {
        if ticket.load.key != 0 {
            Self::places(region).leave(std::mem::take(&mut ticket.load));
        }
    }

    /// A try has ended, well or not, after `micros` to its response header or its failure.
    #[inline]
    pub(super) fn sample(&mut self, ticket: &Ticket, good: bool, micros: u64, now: Now) {
        if ticket.sampled.key != 0 {
            self.sample_load(ticket, good, micros, now);
        }
    }

    #[inline(never)]
    fn sample_load(&mut self, ticket: &Ticket, good: bool, micros: u64, now: Now) {
        let region = self.region;
        let (loads, place) = (Self::loads(&region), ticket.sampled);
        let over = if good { loads.sample(place, micros, now.mono) } else { loads.failed(place, micros, now.mono) };
        if over
            && let Some(view) = self.reader.enter()
            && let Some(upstream) = view.object::<Upstream>(ticket.upstream)
            && let Some(overload) = upstream.overload.as_ref()
        {
            loads.end_window(place, &overload.settings.settings(), now.mono);
        }
    }
}

/// The priority of the consumer that the caller is; 0 for everybody else.
fn priority(view: &View<'_>, ticket: &Ticket) -> i32 {
    match ticket.consumer() {
        "" => 0,
        name => view.named::<Consumer>(name).map_or(0, |consumer| consumer.priority.to_native()),
    }
}
