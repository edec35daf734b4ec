//! Overlays as the API has them: each with an id by which it ends, kept in one file of the state folder.

use serde_json::{Map, Value, json};

use crate::auth::revocation::{self, Revocation, Revoked};
use crate::breaker::Forced;
use crate::config::{self, rfc3339};
use crate::gateway::{ByHand, CanaryCommand, Overlay, Overlays};
use crate::state::Folder;
use crate::types::{Now, SECOND};

/// The file of the state folder, …
const FILE: &str = "overlays.json";
/// … and its largest size, bytes.
const FILE_MAX: u64 = 16 << 20;
/// The most overlays.
pub(super) const OVERLAYS_MAX: usize = 10_000;

/// An overlay, and who laid it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Laid {
    pub overlay: Overlay,
    pub who: String,
    pub at: String,
}

/// All overlays, in the order in which they were laid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sheet(pub Vec<Laid>);

/// What is laid over documents by the folder's word; a start that finds the file broken goes on without, and says so.
///
/// # Errors
/// The file cannot be read.
pub fn read_overlays(folder: &Folder, now: Now) -> Result<Overlays, String> {
    Sheet::read(folder, now).map(|sheet| sheet.overlays())
}

impl Laid {
    /// What it is called; of two with one name the later counts.
    pub(super) fn id(&self) -> String {
        match &self.overlay {
            Overlay::Weight { upstream, node, .. } => format!("nodes/{upstream}/{node}"),
            Overlay::Ban { cidr, .. } => format!("bans/{cidr}"),
            Overlay::Breaker { upstream, .. } => format!("breakers/{upstream}"),
            Overlay::Canary { route, .. } => format!("canaries/{route}"),
            Overlay::Revocation(ByHand { auth, entry }) => {
                let (kind, value) = revoked(&entry.what);
                let scope = auth.as_deref().map_or(String::new(), |auth| format!("{auth}/"));
                format!("revocations/{scope}{kind}:{value}")
            }
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("id", self.id().into());
        put("who", self.who.as_str().into());
        put("at", self.at.as_str().into());
        match &self.overlay {
            Overlay::Weight { upstream, node, weight } => {
                put("upstream", upstream.as_str().into());
                put("node", node.as_str().into());
                put("weight", (*weight).into());
            }
            Overlay::Ban { cidr, until, reason } => {
                put("cidr", cidr.as_str().into());
                if *until > 0 {
                    put("until", rfc3339(*until).into());
                }
                if !reason.is_empty() {
                    put("reason", reason.as_str().into());
                }
            }
            Overlay::Breaker { upstream, forced } => {
                put("upstream", upstream.as_str().into());
                put("state", forced_word(*forced).into());
            }
            Overlay::Revocation(ByHand { auth, entry }) => {
                if let Some(auth) = auth {
                    put("auth", auth.as_str().into());
                }
                let (kind, value) = revoked(&entry.what);
                put(kind, value.into());
                for (name, time) in [("before", entry.what.before()), ("until", entry.until)] {
                    if time != u32::MAX {
                        put(name, rfc3339(time.into()).into());
                    }
                }
            }
            Overlay::Canary { route, command } => {
                put("route", route.as_str().into());
                match command {
                    CanaryCommand::Set(share) => put("percent", (f64::from(*share) / 100.0).into()),
                    other => put("action", if *other == CanaryCommand::Pause { "pause" } else { "rollback" }.into()),
                }
            }
        }
        Value::Object(fields)
    }

    fn of_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let id = text("id")?;
        let overlay = match id.split('/').next()? {
            "nodes" => Overlay::Weight {
                upstream: text("upstream")?,
                node: text("node")?,
                weight: value.get("weight")?.as_u64()?.try_into().ok()?,
            },
            "bans" => Overlay::Ban {
                cidr: text("cidr")?,
                until: text("until").map_or(Some(0), |until| config::time(&until).ok())?,
                reason: text("reason").unwrap_or_default(),
            },
            "breakers" => Overlay::Breaker { upstream: text("upstream")?, forced: forced(&text("state")?)? },
            "canaries" => Overlay::Canary {
                route: text("route")?,
                command: match text("action").as_deref() {
                    Some("pause") => CanaryCommand::Pause,
                    Some("rollback") => CanaryCommand::Abort,
                    Some(_) => return None,
                    None => CanaryCommand::Set((value.get("percent")?.as_f64()? * 100.0).round() as u16),
                },
            },
            "revocations" => Overlay::Revocation(revocation(&text).ok()?),
            _ => return None,
        };
        Some(Self { overlay, who: text("who").unwrap_or_default(), at: text("at").unwrap_or_default() })
    }
}

/// The field that says what is revoked, and its value.
fn revoked(what: &Revoked) -> (&'static str, String) {
    match what {
        Revoked::Id(id) => ("jti", id.clone()),
        Revoked::Subject(subject, _) => ("sub", subject.clone()),
        Revoked::Token(digest) => ("sha256", digest.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

/// The revocation whose fields `text` has: one of `jti`, `sub` and `sha256`, and `auth`, `before`, `until`.
pub(super) fn revocation(text: &impl Fn(&str) -> Option<String>) -> Result<ByHand, String> {
    let time = |name: &str| match text(name) {
        None => Ok(u32::MAX),
        Some(time) => match config::time(&time).map(u32::try_from) {
            Ok(Ok(time)) => Ok(time),
            Ok(Err(_)) => Err(format!("`{name}` is too far away")),
            Err(error) => Err(format!("`{name}` {error}")),
        },
    };
    let before = time("before")?;
    let what = match (text("jti"), text("sub"), text("sha256")) {
        (Some(id), None, None) if !id.is_empty() => Revoked::Id(id),
        (None, Some(subject), None) if !subject.is_empty() => Revoked::Subject(subject, before),
        (None, None, Some(digest)) => {
            Revoked::Token(revocation::digest(&digest).ok_or("`sha256` must be 64 hexadecimal digits")?)
        }
        _ => return Err("needs one of `jti`, `sub`, `sha256` and `token`".to_owned()),
    };
    if before != u32::MAX && !matches!(what, Revoked::Subject(..)) {
        return Err("`before` belongs to `sub`".to_owned());
    }
    Ok(ByHand { auth: text("auth"), entry: Revocation { what, until: time("until")? } })
}

/// What `open` and `closed` force.
pub(super) fn forced(word: &str) -> Option<Forced> {
    match word {
        "open" => Some(Forced::Open),
        "closed" => Some(Forced::Closed),
        _ => None,
    }
}

const fn forced_word(forced: Forced) -> &'static str {
    match forced {
        Forced::Open => "open",
        Forced::Closed => "closed",
    }
}

impl Sheet {
    /// What the folder keeps, but for bans whose time is over.
    pub(super) fn read(folder: &Folder, now: Now) -> Result<Self, String> {
        let path = folder.path().join(FILE).display().to_string();
        let content = match folder.read(FILE, FILE_MAX) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(Self::default()),
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let list: Option<Vec<Laid>> = serde_json::from_slice::<Value>(&content)
            .ok()
            .and_then(|value| value.as_array()?.iter().map(Laid::of_json).collect());
        let mut sheet = list.map(Self).ok_or_else(|| format!("{path}: is no list of overlays; they are left off"))?;
        sheet.expire(now);
        Ok(sheet)
    }

    pub(super) fn save(&self, folder: &Folder) -> std::io::Result<()> {
        let list: Vec<Value> = self.0.iter().map(Laid::to_json).collect();
        folder.save(FILE, format!("{}\n", json!(list)).as_bytes())
    }

    pub(super) fn overlays(&self) -> Overlays {
        Overlays::new(self.0.iter().map(|laid| laid.overlay.clone()).collect())
    }

    /// Lays `laid`, in the place of what has its id.
    pub(super) fn put(&mut self, laid: Laid) {
        self.remove(&laid.id());
        self.0.push(laid);
    }

    /// Takes the overlay with this id off; whether there was one.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|laid| laid.id() != id);
        self.0.len() < before
    }

    /// Takes off what refuses nobody any more, as its time is over.
    pub(super) fn expire(&mut self, now: Now) {
        let seconds = now.wall / SECOND;
        let over = |laid: &Laid| match &laid.overlay {
            Overlay::Ban { until, .. } => *until > 0 && *until <= seconds,
            Overlay::Revocation(by_hand) => u64::from(by_hand.entry.until) <= seconds,
            _ => false,
        };
        self.0.retain(|laid| !over(laid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let laid = |overlay| Laid { overlay, who: "ann".into(), at: "2027-01-01T00:00:00Z".into() };
        let by_hand = |auth: Option<&str>, what, until| {
            Overlay::Revocation(ByHand { auth: auth.map(str::to_owned), entry: Revocation { what, until } })
        };
        let weight = |weight| Overlay::Weight { upstream: "u".into(), node: "[::1]:80".into(), weight };
        let all = [
            weight(0),
            Overlay::Ban { cidr: "::/0".into(), until: 1_900_000_000, reason: "r".into() },
            Overlay::Ban { cidr: "10.0.0.1".into(), until: 0, reason: String::new() },
            Overlay::Breaker { upstream: "a/b".into(), forced: Forced::Open },
            Overlay::Canary { route: "r".into(), command: CanaryCommand::Set(1_234) },
            Overlay::Canary { route: "s".into(), command: CanaryCommand::Pause },
            Overlay::Canary { route: "t".into(), command: CanaryCommand::Abort },
            by_hand(None, Revoked::Id("a b#".into()), u32::MAX),
            by_hand(Some("staff"), Revoked::Subject("anna".into(), 1_800_000_000), 1_850_000_000),
            by_hand(None, Revoked::Token([7; 32]), u32::MAX),
        ];
        let mut sheet = Sheet::default();
        all.iter().for_each(|overlay| sheet.put(laid(overlay.clone())));
        for laid in &sheet.0 {
            assert_eq!(Laid::of_json(&laid.to_json()).as_ref(), Some(laid));
        }
        sheet.put(laid(weight(7)));
        assert_eq!(sheet.0.len(), all.len(), "in the place of the other");
        assert!(sheet.remove("nodes/u/[::1]:80") && !sheet.remove("nodes/u/[::1]:80"));
        sheet.expire(Now { mono: 0, wall: 1_900_000_000 * SECOND });
        assert_eq!(sheet.0.len(), all.len() - 3);
    }
}
