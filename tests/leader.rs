//! What the leader does for all: it follows the document, and puts in order what a killed worker leaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

use gateway::config;
use gateway::gateway::{
    Decision, Entry, Event, LAST_GOOD, Leader, Outcome, Severity, Standing, Ticket, TryEnd, Worker,
};
use gateway::state::{Folder, Identity, SharedRegion};
use gateway::types::Now;
use support::{Fake, TestSecrets, at};

const DOCUMENT: &str = "
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1, window: 10s, open_for: 60s, probes: 1, closes_after: 1}}
routes: [{name: r, paths: ['/*'], upstream: u}]
";

fn access(worker: &mut Worker, now: Now) -> (Decision, Ticket) {
    let mut ticket = Ticket::new();
    let decision = worker.access(&Fake::get("/"), Entry::First, now, &mut ticket);
    if let Decision::Reply(reply) = decision {
        let outcome = Outcome { status: reply.reason.status(), ..Outcome::default() };
        worker.complete(&mut ticket, &outcome, now);
    }
    (decision, ticket)
}

/// One request that ends with `status`.
fn served(worker: &mut Worker, now: Now, status: u16) {
    let (decision, mut ticket) = access(worker, now);
    assert_eq!(decision, Decision::Forward);
    worker.pick(&mut ticket, now, |_| ()).unwrap();
    worker.tried(&mut ticket, TryEnd::Answered(status), now);
    worker.complete(&mut ticket, &Outcome { status, upstream_status: status, aborted: false }, now);
}

#[test]
fn a_killed_workers_probe_is_given_back() {
    let memory = SharedRegion::new(8 << 20, [1, 2]).unwrap();
    let region = memory.region();
    let mut leader = Leader::take(region, Identity::current()).unwrap().unwrap();
    leader.publish(&config::parse(DOCUMENT, "d", &TestSecrets).unwrap().document, at(0.0)).unwrap();
    let mut worker = Worker::start(region, Identity::current(), [1, 2]).unwrap();
    served(&mut worker, at(0.0), 500);
    assert!(matches!(access(&mut worker, at(1.0)).0, Decision::Reply(_)), "open");

    // A worker takes the only probe and is killed with it.
    let mut ends = [0; 2];
    // SAFETY: two writable descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: both descriptors are fresh and ours.
    let (mut reader, mut writer) = unsafe { (fs::File::from_raw_fd(ends[0]), fs::File::from_raw_fd(ends[1])) };
    // SAFETY: the child calls nothing but the library, writes a byte and waits to be killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the child must not outlive a test that failed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let mut other = Worker::start(region, Identity::current(), [3, 4]).unwrap();
        let forward = matches!(access(&mut other, at(61.0)).0, Decision::Forward);
        writer.write_all(&[u8::from(forward)]).unwrap();
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [1], "the child has the probe");
    assert!(matches!(access(&mut worker, at(62.0)).0, Decision::Reply(_)), "no second probe");
    let busy = worker.metrics(at(62.0));
    assert!(busy.contains("gateway_active_connections 1"), "{busy}");

    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    leader.tick(at(63.0), &mut |_| ());
    assert!(worker.metrics(at(63.0)).contains("gateway_active_connections 0"));
    // Long before the probe's own deadline at 121 s.
    served(&mut worker, at(64.0), 200);
    assert!(worker.metrics(at(64.0)).contains("gateway_circuit_breaker_state{upstream=\"u\"} 0"));
}

#[test]
fn the_document_is_followed_and_a_broken_one_changes_nothing() {
    let memory = SharedRegion::new(8 << 20, [1, 2]).unwrap();
    let path = std::env::temp_dir().join(format!("gateway-leader-{}.yaml", std::process::id()));
    let mut leader = Leader::take(memory.region(), Identity::current()).unwrap().unwrap();
    let mut worker = Worker::start(memory.region(), Identity::current(), [1, 2]).unwrap();
    let folder = std::env::temp_dir().join(format!("gateway-leader-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let folder = Folder::new(&folder);
    leader.keep_in(folder.clone());
    leader.watch(&path);
    let kept = |text: &str| folder.read(LAST_GOOD, 1 << 20).unwrap().unwrap() == text.as_bytes();
    let standing = || Standing::of(&memory);
    let mut events: Vec<Event> = Vec::new();
    let mut clock = 0.0;
    let mut look = |text: Option<&str>, leader: &mut Leader, events: &mut Vec<Event>| {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        events.clear();
        for _ in 0..3 {
            clock += 0.25;
            leader.tick(at(clock), &mut |event| events.push(event));
        }
    };
    look(Some(DOCUMENT), &mut leader, &mut events);
    assert_eq!(events.iter().map(|event| event.severity).collect::<Vec<_>>(), [Severity::Notice], "{events:?}");
    let generation = memory.region().generation();
    assert!(kept(DOCUMENT) && standing() == Standing::Current);
    assert!(matches!(access(&mut worker, at(2.0)).0, Decision::Forward));

    look(Some("version: 1\nroutes: [{name: r, path: ['/*']}]\n"), &mut leader, &mut events);
    assert!(events.iter().all(|event| event.severity == Severity::Error) && !events.is_empty(), "{events:?}");
    let told =
        events.iter().any(|event| event.text.contains(".yaml:2:") && event.text.contains("did you mean `paths`"));
    assert!(told, "{events:?}");
    assert_eq!(memory.region().generation(), generation);
    assert!(kept(DOCUMENT) && standing() == Standing::Refused);

    look(None, &mut leader, &mut events);
    assert_eq!(events.len(), 1, "told once: {events:?}");
    assert!(matches!(access(&mut worker, at(4.0)).0, Decision::Forward), "the last good one stays");

    look(Some(&DOCUMENT.replace("/*", "/only")), &mut leader, &mut events);
    assert_eq!(memory.region().generation(), generation + 1, "{events:?}");
    assert!(matches!(access(&mut worker, at(5.0)).0, Decision::Reply(_)));
    assert!(kept(&DOCUMENT.replace("/*", "/only")) && standing() == Standing::Current);
    fs::remove_dir_all(folder.path()).unwrap();
    let _ = fs::remove_file(&path);
}

#[test]
fn what_a_worker_left_that_was_killed_in_a_generation_is_found_after_an_edit() {
    let memory = SharedRegion::new(8 << 20, [1, 2]).unwrap();
    let mut leader = Leader::take(memory.region(), Identity::current()).unwrap().unwrap();
    let load = |leader: &mut Leader, text: &str, now: Now| {
        leader.publish(&config::parse(text, "d", &TestSecrets).unwrap().document, now).unwrap();
    };
    load(&mut leader, DOCUMENT, at(0.0));
    let mut dead = Worker::start(memory.region(), Identity::current(), [1, 2]).unwrap();
    let mut worker = Worker::start(memory.region(), Identity::current(), [3, 4]).unwrap();
    assert_eq!(access(&mut dead, at(0.0)).0, Decision::Forward);
    dead.die(true);
    // Its generation goes, and with that nobody is asked any more who was in it.
    load(&mut leader, &DOCUMENT.replace("/*", "/only"), at(1.0));
    leader.tick(at(2.0), &mut |_| ());
    assert_eq!(leader.stats().waiting, 0);
    assert!(worker.metrics(at(2.0)).contains("gateway_active_connections 0"));
}
