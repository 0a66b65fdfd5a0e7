//! Takes the steps of a history in a server and in the model, and compares what both say.

mod bounds;
mod requests;

use std::time::Duration;

use keyward::{
    domain::policy::RequiredScopes,
    service::{self, Identity},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};

use super::{
    rules::{
        Credential, DAY, HERE, Key, MAX_KEYS, Model, Outcome, Place, Question, SECOND, Spent,
        UNKNOWN, WINDOW,
    },
    steps::{Caller, Settings, Step},
};
use crate::support::{ISSUER, Request, Response, TestServer, Token};

const KEYS: &str = "/api/v1/api-keys";
/// A scope that no key holds, and an address that only keys without a list accept. An answer to a question with them
/// uses nothing and is no use of the key.
const UNHELD: &str = "metrics:read";
const ELSEWHERE: &str = "203.0.113.7";

const HOUR: u64 = 3_600 * SECOND;

type Checked<T = ()> = Result<T, TestCaseError>;

pub struct History {
    pub server: TestServer,
    pub model: Model,
    creations: Vec<Creation>,
    /// The same order as the tokens of the model.
    pub tokens: Vec<Token>,
    /// The milliseconds by which the wall clock is behind keyward's time.
    behind: u64,
    asked: u64,
    /// The number of the first event of the history.
    pub first_seq: u64,
}

/// A creation that was answered.
struct Creation {
    request: Request,
    caller: Option<Place>,
    account: usize,
    settings: Settings,
    key: usize,
    at: u64,
    answer: Response,
}

fn instant(at: u64) -> String {
    TestServer::EPOCH.after(Duration::from_millis(at)).to_string()
}

fn limit(count: u32) -> Value {
    json!({ "limit": count, "windowSeconds": WINDOW })
}

fn code_of(answer: &Response) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Compares an answer with what the model says; returns whether it is a success.
fn compare(answer: &Response, wanted: Outcome) -> Checked<bool> {
    let code = if answer.status < 300 { Ok(()) } else { Err(code_of(answer)) };
    prop_assert_eq!(code, wanted.map_err(str::to_owned), "{}", answer.text());
    Ok(wanted.is_ok())
}

impl History {
    pub fn new() -> Self {
        let server = TestServer::with(|config| config.public_url = Some(ISSUER.to_owned()));
        let first_seq = server.events().len() as u64 + 1;
        let mut it = Self {
            server,
            model: Model::default(),
            creations: Vec::new(),
            tokens: Vec::new(),
            behind: 0,
            asked: 0,
            first_seq,
        };
        for account in 0..2 {
            it.add_account(account);
        }
        it
    }

    fn add_account(&mut self, account: usize) {
        let body = json!({ "name": "shop", "externalId": format!("cust_{account}"), "maxKeys": MAX_KEYS,
                           "tokenExchange": true });
        let (id, manager) = self.server.account(&body);
        self.model.accounts[account].id.clone_from(&id);
        self.model.events.push((id, "account.created"));
        let scopes = manager.body["scopes"].as_array().unwrap().iter();
        let scopes: Vec<_> = scopes.map(|it| &*it.as_str().unwrap().to_owned().leak()).collect();
        let settings = Settings { scopes: scopes.leak(), lifetime: None, list: 0, limit: None };
        let mut key = self.model_key(account, &settings);
        manager.body["name"].as_str().unwrap().clone_into(&mut key.name);
        (key.id, key.credentials) = (manager.id.clone(), vec![Credential::new(&manager.text)]);
        self.model.events.push((manager.id, "api_key.created"));
        self.model.keys.push(key);
    }

    /// Takes the step, and compares the verdict on every credential.
    pub fn take(&mut self, step: &Step) -> Checked {
        self.asked += 1;
        self.change_keys(step)?;
        self.change_accounts(step)?;
        self.change_time(step)?;
        self.check_verdicts()
    }

    fn change_keys(&mut self, step: &Step) -> Checked {
        let keys = self.model.keys.len();
        match *step {
            Step::Create { account, by, ref settings } => self.create(account, by, settings),
            Step::Repeat { creation, same_body } => self.repeat(creation, same_body),
            Step::Import { account, digest, ref settings } => {
                self.import(account, digest, settings)
            }
            Step::Apply { account, digest, scopes } => self.apply(account, digest, scopes),
            Step::Update { key, by, change } => self.update(key % keys, by, change),
            Step::Rotate { key, by, grace } => self.rotate(key % keys, by, grace),
            Step::Complete { key, by } => self.complete(key % keys, by),
            Step::Revoke { key, by } => self.revoke(key % keys, by),
            Step::Leak { key, age } => self.leak(self.place(key % keys, age)),
            Step::Verify { key, age, scope, address } => {
                self.verify(self.place(key % keys, age), scope, address)
            }
            Step::Exchange { key, age } => self.exchange(self.place(key % keys, age)),
            _ => Ok(()),
        }
    }

    fn complete(&mut self, key: usize, by: Caller) -> Checked {
        let caller = self.caller(key, by);
        let path = format!("{}/rotate/complete", self.path(key, by));
        let answer = self.call("POST", &path, caller, &json!({}));
        compare(&answer, self.model.complete(caller, key, &code_of(&answer))).map(|_| ())
    }

    fn revoke(&mut self, key: usize, by: Caller) -> Checked {
        let caller = self.caller(key, by);
        let answer = self.call("DELETE", &self.path(key, by), caller, &json!({}));
        compare(&answer, self.model.revoke(caller, key)).map(|_| ())
    }

    fn leak(&mut self, place: Place) -> Checked {
        let body = json!({ "keys": [self.text(place)] });
        let answer = self.call("POST", "/api/v1/leaked-keys", None, &body);
        compare(&answer, Ok(()))?;
        self.model.leak(place);
        Ok(())
    }

    fn change_accounts(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Suspend { account, suspended } => {
                let body = json!({ "status": if suspended { "suspended" } else { "active" } });
                let answer = self.call("PUT", &self.account_path(account), None, &body);
                compare(&answer, self.model.suspend(account, suspended)).map(|_| ())
            }
            Step::DeleteAccount { account } => {
                let answer = self.call("DELETE", &self.account_path(account), None, &json!({}));
                compare(&answer, self.model.delete_account(account)).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn change_time(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Pass { seconds } => self.pass(seconds * SECOND),
            Step::Reach { bound, key, beside, by_wall } => {
                self.reach(bound, key, beside, by_wall)?;
            }
            Step::WallStepsBack => {
                self.server.clock.step_wall(-HOUR.cast_signed());
                self.behind += HOUR;
            }
            Step::LeapAndBack { days } => self.leap_and_back(days * DAY)?,
            Step::LeapAndStay { hours } => {
                self.server.clock.step_wall((hours * HOUR).cast_signed());
                let ahead = (hours * HOUR).saturating_sub(self.behind);
                self.behind = self.behind.saturating_sub(hours * HOUR);
                self.model.now += ahead;
                self.check_verdicts()?;
                self.pass(600 * SECOND);
            }
            Step::AcceptClock => self.accept_clock()?,
            Step::Run { job } => self.run(job),
            Step::Restart => {
                self.server.restart(|_| ());
                self.model.store_use();
            }
            Step::Crash => {
                // keyward stores its time every minute. Without that, a clock that is behind would be believed.
                self.server.run_job("keep_time");
                self.server.crash();
                self.model.crash();
            }
            Step::Look => self.look()?,
            _ => (),
        }
        Ok(())
    }

    fn place(&self, key: usize, age: usize) -> Place {
        (key, self.model.keys[key].credentials.len().saturating_sub(1 + age))
    }

    fn text(&self, (key, credential): Place) -> &str {
        &self.model.keys[key].credentials[credential].text
    }

    /// Returns the credential that a caller presents for a request about this key; `None` is the operator.
    fn caller(&self, key: usize, by: Caller) -> Option<Place> {
        let account = self.model.keys[key].account;
        match by {
            Caller::Operator => None,
            Caller::Manager => Some(self.place(account, 0)),
            Caller::Stranger => Some(self.place(1 - account, 0)),
            Caller::Itself { age } => Some(self.place(key, age)),
        }
    }

    fn path(&self, key: usize, by: Caller) -> String {
        let id =
            if matches!(by, Caller::Itself { .. }) { "self" } else { &self.model.keys[key].id };
        format!("{KEYS}/{id}")
    }

    fn account_path(&self, account: usize) -> String {
        format!("/api/v1/accounts/{}", self.model.accounts[account].id)
    }

    fn call(&self, method: &str, path: &str, caller: Option<Place>, body: &Value) -> Response {
        let key = caller.map_or(&*self.server.root.text, |it| self.text(it));
        self.server.send(&Request::new(method, path).key(key).json(body))
    }

    fn model_key(&self, account: usize, settings: &Settings) -> Key {
        Key {
            id: String::new(),
            account,
            name: "x".to_owned(),
            scopes: settings.scopes,
            enabled: true,
            list: settings.list,
            expires_at: settings.lifetime.map(|it| self.model.now + it * SECOND),
            limit: settings.limit,
            spent: Spent::default(),
            revoked_at: None,
            credentials: Vec::new(),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.server.advance(Duration::from_millis(millis));
        self.model.now += millis;
    }

    fn run(&mut self, job: &str) {
        self.server.run_job(job);
        match job {
            "purge" => self.model.purging = true,
            "flush_usage" => self.model.store_use(),
            _ => (),
        }
    }

    fn leap_and_back(&mut self, millis: u64) -> Checked {
        if 0 < self.behind {
            return Ok(());
        }
        self.server.clock.step_wall(millis.cast_signed());
        self.model.now += millis;
        self.check_verdicts()?;
        self.server.clock.step_wall(-millis.cast_signed());
        self.model.now -= millis;
        self.server.run_job("keep_time");
        self.forget_tokens();
        Ok(())
    }

    fn accept_clock(&mut self) -> Checked {
        const WRONG: u64 = HOUR - SECOND;
        if 0 < self.behind {
            return Ok(());
        }
        self.server.clock.step_wall(WRONG.cast_signed());
        self.model.now += WRONG;
        self.check_verdicts()?;
        self.server.clock.step_wall(-WRONG.cast_signed());
        self.check_verdicts()?;
        self.server.app.accept_clock().expect("the clock is accepted");
        self.model.now -= WRONG;
        self.model.events.push(("keyward".to_owned(), "clock.accepted"));
        self.forget_tokens();
        Ok(())
    }

    /// When time goes back, keyward signs with other keys, and gateways refuse every earlier token.
    fn forget_tokens(&mut self) {
        self.tokens.clear();
        self.model.tokens.clear();
    }

    /// Compares the verdict on every credential that was ever issued, from two addresses. No question is a use.
    fn check_verdicts(&mut self) -> Checked {
        for key in 0..self.model.keys.len() {
            for credential in 0..self.model.keys[key].credentials.len() {
                for address in [HERE, ELSEWHERE] {
                    let question = Question { scope: UNHELD, address, cost: 1 };
                    let possible = self.model.verdicts((key, credential), &question);
                    let said = ask(&self.server, self.text((key, credential)), &question);
                    prop_assert!(
                        possible.contains(&said),
                        "{said}, not {possible:?}, for credential {credential} of key {key} at {} ms",
                        self.model.now
                    );
                    self.model.keys[key].credentials[credential].gone = UNKNOWN.contains(&said);
                }
            }
        }
        self.model.purging = false;
        Ok(())
    }

    /// Accepts every credential that the model accepts, with and without the required scope, at the end.
    pub fn use_all(&mut self) -> Checked {
        for key in 0..self.model.keys.len() {
            for credential in 0..self.model.keys[key].credentials.len() {
                for scope in ["orders:read", "orders:write"] {
                    let place = (key, credential);
                    let question = Question { scope, address: "127.0.0.2", cost: 1 };
                    let (possible, said) = (
                        self.model.verdicts(place, &question),
                        ask(&self.server, self.text(place), &question),
                    );
                    prop_assert!(
                        possible.contains(&said),
                        "{said}, not {possible:?}, for {place:?} with {scope}"
                    );
                    self.learn(place, said);
                }
            }
        }
        Ok(())
    }
}

/// Asks the server in this process, which costs less than a request.
pub fn ask(server: &TestServer, text: &str, asked: &Question) -> &'static str {
    let app = &server.app;
    let identity = match app.identify(text.as_bytes()) {
        Identity::Unverified(it) => app.verify_secret(it).expect("the storage works").0,
        known => known,
    };
    let address = asked.address.parse().ok();
    let required = app.catalogue().find(asked.scope).map(RequiredScopes::all).unwrap_or_default();
    let (client_ip, cost) = (&|| address, asked.cost);
    let question = service::Question { required, client_ip, cost, is_ambiguous: false };
    app.judge(&identity, question).verdict.as_str()
}
