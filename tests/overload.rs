//! Overload control: the limit against a model of a backend with a knee, and the three calls of a request.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use std::io::{Read, Write};

use gateway::config;
use gateway::gateway::{Decision, Entry, Leader, Notes, Outcome, Reply, Step, Ticket, TryEnd, Worker};
use gateway::overload::{Mode, Overload, Samples, State, Window, admits, share};
use gateway::state::{Identity, SharedRegion};
use gateway::types::{Now, Reason, SECOND};
use proptest::prelude::*;
use support::{Fake, Gateway, TestSecrets, at};

/// A backend that works on `knee` requests at once, each for `work` microseconds; more of them share what there is.
struct Backend {
    knee: f64,
    work: f64,
}

/// One limit, one backend, and so many clients that ask again as soon as they are answered, or 20 ms after a refusal.
struct Simulation {
    settings: Overload,
    state: State,
    window: Window,
    samples: Samples,
    now: u64,
    in_flight: u32,
    /// When a request ends, and how long it took; when a client comes.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    comes: BinaryHeap<Reverse<u64>>,
    least: f32,
    done: u64,
}

impl Simulation {
    fn new(settings: Overload, clients: u32) -> Self {
        let comes = (0..u64::from(clients)).map(|client| Reverse(client * 100)).collect();
        let (state, window, samples) = Default::default();
        let (ends, least) = (BinaryHeap::new(), f32::MAX);
        Self { settings, state, window, samples, now: 0, in_flight: 0, ends, comes, least, done: 0 }
    }

    fn run(&mut self, backend: &Backend, seconds: u64) {
        let until = self.now + seconds * SECOND;
        self.done = 0;
        loop {
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let come = self.comes.peek().map(|Reverse(at)| *at);
            let Some(next) = end.into_iter().chain(come).min().filter(|next| *next < until) else { break };
            self.now = next;
            if end == Some(next) {
                let Reverse((_, took)) = self.ends.pop().unwrap();
                self.in_flight -= 1;
                self.done += 1;
                self.comes.push(Reverse(self.now));
                self.sample(took);
                continue;
            }
            self.comes.pop();
            if !admits(self.state.limit(&self.settings), self.in_flight, 0) {
                self.comes.push(Reverse(self.now + 20_000));
                continue;
            }
            self.in_flight += 1;
            let took = (backend.work * (f64::from(self.in_flight) / backend.knee).max(1.0)) as u64;
            self.ends.push(Reverse((self.now + took, took)));
        }
        self.now = until;
    }

    fn sample(&mut self, took: u64) {
        self.samples = Samples(self.samples.0 + Samples::one(took).0);
        if self.window.is_over(self.samples, self.now) {
            let mean = self.samples.sum() / self.samples.count();
            if self.window != Window::default() {
                self.state = self.state.next(&self.settings, self.samples, self.window.age(self.now));
            }
            self.window = Window::begin(self.now, mean);
            self.samples = Samples::default();
        }
        self.least = self.least.min(self.state.limit(&self.settings));
    }

    /// How many requests are at work when the limit is reached.
    fn works_on(&self) -> f32 {
        self.state.limit(&self.settings) * share(0)
    }
}

const SETTINGS: Overload = Overload { mode: Mode::Enforce, min: 1, max: 1_000, tolerance: 2 };

#[test]
fn the_limit_finds_the_knee_and_finds_it_again_when_it_moves() {
    for (knee, work) in [(8.0, 5_000.0), (40.0, 20_000.0), (100.0, 50_000.0), (20.0, 300_000.0)] {
        let well = Backend { knee, work };
        let mut simulation = Simulation::new(SETTINGS, 600);
        simulation.run(&well, 60);
        let found = simulation.works_on();
        assert!(f64::from(found) >= knee * 0.9 && f64::from(found) <= knee * 2.6, "{found} for a knee of {knee}");
        // All of what the backend can do is used.
        simulation.run(&well, 10);
        let most = knee / work * 1e7;
        assert!(simulation.done as f64 > 0.9 * most, "{} of {most}", simulation.done);

        // A quarter of the capacity, as when three of four nodes hang: fewer at once, at the latency that is tolerated.
        simulation.run(&Backend { knee: knee / 4.0, work }, 30);
        let less = simulation.works_on();
        assert!(f64::from(less) <= knee / 4.0 * 2.6 + 1.0, "{less} for a knee of {}", knee / 4.0);

        simulation.run(&well, 60);
        let again = simulation.works_on();
        assert!(again > found * 0.7 && again < found * 1.5, "{again} after {found}");
    }
}

#[test]
fn a_backend_that_is_slower_for_good_is_not_starved() {
    let mut simulation = Simulation::new(SETTINGS, 200);
    simulation.run(&Backend { knee: 40.0, work: 10_000.0 }, 30);
    let slow = Backend { knee: 40.0, work: 60_000.0 };
    simulation.run(&slow, 60);
    simulation.run(&slow, 10);
    let most = 40.0 / 60_000.0 * 1e7;
    assert!(simulation.done as f64 > 0.9 * most, "{} of {most}: six times slower is the new measure", simulation.done);
}

#[test]
fn without_demand_the_limit_stays() {
    let mut simulation = Simulation::new(SETTINGS, 4);
    simulation.run(&Backend { knee: 100.0, work: 10_000.0 }, 120);
    let limit = simulation.state.limit(&SETTINGS);
    assert!((4.0..=18.0).contains(&limit), "{limit} for four clients");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whoever is refused, everybody of a lower priority is refused as well; and one may always come to a free upstream.
    #[test]
    fn the_lowest_priority_is_shed_first(limit in 1.0_f32..1e6, in_flight in 0_u32..2_000_000, one: i32, other: i32) {
        let (low, high) = (one.min(other), one.max(other));
        prop_assert!(admits(limit, in_flight, high) || !admits(limit, in_flight, low));
        prop_assert!(admits(limit, 0, low));
        prop_assert!(!admits(limit, limit.ceil() as u32, high));
    }

    /// Whatever is measured, and whatever a damaged word says: the limit is between `min` and `max`.
    #[test]
    fn the_limit_stays_in_its_bounds(
        start: u64, min in 1_u32..500, more in 0_u32..500, tolerance in 2_u8..20,
        windows in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
    ) {
        let settings = Overload { mode: Mode::Shadow, min, max: min + more, tolerance };
        let mut state = State(start);
        for (samples, length) in windows {
            state = state.next(&settings, Samples(samples), length);
            let limit = state.limit(&settings);
            prop_assert!((min as f32..=(min + more) as f32).contains(&limit), "{limit}");
        }
    }

    #[test]
    fn a_simulated_limit_never_falls_below_min(
        min in 1_u32..20, clients in 1_u32..300, steps in prop::collection::vec((1.0_f64..100.0, 1_000.0_f64..400_000.0), 1..6),
    ) {
        let settings = Overload { min, ..SETTINGS };
        let mut simulation = Simulation::new(settings, clients);
        for (knee, work) in steps {
            simulation.run(&Backend { knee, work }, 5);
        }
        prop_assert!(simulation.least >= min as f32);
    }
}

// --- through the calls of a request ---------------------------------------------------------------------------------

fn document(overload: &str) -> String {
    format!(
        r#"version: 1
auth: [{{name: keys, optional: true, api_key: {{header: X-Key}}}}]
consumers:
  - {{name: gold, priority: 5, api_key: "sha256:{}"}}
  - {{name: tin, priority: -9, api_key: "sha256:{}"}}
upstreams: [{{name: u, nodes: [{{host: 127.0.0.1, port: 1}}, {{host: 127.0.0.1, port: 2}}]{overload}}}]
routes: [{{name: r, paths: ["/*"], upstream: u, auth: [keys]}}]
"#,
        hash("goldgoldgoldgoldgoldgoldgoldgold"),
        hash("tintintintintintintintintintintin"),
    )
}

fn hash(key: &str) -> String {
    String::from_utf8_lossy(&gateway::auth::digest(key.as_bytes())).into_owned()
}

fn gold() -> Fake {
    Fake::get("/").header("x-key", "goldgoldgoldgoldgoldgoldgoldgold")
}

fn tin() -> Fake {
    Fake::get("/").header("x-key", "tintintintintintintintintintintin")
}

/// Lets one in and to a peer, where it stays.
fn enter(gateway: &mut Gateway, worker: usize, request: &Fake, now: Now) -> Result<Ticket, Reply> {
    let (decision, mut ticket) = gateway.access(worker, request, now);
    match decision {
        Decision::Forward => {
            gateway.workers[worker].pick(&mut ticket, now, |_| ()).unwrap();
            Ok(ticket)
        }
        Decision::Reply(reply) => Err(reply),
        other => panic!("{other:?}"),
    }
}

fn series(gateway: &mut Gateway, name: &str, now: Now) -> Option<f64> {
    let text = gateway.workers[0].metrics(now);
    let name = format!("{name}{{upstream=\"u\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map(|value| value.trim().parse().unwrap())
}

#[test]
fn the_lowest_priority_goes_first_over_all_workers() {
    let mut gateway = Gateway::new(&document(", overload: {mode: enforce, min: 10, max: 10}"), 3);
    let mut held = Vec::new();
    let mut refused = Vec::new();
    for turn in 0..12 {
        let worker = turn % 3;
        for (who, request) in [("tin", tin()), ("", Fake::get("/")), ("gold", gold())] {
            let verdict = gateway.verdict(worker, &request, at(0.0));
            if verdict != "forward" {
                assert_eq!(verdict, "overload.shed");
                refused.push((turn, who));
            }
        }
        held.extend(enter(&mut gateway, worker, &gold(), at(0.0)));
    }
    assert_eq!(held.len(), 10);
    let first = |who: &str| refused.iter().find(|(_, other)| *other == who).map(|(turn, _)| *turn);
    assert_eq!((first("tin"), first(""), first("gold")), (Some(5), Some(8), Some(10)));

    let reply = enter(&mut gateway, 0, &gold(), at(0.0)).unwrap_err();
    assert_eq!((reply.reason, reply.retry_after, reply.reason.status()), (Reason::OverloadShed, 1, 503));
    let mut notes = Notes::default();
    gateway.workers[0].access_with(&gold(), Entry::First, at(0.0), &mut Ticket::new(), &mut notes);
    let (step, text) = notes.0.last().unwrap();
    assert_eq!((*step, text.as_str()), (Step::Overload, "10 at work, 10.0 may be: refuses priority 5"));
    assert_eq!(series(&mut gateway, "gateway_overload_in_flight", at(0.0)), Some(10.0));
    assert_eq!(series(&mut gateway, "gateway_overload_limit", at(0.0)), Some(10.0));
    assert_eq!(series(&mut gateway, "gateway_overload_shed_total", at(0.0)), Some(refused.len() as f64 + 4.0));

    // The response header ends it, and so does whatever else ends a request; nothing is given back twice.
    for (turn, mut ticket) in held.into_iter().enumerate() {
        let worker = &mut gateway.workers[turn % 3];
        match turn % 4 {
            0 => {
                worker.answered(&mut ticket, at(0.1));
                worker.tried(&mut ticket, TryEnd::Answered(200), at(0.2));
                worker.complete(&mut ticket, &Outcome::default(), at(0.2));
            }
            1 => worker.complete(&mut ticket, &Outcome { aborted: true, ..Outcome::default() }, at(0.2)),
            2 => worker.abandon(&mut ticket),
            _ => {
                worker.tried(&mut ticket, TryEnd::Failed, at(0.1));
                worker.pick(&mut ticket, at(0.1), |_| ()).unwrap();
                worker.answered(&mut ticket, at(0.1));
                worker.tried(&mut ticket, TryEnd::Answered(200), at(0.2));
                worker.complete(&mut ticket, &Outcome::default(), at(0.2));
            }
        }
    }
    assert_eq!(series(&mut gateway, "gateway_overload_in_flight", at(0.3)), Some(0.0));
}

#[test]
fn shadow_refuses_nothing_and_what_it_learns_is_enforced_later() {
    let run = |gateway: &mut Gateway, clients: usize, from: f64, seconds: f64| {
        let mut now = from;
        while now < from + seconds {
            let held: Vec<_> =
                (0..clients).map(|turn| (turn % 2, enter(gateway, turn % 2, &gold(), at(now)))).collect();
            now += 0.01 * (clients as f64 / 16.0).max(1.0);
            for (worker, entered) in held {
                let Ok(mut ticket) = entered else { continue };
                gateway.workers[worker].answered(&mut ticket, at(now));
                gateway.workers[worker].tried(&mut ticket, TryEnd::Answered(200), at(now));
                gateway.workers[worker].complete(
                    &mut ticket,
                    &Outcome { status: 200, upstream_status: 200, aborted: false },
                    at(now),
                );
            }
        }
    };
    let mut gateway = Gateway::new(&document(", overload: {mode: shadow, max: 500}"), 2);
    run(&mut gateway, 4, 0.0, 5.0);
    run(&mut gateway, 64, 5.0, 20.0);
    let learnt = series(&mut gateway, "gateway_overload_limit", at(25.0)).unwrap();
    assert!((8.0..=40.0).contains(&learnt), "{learnt} for a knee of 16");
    assert!(series(&mut gateway, "gateway_overload_shed_total", at(25.0)).unwrap() > 100.0);
    gateway.load(&document(", overload: {mode: enforce, max: 500}"), at(25.0));
    assert_eq!(series(&mut gateway, "gateway_overload_limit", at(25.0)), Some(learnt));
    let held: Vec<_> = (0..64).filter_map(|_| enter(&mut gateway, 0, &gold(), at(26.0)).ok()).collect();
    assert_eq!(held.len(), learnt.ceil() as usize);
}

#[test]
fn off_measures_nothing() {
    for overload in ["", ", overload: {mode: off}"] {
        let mut gateway = Gateway::new(&document(overload), 1);
        let held: Vec<_> = (0..2_000).map(|_| enter(&mut gateway, 0, &tin(), at(0.0)).unwrap()).collect();
        assert_eq!(series(&mut gateway, "gateway_overload_limit", at(0.0)), None, "{} held", held.len());
    }
}

/// A worker serves as fast as it can, three requests at a time, and is killed somewhere inside. Once the leader has seen
/// it, exactly what the others have under way is counted.
#[test]
fn a_killed_workers_requests_are_no_load() {
    let memory = SharedRegion::new(8 << 20, [1, 2]).unwrap();
    let region = memory.region();
    let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
    let text = document(", overload: {mode: enforce, min: 100}");
    leader.publish(&config::parse(&text, "d", &TestSecrets).unwrap().document, at(0.0)).unwrap();
    let mut worker = Worker::start(region, Identity::current(), [1, 2]).unwrap();
    let in_flight = |worker: &mut Worker, now| {
        let text = worker.metrics(now);
        let line = text.lines().find_map(|line| line.strip_prefix("gateway_overload_in_flight{upstream=\"u\"} "));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    let begin = |worker: &mut Worker, now| {
        let mut ticket = Ticket::new();
        assert_eq!(worker.access(&gold(), Entry::First, now, &mut ticket), Decision::Forward);
        worker.pick(&mut ticket, now, |_| ()).unwrap();
        ticket
    };
    let end = |worker: &mut Worker, mut ticket: Ticket, now| {
        worker.answered(&mut ticket, now);
        worker.tried(&mut ticket, TryEnd::Answered(200), now);
        worker.complete(&mut ticket, &Outcome { status: 200, upstream_status: 200, aborted: false }, now);
    };
    let own = [begin(&mut worker, at(0.0)), begin(&mut worker, at(0.0))];
    for round in 0..10_u32 {
        let now = at(1.0 + f64::from(round));
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        // SAFETY: the child calls nothing but the library, writes a byte and works until it is killed.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: the child must not outlive a test that failed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let mut other = Worker::start(region, Identity::current(), [3, 4]).unwrap();
            let mut held = std::collections::VecDeque::from([begin(&mut other, now), begin(&mut other, now)]);
            writer.write_all(&[1]).unwrap();
            loop {
                held.push_back(begin(&mut other, now));
                end(&mut other, held.pop_front().unwrap(), now);
            }
        }
        drop(writer);
        reader.read_exact(&mut [0]).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 397));
        // SAFETY: our own child, which is waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
        assert!(in_flight(&mut worker, now) > 2, "what it held is counted until the leader looks");
        leader.tick(now, &mut |_| ());
        assert_eq!(in_flight(&mut worker, now), 2, "round {round}");
    }
    own.into_iter().for_each(|ticket| end(&mut worker, ticket, at(20.0)));
    assert_eq!(in_flight(&mut worker, at(20.0)), 0);
}

#[test]
fn what_is_shed_gets_what_the_route_falls_back_to() {
    let with = |fallback: &str, other: &str| {
        let overload = format!(", overload: {{mode: enforce, max: 1}}, fallback: {fallback}}}, {{name: v{other}");
        Gateway::new(&document(&overload), 1)
    };
    let mut gateway = with("{status: 503, body: later}", ", nodes: [{host: 127.0.0.1, port: 3}]");
    let held = enter(&mut gateway, 0, &gold(), at(0.0)).unwrap();
    assert_eq!(gateway.verdict(0, &gold(), at(0.0)), "respond");
    drop(held);

    let mut gateway = with("{upstream: v}", ", nodes: [{host: 127.0.0.1, port: 3}], overload: {mode: enforce, max: 1}");
    let mut first = enter(&mut gateway, 0, &gold(), at(0.0)).unwrap();
    let mut second = enter(&mut gateway, 0, &gold(), at(0.0)).unwrap();
    assert_eq!((first.upstream_name(), second.upstream_name()), ("u", "v"));
    let load = |gateway: &mut Gateway, upstream: &str| {
        let text = gateway.workers[0].metrics(at(0.0));
        let name = format!("gateway_overload_in_flight{{upstream=\"{upstream}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    };
    assert_eq!((load(&mut gateway, "u"), load(&mut gateway, "v")), ("1".into(), "1".into()));
    assert_eq!(gateway.verdict(0, &gold(), at(0.0)), "overload.shed", "the other one is full as well");

    // One whose upstream fails under way is load of the other from then on.
    gateway.workers[0].complete(&mut second, &Outcome::default(), at(0.0));
    gateway.workers[0].tried(&mut first, TryEnd::Failed, at(0.0));
    first.give_up();
    gateway.workers[0].pick(&mut first, at(0.0), |_| ()).unwrap();
    assert_eq!(first.upstream_name(), "v");
    assert_eq!((load(&mut gateway, "u"), load(&mut gateway, "v")), ("0".into(), "1".into()));
    gateway.workers[0].complete(&mut first, &Outcome::default(), at(0.0));
    assert_eq!((load(&mut gateway, "u"), load(&mut gateway, "v")), ("0".into(), "0".into()));
}
