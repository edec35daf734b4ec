//! Which route a request takes: the tree's order, and what only this process can judge of a candidate.

use super::explain::{Recorder, Step, tell};
use super::expressions::Expressions;
use super::object::{ArchivedRoute, Route};
use crate::cors::Preflight;
use crate::router::condition::{self, ArchivedCondition, ArchivedField};
use crate::router::naive;
use crate::router::order::{self, Candidate};
use crate::router::pattern::Rule;
use crate::state::{Blob, Captures, Lookup, RouteRef, Tree};
use crate::types::{Methods, Request};

/// A look-up under way.
pub(super) struct Asked<'a, R> {
    pub request: &'a R,
    /// In lower case, without port and trailing dot.
    pub host: &'a [u8],
    pub expressions: &'a mut Expressions,
}

/// Why a candidate does not take the request.
enum Lost {
    Expression,
    Condition(usize),
    /// The route is not there any more, which the view rules out.
    Gone,
}

impl<R: Request> Asked<'_, R> {
    /// The route that takes the request.
    #[inline]
    pub(super) fn find<'v>(&mut self, tree: &Tree<'v>, captures: &mut Captures) -> Lookup<'v> {
        let (host, path, method) = (self.host, self.request.path(), self.request.method());
        tree.route(host, path, method, captures, |route| self.takes(&route, |_| true).is_ok())
    }

    /// The first route with `cors` that would take the request to come, as far as a preflight tells: it carries
    /// neither the headers nor the cookies of that request, so conditions on those may hold.
    #[cold]
    pub(super) fn find_preflight<'v>(&mut self, tree: &Tree<'v>, preflight: &Preflight<'_>) -> Option<RouteRef<'v>> {
        let (host, path) = (self.host, self.request.path());
        let mut captures = Captures::default();
        let is_known = |condition: &ArchivedCondition| matches!(condition.field, ArchivedField::Query(_));
        let found = tree.route(host, path, preflight.method, &mut captures, |route| {
            route.object::<Route>().is_some_and(|route| route.cors.is_some()) && self.takes(&route, is_known).is_ok()
        });
        found.found()
    }

    /// By which of its rules `route` would take the request, whatever the method and whatever else has to hold.
    #[cold]
    pub(super) fn find_rule(
        &mut self,
        tree: &Tree<'_>,
        route: &Blob<'_, Route>,
        captures: &mut Captures,
    ) -> Option<u16> {
        let (host, path) = (self.host, self.request.path());
        let method = route.methods().iter().next()?;
        let found = tree.route(host, path, method, captures, |candidate| {
            candidate.id() == route.id() && self.takes(&candidate, |_| false).is_ok()
        });
        found.found().map(|found| found.rule())
    }

    /// Whether the candidate takes the request. Of its conditions those are looked at that `which` names.
    #[inline]
    fn takes(&mut self, route: &RouteRef<'_>, which: impl Fn(&ArchivedCondition) -> bool) -> Result<(), Lost> {
        if let Some(text) = route.regex()
            && !self.expressions.matches(text, self.request.path())
        {
            return Err(Lost::Expression);
        }
        if !route.has_conditions() {
            return Ok(());
        }
        let object = route.object::<Route>().ok_or(Lost::Gone)?;
        let mut search = |text: &str, value: &[u8]| self.expressions.matches(text, value);
        let mut conditions = object.get().conditions.iter();
        let failed = conditions.position(|one| which(one) && !condition::holds(one, self.request, &mut search));
        failed.map_or(Ok(()), |index| Err(Lost::Condition(index)))
    }

    /// Tells of every candidate why it did not become the route, and where there is none, of those that came near.
    #[cold]
    pub(super) fn tell(&mut self, tree: &Tree<'_>, recorder: &mut impl Recorder) {
        let method = self.request.method();
        let mut candidates = Vec::new();
        tree.candidates(self.host, self.request.path(), &mut |route| candidates.push(route));
        let mut winner: Option<Near<'_>> = None;
        for route in &candidates {
            let Some(near) = Near::of(route) else { continue };
            let lost = match self.takes(route, |_| true) {
                Ok(()) if route.methods().contains(method) => match &winner {
                    None => {
                        winner = Some(near);
                        continue;
                    }
                    Some(winner) => format!("would take it too, and {}", near.why_after(winner)),
                },
                Ok(()) => format!("takes only {}", names(route.methods())),
                Err(Lost::Expression) => "the expression is not found in the path".to_owned(),
                Err(Lost::Condition(index)) => match near.route.conditions.get(index) {
                    Some(condition) => format!("asks for {}", Words(condition)),
                    None => continue,
                },
                Err(Lost::Gone) => continue,
            };
            tell!(recorder, Step::Route, "not {}: {lost}", near.name());
        }
        if winner.is_none() && candidates.is_empty() {
            self.tell_near(tree, recorder);
        }
    }

    /// Tells of the routes that have something in common with a request that no route's host and path fit.
    fn tell_near(&mut self, tree: &Tree<'_>, recorder: &mut impl Recorder) {
        const TOLD: usize = 5;
        let path = self.request.path();
        let mut near: Vec<(usize, String)> = Vec::new();
        for route in tree.each::<Route>() {
            let rules = tree.rules(&route, |rule| parameters(&route, rule));
            let best = rules.iter().filter_map(|rule| {
                let has_path = naive::path_matches(&rule.path, path).is_some();
                if has_path {
                    return Some((usize::MAX, format!("takes {} for other hosts: {}", rule.path, rule.host)));
                }
                let common = common(&rule.path.literal_prefix(), path);
                (common > 0 && naive::host_matches(&rule.host, self.host))
                    .then(|| (common, format!("takes {}{}", Host(rule), rule.path)))
            });
            if let Some((score, text)) = best.max_by_key(|(score, _)| *score) {
                near.push((score, format!("\"{}\": {text}", route.name())));
            }
        }
        near.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        for (_, text) in near.iter().take(TOLD) {
            tell!(recorder, Step::Route, "not {text}");
        }
    }
}

/// The value of the path parameter `name` of a request that `rule` took.
pub(super) fn parameter<'p>(
    route: &ArchivedRoute,
    rule: u32,
    name: &str,
    captures: &Captures,
    path: &'p [u8],
) -> Option<&'p [u8]> {
    let index = route.parameters.get(rule as usize)?.iter().position(|parameter| parameter.as_str() == name)?;
    captures.get(index, path)
}

/// The names of the parameters of a route's rule.
pub(super) fn parameters<'v>(route: &Blob<'v, Route>, rule: u16) -> Vec<&'v str> {
    let names = route.get().parameters.get(usize::from(rule));
    names.map(|names| names.iter().map(|name| name.as_str()).collect()).unwrap_or_default()
}

/// A candidate with all that decides between it and another one.
struct Near<'v> {
    route: Blob<'v, Route>,
    rule: Rule,
}

impl<'v> Near<'v> {
    fn of(found: &RouteRef<'v>) -> Option<Self> {
        let route = found.object::<Route>()?;
        let rule = found.to_rule(parameters(&route, found.rule()).into_iter());
        Some(Self { route, rule })
    }

    fn name(&self) -> String {
        format!("\"{}\" ({}{})", self.route.name(), Host(&self.rule), self.rule.path)
    }

    fn conditions(&self) -> usize {
        self.route.conditions.len() + usize::from(self.route.methods() != Methods::ANY)
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            host: &self.rule.host,
            path: &self.rule.path,
            priority: self.route.priority(),
            conditions: self.conditions(),
            name: self.route.name(),
        }
    }

    /// What puts it behind `winner`.
    fn why_after(&self, winner: &Self) -> String {
        let (one, other) = (winner.candidate(), self.candidate());
        if self.route.id() == winner.route.id() {
            return "is another path of the same route".to_owned();
        }
        if order::by_host(one.host, other.host).is_ne() {
            return "its host is less exact".to_owned();
        }
        if one.priority != other.priority {
            return format!("its priority {} is below {}", other.priority, one.priority);
        }
        if order::by_path(one.path, other.path).is_ne() {
            return "its path is less exact".to_owned();
        }
        match one.conditions == other.conditions {
            true => "comes later by name".to_owned(),
            false => format!("has {} conditions, not {}", other.conditions, one.conditions),
        }
    }
}

/// The host of a rule before its path; nothing where it takes any.
struct Host<'r>(&'r Rule);

impl std::fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.host {
            crate::router::pattern::Host::Any => Ok(()),
            host => write!(f, "{host}"),
        }
    }
}

/// A condition in words.
struct Words<'c>(&'c ArchivedCondition);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::router::condition::ArchivedTest as Test;
        let (kind, name) = match &self.0.field {
            ArchivedField::Header(name) => ("header", name),
            ArchivedField::Query(name) => ("query parameter", name),
            ArchivedField::Cookie(name) => ("cookie", name),
        };
        write!(f, "{kind} {name} ")?;
        let not = self.0.not;
        match &self.0.test {
            Test::Equals(value) => write!(f, "{} \"{value}\"", if not { "other than" } else { "equal to" }),
            Test::In(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
                write!(f, "{} {}", if not { "not among" } else { "among" }, values.join(", "))
            }
            Test::Regex(text) => write!(f, "{} ~{text}", if not { "not matching" } else { "matching" }),
            Test::Exists => f.write_str(if not { "to be absent" } else { "to be there" }),
        }
    }
}

fn names(methods: Methods) -> String {
    methods.iter().map(crate::types::Method::name).collect::<Vec<_>>().join(", ")
}

/// How many bytes of whole segments two paths have in common at their beginnings.
fn common(prefix: &[u8], path: &[u8]) -> usize {
    let same = prefix.iter().zip(path).take_while(|(one, other)| one == other).count();
    let is_end = |bytes: &[u8]| bytes.get(same).is_none_or(|byte| *byte == b'/');
    if is_end(prefix) && is_end(path) {
        return same;
    }
    prefix.get(..same).unwrap_or_default().iter().rposition(|byte| *byte == b'/').unwrap_or(0)
}
