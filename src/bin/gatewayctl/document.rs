//! `check`, `diff` and `size`.

use std::hash::{BuildHasher, Hasher, RandomState};

use gateway::config::{self, Checked, Document, Errors, Problem, Secrets, SystemSecrets};
use gateway::state::Region;
use serde_json::{Value, json};

use super::args::Args;
use super::live::Live;
use super::{Outcome, print, print_json};

/// The system's secrets; what is missing may be made up.
struct Lenient {
    made_up: bool,
}

impl Secrets for Lenient {
    fn env(&self, name: &str) -> Option<String> {
        SystemSecrets.env(name).or_else(|| self.made_up.then(random))
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        SystemSecrets.file(path).or_else(|error| if self.made_up { Ok(random().into_bytes()) } else { Err(error) })
    }

    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        SystemSecrets.list(path)
    }

    fn htpasswd(&self, path: &str) -> Result<Vec<u8>, String> {
        // The SHA-1 of 20 bytes that are no password's.
        const NOBODY: &[u8] = b"nobody:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        SystemSecrets.list(path).or_else(|error| if self.made_up { Ok(NOBODY.to_vec()) } else { Err(error) })
    }
}

/// 64 hexadecimal digits that nobody knows; they protect nothing.
fn random() -> String {
    (0..4).map(|_| format!("{:016x}", RandomState::new().build_hasher().finish())).collect()
}

fn read(file: &str, args: &Args) -> Result<Result<Checked, Errors>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    Ok(config::parse(&text, file, &Lenient { made_up: args.secrets_missing_ok }))
}

/// The document in `file`, which must be right.
pub fn load(file: &str, args: &Args) -> Result<Document, String> {
    match read(file, args)? {
        Ok(checked) => Ok(checked.document),
        Err(errors) => Err(format!("{file} is not right:\n{errors}")),
    }
}

pub fn check(file: &str, args: &Args) -> Outcome {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let found = config::parse(&text, file, &Lenient { made_up: args.secrets_missing_ok });
    let (errors, warnings) = match &found {
        Ok(checked) => (Vec::new(), checked.warnings.as_slice()),
        Err(errors) => (errors.problems().to_vec(), &[][..]),
    };
    if args.json {
        let list = |problems: &[Problem]| problems.iter().map(problem).collect::<Value>();
        print_json(&json!({"ok": errors.is_empty(), "errors": list(&errors), "warnings": list(warnings)}));
    } else {
        errors.iter().for_each(|problem| print(&format!("{problem}\n")));
        warnings.iter().for_each(|problem| print(&format!("{problem} (warning)\n")));
        if let Ok(Checked { document, .. }) = &found
            && errors.is_empty()
        {
            let (routes, upstreams) = (document.routes.len(), document.upstreams.len());
            print(&format!("{file}: right; routes {routes}, upstreams {upstreams}, warnings {}\n", warnings.len()));
        }
    }
    Ok(u8::from(!errors.is_empty()))
}

fn problem(problem: &Problem) -> Value {
    let Problem { file, line, column, path, message } = problem;
    json!({"file": file, "line": line, "column": column, "path": path, "message": message})
}

pub fn diff(old: &str, new: &str, args: &Args) -> Outcome {
    // Made up secrets would differ each time.
    if args.secrets_missing_ok {
        return Err("`diff` compares secrets too: --secrets-missing-ok is not for it".to_owned());
    }
    let changes = config::diff(&load(old, args)?, &load(new, args)?);
    if args.json {
        print_json(&changes.iter().map(config::Change::to_json).collect());
    } else {
        changes.iter().for_each(|change| print(&format!("{change}\n")));
    }
    Ok(u8::from(!changes.is_empty()))
}

pub fn size(file: &str, args: &Args) -> Outcome {
    let document = load(file, args)?;
    let live = Live::start(&document)?.live_bytes();
    // Blocks do not fill the arena to the last byte, and each table has an end of its own: what was computed is tried.
    let mut smallest = Region::size_for(live);
    while let Err(error) = Live::of_size(&document, smallest) {
        if smallest > super::live::SIZE_MAX {
            return Err(error.to_string());
        }
        smallest += (smallest / 16).next_multiple_of(1 << 20);
    }
    // While an edit goes live, old and new stand side by side.
    let advised = smallest.max(Region::size_for(live.saturating_mul(2).saturating_add(1 << 20)));
    if args.json {
        print_json(&json!({"document_bytes": live, "zone_min": smallest, "zone_advised": advised}));
    } else {
        print(&format!(
            "{file}: the document takes {live} bytes\nsmallest:  gateway_zone NAME {}m;\nadvised:   gateway_zone NAME {}m;   \
             # room to replace every object at once\n",
            smallest.div_ceil(1 << 20),
            advised.div_ceil(1 << 20)
        ));
    }
    Ok(0)
}
