//! Lines on their way to a file: chunks that workers fill, each its own, and that one process empties.
//!
//! A request's line is copied into the chunk that its worker has at hand and no more: no lock, no call of the kernel, no
//! wait. A full chunk is sealed and a free one claimed; where there is none, the line is dropped and counted. So all the
//! room there is belongs to whoever needs it. What stands in a chunk outlives the worker that wrote it, whose successor
//! goes on with it; a line that a worker was killed in the middle of was never in it.
//!
//! | word | what | written by |
//! |---|---|---|
//! | 0 | lines that reached the file | who empties |
//! | 8 + 8 w | of worker w: the chunk at hand, plus 1 | the worker |
//! | + 1, + 2 | lines that were taken; lines that found no room | the worker |
//! | + 3 | chunks that it has claimed so far | the worker |
//! | chunk | whose it is: worker + 1, with [`CLAIMED`] until the rest is right; 0 = nobody's | who claims, who empties |
//! | + 1 | how many chunks the worker had claimed before | the worker |
//! | + 2 | words with lines in them | the worker |
//! | + 3 | whether it is sealed | the worker |
//! | + 4 | words that were written to the file | who empties |
//! | + 8 | {length of a line in bytes, u64}, the line, eight bytes a word; and so on | the worker |
//!
//! Who empties takes what it wrote out of a chunk after it has written it: killed between the two, its successor writes
//! those lines again.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Words in front of the workers' heads.
const HEAD: usize = 8;
/// Words of a worker's head: a cache line.
const WORKER: usize = 8;
/// Words of a chunk, its head included: 128 KiB.
const CHUNK: usize = 16 << 10;
/// Words of a chunk's head: a cache line.
const CHUNK_HEAD: usize = 8;

const AT_HAND: usize = 0;
const TAKEN: usize = 1;
const DROPPED: usize = 2;
const CHUNKS: usize = 3;

const OWNER: usize = 0;
const NUMBER: usize = 1;
const FILLED: usize = 2;
const SEALED: usize = 3;
const EMPTIED: usize = 4;

/// Nobody but its claimer knows what stands in the chunk's head yet.
const CLAIMED: u64 = 1 << 32;

/// No line is longer, bytes.
pub const LINE_MAX: usize = (CHUNK - CHUNK_HEAD - 1) * 8;

/// What became of all lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written to the file.
    pub written: u64,
    /// Dropped, as there was no room.
    pub dropped: u64,
    /// Bytes that wait.
    pub waiting: u64,
    /// Bytes that there is room for.
    pub room: u64,
}

/// The chunks.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    words: &'a [AtomicU64],
    workers: usize,
}

/// Lines that were copied out of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    chunk: usize,
    upto: u64,
    /// How many there are.
    pub lines: u64,
}

impl<'a> Lines<'a> {
    /// How many bytes `workers` workers need at least: a chunk for each and one more.
    #[must_use]
    pub const fn size_min(workers: usize) -> usize {
        (HEAD + workers * WORKER + (workers + 1) * CHUNK) * 8
    }

    /// The chunks of `workers` workers over `words`, which were zero at first; `None` where there is no room for one.
    #[must_use]
    pub fn new(words: &'a [AtomicU64], workers: usize) -> Option<Self> {
        let lines = Self { words, workers };
        (workers > 0 && lines.chunk(0).is_some()).then_some(lines)
    }

    fn worker(self, worker: u32) -> Option<&'a [AtomicU64]> {
        let from = HEAD + worker as usize * WORKER;
        self.words.get(from..from + WORKER).filter(|_| (worker as usize) < self.workers)
    }

    fn chunk(self, index: usize) -> Option<(&'a [AtomicU64], &'a [AtomicU64])> {
        let from = (HEAD + self.workers * WORKER).saturating_add(index.checked_mul(CHUNK)?);
        self.words.get(from..from.checked_add(CHUNK)?)?.split_at_checked(CHUNK_HEAD)
    }

    fn chunks(self) -> usize {
        self.words.len().saturating_sub(HEAD + self.workers * WORKER) / CHUNK
    }

    /// Puts in order what the worker's predecessor may have left, if it was killed. For whoever has just taken the slot.
    pub fn adopt(self, worker: u32) {
        let owner = u64::from(worker) + 1;
        for (head, _) in (0..self.chunks()).filter_map(|index| self.chunk(index)) {
            if load(head, OWNER) == owner | CLAIMED {
                store(head, OWNER, 0);
            }
        }
    }

    /// Takes `line`; false where there is no room for it. Only the owner of that worker's slot may call it.
    pub fn push(self, worker: u32, line: &[u8]) -> bool {
        let Some(head) = self.worker(worker) else { return false };
        let need = 1 + line.len().div_ceil(8);
        let at_hand = (load(head, AT_HAND) as usize).checked_sub(1).and_then(|index| self.chunk(index));
        let is_ours = |chunk: &[AtomicU64]| load(chunk, OWNER) == u64::from(worker) + 1 && load(chunk, SEALED) == 0;
        let at_hand = at_hand.filter(|(chunk, _)| is_ours(chunk));
        let fits = |(chunk, room): &(&[AtomicU64], &[AtomicU64])| load(chunk, FILLED) as usize + need <= room.len();
        let found = match at_hand {
            Some(chunk) if fits(&chunk) => Some(chunk),
            _ if need > CHUNK - CHUNK_HEAD => None,
            full => self.claim(worker, head, full.map(|(chunk, _)| chunk)),
        };
        let Some((chunk, room)) = found else {
            add(head, DROPPED, 1);
            return false;
        };
        let filled = load(chunk, FILLED);
        let place = room.get(filled as usize..).unwrap_or_default();
        let (chunks, rest) = line.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        let texts = chunks.iter().copied().chain((!rest.is_empty()).then_some(last)).map(u64::from_le_bytes);
        let all = std::iter::once(line.len() as u64).chain(texts);
        place.iter().zip(all).for_each(|(word, value)| word.store(value, Relaxed));
        add(head, TAKEN, 1);
        store(chunk, FILLED, filled + need as u64);
        true
    }

    /// Seals `full`, so that it is free once it is emptied, and takes another chunk.
    #[cold]
    fn claim(
        self,
        worker: u32,
        head: &[AtomicU64],
        full: Option<&[AtomicU64]>,
    ) -> Option<(&'a [AtomicU64], &'a [AtomicU64])> {
        let owner = u64::from(worker) + 1;
        if let Some(full) = full {
            store(full, SEALED, 1);
        }
        // Low ones first: what nobody needs is never touched, and takes no memory.
        let (index, (chunk, room)) = (0..self.chunks()).find_map(|index| {
            let found = self.chunk(index)?;
            let word = found.0.first()?;
            let is_free = word.load(Relaxed) == 0;
            let claimed = is_free && word.compare_exchange(0, owner | CLAIMED, AcqRel, Relaxed).is_ok();
            claimed.then_some((index, found))
        })?;
        let number = load(head, CHUNKS) + 1;
        for (word, value) in [(NUMBER, number), (FILLED, 0), (SEALED, 0), (EMPTIED, 0)] {
            store(chunk, word, value);
        }
        store(head, CHUNKS, number);
        store(chunk, OWNER, owner);
        store(head, AT_HAND, index as u64 + 1);
        Some((chunk, room))
    }

    /// Copies lines behind what is in `out` as long as that has not more than `most` bytes: those of one worker in their
    /// order. Whoever has written them says so to [`Self::done`]. One process at a time.
    pub fn take(self, out: &mut Vec<u8>, most: usize) -> Vec<Taken> {
        let mut waiting: Vec<_> = (0..self.chunks())
            .filter_map(|index| {
                let (head, _) = self.chunk(index)?;
                let owner = load(head, OWNER);
                (owner != 0 && owner < CLAIMED).then(|| (owner, load(head, NUMBER), index))
            })
            .collect();
        waiting.sort_unstable();
        let mut all = Vec::new();
        for (_, _, index) in waiting {
            if out.len() > most {
                break;
            }
            all.extend(self.take_chunk(index, out, most));
        }
        all
    }

    fn take_chunk(self, index: usize, out: &mut Vec<u8>, most: usize) -> Option<Taken> {
        let (head, room) = self.chunk(index)?;
        // Before the words are counted: what is sealed gets no more.
        let is_sealed = load(head, SEALED) != 0;
        let filled = load(head, FILLED).min(room.len() as u64);
        let mut at = load(head, EMPTIED);
        let mut lines = 0;
        let word = |at: u64| room.get(at as usize).map_or(0, |word| word.load(Relaxed));
        while at < filled && out.len() <= most {
            let length = word(at) as usize;
            let need = (length.div_ceil(8) as u64).saturating_add(1);
            if need > filled - at {
                // The memory is damaged: nothing in it can be told from anything else.
                at = filled;
                break;
            }
            for step in 1..need {
                let left = length - (step as usize - 1) * 8;
                out.extend_from_slice(word(at + step).to_le_bytes().get(..left.min(8)).unwrap_or_default());
            }
            at += need;
            lines += 1;
        }
        let taken = Taken { chunk: index, upto: at, lines };
        if lines == 0 {
            // Nothing to be written first.
            store(head, EMPTIED, at);
            self.free(taken, is_sealed);
            return None;
        }
        Some(taken)
    }

    /// The lines of `taken` are written.
    pub fn done(self, taken: Taken) {
        let Some((head, _)) = self.chunk(taken.chunk) else { return };
        add(self.words, 0, taken.lines);
        let is_sealed = load(head, SEALED) != 0;
        store(head, EMPTIED, taken.upto);
        self.free(taken, is_sealed);
    }

    /// Frees the chunk of `taken` where all of it was taken and nothing is to come.
    fn free(self, taken: Taken, is_sealed: bool) {
        let Some((head, _)) = self.chunk(taken.chunk) else { return };
        if is_sealed && load(head, FILLED) <= taken.upto {
            store(head, OWNER, 0);
        }
    }

    /// What became of all lines.
    #[must_use]
    pub fn counts(self) -> Counts {
        let dropped = (0..self.workers as u32).filter_map(|worker| self.worker(worker)).map(|head| load(head, DROPPED));
        let waiting =
            (0..self.chunks()).filter_map(|index| self.chunk(index)).map(|(head, _)| match load(head, OWNER) {
                0 => 0,
                _ => load(head, FILLED).saturating_sub(load(head, EMPTIED)) * 8,
            });
        Counts {
            written: load(self.words, 0),
            dropped: dropped.sum(),
            waiting: waiting.sum(),
            room: (self.chunks() * (CHUNK - CHUNK_HEAD) * 8) as u64,
        }
    }

    /// Whether nothing of `worker` waits.
    #[must_use]
    pub fn is_empty(self, worker: u32) -> bool {
        let waits = |(head, _): (&[AtomicU64], &[AtomicU64])| {
            load(head, OWNER) == u64::from(worker) + 1 && load(head, FILLED) > load(head, EMPTIED)
        };
        !(0..self.chunks()).filter_map(|index| self.chunk(index)).any(waits)
    }
}

fn load(words: &[AtomicU64], index: usize) -> u64 {
    words.get(index).map_or(0, |word| word.load(Acquire))
}

fn store(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(value, Release);
    }
}

/// A load and a store: nobody else writes there.
fn add(words: &[AtomicU64], index: usize, more: u64) {
    if let Some(word) = words.get(index) {
        word.store(word.load(Relaxed).wrapping_add(more), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn memory(workers: usize, chunks: usize) -> Vec<AtomicU64> {
        (0..HEAD + workers * WORKER + chunks * CHUNK).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn too_little_room_is_none() {
        let words = memory(2, 1);
        assert!(Lines::new(&words, 2).is_some());
        assert!(Lines::new(&words[1..], 2).is_none());
        assert!(Lines::new(&words, 0).is_none());
        assert_eq!(Lines::size_min(2), memory(2, 3).len() * 8);
    }

    #[test]
    fn a_line_that_finds_no_room_is_dropped_and_counted_and_the_others_stay() {
        let words = memory(2, 3);
        let lines = Lines::new(&words, 2).unwrap();
        let line = [b'x'; 72];
        let fit = (CHUNK - CHUNK_HEAD) / 10;
        // Two chunks for one worker, one for the other.
        assert!(lines.push(1, b"other"));
        for _ in 0..2 * fit {
            assert!(lines.push(0, &line));
        }
        assert!(!lines.push(0, &line));
        assert!(lines.push(1, b"other"), "who has one at hand goes on");
        assert!(!lines.push(2, &line), "a worker that it knows nothing of");
        assert!(!lines.push(1, &vec![0; LINE_MAX + 1]), "longer than any chunk");
        let counts = lines.counts();
        assert_eq!((counts.written, counts.dropped, counts.waiting), (0, 2, 2 * fit as u64 * 80 + 32));
        let mut out = Vec::new();
        let taken = lines.take(&mut out, usize::MAX);
        assert_eq!(out.len(), 2 * fit * 72 + 10);
        // Until it is done they are there: a successor takes them once more.
        let mut again = Vec::new();
        assert_eq!(lines.take(&mut again, usize::MAX), taken);
        assert_eq!(again, out);
        taken.into_iter().for_each(|taken| lines.done(taken));
        assert!(lines.take(&mut out, usize::MAX).is_empty() && lines.is_empty(0) && lines.is_empty(1));
        for _ in 0..2 * fit {
            assert!(lines.push(0, &line), "what was emptied is free again");
        }
        assert!(lines.push(1, &vec![b'y'; 500]));
        assert!(!lines.is_empty(0) && !lines.is_empty(1));
        assert_eq!(lines.counts().written, 2 * fit as u64 + 2);
    }

    #[test]
    fn what_a_killed_worker_leaves_is_written_and_its_successor_goes_on() {
        let words = memory(1, 2);
        let lines = Lines::new(&words, 1).unwrap();
        lines.push(0, b"first\n");
        // Killed while it claimed: the chunk says so, and nothing else does.
        let (second, _) = lines.chunk(1).unwrap();
        store(second, OWNER, 1 | CLAIMED);
        let mut out = Vec::new();
        let taken = lines.take(&mut out, usize::MAX);
        assert_eq!((out.as_slice(), taken.len()), (&b"first\n"[..], 1));
        lines.adopt(0);
        assert!(lines.push(0, b"second\n"));
        out.clear();
        let taken = lines.take(&mut out, usize::MAX);
        assert_eq!(out, b"first\nsecond\n");
        taken.into_iter().for_each(|taken| lines.done(taken));
        // Killed after the full one was sealed, before another was at hand.
        let (first, _) = lines.chunk(0).unwrap();
        store(first, SEALED, 1);
        assert!(lines.push(0, b"third\n"));
        out.clear();
        let taken = lines.take(&mut out, usize::MAX);
        assert_eq!(out, b"third\n");
        taken.into_iter().for_each(|taken| lines.done(taken));
        assert!(lines.push(0, &vec![b'z'; LINE_MAX]), "the first chunk is free again");
    }

    #[test]
    fn damage_ends_every_search() {
        for (index, value) in
            [(FILLED, u64::MAX), (CHUNK_HEAD, u64::MAX), (CHUNK_HEAD, 1 << 40), (OWNER, 77), (NUMBER, 9)]
        {
            let words = memory(1, 1);
            let lines = Lines::new(&words, 1).unwrap();
            lines.push(0, b"one\n");
            words[HEAD + WORKER + index].store(value, Relaxed);
            let mut out = Vec::new();
            for _ in 0..3 {
                let taken = lines.take(&mut out, usize::MAX);
                taken.into_iter().for_each(|taken| lines.done(taken));
            }
            assert!(lines.take(&mut out, usize::MAX).is_empty(), "{index} {value}");
            assert!(out.len() < CHUNK * 8);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_pushed_comes_out_in_order_or_is_counted(
            steps in proptest::collection::vec(
                prop_oneof![
                    4 => (0..2_u32, 0..20_000_usize, any::<u8>()).prop_map(Some),
                    1 => Just(None),
                ],
                1..150,
            ),
            most in 0..300_000_usize,
        ) {
            let words = memory(2, 4);
            let lines = Lines::new(&words, 2).unwrap();
            let mut models = [VecDeque::new(), VecDeque::new()];
            let mut dropped = 0;
            for step in steps {
                match step {
                    Some((worker, length, byte)) => {
                        // The first byte says whose it is.
                        let mut line = vec![byte; length + 2];
                        line[0] = worker as u8;
                        line[length + 1] = b'\n';
                        match lines.push(worker, &line) {
                            true => models[worker as usize].push_back(line),
                            false => dropped += 1,
                        }
                    }
                    None => {
                        let mut out = Vec::new();
                        let taken = lines.take(&mut out, most);
                        let count: u64 = taken.iter().map(|taken| taken.lines).sum();
                        let mut rest = out.as_slice();
                        for _ in 0..count {
                            let line = models[usize::from(rest[0])].pop_front().unwrap();
                            prop_assert!(rest.starts_with(&line));
                            rest = &rest[line.len()..];
                        }
                        prop_assert!(rest.is_empty());
                        prop_assert!(count > 0 || models.iter().all(VecDeque::is_empty));
                        taken.into_iter().for_each(|taken| lines.done(taken));
                    }
                }
            }
            prop_assert_eq!(lines.counts().dropped, dropped);
            let bytes = |model: &VecDeque<Vec<u8>>| model.iter().map(|line| 8 + line.len().next_multiple_of(8) as u64).sum::<u64>();
            prop_assert_eq!(lines.counts().waiting, models.iter().map(bytes).sum::<u64>());
        }
    }
}
