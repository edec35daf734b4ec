//! `consumers` and `roles`.

use std::collections::HashSet;

use super::document::{Consumer, Role};
use super::names::Names;
use super::read::At;

/// Reads a consumer that the tables have checked.
pub(super) fn read(at: &At<'_>, name: String, roles: &Names<'_>) -> Consumer {
    let mut seen = HashSet::new();
    for item in at.get("roles").iter().flat_map(At::items) {
        let Some(role) = item.node.text() else { continue };
        if roles.refer(&item) && !seen.insert(role) {
            item.error("stands here twice");
        }
    }
    Consumer {
        name,
        permissions: at.texts("permissions").unwrap_or_default(),
        roles: at.texts("roles").unwrap_or_default(),
        priority: at.number("priority").unwrap_or(0),
        labels: at.labels("labels").unwrap_or_default(),
        enabled: at.bool("enabled").unwrap_or(true),
    }
}

/// Reads a role that the tables have checked.
pub(super) fn role(at: &At<'_>, name: String) -> Role {
    Role { name, permissions: at.texts("permissions").unwrap_or_default() }
}
