//! Every call there is: method, path, who answers it. Dispatch, `Allow` and the OpenAPI page are made from this table.

use super::answer::{Answer, Problem};
use super::{Call, Mode, decoded};
use crate::config::Collection;

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// How the gateway stands.
    Status,
    /// The whole document.
    Config,
    /// Takes a whole document.
    PutConfig,
    /// Checks a whole document.
    Validate,
    /// A page of a collection.
    List,
    /// One resource.
    Get,
    /// Takes one resource.
    Put,
    /// Changes one resource.
    Patch,
    /// Removes one resource.
    Delete,
    /// The nodes of an upstream.
    Nodes,
    /// All breakers.
    Breakers,
    /// One breaker.
    Breaker,
    /// What would be decided on a request.
    Explain,
    /// Several changes at once.
    Batch,
    /// The revisions that are kept.
    Revisions,
    /// One of them.
    Revision,
    /// What differs between two.
    Diff,
    /// Makes one of them live again.
    Rollback,
    /// What is laid over the document.
    Overlays,
    /// Ends one of them.
    EndOverlay,
    /// Drains a node, or gives it another weight.
    PatchNode,
    /// Forces a breaker.
    PutBreaker,
    /// How a canary stands.
    Canary,
    /// Holds a canary where it is told to.
    PutCanary,
    /// Has the document's word on a canary count again.
    EndCanary,
    /// Refuses addresses for a while.
    PostBan,
    /// Refuses tokens.
    Revoke,
    /// Has nothing be answered any more of what was kept.
    Purge,
    /// This table, for machines.
    OpenApi,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Whoever has the call.
    Here,
    /// The leader.
    Leader,
    /// The leader where it has the source, else whoever has the call.
    Source,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path; `{…}` stands for one segment.
    pub path: &'static str,
    /// What it does.
    pub op: Op,
    /// Who answers.
    pub place: Place,
    /// Whether it changes something, and so stands in the audit log.
    pub writes: bool,
    /// Content types of its body; empty where it takes none.
    pub takes: &'static [&'static str],
    /// In one line.
    pub summary: &'static str,
}

const JSON: &[&str] = &["application/json"];
const DOCUMENT: &[&str] = &["application/json", "application/yaml"];
const PATCH: &[&str] = &["application/merge-patch+json"];
const NONE: &[&str] = &[];

const fn reads(path: &'static str, op: Op, place: Place, summary: &'static str) -> Endpoint {
    Endpoint { method: "GET", path, op, place, writes: false, takes: NONE, summary }
}

const fn writes(
    method: &'static str,
    path: &'static str,
    op: Op,
    takes: &'static [&'static str],
    summary: &'static str,
) -> Endpoint {
    Endpoint { method, path, op, place: Place::Leader, writes: true, takes, summary }
}

/// All calls; of two that match the first counts.
pub static TABLE: &[Endpoint] = &[
    reads("/v1/status", Op::Status, Place::Here, "How the gateway stands"),
    reads("/v1/config", Op::Config, Place::Leader, "The whole document"),
    writes("PUT", "/v1/config", Op::PutConfig, DOCUMENT, "Replace the whole document"),
    Endpoint {
        method: "POST",
        path: "/v1/config/validate",
        op: Op::Validate,
        place: Place::Leader,
        writes: false,
        takes: DOCUMENT,
        summary: "Check a whole document and say what it would change",
    },
    reads("/v1/breakers", Op::Breakers, Place::Here, "Every breaker and its state"),
    reads("/v1/breakers/{upstream}", Op::Breaker, Place::Here, "The breaker of one upstream"),
    Endpoint {
        method: "POST",
        path: "/v1/explain",
        op: Op::Explain,
        place: Place::Here,
        writes: false,
        takes: JSON,
        summary: "What would be decided on a request, and why",
    },
    writes("POST", "/v1/batch", Op::Batch, JSON, "Several changes, all or none"),
    reads("/v1/revisions", Op::Revisions, Place::Leader, "The revisions that are kept"),
    reads("/v1/revisions/{revision}", Op::Revision, Place::Leader, "One revision"),
    reads("/v1/revisions/{revision}/diff/{other}", Op::Diff, Place::Leader, "What differs between two revisions"),
    writes("POST", "/v1/revisions/{revision}/rollback", Op::Rollback, NONE, "Make a revision live again"),
    reads("/v1/overlays", Op::Overlays, Place::Leader, "What is laid over the document"),
    writes("DELETE", "/v1/overlays/{id}", Op::EndOverlay, NONE, "End an overlay"),
    writes("PUT", "/v1/breakers/{upstream}", Op::PutBreaker, JSON, "Force a breaker: `open`, `closed`, `auto`"),
    writes("POST", "/v1/bans", Op::PostBan, JSON, "Refuse addresses, for a while or until it is lifted"),
    reads("/v1/openapi.json", Op::OpenApi, Place::Here, "This API, as OpenAPI 3.1"),
    writes("POST", "/v1/revocations", Op::Revoke, JSON, "Refuse tokens: by `jti`, by `sub`, by their hash"),
    writes("POST", "/v1/cache/purge", Op::Purge, JSON, "Forget what was cached for a route, a tag, a path, or all"),
    reads("/v1/routes/{name}/canary", Op::Canary, Place::Here, "How a canary stands"),
    writes(
        "PUT",
        "/v1/routes/{name}/canary",
        Op::PutCanary,
        JSON,
        "Give a canary a share, pause, resume, promote, roll back",
    ),
    writes("DELETE", "/v1/routes/{name}/canary", Op::EndCanary, NONE, "Let the document decide on a canary again"),
    writes(
        "PATCH",
        "/v1/upstreams/{name}/nodes/{node}",
        Op::PatchNode,
        PATCH,
        "Drain a node, or give it another weight",
    ),
    reads("/v1/upstreams/{name}/nodes", Op::Nodes, Place::Here, "The nodes of an upstream and how each one does"),
    reads("/v1/{collection}", Op::List, Place::Source, "A page of the resources of one kind"),
    reads("/v1/{collection}/{name}", Op::Get, Place::Source, "One resource"),
    writes("PUT", "/v1/{collection}/{name}", Op::Put, JSON, "Create or replace one resource"),
    writes("PATCH", "/v1/{collection}/{name}", Op::Patch, PATCH, "Change fields of one resource (RFC 7396)"),
    writes("DELETE", "/v1/{collection}/{name}", Op::Delete, NONE, "Remove one resource"),
];

/// The call that was found, and what its path says.
#[derive(Clone, Debug)]
pub struct Found {
    /// The row of the table.
    pub endpoint: &'static Endpoint,
    /// The collection that it speaks of, if any.
    pub collection: Option<Collection>,
    /// The other segments that stand for something, decoded.
    pub names: Vec<String>,
}

impl Found {
    /// The segment number `index`; empty where there is none.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Whether whoever has the call answers it.
    #[must_use]
    pub fn is_here(&self, mode: Mode) -> bool {
        match self.endpoint.place {
            Place::Here => true,
            Place::Leader => false,
            Place::Source => mode == Mode::File,
        }
    }
}

/// Looks the call up; else the problem that it is answered with.
///
/// # Errors
/// There is no such path, or it knows other methods, or its body is of another type.
pub fn find(call: &Call) -> Result<Found, Answer> {
    let method = if call.method == "HEAD" { "GET" } else { &call.method };
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in TABLE {
        let Some((collection, names)) = fits(endpoint.path, &call.path) else { continue };
        if endpoint.method != method {
            allowed.push(endpoint.method);
            if endpoint.method == "GET" {
                allowed.push("HEAD");
            }
            continue;
        }
        check_type(endpoint, call)?;
        return Ok(Found { endpoint, collection, names });
    }
    if allowed.is_empty() {
        return Err(Problem::NotFound.because("the API has no such path; GET /v1/openapi.json lists them"));
    }
    let allow = allowed.join(", ");
    let mut answer = Problem::Method.because(format!("this path takes {allow}"));
    answer.header("Allow", &allow);
    Err(answer)
}

fn check_type(endpoint: &Endpoint, call: &Call) -> Result<(), Answer> {
    if endpoint.takes.is_empty() {
        return match call.body.is_empty() || call.method == "GET" || call.method == "HEAD" {
            true => Ok(()),
            false => Err(Problem::Body.because("this call takes no body")),
        };
    }
    let kind = call.content_type.split(';').next().unwrap_or_default().trim();
    if endpoint.takes.iter().any(|one| one.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    let accept = endpoint.takes.join(", ");
    let found = if kind.is_empty() { "none" } else { "another" };
    let mut answer = Problem::MediaType.because(format!("`Content-Type` must be {accept}; {found} is written"));
    answer.header(if endpoint.method == "PATCH" { "Accept-Patch" } else { "Accept" }, &accept);
    Err(answer)
}

/// What the segments of `path` stand for, where it has the form of `template`.
fn fits(template: &str, path: &str) -> Option<(Option<Collection>, Vec<String>)> {
    let (mut collection, mut names) = (None, Vec::new());
    let mut segments = path.split('/');
    for part in template.split('/') {
        let segment = segments.next()?;
        match part {
            "{collection}" => collection = Some(Collection::parse(segment)?),
            _ if part.starts_with('{') => names.push(decoded(segment).filter(|name| !name.is_empty())?),
            _ if part == segment => {}
            _ => return None,
        }
    }
    match segments.next() {
        None => Some((collection, names)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str) -> Call {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            "PUT" | "POST" => "application/json; charset=utf-8",
            _ => "",
        };
        Call { method: method.into(), path: path.into(), content_type: content_type.into(), ..Call::default() }
    }

    #[test]
    fn paths_are_found() {
        for (method, path, op, names) in [
            ("GET", "/v1/status", Op::Status, &[][..]),
            ("HEAD", "/v1/status", Op::Status, &[]),
            ("GET", "/v1/routes", Op::List, &[]),
            ("GET", "/v1/routes/a%2Fb", Op::Get, &["a/b"]),
            ("PATCH", "/v1/bans/10.0.0.0%2F8", Op::Patch, &["10.0.0.0/8"]),
            ("GET", "/v1/upstreams/u/nodes", Op::Nodes, &["u"]),
            ("GET", "/v1/revisions/3/diff/4", Op::Diff, &["3", "4"]),
            ("POST", "/v1/config/validate", Op::Validate, &[]),
        ] {
            let found = find(&call(method, path)).unwrap_or_else(|answer| panic!("{method} {path}: {answer:?}"));
            assert_eq!(
                (found.endpoint.op, &found.names[..]),
                (op, &names.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_there() {
        for (method, path, status) in [
            ("GET", "/v1", 404),
            ("GET", "/v1/", 404),
            ("GET", "/v1/plugins", 404),
            ("GET", "/v1/routes/", 404),
            ("GET", "/v1/routes/%zz", 404),
            ("GET", "/v1/routes/a/b", 404),
            ("PUT", "/v1/status", 405),
            ("POST", "/v1/routes", 405),
            ("DELETE", "/v1/routes", 405),
        ] {
            assert_eq!(find(&call(method, path)).unwrap_err().status, status, "{method} {path}");
        }
        let answer = find(&call("POST", "/v1/routes/a")).unwrap_err();
        assert_eq!(answer.headers, [("Allow".to_owned(), "GET, HEAD, PUT, PATCH, DELETE".to_owned())]);
        let mut put = call("PUT", "/v1/routes/a");
        put.content_type = "text/plain".into();
        assert_eq!(find(&put).unwrap_err().status, 415);
    }
}
