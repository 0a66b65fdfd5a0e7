//! `keyward routes`, and a policy that changes while the server runs.

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use crate::support::{Binary, Logged, Request, keyward};

const ROUTE: &str =
    "[[route]]\nmethods = [\"GET\"]\npath = \"/orders/**\"\nscopes = [\"orders:read\"]\n";

fn sample() -> String {
    format!("{}/packaging/routes.toml", env!("CARGO_MANIFEST_DIR"))
}

fn routes(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        keyward().arg("routes").args(arguments).output().expect("the binary runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// Returns the exit code and output of `routes check` for this policy, without the path of its
/// file.
fn check(text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("routes.toml");
    fs::write(&file, text).expect("a policy");
    let file = file.to_str().expect("UTF-8");
    let (code, said) = routes(&["check", "--file", file]);
    (code, said.replace(file, "routes.toml"))
}

#[test]
fn the_sample_policy_is_sound() {
    let (code, said) = routes(&["check", "--file", &sample()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("sound; 11 routes\n"), "{said}");
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = format!(
        "{ROUTE}\n[[route]]\nname = \"twin\"\nmethods = [\"GET\"]\npath = \"/orders/**\"\nscopes = []\n\n\
         [[route]]\nmethods = [\"GET\"]\npath = \"/orders/7\"\nany_of = [\n  \"order:read\",\n]\n\n\
         [[route]]\nmethods = []\npath = \"/a\"\npublic = true\n"
    );
    let expected = "\
routes.toml:9: route 2 (twin), path: matches the same requests as route 1
routes.toml:14: route 3, path: is never reached: route 1 takes what it matches
routes.toml:15: route 3, any_of: there is no scope `order:read`; did you mean `orders:read`?
routes.toml:20: route 4, methods: needs at least one method, or `*` for all
";
    assert_eq!(check(&text), (Some(3), expected.to_owned()));
    let misspelt = "version = 1\n[[route]]\nmethod = [\"GET\"]\npath = 7\nmethods = [1]\npublic = 1\n\n[[route]]\n";
    let expected = "\
routes.toml:1: `version` is not known here; write `[[route]]` sections
routes.toml:3: unknown `method`; did you mean `methods`?
routes.toml:4: `path` must be a string, not `7`
routes.toml:5: `methods` must be an array of strings, not an array
routes.toml:6: `public` must be `true` or `false`, not `1`
routes.toml:8: a route needs `methods`
routes.toml:8: a route needs `path`
";
    assert_eq!(check(misspelt), (Some(3), expected.to_owned()));
    let (code, said) = check("[[route]\n");
    assert_eq!(code, Some(3));
    assert!(said.starts_with("routes.toml:1: not TOML: "), "{said}");
    assert_eq!(routes(&["check", "--file", "/nowhere/routes.toml"]).0, Some(78));
    assert_eq!(routes(&["check"]).0, Some(2));
}

#[test]
fn a_request_is_matched_to_its_route() {
    let test = |arguments: &[&str]| {
        let sample = sample();
        let (code, said) = routes(&[&["test", "--file", &sample], arguments].concat());
        (code, said.replace(&sample, "routes.toml"))
    };
    let line = 1 + fs::read_to_string(sample())
        .expect("the sample")
        .lines()
        .position(|it| it == "name = \"read orders\"")
        .expect("the route");
    let section = line - 1;
    let expected = format!("route 2, read orders (routes.toml:{section})\nneeds orders:read\n");
    assert_eq!(test(&["GET", "/orders/7?x=1"]), (Some(0), expected));
    assert!(
        test(&["GET", "/inventory/products/7"])
            .1
            .ends_with("needs products:read or inventory:read\n")
    );
    assert!(test(&["GET", "/health"]).1.ends_with("passes without a key\n"));
    let refused = (Some(3), "refused: no route matches (403 no_route)\n".to_owned());
    assert_eq!(test(&["GET", "/orders-admin"]), refused);
    assert_eq!(test(&["PURGE", "/orders"]), refused);
    let (code, said) = test(&["GET", "/orders/../health"]);
    assert_eq!(code, Some(3));
    assert_eq!(said, "refused: the path holds a `.` or `..` segment (403 ambiguous_path)\n");
    let (code, said) = test(&["get", "/orders"]);
    assert_eq!(code, Some(3));
    assert_eq!(said, "refused: the method holds a lower-case letter (403 ambiguous_method)\n");
    let other = "refused: a lenient server could read the path as one of another route (403 ambiguous_path)\n";
    assert_eq!(test(&["GET", "/inventory/PRODUCTS/7"]), (Some(3), other.to_owned()));
}

#[test]
fn a_route_may_accept_requests_with_and_without_a_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("routes.toml");
    let route = |path: &str, rest: &str| {
        format!("[[route]]\nmethods = [\"GET\"]\npath = \"{path}\"\noptional = true\n{rest}\n")
    };
    let text = route("/a", "") + &route("/b", "scopes = [\"orders:read\"]");
    fs::write(&file, text).expect("a policy");
    let file = file.to_str().expect("UTF-8");
    let told = |path: &str, more: &[&str]| {
        let (code, said) = routes(&[&["test", "GET", path, "--file", file], more].concat());
        assert_eq!(code, Some(0), "{said}");
        said.lines().last().expect("a line").to_owned()
    };
    let before = "passes without a key; a key that is presented needs";
    assert_eq!(told("/a", &[]), format!("{before} to be accepted"));
    assert_eq!(told("/b", &[]), format!("{before} orders:read"));
    let as_json = told("/b", &["--output", "json"]);
    assert!(as_json.contains("\"public\":false,\"optional\":true,"), "{as_json}");
    let (code, said) = check(&route("/a", "public = true"));
    assert_eq!(code, Some(3));
    assert!(said.contains(":4: route 1, optional: a public route"), "{said}");
    let hosts = "hosts = [\"a.example\"]";
    fs::write(file, route("/a", hosts)).expect("a policy");
    let (code, said) = routes(&["test", "GET", "/a", "--file", file]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--host") && said.contains("authz_misconfigured"), "{said}");
}

#[test]
fn a_policy_with_mistakes_stops_the_start_and_the_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, policy) = (dir.path().join("keyward.toml"), dir.path().join("routes.toml"));
    fs::write(&config, format!("[authz]\npolicy_file = \"{}\"\n", policy.display()))
        .expect("a file");
    fs::write(&policy, ROUTE.replace("orders:read", "orders:raed")).expect("a policy");
    let config = config.to_str().expect("UTF-8");
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    for arguments in [
        vec!["config", "check", "--config", config],
        vec!["serve", "--config", config, "--data-dir", data, "--listen", "127.0.0.1:0"],
    ] {
        let output = keyward().args(&arguments).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("routes.toml:4: route 1, scopes: there is no scope"), "{said}");
    }
    assert!(!Path::new(data).join("initial-root-key").exists(), "nothing was made yet");
}

#[test]
fn sighup_applies_a_sound_policy_and_keeps_the_old_one_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, policy) = (dir.path().join("keyward.toml"), dir.path().join("routes.toml"));
    fs::write(&config, format!("[authz]\npolicy_file = \"{}\"\n", policy.display()))
        .expect("a file");
    fs::write(&policy, ROUTE).expect("a policy");
    let server =
        Logged::serve(&dir.path().join("data"), &["--config", config.to_str().expect("UTF-8")]);
    let key = server.binary.root_key();
    let status = |path: &str| {
        let question = Request::new("GET", "/authz/nginx")
            .header("X-Original-Method", "GET")
            .header("X-Original-URI", path)
            .key(&key);
        question.send(server.binary.address).status
    };
    assert_eq!((status("/orders"), status("/products")), (200, 403));

    fs::write(&policy, ROUTE.replace("orders", "products")).expect("a policy");
    reload(&server, "reloaded");
    assert_eq!((status("/orders"), status("/products")), (403, 200));

    fs::write(&policy, "[[route]]\npath = \"/**\"\npublic = true\n").expect("a policy");
    reload(&server, "routes.toml:1: a route needs `methods`");
    assert_eq!((status("/orders"), status("/products")), (403, 200));

    fs::remove_file(&policy).expect("it is there");
    reload(&server, "cannot be read");
    assert_eq!((status("/orders"), status("/products")), (403, 200));
    assert!(server.binary.terminate().status.success());
}

#[test]
fn sighup_without_a_policy_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Logged::serve(&dir.path().join("data"), &[]);
    reload(&server, "reloaded");
    assert_eq!(Request::new("GET", "/livez").send(server.binary.address).status, 200);
    assert!(server.binary.terminate().status.success());
}

/// Sends SIGHUP and waits until the log holds this text once more.
fn reload(server: &Logged, said: &str) {
    let log = || fs::read_to_string(&server.stderr).expect("its log").matches(said).count();
    let before = log();
    hang_up(&server.binary);
    let deadline = Instant::now() + Duration::from_secs(30);
    while log() == before {
        assert!(Instant::now() < deadline, "it does not say {said:?}");
        std::thread::yield_now();
    }
}

fn hang_up(server: &Binary) {
    server.child.signal("-HUP");
}
