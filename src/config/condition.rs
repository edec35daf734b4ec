//! A route's `match`.

use super::read::At;
use crate::router::settings::{Condition, Field, Test};

/// The most entries of one `match`.
pub const CONDITIONS_MAX: usize = 16;

/// Reads a `match` that the tables have checked.
pub(super) fn read(at: &At<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let count = at.node.items().len();
    if count > CONDITIONS_MAX {
        at.error(format!("has {count} entries, at most {CONDITIONS_MAX} are possible"));
    }
    for item in at.items().filter(At::is_object).take(CONDITIONS_MAX) {
        let Some(condition) = condition(&item) else { continue };
        if conditions.contains(&condition) {
            item.error("stands here twice");
        }
        conditions.push(condition);
    }
    conditions
}

fn condition(at: &At<'_>) -> Option<Condition> {
    let fields = written(at, &["header", "query", "cookie"]);
    let tests = written(at, &["equals", "in", "regex", "exists"]);
    if fields.len() != 1 {
        at.error("needs exactly one of `header`, `query` and `cookie`");
    }
    if tests.len() != 1 {
        at.error("needs exactly one of `equals`, `in`, `regex` and `exists`");
    }
    let ([field], [test]) = (fields.as_slice(), tests.as_slice()) else { return None };
    let name = at.text(field)?.to_owned();
    let field = match *field {
        "header" => Field::Header(name.to_ascii_lowercase()),
        "query" => Field::Query(name),
        _ => Field::Cookie(name),
    };
    let mut not = at.bool("not").unwrap_or(false);
    let test = match *test {
        "equals" => Test::Equals(at.text("equals")?.to_owned()),
        "regex" => Test::Regex(at.text("regex")?.to_owned()),
        "in" => {
            // In one order, so that two ways to write a set are one condition.
            let mut values = at.texts("in")?;
            values.sort();
            values.dedup();
            Test::In(values)
        }
        _ => {
            not ^= !at.bool("exists")?;
            Test::Exists
        }
    };
    Some(Condition { field, test, not })
}

fn written<'n>(at: &At<'_>, names: &[&'n str]) -> Vec<&'n str> {
    names.iter().copied().filter(|name| at.get(name).is_some()).collect()
}
