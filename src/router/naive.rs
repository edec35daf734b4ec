//! The matcher that is too simple to be wrong: every route is tried, all that match are compared, the first wins.
//!
//! It is what the tree is tested against and a peer in benchmarks, so it takes each sentence of the document's section
//! on routes as it stands and no shortcut. It allocates and is not for serving.

use super::order::Candidate;
use super::pattern::{Host, Path, Rule, Segment, Tail};
use super::regex::Regex;
use crate::types::{Method, Methods};

/// A route as far as matching goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The ways to reach it: one for each pair of its hosts and paths.
    pub rules: Vec<Rule>,
    /// The methods that it takes; [`Methods::ANY`] for all.
    pub methods: Methods,
    /// Its priority; higher goes first.
    pub priority: i32,
    /// Its `match` entries in a form that is equal where they are; the caller of [`Naive::find_if`] knows what they mean.
    pub conditions: Vec<String>,
}

impl Route {
    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let conditions = self.conditions.len() + usize::from(self.methods != Methods::ANY);
        self.rules.iter().map(move |rule| Candidate {
            host: &rule.host,
            path: &rule.path,
            priority: self.priority,
            conditions,
            name: &self.name,
        })
    }
}

/// What a request led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'p> {
    /// A route.
    Route {
        /// Index of the route, as handed to [`Naive::new`].
        route: usize,
        /// Index of the rule among the route's rules.
        rule: usize,
        /// The values of the path's parameters, in the order of [`Path::params`].
        captures: Vec<&'p [u8]>,
    },
    /// Routes would match, if it were not for the method; together they take these.
    MethodNotAllowed(Methods),
    /// Nothing.
    None,
}

/// Two routes that no condition tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Index of the one.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
}

/// A list of routes.
#[derive(Clone, Debug)]
pub struct Naive {
    routes: Vec<Route>,
}

impl Naive {
    /// Takes a list of routes.
    ///
    /// # Errors
    ///
    /// The first two routes that no condition tells apart.
    pub fn new(routes: Vec<Route>) -> Result<Self, Conflict> {
        for (second, one) in routes.iter().enumerate() {
            for (first, other) in routes.iter().enumerate().take(second) {
                let share_method = one.methods.0 & other.methods.0 != 0;
                let mut pairs = one.candidates().flat_map(|one| other.candidates().map(move |other| (one, other)));
                if share_method && sorted(one) == sorted(other) && pairs.any(|(one, other)| one.is_tied_with(&other)) {
                    return Err(Conflict { first, second });
                }
            }
        }
        Ok(Self { routes })
    }

    /// The route of a request whose host is normalised and whose path is decoded, for routes without conditions.
    #[must_use]
    pub fn find<'p>(&self, host: &[u8], path: &'p [u8], method: Method) -> Found<'p> {
        self.find_if(host, path, method, |_| true)
    }

    /// The route of a request; `holds` says whether the conditions of the route with that index do.
    #[must_use]
    pub fn find_if<'p>(
        &self,
        host: &[u8],
        path: &'p [u8],
        method: Method,
        mut holds: impl FnMut(usize) -> bool,
    ) -> Found<'p> {
        let mut best = None;
        let mut allowed = Methods::NONE;
        for (index, route) in self.routes.iter().enumerate() {
            for (rule, candidate) in route.candidates().enumerate() {
                if !host_matches(candidate.host, host) {
                    continue;
                }
                let Some(captures) = path_matches(candidate.path, path) else { continue };
                if !holds(index) {
                    continue;
                }
                if !route.methods.contains(method) {
                    allowed = allowed.union(route.methods);
                    continue;
                }
                if best.as_ref().is_none_or(|(before, _)| candidate < *before) {
                    best = Some((candidate, Found::Route { route: index, rule, captures }));
                }
            }
        }
        match best {
            Some((_, found)) => found,
            None if allowed != Methods::NONE => Found::MethodNotAllowed(allowed),
            None => Found::None,
        }
    }

    /// The routes, in the order in which they were handed in.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// Whether a route's host answers to a normalised host.
#[must_use]
pub fn host_matches(host: &Host, asked: &[u8]) -> bool {
    match host {
        Host::Any => true,
        Host::Exact(name) => name == asked,
        // One or more labels, never the apex.
        Host::Wildcard(name) => {
            let labels = asked.strip_suffix(name.as_slice()).and_then(|rest| rest.strip_suffix(b"."));
            labels.is_some_and(|labels| !labels.is_empty())
        }
    }
}

/// The values of a route's parameters if its path matches a decoded path.
#[must_use]
pub fn path_matches<'p>(path: &Path, asked: &'p [u8]) -> Option<Vec<&'p [u8]>> {
    match path {
        Path::Exact(path) => (path == asked).then(Vec::new),
        Path::Prefix(prefix) => is_end_or_slash(asked.strip_prefix(prefix.as_slice())?).then(Vec::new),
        Path::Regex(text) => Regex::new(text).ok()?.matches(asked).then(Vec::new),
        Path::Pattern { segments, tail } => {
            let mut captures = Vec::new();
            let mut rest = asked;
            for segment in segments {
                let after = rest.strip_prefix(b"/")?;
                let end = after.iter().position(|&byte| byte == b'/').unwrap_or(after.len());
                let (found, after) = after.split_at(end);
                match segment {
                    Segment::Literal(literal) if literal == found => {}
                    Segment::Param(_) if !found.is_empty() => captures.push(found),
                    Segment::Literal(_) | Segment::Param(_) => return None,
                }
                rest = after;
            }
            match tail {
                Tail::None if rest.is_empty() => {}
                Tail::Any if is_end_or_slash(rest) => {}
                // Never empty, as a parameter is not.
                Tail::Captured(_) if rest.len() > 1 => captures.push(rest.strip_prefix(b"/")?),
                Tail::None | Tail::Any | Tail::Captured(_) => return None,
            }
            Some(captures)
        }
    }
}

fn is_end_or_slash(rest: &[u8]) -> bool {
    rest.is_empty() || rest.starts_with(b"/")
}

fn sorted(route: &Route) -> Vec<&String> {
    let mut conditions: Vec<_> = route.conditions.iter().collect();
    conditions.sort();
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, hosts: &[&str], paths: &[&str], methods: Methods) -> Route {
        let hosts: Vec<Host> = hosts.iter().map(|host| Host::parse(host).unwrap()).collect();
        let paths: Vec<Path> = paths.iter().map(|path| Path::parse(path).unwrap()).collect();
        let rules = hosts
            .iter()
            .flat_map(|host| paths.iter().map(move |path| Rule { host: host.clone(), path: path.clone() }))
            .collect();
        Route { name: name.into(), rules, methods, priority: 0, conditions: Vec::new() }
    }

    #[test]
    fn hosts() {
        for (host, asked, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", false),
            ("a.example", "", false),
            ("*.example", "a.example", true),
            ("*.example", "b.a.example", true),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.example", "evilexample", false),
            ("*.example", "", false),
        ] {
            assert_eq!(host_matches(&Host::parse(host).unwrap(), asked.as_bytes()), expected, "{host} {asked}");
        }
    }

    #[test]
    fn paths() {
        for (path, asked, expected) in [
            ("/a", "/a", Some("")),
            ("/a", "/a/", None),
            ("/a/", "/a", None),
            ("/a", "/A", None),
            ("/", "/", Some("")),
            ("/", "/a", None),
            ("/*", "/", Some("")),
            ("/*", "/a/b", Some("")),
            ("/a/*", "/a", Some("")),
            ("/a/*", "/a/", Some("")),
            ("/a/*", "/a/b/c", Some("")),
            ("/a/*", "/ab", None),
            ("/a/*", "/", None),
            ("/users/{id}", "/users/1", Some("1")),
            ("/users/{id}", "/users/", None),
            ("/users/{id}", "/users", None),
            ("/users/{id}", "/users/1/", None),
            ("/users/{id}", "/users/1/2", None),
            ("/users/{id}/", "/users/1/", Some("1")),
            ("/users/{id}/", "/users/1", None),
            ("/users/{id}/orders", "/users//orders", None),
            ("/{a}/{b}", "/x/y", Some("x|y")),
            ("/u/{id}/*", "/u/1", Some("1")),
            ("/u/{id}/*", "/u/1/", Some("1")),
            ("/u/{id}/*", "/u/1/x/y", Some("1")),
            ("/u/{id}/*", "/u/", None),
            ("/f/{*rest}", "/f/a/b", Some("a/b")),
            ("/f/{*rest}", "/f/", None),
            ("/f/{*rest}", "/f/a/", Some("a/")),
            ("/f/{*rest}", "/f", None),
            ("/{*rest}", "/", None),
            ("/{*rest}", "/a", Some("a")),
            ("/{a}/{*rest}", "/x/y/z", Some("x|y/z")),
            ("/{a}/{*rest}", "/x", None),
            (r"~^/v\d+", "/v12/x", Some("")),
            (r"~^/v\d+", "/x/v1", None),
            (r"~\.(png|jpg)$", "/x/v.png", Some("")),
        ] {
            let found = path_matches(&Path::parse(path).unwrap(), asked.as_bytes())
                .map(|found| found.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join("|"));
            assert_eq!(found.as_deref(), expected, "{path} {asked}");
        }
    }

    #[test]
    fn methods() {
        let get = Methods::NONE.with(Method::Get);
        let naive = Naive::new(vec![
            route("get", &["a.example"], &["/a"], get),
            route("post", &["*"], &["/a", "/b"], Methods::NONE.with(Method::Post)),
            route("all", &["*"], &["/b/*"], Methods::ANY),
        ])
        .unwrap();
        for (host, path, method, expected) in [
            ("a.example", "/a", Method::Get, "get"),
            ("a.example", "/a", Method::Post, "post"),
            ("a.example", "/a", Method::Put, "GET POST"),
            ("b.example", "/a", Method::Put, "POST"),
            ("b.example", "/b", Method::Put, "all"),
            ("b.example", "/b", Method::Other, "all"),
            ("b.example", "/b", Method::Post, "post"),
            ("b.example", "/c", Method::Get, "-"),
        ] {
            let found = match naive.find(host.as_bytes(), path.as_bytes(), method) {
                Found::Route { route, .. } => naive.routes()[route].name.clone(),
                Found::MethodNotAllowed(allowed) => allowed.iter().map(Method::name).collect::<Vec<_>>().join(" "),
                Found::None => "-".to_owned(),
            };
            assert_eq!(found, expected, "{host}{path} {method:?}");
        }
    }

    #[test]
    fn conflicts() {
        let (any, get) = (Methods::ANY, Methods::NONE.with(Method::Get));
        let post = Methods::NONE.with(Method::Post);
        for (one, other, expected) in [
            (route("1", &["*"], &["/a"], any), route("2", &["*"], &["/a"], any), true),
            (route("1", &["*"], &["/a", "/b"], any), route("2", &["*"], &["/c", "/b"], any), true),
            (route("1", &["*"], &["/a"], any), route("2", &["x"], &["/a"], any), false),
            (route("1", &["*"], &["/a"], get), route("2", &["*"], &["/a"], post), false),
            (route("1", &["*"], &["/a"], get), route("2", &["*"], &["/a"], get.union(post)), true),
            (route("1", &["*"], &["/a"], get), route("2", &["*"], &["/a"], any), false),
            (Route { priority: 1, ..route("1", &["*"], &["/a"], any) }, route("2", &["*"], &["/a"], any), false),
            (
                Route { conditions: vec!["x".into(), "y".into()], ..route("1", &["*"], &["/a"], any) },
                Route { conditions: vec!["y".into(), "x".into()], ..route("2", &["*"], &["/a"], any) },
                true,
            ),
            (
                Route { conditions: vec!["x".into()], ..route("1", &["*"], &["/a"], any) },
                Route { conditions: vec!["y".into()], ..route("2", &["*"], &["/a"], any) },
                false,
            ),
        ] {
            assert_eq!(Naive::new(vec![one.clone(), other.clone()]).is_err(), expected, "{one:?} {other:?}");
        }
    }
}
