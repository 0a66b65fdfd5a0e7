//! The route policy: which scopes a request to the protected API needs.
//!
//! A policy is a list of routes. The first one that matches decides. A request that none matches is
//! refused.

mod check;
mod pattern;
mod tree;

use self::{
    pattern::{Host, PathPattern},
    tree::Node,
};
use crate::domain::{
    request_path::{Reading, RequestPath},
    scope::{Catalogue, ScopeBits},
};

/// A route as the policy file has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRule {
    /// A name for people; may be empty.
    pub name: String,
    /// `api.example.com`, or `*.example.com` for every name below. Without hosts the route is for
    /// any host.
    pub hosts: Vec<String>,
    /// `GET` and so on, or only `*`, which is every method.
    pub methods: Vec<String>,
    /// `/orders/*/items`. `*` is one segment; `**` at the end is the rest, which may be empty.
    pub path: String,
    /// The scopes of which a key must have all.
    pub scopes: Option<Vec<String>>,
    /// The scopes of which a key must have at least one.
    pub any_of: Option<Vec<String>>,
    /// Whether a request needs no key.
    pub public: bool,
    /// Whether a key is optional. A key that is presented must be accepted and have the scopes.
    pub optional: bool,
}

/// The scopes that a request needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RequiredScopes {
    pub all: ScopeBits,
    /// At least one of these; the empty set needs none.
    pub any: ScopeBits,
}

/// The callers that a route lets pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    Public,
    /// Callers without a key, and callers with an accepted key that has these scopes.
    Optional(RequiredScopes),
    /// Callers with an accepted key that has these scopes.
    Key(RequiredScopes),
}

/// The reason why no route decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undecided {
    /// No route matches.
    NoRoute,
    /// Some routes name hosts, and the host of the request cannot be read.
    NoHost,
    /// The path, read leniently, is one about which the policy decides differently.
    OtherRoute,
}

/// A compiled route.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: Box<str>,
    pub access: Access,
    path: PathPattern,
    hosts: Vec<Host>,
    methods: Vec<Box<str>>,
}

/// The compiled routes. Immutable; a new policy replaces it.
#[derive(Debug, Default)]
pub struct Policy {
    routes: Vec<Route>,
    tree: Node,
    /// The same routes, with their words as a lenient server compares them.
    lenient_tree: Node,
    /// Whether the two trees differ.
    has_lenient_words: bool,
    /// Whether any route names hosts.
    by_host: bool,
}

/// A fault of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFault {
    /// The position of the route, from zero.
    pub route: usize,
    /// The field of [`RouteRule`] with the fault.
    pub field: &'static str,
    pub message: String,
}

impl RequiredScopes {
    pub fn all(scopes: ScopeBits) -> Self {
        Self { all: scopes, any: ScopeBits::default() }
    }

    /// Returns the needed scopes that `granted` lacks; empty if it is enough.
    pub fn missing(self, granted: ScopeBits) -> ScopeBits {
        let lacking = self.all.minus(granted);
        if self.any.and(granted).is_empty() { lacking.or(self.any) } else { lacking }
    }

    /// Returns the scopes that an accepted key used, of those that it holds by name: all that were
    /// needed, also if one of several would have been enough. `star` is the bit of `*`. A key that holds
    /// `*` used it if the scopes that it holds by name are not enough.
    pub fn used(self, held: ScopeBits, star: ScopeBits) -> ScopeBits {
        let by_name = self.all.or(self.any).and(held);
        let enough = self.missing(by_name).is_empty();
        if enough { by_name } else { by_name.or(star.and(held)) }
    }
}

impl Policy {
    /// Compiles a list of routes, or returns all of its faults. A route that no request can reach
    /// is a fault: its author meant it to decide something.
    pub fn compile(rules: &[RouteRule], catalogue: &Catalogue) -> Result<Self, Vec<PolicyFault>> {
        let mut faults = Vec::new();
        let mut routes = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let mut fault =
                |field, message| faults.push(PolicyFault { route: place, field, message });
            routes.extend(Route::compile(rule, catalogue, &mut fault).map(|it| (place, it)));
        }
        faults.extend(check::unreachable(&routes));
        if !faults.is_empty() {
            faults.sort_by_key(|it| it.route);
            return Err(faults);
        }
        let routes: Vec<_> = routes.into_iter().map(|(_, it)| it).collect();
        let (mut tree, mut lenient_tree) = (Node::default(), Node::default());
        let mut has_lenient_words = false;
        for (place, route) in routes.iter().enumerate() {
            let lenient = route.path.lenient();
            has_lenient_words |= lenient != route.path;
            tree.insert(&route.path, place);
            lenient_tree.insert(&lenient, place);
        }
        let by_host = routes.iter().any(|it| !it.hosts.is_empty());
        Ok(Self { routes, tree, lenient_tree, has_lenient_words, by_host })
    }

    /// Returns the route that decides, and its position from zero. `host` may have a port.
    ///
    /// If any route names hosts, a request without a readable host is not decided: it would reach a
    /// route that is for any host. A request is not decided either if the API could read its path
    /// leniently and then another route, which asks for something else, would decide.
    pub fn find(
        &self,
        method: &str,
        host: Option<&str>,
        path: &RequestPath<'_>,
    ) -> Result<(usize, &Route), Undecided> {
        let host = host.filter(|_| self.by_host).and_then(pattern::host_name);
        if self.by_host && host.is_none() {
            return Err(Undecided::NoHost);
        }
        let admits =
            |place: usize| self.routes.get(place).is_some_and(|it| it.admits(method, host));
        let place = self.tree.first(path.segments(), &admits).ok_or(Undecided::NoRoute)?;
        let route = self.routes.get(place).ok_or(Undecided::NoRoute)?;
        let count = path.segments().count();
        let names_suffix = route.path.names_the_end(count);
        let is_other = |reading: Reading<'_>| {
            // The policy names this path with its suffix, so it says what the suffix needs.
            if reading.ignores_suffix() && names_suffix {
                return false;
            }
            let tree = if reading.ignores_case() { &self.lenient_tree } else { &self.tree };
            match tree.first(reading.segments(), &admits).and_then(|it| self.routes.get(it)) {
                Some(it) => it.access != route.access,
                None => reading.segments().count() < count,
            }
        };
        if path.any_reading(self.has_lenient_words, is_other) {
            return Err(Undecided::OtherRoute);
        }
        Ok((place, route))
    }

    pub fn len(&self) -> usize {
        self.routes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl Route {
    fn compile(
        rule: &RouteRule,
        catalogue: &Catalogue,
        fault: &mut impl FnMut(&'static str, String),
    ) -> Option<Self> {
        let path = PathPattern::parse(&rule.path).map_err(|why| fault("path", why.to_owned())).ok();
        let mut hosts = Vec::new();
        for text in &rule.hosts {
            match Host::parse(text) {
                Some(host) => hosts.push(host),
                None => fault(
                    "hosts",
                    format!("`{text}` is no host: write `api.example.com` or `*.example.com`"),
                ),
            }
        }
        check_methods(&rule.methods, fault);
        let mut bits = |field, names: &Option<Vec<String>>| {
            let known = names.iter().flatten().filter_map(|name| {
                let bit = catalogue.find(name);
                if bit.is_none() {
                    fault(field, unknown_scope(catalogue, name));
                }
                bit
            });
            known.fold(ScopeBits::default(), ScopeBits::or)
        };
        let need =
            RequiredScopes { all: bits("scopes", &rule.scopes), any: bits("any_of", &rule.any_of) };
        match (rule.public, &rule.scopes, &rule.any_of) {
            (false, None, None) if !rule.optional => fault(
                "route",
                "says nothing about keys: give it `scopes`, `any_of`, `public = true` or \
                 `optional = true` (`scopes = []` takes any accepted key)"
                    .to_owned(),
            ),
            (true, Some(_), _) | (true, _, Some(_)) => {
                fault("public", "a public route asks for no scopes".to_owned());
            }
            (_, _, Some(any)) if any.is_empty() => {
                fault("any_of", "is empty, so no key could have one of its scopes".to_owned());
            }
            _ => (),
        }
        if rule.public && rule.optional {
            let why = "a public route names no caller, so it cannot also be `optional`";
            fault("optional", why.to_owned());
        }
        let access = match (rule.public, rule.optional) {
            (true, _) => Access::Public,
            (false, true) => Access::Optional(need),
            (false, false) => Access::Key(need),
        };
        let methods = rule.methods.iter().map(|it| it.as_str().into()).collect();
        Some(Self { name: rule.name.as_str().into(), access, path: path?, hosts, methods })
    }

    fn admits(&self, method: &str, host: Option<&str>) -> bool {
        let methods = || self.methods.iter().any(|it| &**it == "*" || &**it == method);
        let hosts = || host.is_some_and(|host| self.hosts.iter().any(|it| it.matches(host)));
        methods() && (self.hosts.is_empty() || hosts())
    }
}

fn check_methods(methods: &[String], fault: &mut impl FnMut(&'static str, String)) {
    const MARKS: &[u8] = b"!#$%&'+-.^_`|~";
    if methods.is_empty() {
        fault("methods", "needs at least one method, or `*` for all".to_owned());
    }
    if 1 < methods.len() && methods.iter().any(|it| it == "*") {
        fault("methods", "`*` is every method: leave the others out".to_owned());
    }
    for method in methods.iter().filter(|it| *it != "*") {
        // A token (RFC 9110, 9.1). Methods are case-sensitive, and none in use is lower-case.
        let token = |it: u8| it.is_ascii_uppercase() || it.is_ascii_digit() || MARKS.contains(&it);
        if method.is_empty() || !method.bytes().all(token) {
            fault("methods", format!("`{method}` is no method: write `GET`, `POST` and so on"));
        }
    }
}

fn unknown_scope(catalogue: &Catalogue, name: &str) -> String {
    match catalogue.nearest(name).first() {
        Some(near) => format!("there is no scope `{name}`; did you mean `{near}`?"),
        None => format!("there is no scope `{name}`"),
    }
}

#[cfg(test)]
mod tests;
