//! What a document may say and this version cannot carry out yet. It is refused by name: a restriction that nobody
//! enforces must not go live.

use crate::config::{Document, PathPolicy};

/// What of `document` is not supported yet, a line each; empty = it can go live.
#[must_use]
pub fn unsupported(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    if !document.bans.is_empty() {
        lines.push("bans: not supported yet".to_owned());
    }
    if !document.lists.is_empty() {
        lines.push("lists: not supported yet".to_owned());
    }
    for route in &document.routes {
        let fields = [
            ("match", !route.conditions.is_empty()),
            ("reply or redirect", route.answer.is_some()),
            ("rewrite", route.rewrite.is_some()),
            ("headers", !route.headers.is_empty()),
            ("cors", route.cors.is_some()),
            ("allow", !route.allow.is_empty()),
            ("deny", !route.deny.is_empty()),
            ("path_policy: strict", route.path_policy == PathPolicy::Strict),
        ];
        for (field, _) in fields.into_iter().filter(|(_, written)| *written) {
            lines.push(format!("route \"{}\": {field}: not supported yet", route.name));
        }
    }
    lines
}
