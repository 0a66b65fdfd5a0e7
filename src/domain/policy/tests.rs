//! Tests of the policy: what matches, what is needed, which faults are refused.

use proptest::prelude::*;

use super::*;

fn catalogue() -> Catalogue {
    let own = ["orders:read", "orders:write", "products:read"];
    Catalogue::new(own.map(|it| (it.to_owned(), it.to_owned())))
}

fn rule(methods: &str, path: &str) -> RouteRule {
    RouteRule {
        methods: methods.split_whitespace().map(str::to_owned).collect(),
        path: path.to_owned(),
        scopes: Some(vec![]),
        ..RouteRule::default()
    }
}

fn on(hosts: &str, rule: RouteRule) -> RouteRule {
    RouteRule { hosts: hosts.split_whitespace().map(str::to_owned).collect(), ..rule }
}

fn policy(rules: &[RouteRule]) -> Policy {
    Policy::compile(rules, &catalogue()).unwrap()
}

/// Returns the position of the route that decides.
fn decides(policy: &Policy, method: &str, host: Option<&str>, path: &str) -> Option<usize> {
    let path = RequestPath::parse(path.as_bytes()).unwrap();
    policy.find(method, host, &path).map(|(place, _)| place).ok()
}

#[track_caller]
fn faults(rules: &[RouteRule]) -> Vec<(usize, &'static str, String)> {
    let faults = Policy::compile(rules, &catalogue()).unwrap_err();
    faults.into_iter().map(|it| (it.route, it.field, it.message)).collect()
}

#[test]
fn segments_are_matched_whole() {
    let policy = policy(&[
        rule("GET", "/orders/**"),
        rule("GET", "/products/*"),
        rule("GET", "/products/*/prices/"),
        rule("GET", "/"),
    ]);
    for (path, expected) in [
        ("/orders", Some(0)),
        ("/orders/", Some(0)),
        ("/orders/1/items?x=/products", Some(0)),
        ("/%6Frders/1", Some(0)),
        ("/orders-admin", None),
        ("/Orders", None),
        ("/products", None),
        ("/products/7", Some(1)),
        ("/products/7/", Some(1)),
        ("/products/7/prices", Some(2)),
        ("/products/7/prices/1", None),
        ("/", Some(3)),
        ("/x", None),
    ] {
        assert_eq!(decides(&policy, "GET", None, path), expected, "{path}");
        assert_eq!(decides(&policy, "POST", None, path), None, "POST {path}");
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let policy = policy(&[
        rule("GET HEAD", "/orders/mine"),
        rule("*", "/orders/*"),
        rule("GET", "/*/mine/**"),
        rule("*", "/**"),
    ]);
    for (method, path, expected) in [
        ("GET", "/orders/mine", 0),
        ("POST", "/orders/mine", 1),
        ("GET", "/orders/7", 1),
        ("GET", "/products/mine", 2),
        ("GET", "/orders/mine/x", 2),
        ("PURGE", "/", 3),
    ] {
        assert_eq!(decides(&policy, method, None, path), Some(expected), "{method} {path}");
    }
}

#[test]
fn hosts_are_names_whatever_their_case_and_port() {
    let policy = policy(&[
        on("api.example.com [::1]", rule("GET", "/")),
        on("*.example.com", rule("GET", "/")),
    ]);
    for (host, expected) in [
        (Some("api.example.com"), Some(0)),
        (Some("API.example.com.:8443"), Some(0)),
        (Some("[::1]:80"), Some(0)),
        (Some("[::1]"), Some(0)),
        (Some("eu.api.example.com"), Some(1)),
        (Some("example.com"), None),
        (Some("evil-example.com"), None),
        (Some(".example.com"), None),
    ] {
        assert_eq!(decides(&policy, "GET", host, "/"), expected, "{host:?}");
    }
}

#[test]
fn a_host_that_cannot_be_read_decides_nothing_if_any_route_has_hosts() {
    let path = RequestPath::parse(b"/").unwrap();
    let by_host = policy(&[on("a.example", rule("POST", "/")), rule("GET", "/**")]);
    let any = policy(&[rule("GET", "/**")]);
    for host in
        [None, Some(""), Some("."), Some(".a.example"), Some("a..b"), Some("a,b"), Some("[]")]
    {
        assert_eq!(by_host.find("GET", host, &path).err(), Some(Undecided::NoHost), "{host:?}");
        assert!(any.find("GET", host, &path).is_ok(), "{host:?}");
    }
    assert!(by_host.find("GET", Some("b.example"), &path).is_ok());
    let other = by_host.find("POST", Some("b.example"), &path).err();
    assert_eq!(other, Some(Undecided::NoRoute));
}

/// Some servers compare paths without regard to case, ignore dots and blanks at the end of a segment, or
/// stop at an escaped `?` or `#`.
#[test]
fn a_path_that_a_lenient_server_reads_as_one_of_another_route_is_not_decided() {
    let strong = |rule: RouteRule| RouteRule { scopes: Some(vec!["orders:write".into()]), ..rule };
    let policy = policy(&[
        strong(rule("*", "/orders/admin/**")),
        rule("GET", "/orders/mine"),
        rule("GET", "/orders/**"),
        strong(rule("*", "/Reports")),
        rule("*", "/reports/*"),
        rule("GET", "/items/*"),
        strong(rule("*", "/exports/*/all")),
        rule("GET", "/exports/**"),
        rule("GET", "/users/me/**"),
        strong(rule("*", "/users/*/secrets")),
        rule("GET", "/users/**"),
        rule("GET", "/*/*/*"),
        strong(rule("*", "/openapi")),
        rule("GET", "/openapi.json"),
    ]);
    let decides = |method, path: &str| {
        let path = RequestPath::parse(path.as_bytes()).unwrap();
        policy.find(method, None, &path).map(|(place, _)| place)
    };
    for (method, path, expected) in [
        ("GET", "/orders/admin", Ok(0)),
        ("GET", "/orders/ADMIN", Err(Undecided::OtherRoute)),
        ("POST", "/orders/ADMIN", Err(Undecided::NoRoute)),
        ("GET", "/orders/%C4%B1dmin", Ok(2)),
        ("GET", "/orders/adm%C4%B1n/7", Err(Undecided::OtherRoute)),
        ("GET", "/orders/admin./7", Err(Undecided::OtherRoute)),
        ("GET", "/orders/admin%20", Err(Undecided::OtherRoute)),
        ("GET", "/orders/%20admin", Err(Undecided::OtherRoute)),
        ("GET", "/orders/%20/admin", Err(Undecided::OtherRoute)),
        ("GET", "/orders/admin%3Fx", Err(Undecided::OtherRoute)),
        ("GET", "/orders/admin%23x/7", Err(Undecided::OtherRoute)),
        ("GET", "/ORDERS/admin/7", Err(Undecided::OtherRoute)),
        // Here the other route asks for the same.
        ("GET", "/orders/MINE", Ok(2)),
        ("GET", "/orders/C%23", Ok(2)),
        ("GET", "/orders/A.b", Ok(2)),
        // Read leniently, these paths are shorter.
        ("GET", "/reports/7", Ok(4)),
        ("GET", "/reports/%3F", Err(Undecided::OtherRoute)),
        ("GET", "/reports/...", Err(Undecided::OtherRoute)),
        ("GET", "/items/%23", Err(Undecided::OtherRoute)),
        // Some servers ignore only the case, and read these paths to their end.
        ("GET", "/exports/7%23/ALL", Err(Undecided::OtherRoute)),
        ("GET", "/exports/%3F/ALL", Err(Undecided::OtherRoute)),
        ("GET", "/exports/%20/ALL", Err(Undecided::OtherRoute)),
        ("GET", "/exports/.../all", Err(Undecided::OtherRoute)),
        ("GET", "/exports/C%23/some", Ok(7)),
        ("GET", "/Reports", Ok(3)),
        ("GET", "/reports", Err(Undecided::NoRoute)),
        // Some servers ignore only blanks, or only dots, or the case and one of both.
        ("GET", "/users/ME/secrets%20", Err(Undecided::OtherRoute)),
        ("GET", "/users/me./secrets%20", Err(Undecided::OtherRoute)),
        ("GET", "/users/me%20/secrets.", Err(Undecided::OtherRoute)),
        ("GET", "/users/%20ME/Secrets.", Err(Undecided::OtherRoute)),
        ("GET", "/users/ME/photos%20", Ok(10)),
        // Some frameworks take `.json` for a format, unless the policy names it.
        ("GET", "/orders/admin.json", Err(Undecided::OtherRoute)),
        ("GET", "/orders/ADMIN.json/", Err(Undecided::OtherRoute)),
        ("GET", "/orders/admin.json%23x", Err(Undecided::OtherRoute)),
        ("GET", "/exports/7/all.tar.gz", Ok(7)),
        ("GET", "/exports/7/all.gz", Err(Undecided::OtherRoute)),
        ("GET", "/orders/7.json", Ok(2)),
        ("GET", "/openapi.json", Ok(13)),
    ] {
        assert_eq!(decides(method, path), expected, "{method} {path}");
    }
}

#[test]
fn a_key_may_be_optional_but_not_on_a_public_route() {
    let optional = |scopes: Option<&str>| RouteRule {
        optional: true,
        scopes: scopes.map(|it| vec![it.to_owned()]),
        ..rule("GET", "/a")
    };
    let path = RequestPath::parse(b"/a").unwrap();
    for scopes in [None, Some("orders:read")] {
        let policy = policy(&[optional(scopes)]);
        let (_, route) = policy.find("GET", None, &path).unwrap();
        let Access::Optional(need) = route.access else { panic!("{:?}", route.access) };
        assert_eq!(need.missing(ScopeBits::default()).is_empty(), scopes.is_none());
    }
    let both = RouteRule { public: true, ..optional(None) };
    assert_eq!(faults(&[both])[0].1, "optional");
}

#[test]
fn scopes_become_a_need() {
    let names = |it: &[&str]| Some(it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
    let rules = [RouteRule {
        scopes: names(&["products:read"]),
        any_of: names(&["orders:read", "orders:write"]),
        ..rule("GET", "/")
    }];
    let catalogue = catalogue();
    let policy = policy(&rules);
    let path = RequestPath::parse(b"/").unwrap();
    let (_, route) = policy.find("GET", None, &path).unwrap();
    let Access::Key(need) = route.access else { panic!("{:?}", route.access) };
    let missing = |held: &[&str]| {
        let held =
            held.iter().fold(ScopeBits::default(), |bits, it| bits.or(catalogue.find(it).unwrap()));
        catalogue.names(need.missing(held)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(missing(&["products:read", "orders:write"]), "");
    assert_eq!(missing(&["orders:write"]), "products:read");
    assert_eq!(missing(&["products:read"]), "orders:read orders:write");
    assert_eq!(missing(&[]), "orders:read orders:write products:read");
    assert!(RequiredScopes::default().missing(ScopeBits::default()).is_empty());
}

#[test]
fn every_fault_is_told() {
    let rules = [
        RouteRule { scopes: Some(vec!["order:read".to_owned()]), ..rule("GET", "/a") },
        RouteRule { any_of: Some(vec!["nonsense".to_owned()]), ..rule("GET", "/b") },
        RouteRule { scopes: None, ..rule("GET", "/c") },
        RouteRule { public: true, ..rule("GET", "/d") },
        RouteRule { any_of: Some(vec![]), ..rule("GET", "/e") },
        rule("", "/f"),
        rule("get", "/g"),
        rule("GET *", "/h"),
        on("http://x", rule("GET", "/i")),
    ];
    let told: Vec<_> = faults(&rules).into_iter().map(|(route, field, _)| (route, field)).collect();
    let expected = [
        (0, "scopes"),
        (1, "any_of"),
        (2, "route"),
        (3, "public"),
        (4, "any_of"),
        (5, "methods"),
        (6, "methods"),
        (7, "methods"),
        (8, "hosts"),
    ];
    assert_eq!(told, expected);
    let message = &faults(&rules)[0].2;
    assert_eq!(message, "there is no scope `order:read`; did you mean `orders:read`?");
    for path in
        ["", "orders", "/a//b", "/a/../b", "/a/. /b", "/a/b*", "/**/a", "/a%2Fb", "/a?b", "/a;b"]
    {
        let told = faults(&[rule("GET", path)]);
        assert_eq!(told.len(), 1, "{path}: {told:?}");
        assert_eq!(told[0].1, "path");
    }
}

#[test]
fn a_route_that_cannot_be_reached_is_a_fault() {
    let message = |rules: &[RouteRule]| faults(rules).pop().unwrap().2;
    let both = [rule("GET POST", "/a/*"), rule("POST GET", "/a/*")];
    assert_eq!(message(&both), "matches the same requests as route 1");
    let taken = [rule("*", "/a/**"), rule("GET", "/a/b/**")];
    assert_eq!(message(&taken), "is never reached: route 1 takes what it matches");
    let shared = [rule("GET", "/**"), rule("POST", "/a/*"), rule("GET POST", "/a/b")];
    assert_eq!(message(&shared), "is never reached: routes 1, 2 take what it matches");
    let hosts = [on("*.x.org", rule("GET", "/")), on("a.x.org *.b.x.org", rule("GET", "/"))];
    assert_eq!(message(&hosts), "is never reached: route 1 takes what it matches");
    let strong = RouteRule { scopes: Some(vec!["orders:read".into()]), ..rule("*", "/A/b") };
    let alike = [strong.clone(), rule("GET", "/a/B.")];
    assert_eq!(message(&alike), "is never reached: route 1 takes what it matches");
    for fine in [
        [rule("GET", "/a/b"), rule("GET", "/A/B")],
        [rule("GET", "/a/*"), strong],
        [rule("GET", "/a/*"), rule("GET", "/a/**")],
        [rule("GET", "/a/b"), rule("GET", "/a/*")],
        [rule("GET", "/a/**"), rule("*", "/a/**")],
        [on("a.x.org", rule("GET", "/")), rule("GET", "/")],
        [on("a.x.org", rule("GET", "/")), on("*.x.org", rule("GET", "/"))],
        [rule("GET", "/*/b"), rule("GET", "/a/*")],
    ] {
        Policy::compile(&fine, &catalogue()).unwrap();
    }
}

/// Matches one segment at a time, without a tree.
fn matches_by_hand(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (Some((it, [])), _) if it == "**" => true,
        (None, None) => true,
        (Some((ours, pattern)), Some((its, path))) => {
            (ours == "*" || ours == its) && matches_by_hand(pattern, path)
        }
        _ => false,
    }
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let segment = prop::sample::select(vec!["a", "b", "*"]);
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, open)| {
        let end = open.then_some("**");
        segments.into_iter().chain(end).map(str::to_owned).collect()
    })
}

proptest! {
    /// The tree finds what looking at one route after the other finds; and a route is called
    /// unreachable only if no path reaches it.
    #[test]
    fn the_tree_and_the_list_agree(
        list in prop::collection::vec(patterns(), 1..8),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..5),
    ) {
        let rules: Vec<_> =
            list.iter().map(|it| rule("GET", &format!("/{}", it.join("/")))).collect();
        let segments: Vec<_> = path.iter().map(|it| (*it).to_owned()).collect();
        let by_hand = list.iter().position(|it| matches_by_hand(it, &segments));
        match Policy::compile(&rules, &catalogue()) {
            Ok(policy) => {
                let found = decides(&policy, "GET", None, &format!("/{}", path.join("/")));
                prop_assert_eq!(found, by_hand);
            }
            Err(faults) => prop_assert!(faults.iter().all(|it| Some(it.route) != by_hand)),
        }
    }
}

#[test]
fn a_policy_has_its_routes() {
    let none = Policy::compile(&[], &catalogue()).unwrap();
    assert_eq!((none.len(), none.is_empty()), (0, true));
    let two = Policy::compile(&[rule("GET", "/a"), rule("GET", "/b")], &catalogue()).unwrap();
    assert_eq!((two.len(), two.is_empty()), (2, false));
}

#[test]
fn all_of_these_scopes_are_required() {
    let [read, write] = ["orders:read", "orders:write"].map(|it| catalogue().find(it).unwrap());
    let required = RequiredScopes::all(read.or(write));
    assert_eq!(required.missing(read), write);
    assert!(required.missing(read.or(write)).is_empty());
}

#[test]
fn a_key_uses_the_required_scopes_that_it_holds_and_the_star_only_without_them() {
    let catalogue = catalogue();
    let [read, write] = ["orders:read", "orders:write"].map(|it| catalogue.find(it).unwrap());
    let star = catalogue.star();
    let required = RequiredScopes { all: read, any: write };
    assert_eq!(required.used(read.or(write), star), read.or(write));
    assert_eq!(required.used(read.or(write).or(star), star), read.or(write));
    assert_eq!(required.used(read.or(star), star), read.or(star));
    assert_eq!(required.used(star, star), star);
}
