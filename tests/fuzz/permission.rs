//! Granted and required names: the table of grants against each name alone, each name against the definition, and a
//! list of what is revoked.

use gateway::auth::revocation::{Revocation, Revoked, parse};
use gateway::auth::{
    ArchivedGrants, ArchivedRequirement, Grants, PermissionError, Requirement, check_granted, holds, matches,
};
use rkyv::rancor::Error;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    revoked(text);
    // What is granted stands above the first empty line, what is required below.
    let (granted, required) = text.split_once("\n\n").unwrap_or((text, text));
    let required: Vec<&str> = required.lines().take(64).collect();
    let granted: Vec<String> = granted.lines().take(64).map(str::to_owned).collect();
    for grant in &granted {
        for need in &required {
            assert_eq!(matches(grant, need), defined(grant, need), "{grant:?} covers {need:?}");
        }
    }

    let granted: Vec<String> = granted.into_iter().filter(|name| check_granted(name).is_ok()).collect();
    for name in &granted {
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()) && name.split(':').all(|part| !part.is_empty()));
        // What holds no wildcard covers itself, and with wildcards what it stands for.
        let concrete = name.replace("**", "x:y").replace('*', "z");
        assert!(matches(name, &concrete), "{name:?} covers {concrete:?}");
    }
    let bytes = rkyv::to_bytes::<Error>(&Grants::new(&granted)).unwrap();
    let grants = rkyv::access::<ArchivedGrants, Error>(&bytes).unwrap();
    let alone = |need: &str| granted.iter().any(|grant| matches(grant, need));
    for need in &required {
        assert_eq!(grants.cover(need), alone(need), "{granted:?} cover {need:?}");
    }
    requirement(&required, grants, alone);
    let mut names = Grants::new(&granted).into_names();
    let mut expected = granted.clone();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}

/// A route's requirement: what is taken is free of wildcards, and any and all are what they say.
fn requirement(required: &[&str], grants: &ArchivedGrants, alone: impl Fn(&str) -> bool) {
    let names: Vec<String> = required.iter().map(|&name| name.to_owned()).collect();
    for all in [false, true] {
        let requirement = match Requirement::new(all, names.clone()) {
            Ok(requirement) => requirement,
            Err(PermissionError::NothingRequired) => return assert!(names.is_empty()),
            Err(_) => return,
        };
        assert!(names.iter().all(|name| check_granted(name).is_ok() && !name.contains('*')), "{names:?}");
        let bytes = rkyv::to_bytes::<Error>(&requirement).unwrap();
        let archived = rkyv::access::<ArchivedRequirement, Error>(&bytes).unwrap();
        let mut each = names.iter().map(|name| alone(name));
        let expected = if all { each.all(|covered| covered) } else { each.any(|covered| covered) };
        assert_eq!(holds(archived, |need| grants.cover(need)), expected, "{names:?}");
    }
}

/// Segment by segment.
fn defined(granted: &str, required: &str) -> bool {
    fn covers(granted: &[&str], required: &[&str]) -> bool {
        match (granted, required) {
            ([], []) => true,
            (["**"], [_, ..]) => true,
            (["*", granted @ ..], [_, required @ ..]) => covers(granted, required),
            ([grant, granted @ ..], [need, required @ ..]) => grant == need && covers(granted, required),
            _ => false,
        }
    }
    let needs: Vec<&str> = required.split(':').collect();
    let is_concrete = needs.iter().all(|need| !need.is_empty() && !need.contains('*'));
    is_concrete && covers(&granted.split(':').collect::<Vec<_>>(), &needs)
}

/// What is read is read again from what it is written as.
fn revoked(text: &str) {
    let _ = parse(text, gateway::config::time);
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let Ok(list) = parse(text, number) else { return };
    assert!(list.len() <= text.lines().count());
    let written: Vec<String> = list.iter().map(line).collect();
    assert_eq!(parse(&written.join("\n"), number).as_ref(), Ok(&list), "{written:?}");
    // One scope, one secret: keys are apart where entries are.
    for (at, one) in list.iter().enumerate().take(32) {
        for other in &list[..at] {
            let same = match (&one.what, &other.what) {
                (Revoked::Subject(one, _), Revoked::Subject(other, _)) => one == other,
                (one, other) => one == other,
            };
            assert_eq!(one.what.key([1, 2], 3) == other.what.key([1, 2], 3), same, "{one:?} {other:?}");
        }
    }
}

fn line(entry: &Revocation) -> String {
    let until = entry.until;
    match &entry.what {
        Revoked::Id(id) => format!("jti {id} until {until}"),
        Revoked::Subject(subject, before) => format!("sub {subject} before {before} until {until} # comment"),
        Revoked::Token(digest) => {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("token sha256:{hex} until {until}")
        }
    }
}
