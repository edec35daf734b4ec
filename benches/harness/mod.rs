//! What the benches share: jobs that callgrind counts one by one, and sides that are timed in turn.
#![allow(dead_code)]

use std::time::Instant;

/// Something ready to be done again and again.
pub type Job = Box<dyn FnMut()>;

/// Name, how to prepare it, calls that are counted under callgrind.
pub type Listed = (&'static str, fn() -> Job, u32);

/// What the command line asks for.
pub enum Asked {
    /// `list` and `count NAME` were answered.
    Done,
    /// A report of the rows whose name holds this.
    Report(Option<String>),
}

/// Answers `list` with the names that can be counted, and `count NAME` by running one for callgrind.
pub fn answer(list: &[Listed]) -> Asked {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "count" || argument == "list") {
        Some(at) if arguments[at] == "list" => list.iter().for_each(|(name, ..)| println!("{name}")),
        Some(at) => count(list, &arguments[at + 1]),
        None => return Asked::Report(arguments.into_iter().skip(1).find(|argument| !argument.starts_with("--"))),
    }
    Asked::Done
}

/// The only function in which callgrind collects.
#[inline(never)]
fn counted(job: &mut dyn FnMut()) {
    job();
}

/// Runs one job for callgrind and prints how often.
fn count(list: &[Listed], name: &str) {
    let (_, prepare, calls) = list.iter().find(|(known, ..)| known == &name).expect("a name of the list");
    let mut job = prepare();
    (0..20.min(*calls)).for_each(|_| job());
    for _ in 0..*calls {
        counted(&mut *job);
    }
    println!("{calls}");
}

/// Nanoseconds of `work` for each of its `each` operations.
pub fn timed(each: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / each as f64
}

/// The lowest and the median of `samples`.
pub fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[samples.len() / 2])
}

/// One of those that are compared: a name, and a pass that does so many operations.
pub struct Side<'s> {
    name: &'static str,
    pass: Box<dyn FnMut() + 's>,
}

impl<'s> Side<'s> {
    /// A pass that asks `look` for each of `keys`.
    pub fn over<K>(name: &'static str, keys: &'s [K], mut look: impl FnMut(&K) + 's) -> Self {
        Self { name, pass: Box::new(move || keys.iter().for_each(&mut look)) }
    }

    /// A pass that is `work`.
    pub fn once(name: &'static str, work: impl FnMut() + 's) -> Self {
        Self { name, pass: Box::new(work) }
    }
}

/// Prints what a table's columns are.
pub fn head() {
    println!("{:<30} {:>10} {:>10} {:>7}  peer", "row", "ours ns", "peer ns", "ratio");
}

/// Times passes of `each` operations, ours and the peers' in turn, `repeat` passes a turn, and prints a row for each
/// peer: the medians, and ours over theirs. `before` runs before each pass and is not timed.
pub fn race(row: &str, each: usize, repeat: usize, sides: &mut [Side<'_>], mut before: impl FnMut()) {
    const ROUNDS: usize = 9;
    let mut samples: Vec<Vec<f64>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let mut total = 0.0;
            for _ in 0..repeat {
                before();
                total += timed(each, &mut *side.pass);
            }
            samples.push(total / repeat as f64);
        }
    }
    let medians: Vec<f64> = samples.into_iter().map(|samples| summary(samples).1).collect();
    let ours = medians[0];
    if sides.len() == 1 {
        println!("{row:<30} {ours:>10.1}");
    }
    for (side, peer) in sides.iter().zip(&medians).skip(1) {
        println!("{row:<30} {ours:>10.1} {peer:>10.1} {:>7.2}  {}", ours / peer, side.name);
    }
}
