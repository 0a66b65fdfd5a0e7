//! A data directory with a given number of keys, and requests for them.

use std::path::{Path, PathBuf};

use super::{
    Outcome,
    client::{self, Request},
    process::Process,
};

pub const KEYS: &str = "/api/v1/api-keys";
pub const VERIFY: &str = "/api/v1/api-keys/verify";
const FILLERS: usize = 64;

/// A key that was made for the benchmark.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub text: String,
}

pub struct Site {
    pub dir: PathBuf,
    /// Holds every scope.
    pub root: String,
    /// Holds only the scope to verify, as a gateway's key does.
    pub gateway: String,
    /// Some of the keys, for requests; at most [`Site::SAMPLE`].
    pub keys: Vec<Key>,
}

impl Site {
    pub const SAMPLE: usize = 10_000;

    /// Makes the keys over HTTP, as any client would. The server continues to run.
    pub fn fill(dir: &Path, count: usize) -> Outcome<(Self, Process)> {
        std::fs::create_dir_all(dir)?;
        Self::fill_on(Process::keyward(dir)?, dir, count)
    }

    /// As [`Site::fill`], on this server.
    pub fn fill_on(process: Process, dir: &Path, count: usize) -> Outcome<(Self, Process)> {
        let root = std::fs::read_to_string(dir.join("initial-root-key"))?.trim().to_owned();
        let gateway = issued(client::Connection::open(process.address)?.ask(&create(
            &root,
            "Gateway",
            "api-keys:verify",
        ))?)?;
        let mut site = Self { dir: dir.to_owned(), root, gateway: gateway.text, keys: vec![] };
        // The root key and the gateway's key count too.
        let mut left = count - 2;
        let stride = (left / Self::SAMPLE).max(1);
        while 0 < left {
            let some = left.min(50_000);
            let requests = vec![create(&site.root, "Production Integration", "orders:read"); some];
            let (_, answers) = client::each(process.address, &requests, FILLERS)?;
            for answer in answers.iter().step_by(stride) {
                if site.keys.len() < Self::SAMPLE {
                    site.keys.push(issued(answer)?);
                }
            }
            left -= some;
        }
        Ok((site, process))
    }

    /// Returns a verify request for each key of the sample.
    pub fn questions(&self) -> Vec<Request> {
        self.keys.iter().map(|it| question(&self.gateway, it)).collect()
    }

    /// Returns a request for a page of the operator's keys.
    pub fn page(&self, limit: usize, cursor: Option<&str>) -> Request {
        let cursor = cursor.map(|it| format!("&cursor={it}")).unwrap_or_default();
        let target = format!("{KEYS}?limit={limit}{cursor}");
        Request::new("GET", &target, Some(&self.root), None).expecting(200, "{\"data\":[{\"id\":")
    }
}

pub fn create(root: &str, name: &str, scope: &str) -> Request {
    let body = format!("{{\"name\":\"{name}\",\"scopes\":[\"{scope}\"]}}");
    Request::new("POST", KEYS, Some(root), Some(&body)).expecting(201, "{")
}

pub fn question(gateway: &str, key: &Key) -> Request {
    ask(gateway, &key.text).expecting(200, valid(key))
}

pub fn ask(gateway: &str, text: &str) -> Request {
    let body = format!("{{\"key\":\"{text}\",\"scopes\":[\"orders:read\"]}}");
    Request::new("POST", VERIFY, Some(gateway), Some(&body))
}

fn valid(key: &Key) -> String {
    format!("{{\"valid\":true,\"code\":\"VALID\",\"keyId\":\"{}\"", key.id)
}

/// Returns the request that nginx sends to authorize a request with this key.
pub fn may_pass(key: &Key) -> Request {
    Request::new("GET", "/authz/nginx?scope=orders:read", Some(&key.text), None)
        .with("X-Original-Method: GET")
        .with("X-Original-URI: /orders/4711?expand=items")
        .holding(format!("x-keyward-key-id: {}\r\n", key.id))
}

/// Returns the key in the answer to a creation.
pub fn issued(answer: &[u8]) -> Outcome<Key> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let text = |name: &str| answer.get(name).and_then(|it| it.as_str()).map(str::to_owned);
    text("id").zip(text("key")).map(|(id, text)| Key { id, text }).ok_or_else(|| "no key".into())
}
