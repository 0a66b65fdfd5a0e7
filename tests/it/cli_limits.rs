//! Limits on the command line: the options of commands and the columns of imports, and their effect.

use std::path::Path;

use keyward::env::Timestamp;
use serde_json::{Value, json};

use crate::{
    cli_keys::Way,
    support::{
        Binary, Request,
        import::{OLD, import, place, rows, sha256},
    },
};

/// A running server, and the commands on its machine.
struct Scene<'a> {
    server: Binary,
    root: String,
    way: Way<'a>,
}

impl<'a> Scene<'a> {
    fn new(data: &'a Path) -> Self {
        let server = Binary::serve_quietly(data);
        let root = server.root_key();
        Self { server, root, way: Way::Here(data) }
    }

    /// Asks for this key and a client with this address; the answer.
    fn asked(&self, key: &str, from: &str) -> Value {
        let question = json!({ "key": key, "clientIp": from });
        let request = Request::new("POST", "/api/v1/api-keys/verify").key(&self.root);
        request.json(&question).send(self.server.address).expect(200).json()
    }

    fn codes(&self, key: &str, from: &str, count: usize) -> Vec<String> {
        let code = |_| self.asked(key, from)["code"].as_str().unwrap().to_owned();
        (0..count).map(code).collect()
    }
}

/// Returns how many seconds after its creation the key ends.
fn lifetime(key: &Value) -> u64 {
    let at = |name: &str| Timestamp::parse(key[name].as_str().unwrap()).unwrap();
    at("expiresAt").since(at("createdAt")).as_secs()
}

const HOME: &str = "203.0.113.7";
const DAY: u64 = 86_400;

#[test]
fn a_key_is_created_and_updated_with_its_limits() {
    let (_dir, data) = place();
    let scene = Scene::new(&data);
    let way = scene.way;
    let create = ["keys", "create", "--name", "k", "--scope", "orders:read", "--expires", "2d"];
    let limits = ["--allowed-ip", "203.0.113.0/24,2001:db8::1", "--rate-limit", "2/30d"];
    let made = way.json(&[&create[..], &limits].concat());
    assert_eq!(made["allowedIps"], json!(["203.0.113.0/24", "2001:db8::1/128"]));
    assert_eq!(made["rateLimit"], json!({ "limit": 2, "windowSeconds": 30 * DAY }));
    assert_eq!(lifetime(&made), 2 * DAY);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(scene.codes(key, "198.51.100.1", 2), ["IP_NOT_ALLOWED"; 2]);
    assert_eq!(scene.codes(key, "2001:db8::1", 1), ["VALID"]);
    assert_eq!(scene.codes(key, HOME, 2), ["VALID", "RATE_LIMITED"]);
    let shown = way.run(&["keys", "show", id]);
    assert!(shown.contains("203.0.113.0/24") && shown.contains("2/2592000s"), "{shown}");

    way.run(&["keys", "update", id, "--rate-limit", "3/30d", "--allowed-ip", "198.51.100.1"]);
    assert_eq!(scene.codes(key, HOME, 1), ["IP_NOT_ALLOWED"]);
    assert_eq!(scene.codes(key, "198.51.100.1", 2), ["VALID", "RATE_LIMITED"]);
    let end = ["--expires", "2099-01-20"];
    way.run(&[&["keys", "update", id, "--allowed-ip", "any"][..], &end].concat());
    let changed = way.json(&["keys", "update", id, "--rate-limit", "none"]);
    assert_eq!((&changed["allowedIps"], &changed["rateLimit"]), (&Value::Null, &Value::Null));
    assert_eq!(changed["expiresAt"], "2099-01-20T00:00:00.000Z");
    assert_eq!(scene.codes(key, HOME, 4), ["VALID"; 4]);
    let refused = way.refused(&["keys", "update", id, "--rate-limit", "3"], 2);
    assert!(refused.contains("such as 100/60s"), "{refused}");
    let refused = way.refused(&["keys", "update", id, "--allowed-ip", "203.0.113.7/24"], 1);
    assert!(refused.contains("write 203.0.113.0/24"), "{refused}");
}

#[test]
fn an_account_is_created_and_updated_with_its_limits() {
    let (_dir, data) = place();
    let scene = Scene::new(&data);
    let way = scene.way;
    let create = ["accounts", "create", "--name", "Acme", "--external-id", "acme"];
    let limits = ["--rate-limit", "3/30d", "--key-rate-limit", "2/30d"];
    let lifetimes = ["--max-key-lifetime", "10d", "--default-key-lifetime", "1d"];
    let made = way.json(&[&create[..], &limits, &lifetimes].concat());
    assert_eq!(made["rateLimit"], json!({ "limit": 3, "windowSeconds": 30 * DAY }));
    assert_eq!(made["keyRateLimit"], json!({ "limit": 2, "windowSeconds": 30 * DAY }));
    assert_eq!(lifetime(&made["apiKey"]), DAY, "the first key follows the default");
    let one = made["apiKey"]["key"].as_str().unwrap();
    let key = ["keys", "create", "--account", "acme", "--name", "k", "--scope", "orders:read"];
    let two = way.json(&key);
    assert_eq!(lifetime(&two), DAY);
    let two = two["key"].as_str().unwrap();
    assert_eq!(scene.codes(one, HOME, 3), ["VALID", "VALID", "RATE_LIMITED"], "of each key");
    assert_eq!(scene.codes(two, HOME, 2), ["VALID", "RATE_LIMITED"], "of all keys");
    way.refused(&[&key[..], &["--expires", "11d"]].concat(), 1);

    let update = ["accounts", "update", "acme", "--rate-limit", "none"];
    let more = ["--key-rate-limit", "3/30d", "--max-key-lifetime", "20d"];
    let changed = way.json(&[&update[..], &more].concat());
    assert_eq!(changed["rateLimit"], Value::Null);
    assert_eq!(scene.codes(one, HOME, 2), ["VALID", "RATE_LIMITED"]);
    let made = way.json(&[&key[..], &["--expires", "11d"]].concat());
    assert_eq!(lifetime(&made), 11 * DAY);
    let update = ["accounts", "update", "acme", "--default-key-lifetime", "3d"];
    assert_eq!(way.json(&update)["defaultKeyLifetimeSeconds"], 3 * DAY);
    assert_eq!(lifetime(&way.json(&key)), 3 * DAY);
    let shown = way.run(&["accounts", "show", "acme"]);
    assert!(shown.contains("3/2592000s") && shown.contains("20days"), "{shown}");
}

#[test]
fn keys_are_imported_with_their_limits() {
    let (_dir, data) = place();
    let scene = Scene::new(&data);
    let create = ["accounts", "create", "--name", "Acme", "--external-id", "acme"];
    let lifetimes = ["--max-key-lifetime", "10d", "--default-key-lifetime", "1d"];
    scene.way.run(&[&create[..], &lifetimes].concat());
    let old = |number: usize| format!("{OLD}{number}");
    let table = format!(
        "name,scopes,sha256,account,allowedIps,rateLimit,expiresAt\n\
         one,orders:read,{},acme,203.0.113.0/24 2001:db8::/32,1/30d,\n\
         two,orders:read,{},acme,,,2099-01-01T00:00:00Z\n\
         three,orders:read,{},acme,203.0.113.7/24,,\n\
         four,orders:read,{},acme,,5,\n",
        sha256(&old(1)),
        sha256(&old(2)),
        sha256(&old(3)),
        sha256(&old(4)),
    );
    let (exit, report) = import(&data, "keys.csv", &table, &[]);
    assert_eq!((exit, &report["accepted"]), (3, &json!(1)), "{report}");
    let faults = report["refusals"].as_array().unwrap().iter();
    let faults: Vec<_> = faults.map(|it| json!([it["line"], it["field"], it["code"]])).collect();
    assert_eq!(
        faults,
        [
            json!([3, "expiresAt", "expires_too_late"]),
            json!([4, "allowedIps/0", "invalid_format"]),
            json!([5, "rateLimit", "invalid_format"]),
        ]
    );
    let limits = json!({
        "name": "five", "scopes": ["orders:read"], "account": "acme", "sha256": sha256(&old(5)),
        "allowedIps": ["203.0.113.7"], "rateLimit": { "limit": 1, "windowSeconds": 30 * DAY },
    });
    assert_eq!(import(&data, "keys.jsonl", &rows(&[limits]), &[]).0, 0);
    for number in [1, 5] {
        let key = old(number);
        assert_eq!(scene.codes(&key, "198.51.100.1", 1), ["IP_NOT_ALLOWED"], "{number}");
        assert_eq!(scene.codes(&key, HOME, 2), ["VALID", "RATE_LIMITED"], "{number}");
        let id = scene.asked(&key, HOME)["keyId"].as_str().unwrap().to_owned();
        assert_eq!(lifetime(&scene.way.json(&["keys", "show", &id])), DAY, "{number}");
    }
}
