//! The route policy: which request to the protected API needs what.
//!
//! A list of routes. The first that matches decides; what none matches is refused.

mod check;
mod pattern;
mod tree;

use self::{
    pattern::{Host, PathPattern},
    tree::Node,
};
use crate::domain::{
    request_path::RequestPath,
    scope::{Catalogue, ScopeBits},
};

/// A route as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRule {
    /// For people; may be empty.
    pub name: String,
    /// `api.example.com`, or `*.example.com` for every name below; none at all is any host.
    pub hosts: Vec<String>,
    /// `GET` and so on, or only `*`, which is every method.
    pub methods: Vec<String>,
    /// `/orders/*/items`; `*` is one segment, `**` at the end is the rest, be it empty.
    pub path: String,
    /// Scopes of which a key must grant all.
    pub scopes: Option<Vec<String>>,
    /// Scopes of which a key must grant at least one.
    pub any_of: Option<Vec<String>>,
    /// Nobody is asked for a key.
    pub public: bool,
}

/// What a key must grant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Need {
    pub all: ScopeBits,
    /// At least one of these, unless there are none.
    pub any: ScopeBits,
}

/// Who may pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    Everybody,
    /// Whoever has an accepted key that grants this.
    Key(Need),
}

/// A route, compiled.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: Box<str>,
    pub access: Access,
    path: PathPattern,
    hosts: Vec<Host>,
    methods: Vec<Box<str>>,
}

/// All routes, compiled. Immutable; a new one replaces it whole.
#[derive(Debug, Default)]
pub struct Policy {
    routes: Vec<Route>,
    tree: Node,
}

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFault {
    /// The position of the route, from zero.
    pub route: usize,
    /// The field of [`RouteRule`] that it is about.
    pub field: &'static str,
    pub message: String,
}

impl Need {
    pub fn all(scopes: ScopeBits) -> Self {
        Self { all: scopes, any: ScopeBits::default() }
    }

    /// What `granted` lacks; empty if it is enough.
    pub fn missing(self, granted: ScopeBits) -> ScopeBits {
        let lacking = self.all.minus(granted);
        if self.any.and(granted).is_empty() { lacking.or(self.any) } else { lacking }
    }
}

impl Policy {
    /// Every fault of the list, or the policy. A route that can never be reached is a fault: whoever
    /// wrote it meant something by it.
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
        let mut tree = Node::default();
        for (place, route) in routes.iter().enumerate() {
            tree.insert(&route.path, place);
        }
        Ok(Self { routes, tree })
    }

    /// The route that decides, and its position from zero. `host` as the request names it, with or
    /// without a port; a route with hosts does not match a request without one.
    pub fn find(
        &self,
        method: &str,
        host: Option<&str>,
        path: &RequestPath<'_>,
    ) -> Option<(usize, &Route)> {
        let host = host.map(pattern::host_name);
        let admits =
            |place: usize| self.routes.get(place).is_some_and(|it| it.admits(method, host));
        let place = self.tree.first(path.segments(), &admits)?;
        Some((place, self.routes.get(place)?))
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
        let need = Need { all: bits("scopes", &rule.scopes), any: bits("any_of", &rule.any_of) };
        match (rule.public, &rule.scopes, &rule.any_of) {
            (false, None, None) => fault(
                "route",
                "says nothing about keys: give it `scopes`, `any_of` or `public = true` \
                 (`scopes = []` takes any accepted key)"
                    .to_owned(),
            ),
            (true, Some(_), _) | (true, _, Some(_)) => {
                fault("public", "a public route asks for no scopes".to_owned());
            }
            (_, _, Some(any)) if any.is_empty() => {
                fault("any_of", "nobody can hold one of no scopes".to_owned());
            }
            _ => (),
        }
        let access = if rule.public { Access::Everybody } else { Access::Key(need) };
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
