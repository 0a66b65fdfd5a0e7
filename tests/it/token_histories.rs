//! Random histories of changes: the status list refuses an outstanding token exactly if its credential
//! is not accepted now, or its key lost something since the token was issued.

use std::time::Duration;

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{Key, Request, StatusList, TestServer, Token, exchange, issuing};

#[derive(Clone, Debug)]
enum Step {
    Exchange { key: usize, credential: usize },
    Rotate { key: usize, grace: u64 },
    Complete { key: usize },
    Revoke { key: usize },
    Enable { key: usize, enabled: bool },
    Scopes { key: usize, count: usize },
    Addresses { key: usize, list: usize },
    Expire { key: usize, after: Option<u64> },
    Account { member: &'static str, on: bool },
    Pass { seconds: u64 },
    Run { job: &'static str },
    Restart,
}

/// From the widest to the narrowest.
const ADDRESSES: [Option<&str>; 3] = [None, Some("127.0.0.0/8"), Some("127.0.0.1")];
const SCOPES: [&str; 3] = ["orders:read", "orders:write", "products:read"];
const KEYS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    prop_oneof![
        12 => (key(), 0..3_usize).prop_map(|(key, credential)| Step::Exchange { key, credential }),
        3 => (key(), select(vec![0, 45])).prop_map(|(key, grace)| Step::Rotate { key, grace }),
        1 => key().prop_map(|key| Step::Complete { key }),
        1 => key().prop_map(|key| Step::Revoke { key }),
        2 => (key(), any::<bool>()).prop_map(|(key, enabled)| Step::Enable { key, enabled }),
        4 => (key(), 1..=SCOPES.len()).prop_map(|(key, count)| Step::Scopes { key, count }),
        3 => (key(), 0..ADDRESSES.len()).prop_map(|(key, list)| Step::Addresses { key, list }),
        2 => (key(), select(vec![None, Some(40), Some(10_000)]))
            .prop_map(|(key, after)| Step::Expire { key, after }),
        2 => (select(vec!["status", "tokenExchange"]), any::<bool>())
            .prop_map(|(member, on)| Step::Account { member, on }),
        4 => select(vec![1, 39, 100, 400, 1_300, 4_000]).prop_map(|seconds| Step::Pass { seconds }),
        4 => select(vec!["tokens", "end_graces", "expire_keys"]).prop_map(|job| Step::Run { job }),
        1 => Just(Step::Restart),
    ]
}

/// The expected state, in seconds since the start.
struct Model {
    server: TestServer,
    account: String,
    now: u64,
    suspended: bool,
    off: bool,
    keys: Vec<ModelKey>,
    issued: Vec<Issued>,
}

struct ModelKey {
    key: Key,
    revoked: bool,
    disabled: bool,
    scopes: usize,
    addresses: usize,
    expires_at: Option<u64>,
    /// Every credential and its end; the last one is current.
    credentials: Vec<(String, Option<u64>)>,
}

struct Issued {
    token: Token,
    key: usize,
    credential: usize,
    narrowed: bool,
}

impl Model {
    fn new() -> Self {
        let (server, manager) = issuing(|_| ());
        let keys = (0..KEYS).map(|_| {
            let key = server.create(&manager.text, &json!({ "name": "x", "scopes": SCOPES }));
            let credentials = vec![(key.text.clone(), None)];
            let (scopes, addresses, expires_at) = (SCOPES.len(), 0, None);
            let (revoked, disabled) = (false, false);
            ModelKey { key, revoked, disabled, scopes, addresses, expires_at, credentials }
        });
        let keys = keys.collect();
        let account = manager.body["accountId"].as_str().unwrap().to_owned();
        let (suspended, off) = (false, false);
        Self { server, account, now: 0, suspended, off, keys, issued: Vec::new() }
    }

    fn is_accepted(&self, key: usize, credential: usize) -> bool {
        let it = &self.keys[key];
        let past = |at: Option<u64>| at.is_some_and(|at| at <= self.now);
        let (_, end) = it.credentials[credential];
        !(it.revoked
            || it.disabled
            || past(end)
            || past(it.expires_at)
            || self.suspended
            || self.off)
    }

    /// Changes the key; returns whether the server did.
    fn put(&self, key: usize, body: &Value) -> bool {
        let path = self.keys[key].key.path();
        self.server.put(&self.server.root.text, &path, body).status == 200
    }

    /// Marks the tokens of a key that has lost something.
    fn narrow(&mut self, key: usize) {
        self.issued.iter_mut().filter(|it| it.key == key).for_each(|it| it.narrowed = true);
    }

    fn exchange(&mut self, key: usize, credential: usize) {
        let credentials = &self.keys[key].credentials;
        let credential = credentials.len().saturating_sub(1 + credential);
        let answer = exchange(&self.server, &credentials[credential].0, &[]);
        let accepted = self.is_accepted(key, credential);
        // In the last second of a key, a token would end before it begins.
        assert_eq!(answer.status == 200, accepted, "{}", answer.text());
        if accepted {
            let token = Token::in_answer(&self.server, &answer);
            let scopes = SCOPES[..self.keys[key].scopes].join(" ");
            assert_eq!(token.claims["scope"], scopes);
            self.issued.push(Issued { token, key, credential, narrowed: false });
        }
    }

    fn rotate(&mut self, key: usize, grace: u64) {
        let it = &mut self.keys[key];
        let path = format!("{}/rotate", it.key.path());
        let body = json!({ "gracePeriodSeconds": grace });
        let answer = self.server.post(&self.server.root.text, &path, &body);
        if answer.status != 200 {
            return;
        }
        let until = it.expires_at.map_or(self.now + grace, |at| at.min(self.now + grace));
        for (_, end) in &mut it.credentials {
            let ends = if grace == 0 { self.now } else { until };
            *end = Some(end.map_or(until, |at| if grace == 0 { at.min(ends) } else { at }));
        }
        it.credentials.push((answer.json()["key"].as_str().unwrap().to_owned(), None));
    }

    fn complete(&mut self, key: usize) {
        let it = &mut self.keys[key];
        let path = format!("{}/rotate/complete", it.key.path());
        let request = Request::new("POST", &path).key(&self.server.root.text);
        if self.server.send(&request).status == 200 {
            let ends = it.credentials.iter_mut().filter_map(|(_, end)| end.as_mut());
            ends.for_each(|at| *at = (*at).min(self.now));
        }
    }

    fn take(&mut self, step: &Step) {
        let root = self.server.root.text.clone();
        match *step {
            Step::Exchange { key, credential } => self.exchange(key, credential),
            Step::Rotate { key, grace } => self.rotate(key, grace),
            Step::Complete { key } => self.complete(key),
            Step::Revoke { key } => {
                self.server.delete(&root, &self.keys[key].key.path());
                self.keys[key].revoked = true;
            }
            Step::Enable { key, enabled } => {
                if self.put(key, &json!({ "enabled": enabled })) {
                    self.keys[key].disabled = !enabled;
                }
            }
            Step::Scopes { key, count } => {
                if self.put(key, &json!({ "scopes": SCOPES[..count] })) {
                    if count < self.keys[key].scopes {
                        self.narrow(key);
                    }
                    self.keys[key].scopes = count;
                }
            }
            Step::Addresses { key, list } => {
                let wanted = ADDRESSES[list].map(|it| [it]);
                if self.put(key, &json!({ "allowedIps": wanted })) {
                    if self.keys[key].addresses < list {
                        self.narrow(key);
                    }
                    self.keys[key].addresses = list;
                }
            }
            Step::Expire { key, after } => {
                let at = after.map(|it| self.now + it);
                let text =
                    at.map(|it| TestServer::EPOCH.after(Duration::from_secs(it)).to_string());
                if self.put(key, &json!({ "expiresAt": text })) {
                    self.keys[key].expires_at = at;
                }
            }
            Step::Account { member, on } => {
                let path = format!("/api/v1/accounts/{}", self.account);
                let is_status = member == "status";
                let status = if on { "active" } else { "suspended" };
                let value = if is_status { json!(status) } else { json!(on) };
                self.server.put(&root, &path, &json!({ member: value })).expect(200);
                *(if is_status { &mut self.suspended } else { &mut self.off }) = !on;
            }
            Step::Pass { seconds } => self.pass(seconds),
            Step::Run { job } => _ = self.server.run_job(job),
            Step::Restart => self.server.restart(|_| ()),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.server.advance(Duration::from_secs(seconds));
        self.now += seconds;
    }

    /// Compares the list with the model, a second after the last change.
    fn check(&mut self) {
        self.pass(1);
        let now = TestServer::EPOCH.as_millis() / 1_000 + self.now.cast_signed();
        self.issued.retain(|it| now < it.token.ends_at());
        let list = StatusList::fetch(&self.server);
        for it in &self.issued {
            let refused = it.narrowed || !self.is_accepted(it.key, it.credential);
            assert_eq!(list.refuses(&it.token), refused, "{}", it.token.claims);
        }
    }
}

#[test]
fn the_list_refuses_the_tokens_of_ended_and_narrowed_credentials_and_no_others() {
    let config = Config { cases: 12, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(step(), 1..50), |steps| {
        let mut model = Model::new();
        for step in steps {
            model.take(&step);
            model.check();
        }
        Ok(())
    });
    outcome.unwrap();
}
