//! Promotion: the comparison, the state machine, and both over a region whose leader comes and goes.

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use gateway::canary::{Event, Phase, Promote, State, Tally, Verdict, Why, log};
use gateway::config;
use gateway::gateway::{
    CanaryCommand, CanaryError, Decision, Entry, Leader, Outcome, Purge, Severity, Ticket, TryEnd, Worker,
};
use gateway::state::{Identity, SharedRegion};
use gateway::types::{MILLISECOND, Now, SECOND};
use proptest::prelude::*;

use crate::support::{Fake, Gateway, TestSecrets, at};

fn plan() -> Promote {
    Promote {
        steps: vec![500, 2_500, 10_000],
        every: 60 * SECOND,
        minimum_requests: 100,
        max_error_rate: 100,
        max_latency: 5_000,
        cool_down: 600 * SECOND,
        hold: false,
    }
}

/// `good` answers after `micros`, spread by a third to both sides, and `errors`.
fn tally(good: u64, errors: u64, micros: u64) -> Tally {
    let mut tally = Tally { good, errors, ..Tally::default() };
    for n in 0..good {
        let log = log(micros * (80 + n % 3 * 20) / 100);
        tally.logs += log;
        tally.squares += log * log;
    }
    tally
}

#[test]
fn logarithms_are_near_enough() {
    for micros in [1, 2, 3, 5, 7, 100, 999, 1_000, 1_500, 65_535, 1_000_000, 3_333_333, u64::from(u32::MAX)] {
        let exact = (micros as f64).log2() * 256.0;
        assert!((log(micros) as f64 - exact).abs() < 4.0, "{micros}: {} {exact}", log(micros));
    }
    assert_eq!((log(0), log(u64::MAX)), (0, log(u64::from(u32::MAX))));
}

#[test]
fn what_is_compared() {
    let ms = MILLISECOND;
    let verdict = |baseline, candidate| plan().judge(&[baseline, candidate]);
    let is = |verdict: Verdict, expected: &str| match (verdict, expected) {
        (Verdict::Open, "open") | (Verdict::Fine, "fine") => true,
        (Verdict::Worse(Why::Errors(..)), "errors") => true,
        (Verdict::Worse(Why::Latency(ratio)), "latency") => ratio > 1.5,
        _ => false,
    };
    for (what, baseline, candidate, expected) in [
        ("nothing", tally(0, 0, 0), tally(0, 0, 0), "open"),
        ("too few of one", tally(5_000, 0, 20 * ms), tally(0, 99, 0), "open"),
        ("too few of the other", tally(99, 0, 20 * ms), tally(0, 5_000, 0), "open"),
        ("both alike", tally(1_000, 10, 20 * ms), tally(100, 1, 20 * ms), "fine"),
        ("both in trouble", tally(500, 500, 20 * ms), tally(100, 100, 20 * ms), "fine"),
        ("all fail", tally(2_000, 0, 20 * ms), tally(0, 100, 0), "errors"),
        ("a little worse, by chance or not", tally(2_000, 0, 20 * ms), tally(97, 3, 20 * ms), "open"),
        ("the same beyond chance", tally(2_000, 0, 20 * ms), tally(9_700, 300, 20 * ms), "errors"),
        ("within the margin", tally(20_000, 0, 20 * ms), tally(9_920, 80, 20 * ms), "fine"),
        ("twice as slow", tally(2_000, 0, 20 * ms), tally(200, 0, 40 * ms), "latency"),
        ("a third slower", tally(2_000, 0, 20 * ms), tally(200, 0, 26 * ms), "fine"),
        ("faster", tally(2_000, 0, 20 * ms), tally(200, 0, 2 * ms), "fine"),
        ("at the edge", tally(2_000, 0, 20 * ms), tally(100, 0, 31 * ms), "open"),
        ("failing fast is not fast", tally(2_000, 0, 20 * ms), tally(150, 50, ms), "errors"),
    ] {
        let found = verdict(baseline, candidate);
        assert!(is(found, expected), "{what}: {found:?}, not {expected}");
    }
}

/// The states that a word holds are those that were put into it.
#[test]
fn a_state_is_one_word() {
    let begun = State::begin(Some(&plan()));
    for state in [State::OFF, begun, begun.set(10_000), begun.abort(), begun.pause(), begun.resume(&plan())] {
        assert_eq!(State::of(state.word()), state);
    }
    assert_eq!((State::OFF.word(), State::live(State::OFF.word())), (0, None));
    assert_eq!(State::live(begun.word()), Some(500));
    assert_eq!(State::live(begun.abort().word()), Some(0));
    assert_eq!(State::live(State::OFF.set(123).word()), Some(123));
}

/// One promotion and its clock.
struct Course {
    plan: Promote,
    state: State,
    now: u64,
}

impl Course {
    fn new(plan: Promote) -> Self {
        Self { state: State::begin(Some(&plan)), plan, now: 5_000 * SECOND }
    }

    fn after(&mut self, seconds: u64, window: [Tally; 2]) -> (Option<Event>, Phase, u16) {
        self.now += seconds * SECOND;
        let before = self.state;
        let (next, event) = self.state.advance(&self.plan, &window, self.now);
        assert_eq!(State::of(next.word()), next);
        let begins = before.phase == Phase::Starting || event.is_some() && !matches!(event, Some(Event::Held(_)));
        assert!(!begins || next.half != before.half, "a new window has its own beginning: {before:?} {next:?}");
        self.state = next;
        (event, next.phase, next.share)
    }
}

fn alike() -> [Tally; 2] {
    [tally(1_000, 1, 20_000), tally(200, 0, 20_000)]
}

fn failing() -> [Tally; 2] {
    [tally(1_000, 1, 20_000), tally(100, 100, 20_000)]
}

fn few() -> [Tally; 2] {
    [tally(1_000, 1, 20_000), tally(50, 40, 20_000)]
}

#[test]
fn step_by_step_to_the_end() {
    let mut course = Course::new(plan());
    assert_eq!(course.after(1, few()), (Some(Event::Started), Phase::Running, 500));
    assert_eq!(course.after(58, alike()), (None, Phase::Running, 500), "not before its time");
    assert_eq!(course.after(100, few()), (None, Phase::Running, 500), "not without a sample");
    assert_eq!(course.after(1, alike()), (Some(Event::Raised), Phase::Running, 2_500));
    assert_eq!(course.after(61, alike()), (Some(Event::Finished), Phase::Done, 10_000));
    assert_eq!(course.after(6_000, failing()), (None, Phase::Done, 10_000), "nobody is left to compare with");
}

#[test]
fn a_last_step_below_everybody_is_watched_on() {
    let mut course = Course::new(Promote { steps: vec![1_000], ..plan() });
    course.after(0, few());
    assert_eq!(course.after(61, alike()), (Some(Event::Finished), Phase::Done, 1_000));
    let half = course.state.half;
    assert_eq!(course.after(61, alike()), (None, Phase::Done, 1_000));
    assert_ne!(course.state.half, half, "in windows of the same length");
    assert!(matches!(course.after(1, failing()), (Some(Event::RolledBack(_)), Phase::Resting, 0)));
}

#[test]
fn who_fails_rests_and_is_tried_again() {
    let mut course = Course::new(plan());
    course.after(0, few());
    course.after(61, alike());
    assert_eq!(course.state.share, 2_500);
    let (event, phase, share) = course.after(1, failing());
    assert!(matches!(event, Some(Event::RolledBack(Why::Errors(..)))), "{event:?}");
    assert_eq!((phase, share), (Phase::Resting, 0));
    for rest in [600, 1_200, 2_400] {
        assert_eq!(course.after(rest - 1, failing()).1, Phase::Resting);
        assert_eq!(course.after(2, failing()), (Some(Event::Started), Phase::Running, 500), "after {rest} s");
        assert_eq!(course.after(1, failing()).1, Phase::Resting, "longer each time");
    }
    for _ in 0..40 {
        course.after(24 * 3_600 + 1, few());
        assert_eq!(course.state.phase, Phase::Running, "but never longer than a day");
        course.after(1, failing());
    }
}

#[test]
fn who_fails_may_be_held() {
    let mut course = Course::new(Promote { hold: true, ..plan() });
    course.after(0, few());
    assert!(matches!(course.after(1, failing()), (Some(Event::Held(_)), Phase::Held, 500)));
    assert_eq!(course.after(100_000, alike()), (None, Phase::Held, 500));
    course.state = course.state.resume(&course.plan);
    assert_eq!(course.after(1, alike()), (Some(Event::Started), Phase::Running, 500));
}

#[test]
fn by_hand() {
    let mut course = Course::new(plan());
    course.after(0, few());
    course.state = course.state.set(1_234);
    assert_eq!(course.after(1_000, failing()), (None, Phase::Paused, 1_234));
    course.state = course.state.resume(&course.plan);
    assert_eq!((course.state.step, course.state.share), (1, 2_500), "the first step that is not below");
    course.after(0, few());
    course.state = course.state.pause();
    assert_eq!(course.after(1_000, failing()), (None, Phase::Paused, 2_500));
    course.state = course.state.abort();
    assert_eq!(course.after(1_000, alike()), (None, Phase::Aborted, 0));
    course.state = course.state.resume(&course.plan);
    assert_eq!(course.after(0, failing()), (Some(Event::Started), Phase::Running, 500));
}

#[test]
fn a_clock_that_begins_anew_begins_a_window() {
    for seconds in [0, 61] {
        let mut course = Course::new(plan());
        course.after(0, few());
        course.after(seconds, few());
        let half = course.state.half;
        course.now = SECOND;
        assert_eq!(course.after(0, failing()), (None, Phase::Running, 500), "what was counted is of another time");
        assert_ne!(course.state.half, half);
        assert_eq!(course.after(59, alike()).2, 500);
        assert_eq!(course.after(2, alike()).2, 2_500);
    }
    let mut course = Course::new(plan());
    course.after(0, few());
    course.after(1, failing());
    course.now = SECOND;
    course.after(0, few());
    assert_eq!(course.after(599, few()).1, Phase::Resting);
    assert_eq!(course.after(2, few()).1, Phase::Running);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens: shares are those of steps, nothing or what a hand set; a state is its word.
    #[test]
    fn any_course(moves in prop::collection::vec((0u8..9, 0u64..2_000), 1..100)) {
        let mut course = Course::new(plan());
        let mut by_hand = false;
        for (which, seconds) in moves {
            match which {
                0..=1 => drop(course.after(seconds, alike())),
                2 => drop(course.after(seconds, failing())),
                3 => drop(course.after(seconds, few())),
                4 => course.now = course.now.saturating_sub(seconds * SECOND),
                5 => course.state = course.state.pause(),
                6 => course.state = course.state.resume(&course.plan),
                7 => course.state = course.state.abort(),
                _ => {
                    course.state = course.state.set(seconds as u16);
                    by_hand = true;
                }
            }
            let State { phase, share, .. } = course.state;
            prop_assert!(by_hand || share == 0 || course.plan.steps.contains(&share), "{:?}", course.state);
            let nobody = matches!(phase, Phase::Resting | Phase::Aborted);
            prop_assert!(!nobody || share == 0, "{:?}", course.state);
        }
    }
}

/// Looking once a second misleads: how often is a candidate rolled back that is no different?
#[test]
fn equals_are_hardly_ever_told_apart() {
    let mut rng = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng >> 11
    };
    for percent in [1, 10] {
        let mut wrong = 0;
        for _ in 0..1_000 {
            let mut window = [Tally::default(); 2];
            'window: for _ in 0..300 {
                // A second: 20 requests to the baseline, 5 to the candidate.
                for (tally, count) in window.iter_mut().zip([20, 5]) {
                    for _ in 0..count {
                        if random() % 100 < percent {
                            tally.errors += 1;
                            continue;
                        }
                        // 10 to 80 ms, as likely in each doubling.
                        let log = log(10_000) + random() % 768;
                        *tally = Tally {
                            good: tally.good + 1,
                            logs: tally.logs + log,
                            squares: tally.squares + log * log,
                            ..*tally
                        };
                    }
                }
                if let Verdict::Worse(_) = plan().judge(&window) {
                    wrong += 1;
                    break 'window;
                }
            }
        }
        assert!(wrong <= 10, "{wrong} of 1,000 at {percent} % errors");
    }
}

const DOCUMENT: &str = r#"
version: 1
upstreams:
  - {name: one, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: two, nodes: [{host: 127.0.0.1, port: 2}]}
routes:
  - name: r
    paths: ["/*"]
    upstream: one
    canary:
      variants: [{name: stable, weight: 1}, {name: v2, upstream: two}]
      key: "header:X-Id"
      promote: {steps: [20%, 60%], every: 10s, minimum_requests: 50, cool_down: 30s}
  - {name: fixed, paths: [/fixed], upstream: one, canary: {variants: [{name: a, weight: 3}, {name: b, weight: 1, upstream: two}]}}
  - {name: plain, paths: [/plain], upstream: one}
"#;

/// One request from its first to its last call; says whether the candidate served it.
fn serve(worker: &mut Worker, id: u64, now: Now, answer: impl Fn(&str) -> (u16, u64)) -> bool {
    let request = Fake::get("/x").header("X-Id", &format!("id{id}"));
    let mut ticket = Ticket::new();
    assert_eq!(worker.access(&request, Entry::First, now, &mut ticket), Decision::Forward);
    let (status, micros) = answer(ticket.variant());
    worker.pick(&mut ticket, now, |_| ()).unwrap();
    let then = now.plus(micros);
    worker.answered(&mut ticket, then);
    worker.tried(&mut ticket, TryEnd::Answered(status), then);
    worker.complete(&mut ticket, &Outcome { status, upstream_status: status, aborted: false }, then);
    ticket.variant() == "v2"
}

/// Seconds of traffic over all workers, the leader looking each second; says what it told.
fn run(gateway: &mut Gateway, clock: &mut u64, seconds: u64, answer: impl Fn(&str) -> (u16, u64)) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..seconds {
        *clock += 1;
        let now = at(*clock as f64);
        for id in 0..40 {
            let worker = id as usize % gateway.workers.len();
            serve(&mut gateway.workers[worker], *clock * 40 + id, now, &answer);
        }
        gateway.leader.tick(now.plus(500), &mut |event| told.push(event.text));
    }
    told
}

fn share(gateway: &mut Gateway) -> (Phase, u16) {
    let all = gateway.workers[0].canaries();
    let found = all.iter().find(|status| status.route == "r").unwrap();
    assert_eq!(found.candidate, "v2");
    (found.phase, found.share)
}

#[test]
fn a_good_candidate_rises_and_a_bad_one_falls() {
    let mut gateway = Gateway::new(DOCUMENT, 3);
    let mut clock = 0;
    let good = |_: &str| (200, 20_000);
    let told = run(&mut gateway, &mut clock, 5, good);
    assert_eq!(told, ["route \"r\": variant \"v2\" begins with 20 %"]);
    let told = run(&mut gateway, &mut clock, 10, good);
    assert_eq!(told, ["route \"r\": variant \"v2\" is raised to 60 %"]);
    let text = gateway.workers[0].metrics(at(clock as f64));
    let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
    let of =
        |variant: &str| value(&format!("gateway_canary_requests_total{{route=\"r\",variant=\"{variant}\"}}")).unwrap();
    assert_eq!(of("stable") + of("v2"), 600.0, "{text}");
    assert!((80.0..240.0).contains(&of("v2")), "{text}");
    assert_eq!(value("gateway_canary_share_ratio{route=\"r\",variant=\"v2\"}"), Some(0.6), "{text}");
    assert_eq!(value("gateway_canary_share_ratio{route=\"fixed\",variant=\"b\"}"), Some(0.25), "{text}");
    assert_eq!(value("gateway_canary_duration_seconds_count{route=\"r\",variant=\"v2\"}"), Some(of("v2")));
    assert!(!text.contains("gateway_canary_errors_total{route=\"r\",variant=\"v2\"} 1"), "{text}");

    let bad = |variant: &str| if variant == "v2" { (502, 1_000) } else { (200, 20_000) };
    let told = run(&mut gateway, &mut clock, 5, bad);
    assert!(told[0].starts_with("route \"r\": variant \"v2\" is rolled back: "), "{told:?}");
    assert!(told[0].contains("% errors against 0.00 %"), "{told:?}");
    assert_eq!(share(&mut gateway), (Phase::Resting, 0));
    assert!((0..200).all(|id| !serve(&mut gateway.workers[1], id, at(clock as f64), good)), "for all at once");

    // Better by now: it rests all the same, then begins anew, and is too slow this time.
    assert_eq!(run(&mut gateway, &mut clock, 24, good), [""; 0]);
    let slow = |variant: &str| (200, if variant == "v2" { 60_000 } else { 20_000 });
    let told = run(&mut gateway, &mut clock, 15, slow);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].ends_with("begins with 20 %") && told[1].ends_with(" times the latency"), "{told:?}");
}

#[test]
fn what_is_set_by_hand_holds_and_an_edit_begins_anew() {
    let mut gateway = Gateway::new(DOCUMENT, 2);
    let mut clock = 0;
    let good = |_: &str| (200, 20_000);
    run(&mut gateway, &mut clock, 2, good);
    let status = gateway.workers[1].canary("r", CanaryCommand::Set(10_000)).unwrap();
    assert_eq!((status.phase, status.share), (Phase::Paused, 10_000));
    assert!((0..100).all(|id| serve(&mut gateway.workers[0], id, at(9.0), good)));
    // An edit of something else, of the same route, and a reload keep it.
    gateway.load(&DOCUMENT.replace("key: \"header:X-Id\"", "key: ip"), at(10.0));
    gateway.load(DOCUMENT, at(10.0));
    assert_eq!(share(&mut gateway), (Phase::Paused, 10_000));
    run(&mut gateway, &mut clock, 20, good);
    assert_eq!(share(&mut gateway), (Phase::Paused, 10_000));
    gateway.workers[0].canary("r", CanaryCommand::Abort).unwrap();
    assert!((0..100).all(|id| !serve(&mut gateway.workers[0], id, at(40.0), good)));
    gateway.workers[0].canary("r", CanaryCommand::Resume).unwrap();
    run(&mut gateway, &mut clock, 1, good);
    assert_eq!(share(&mut gateway), (Phase::Running, 2_000));
    gateway.workers[0].canary("r", CanaryCommand::Set(7_000)).unwrap();
    gateway.load(&DOCUMENT.replace("[20%, 60%]", "[30%, 60%]"), at(50.0));
    assert_eq!(share(&mut gateway), (Phase::Starting, 3_000), "the document says something else by now");

    let fixed = gateway.workers[0].canary("fixed", CanaryCommand::Set(10_000)).unwrap();
    assert_eq!(fixed.phase, Phase::Paused);
    let (_, ticket) = gateway.access(0, &Fake::get("/fixed"), at(60.0));
    assert_eq!(ticket.variant(), "b");
    let fixed = gateway.workers[0].canary("fixed", CanaryCommand::Release).unwrap();
    assert_eq!((fixed.phase, fixed.share), (Phase::Off, 2_500));
    let error = |gateway: &mut Gateway, route: &str, command| gateway.workers[0].canary(route, command).unwrap_err();
    assert_eq!(error(&mut gateway, "none", CanaryCommand::Abort), CanaryError::NoRoute);
    assert_eq!(error(&mut gateway, "plain", CanaryCommand::Abort), CanaryError::NoCanary);
    assert_eq!(error(&mut gateway, "fixed", CanaryCommand::Resume), CanaryError::NoPromotion);
}

#[test]
fn what_a_fallback_answers_is_an_error_of_the_variant() {
    let text = DOCUMENT.replace(
        "nodes: [{host: 127.0.0.1, port: 2}]}",
        "nodes: [{host: 127.0.0.1, port: 2}], breaker: {failures: 1, open_for: 60s}, fallback: {upstream: one}}",
    );
    let mut gateway = Gateway::new(&text, 1);
    let worker = &mut gateway.workers[0];
    worker.canary("r", CanaryCommand::Set(10_000)).unwrap();
    assert!(serve(worker, 1, at(1.0), |_| (500, 1_000)));
    assert!(serve(worker, 2, at(2.0), |_| (200, 1_000)), "served by the baseline in its place");
    let text = worker.metrics(at(3.0));
    assert!(text.contains("gateway_canary_errors_total{route=\"r\",variant=\"v2\"} 2\n"), "{text}");
}

#[test]
fn purges_of_a_cache_and_a_canary_leave_each_other_alone() {
    let cached = DOCUMENT
        .replace("    upstream: one\n    canary:", "    upstream: one\n    cache: {zone: api, ttl: 1m}\n    canary:");
    let mut gateway = Gateway::new(&cached, 1);
    gateway.workers[0].canary("r", CanaryCommand::Set(4_200)).unwrap();
    assert!(gateway.workers[0].purge(Purge::Route("r")) && gateway.workers[0].purge(Purge::All));
    assert!(!gateway.workers[0].purge(Purge::Route("fixed")), "it caches nothing");
    assert_eq!(share(&mut gateway), (Phase::Paused, 4_200));
    assert_eq!(gateway.workers[0].canaries()[1].phase, Phase::Off);
}

#[test]
fn refusals_of_ours_and_clients_that_leave_are_no_errors() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let now = at(1.0);
    for (outcome, answered) in [
        (Outcome { status: 499, upstream_status: 0, aborted: true }, false),
        (Outcome { status: 404, upstream_status: 404, aborted: false }, true),
        (Outcome { status: 501, upstream_status: 501, aborted: false }, true),
        (Outcome { status: 503, upstream_status: 503, aborted: false }, true),
        (Outcome { status: 504, upstream_status: 0, aborted: false }, false),
    ] {
        let (_, mut ticket) = gateway.access(0, &Fake::get("/x"), now);
        let worker = &mut gateway.workers[0];
        worker.pick(&mut ticket, now, |_| ()).unwrap();
        if answered {
            worker.answered(&mut ticket, now.plus(1_000));
        }
        worker.complete(&mut ticket, &outcome, now.plus(2_000));
    }
    let (_, mut ticket) = gateway.access(0, &Fake::get("/x"), now);
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 200, ..Outcome::default() }, now);
    let text = gateway.workers[0].metrics(now);
    let sum = |family: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{family}{{route=\"r\"")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!((sum("gateway_canary_requests_total"), sum("gateway_canary_errors_total")), (5.0, 2.0), "{text}");
}

/// Leaders are killed at any instruction in the middle of a promotion; each next one goes on, and nobody is ever
/// without a share that the steps know.
#[test]
fn a_killed_leader_leaves_a_promotion_that_goes_on() {
    const KILLS: u64 = 60;
    let memory = SharedRegion::new(8 << 20, [1, 2]).unwrap();
    let region = memory.region();
    // A page of its own for the clock that all see.
    let document = DOCUMENT.replace("every: 10s", "every: 1s").replace("cool_down: 30s", "cool_down: 1s");
    {
        let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
        leader.publish(&config::parse(&document, "d", &TestSecrets).unwrap().document, at(0.0)).unwrap();
    }
    let mut worker = Worker::start(region, Identity::current(), [1, 2]).unwrap();
    let clock = AtomicU64::new(1);
    let (mut id, mut shares) = (0, std::collections::HashSet::new());
    for round in 0..KILLS {
        let mut ends = [0; 2];
        // SAFETY: two writable descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        // SAFETY: both descriptors are fresh and ours.
        let (mut reader, mut writer) =
            unsafe { (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1])) };
        let start = clock.load(SeqCst);
        // SAFETY: the child calls nothing but the library, writes a byte and runs until it is killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the child must not outlive a test that failed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
            writer.write_all(&[1]).unwrap();
            for tick in 0.. {
                leader.tick(at((start + tick) as f64), &mut |_| ());
            }
        }
        drop(writer);
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        // Every third leader meets a candidate that fails.
        let is_bad = round % 3 == 2;
        for step in 0..300 {
            id += 1;
            let now = at((start + step) as f64);
            serve(&mut worker, id, now, |variant| (if is_bad && variant == "v2" { 500 } else { 200 }, 20_000));
            shares.insert(worker.canaries()[0].share);
        }
        // SAFETY: our own child.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        clock.store(start + 100_000, SeqCst);
    }
    assert!(shares.is_subset(&[0, 2_000, 6_000].into()), "{shares:?}");
    assert!(shares.len() == 3, "something has happened: {shares:?}");
    // Whoever leads at last brings it to its end.
    let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
    let mut told = Vec::new();
    let mut second = clock.load(SeqCst) + 10_000_000;
    for _ in 0..20 {
        second += 100_000;
        for _ in 0..600 {
            id += 1;
            serve(&mut worker, id, at(second as f64), |_| (200, 20_000));
        }
        leader.tick(at(second as f64), &mut |event| told.push((event.severity, event.text)));
    }
    let status = &worker.canaries()[0];
    assert_eq!((status.phase, status.share), (Phase::Done, 6_000), "{told:?}");
    assert!(told.iter().all(|(severity, _)| *severity == Severity::Notice), "{told:?}");
}
