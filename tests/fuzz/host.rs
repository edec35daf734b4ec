//! `host::normalise`, and what `Host::parse` says about the same text.

use gateway::router::host::{HOST_MAX, normalise};
use gateway::router::naive::host_matches;
use gateway::router::pattern::Host;

pub fn run(raw: &[u8]) {
    let mut buf = [0xaa; 256];
    let found = normalise(raw, &mut buf).ok();
    let text = std::str::from_utf8(raw).ok();
    if let Some(found) = found {
        let is_literal = raw.first() == Some(&b'[');
        assert!(found.len() <= HOST_MAX && (is_literal || found.len() <= raw.len()), "{found:?}");
        assert!(found.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{found:?}");
        let mut again = [0; 256];
        assert_eq!(normalise(found, &mut again).ok(), Some(found));
        // A document can name every host that a request can, and gets the same one.
        if !found.is_empty() {
            let name = std::str::from_utf8(found).unwrap();
            assert_eq!(Host::parse(name), Ok(Host::Exact(found.to_vec())));
        }
    }
    match text.map(Host::parse) {
        Some(Ok(Host::Exact(name))) => {
            assert_eq!(found, Some(&*name));
            assert!(host_matches(&Host::Exact(name.clone()), &name));
            let above = Host::Wildcard(name.clone());
            assert!(!host_matches(&above, &name) && host_matches(&above, &[b"a.", &name[..]].concat()));
        }
        Some(Ok(Host::Wildcard(name))) => {
            assert!(found.is_none(), "a request names no wildcard");
            let mut below = b"x.".to_vec();
            below.extend_from_slice(&name);
            let mut again = [0; 256];
            assert_eq!(normalise(&below, &mut again).ok(), Some(&below[..]));
        }
        // A document says nothing about ports, and everything else that is a host it takes.
        Some(Err(_)) => assert!(found.is_none_or(|found| found.is_empty() || raw.contains(&b':'))),
        Some(Ok(Host::Any)) => assert!(found.is_none()),
        None => assert!(found.is_none()),
    }
}
