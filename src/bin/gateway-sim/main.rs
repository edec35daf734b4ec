//! `gateway-sim`: a fleet of workers in one process, on a clock of its own, with everything going wrong.
//!
//! The library reads no clock and opens no socket, so a run is a function of its seed: workers, leaders, servers,
//! clients and whatever befalls them are events in one queue, and after each of them all promises are checked. A seed
//! that breaks one is shown with what happened last and the command that does the same again.

mod backend;
mod checks;
mod client;
mod document;
mod fault;
mod fleet;
mod flight;
mod plot;
mod queue;
mod random;
mod scenario;
mod sight;
mod trace;
mod turmoil;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fault::{FAULTS, Fault};
use scenario::{SCENARIOS, Scenario};
use trace::{Trace, Violation};
use world::World;

const HELP: &str = "\
gateway-sim runs a fleet of the gateway's workers in one process, on a clock of its own, and checks what must always hold.

  gateway-sim [--seed N] [--scenario NAME] [--steps N | --seconds S]      one run
  gateway-sim soak [--seconds S] [--seed N] [--scenario NAME]             one seed after another for so long
  gateway-sim plot avalanche|flood [--out DIR]                            load against time, with the gateway and without

Options
  --seed N          where chance begins (1); equal seeds give equal runs
  --scenario NAME   what goes on (chaos); soak takes all in turn
  --steps N         stop after so many events
  --seconds S       a run: how long the turmoil lasts, in simulated time; soak: how long it runs
  --break NAME      do harm on purpose, to see that a check finds it
  --verbose         tell all that happens
  --quiet           tell nothing but what is broken

Scenarios
";

/// The command line, taken apart.
#[derive(Default)]
struct Args {
    words: Vec<String>,
    seed: u64,
    steps: Option<u64>,
    seconds: Option<u64>,
    scenario: Option<&'static Scenario>,
    fault: Option<Fault>,
    verbose: bool,
    quiet: bool,
    out: Option<String>,
    help: bool,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { seed: 1, ..Self::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
            match word.as_str() {
                "--seed" => args.seed = number(value()?)?,
                "--steps" => args.steps = Some(number(value()?)?),
                "--seconds" => args.seconds = Some(number(value()?)?),
                "--scenario" => {
                    let name = value()?;
                    args.scenario =
                        Some(Scenario::named(&name).ok_or_else(|| format!("no scenario is called `{name}`"))?);
                }
                "--break" => {
                    let name = value()?;
                    let known = || FAULTS.map(|(name, ..)| name).join(", ");
                    args.fault = Some(Fault::named(&name).ok_or_else(|| format!("`{name}` is none of {}", known()))?);
                }
                "--verbose" => args.verbose = true,
                "--out" => args.out = Some(value()?),
                "--quiet" => args.quiet = true,
                "-h" | "--help" => args.help = true,
                _ if word.starts_with('-') => return Err(format!("no option is called `{word}`; see --help")),
                _ => args.words.push(word),
            }
        }
        Ok(args)
    }
}

fn main() -> ExitCode {
    let done = Args::parse(std::env::args().skip(1)).and_then(|args| {
        let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            _ if args.help => {
                print!("{HELP}");
                SCENARIOS.iter().for_each(|scenario| println!("  {:<16}{}", scenario.name, scenario.about));
                Ok(true)
            }
            [] => Ok(run(args.scenario.or(SCENARIOS.first()), args.seed, &args)),
            ["soak"] => Ok(soak(&args)),
            ["plot", name] => plot::write(name, Path::new(args.out.as_deref().unwrap_or("."))).map(|()| true),
            [command, ..] => Err(format!("no command is called `{command}`; see --help")),
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("gateway-sim: {message}");
            ExitCode::from(2)
        }
    }
}

/// One run; whether all that must hold did.
fn run(scenario: Option<&'static Scenario>, seed: u64, args: &Args) -> bool {
    let Some(scenario) = scenario else { return false };
    let fault = args.fault.unwrap_or(Fault::None);
    let seconds = args.seconds.filter(|_| args.words.is_empty());
    let mut world = match World::new(scenario, seed, seconds, fault, Trace::new(args.verbose)) {
        Ok(world) => world,
        Err(violation) => {
            println!("{}: {}", violation.invariant, violation.text);
            return false;
        }
    };
    world.measure();
    let most = args.steps.unwrap_or(u64::MAX);
    while world.steps < most {
        match world.step() {
            Ok(true) => {}
            Ok(false) => break,
            Err(violation) => {
                tell(&world, seed, &violation, args);
                return false;
            }
        }
    }
    if !args.quiet {
        summary(&world, seed);
    }
    // Harm that nobody finds is a fault of the checks.
    args.fault.is_none()
}

fn summary(world: &World, seed: u64) {
    let accounts = &world.checks.accounts;
    println!(
        "{} seed {seed}: {} events in {} s: {} requests, {} forwarded, {} refused, {} aborted, {} killed; {} retries, \
         {} ejections, breakers opened {} times, {} documents; digest {:016x}",
        world.scenario.name,
        world.steps,
        world.time / 1_000_000,
        world.flown,
        accounts.forwarded,
        accounts.refused,
        accounts.aborted,
        accounts.killed,
        world.checks.retries.count,
        world.checks.ejections.count,
        world.checks.breakers.opened,
        world.history.len(),
        world.trace.digest(),
    );
}

fn tell(world: &World, seed: u64, violation: &Violation, args: &Args) {
    println!("What happened last:");
    world.trace.last().for_each(|line| println!("  {line}"));
    println!("\nBroken: {}: {}", violation.invariant, violation.text);
    let seconds = args
        .seconds
        .filter(|_| args.words.is_empty())
        .map_or_else(String::new, |seconds| format!(" --seconds {seconds}"));
    let fault = FAULTS.iter().find(|(_, fault, _)| Some(*fault) == args.fault);
    let fault = fault.map_or_else(String::new, |(name, ..)| format!(" --break {name}"));
    println!(
        "Again: gateway-sim --seed {seed} --scenario {}{seconds}{fault} --steps {} --verbose",
        world.scenario.name, world.steps
    );
}

/// One seed after another until the time is over or one breaks something.
fn soak(args: &Args) -> bool {
    let end = Instant::now() + Duration::from_secs(args.seconds.unwrap_or(60));
    let mut seed = args.seed;
    let mut runs = 0;
    while Instant::now() < end {
        let scenarios = SCENARIOS.iter().filter(|scenario| args.scenario.is_none_or(|only| only.name == scenario.name));
        for scenario in scenarios {
            if !run(Some(scenario), seed, args) {
                return false;
            }
            runs += 1;
        }
        seed += 1;
    }
    println!("{runs} runs, seeds {} to {}: all held", args.seed, seed - 1);
    true
}
