//! The simulator: seeds that must hold, the same seed twice, and faults that must be found.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

/// What the simulator said, and whether all held.
fn sim(arguments: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway-sim")).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.stderr.is_empty(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Runs each of `all` with a word of its own, a few at a time.
fn each<T: Copy + Sync>(all: &[T], test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let (front, back) = all.split_at(all.len() / 2);
        for half in [front, back] {
            let test = &test;
            scope.spawn(move || half.iter().for_each(|one| test(*one)));
        }
    });
}

#[test]
fn what_must_hold_holds() {
    let runs = [
        // Each of these broke something once: a killed worker's requests counted for ever after an edit, an open
        // breaker let through whose clock was behind.
        "--scenario chaos --seed 1",
        "--scenario outage --seed 1 --seconds 20",
        "--scenario chaos --seed 2 --seconds 20",
        "--scenario calm --seed 1 --seconds 10",
        "--scenario kills --seed 1 --seconds 20",
        "--scenario edits --seed 3 --seconds 20",
        "--scenario limits --seed 2 --seconds 10",
        "--scenario outage --seed 4 --seconds 20",
    ];
    each(&runs, |run| {
        let (held, text) = sim(run);
        assert!(held, "{text}");
    });
}

#[test]
fn a_seed_says_all() {
    let run = "--seed 7 --seconds 8 --steps 6000 --verbose";
    let (first, second) = (sim(run), sim(run));
    assert!(first.0, "{}", first.1);
    assert!(first.1.lines().count() > 2_000);
    assert!(first == second, "the same seed went two ways");
    assert_ne!(first.1, sim("--seed 8 --seconds 8 --steps 6000 --verbose").1);
}

#[test]
fn every_fault_is_found_and_by_its_own_check() {
    let faults = [
        ("limits", "over-admission", "--scenario limits --seconds 20"),
        ("refusals", "refused in error", "--scenario limits --seconds 20"),
        ("probes", "probes", "--scenario outage --seed 2"),
        ("lost-probe", "lost probe", "--scenario outage --seed 2"),
        ("transition", "transition", "--scenario outage --seed 2"),
        ("retries", "retry budget", "--scenario outage"),
        ("ejections", "ejection ceiling", "--scenario outage"),
        ("shares", "shares", "--scenario calm --seconds 6"),
        ("astray", "astray", "--scenario chaos"),
        ("leak", "in flight", "--scenario chaos"),
        ("metrics", "metrics", "--scenario chaos"),
        ("reader", "readers", "--scenario edits --seconds 20"),
        ("memory", "memory", "--scenario edits --seconds 10"),
    ];
    each(&faults, |(name, check, run)| {
        let (held, text) = sim(&format!("--seed 1 {run} --break {name}"));
        assert!(!held, "{name} is not found: {text}");
        assert!(text.contains(&format!("\nBroken: {check}: ")), "{name} is found by another check: {text}");
        // What it says to do does it again.
        let again = text.lines().find_map(|line| line.strip_prefix("Again: gateway-sim ")).unwrap();
        let (_, twice) = sim(again);
        assert!(twice.contains(&format!("Broken: {check}: ")), "{again}: {twice}");
    });
}
