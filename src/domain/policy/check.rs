//! Finds routes that never decide, because earlier routes match all of their requests.

use super::{PolicyFault, Route};

/// Returns a fault for each unreachable route. `routes` have their positions in the file.
pub(super) fn unreachable(routes: &[(usize, Route)]) -> Vec<PolicyFault> {
    let mut faults = Vec::new();
    for (at, (place, route)) in routes.iter().enumerate() {
        let earlier = routes.get(..at).unwrap_or_default();
        if let Some((twin, _)) = earlier.iter().find(|(_, it)| it.matches_the_same_as(route)) {
            let message = format!("matches the same requests as route {}", twin + 1);
            faults.push(PolicyFault { route: *place, field: "path", message });
        } else if let Some(takers) = takers(earlier, route) {
            let message = format!("is never reached: {takers} what it matches");
            faults.push(PolicyFault { route: *place, field: "path", message });
        }
    }
    faults
}

/// Names the routes of `earlier` that together take every method on every host of `route`.
fn takers(earlier: &[(usize, Route)], route: &Route) -> Option<String> {
    let hosts: Vec<_> = match route.hosts.as_slice() {
        [] => vec![None],
        hosts => hosts.iter().map(Some).collect(),
    };
    if route.methods.is_empty() {
        return None; // That is another fault.
    }
    let mut numbers = Vec::new();
    for method in &route.methods {
        for host in &hosts {
            let takes = |it: &Route| {
                let its_methods = it.methods.iter().any(|it| &**it == "*" || it == method);
                let its_hosts = it.hosts.is_empty()
                    || host.is_some_and(|host| it.hosts.iter().any(|it| it.covers(host)));
                let its_path = it.path.covers(&route.path);
                its_methods && its_hosts && (its_path || it.refuses_paths_of(route))
            };
            let (place, _) = earlier.iter().find(|(_, it)| takes(it))?;
            numbers.push(place + 1);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    Some(match numbers.as_slice() {
        [one] => format!("route {one} takes"),
        several => format!("routes {} take", several.join(", ")),
    })
}

impl Route {
    /// Returns whether a lenient server reads every path of a later route as one of this route, which asks
    /// for something else. All requests of the later route are then refused.
    fn refuses_paths_of(&self, later: &Self) -> bool {
        self.access != later.access && self.path.lenient().covers(&later.path.lenient())
    }

    fn matches_the_same_as(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(a: &[T], b: &[T]) -> bool {
            a.iter().all(|it| b.contains(it)) && b.iter().all(|it| a.contains(it))
        }
        self.path == other.path
            && same(&self.methods, &other.methods)
            && same(&self.hosts, &other.hosts)
    }
}
