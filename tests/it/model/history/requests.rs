//! The requests of the steps that are more than a line.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Checked, Creation, History, KEYS, code_of, compare, instant, limit};
use crate::{
    model::{
        rules::{
            Change, Credential, DAY, HERE, Issued, LISTS, Place, Question, SECOND, Scopes, refusal,
        },
        steps::{Caller, Settings},
    },
    support::{Request, Token, control::control, exchange, import::sha256},
};

impl History {
    pub(super) fn create(&mut self, account: usize, by: Caller, settings: &Settings) -> Checked {
        let caller = match by {
            Caller::Operator | Caller::Stranger => None,
            Caller::Manager | Caller::Itself { .. } => Some(self.place(account, 0)),
        };
        let mut body = json!({ "name": "x", "scopes": settings.scopes,
                           "allowedIps": LISTS[settings.list].map(|it| [it]), "rateLimit": settings.limit.map(limit) });
        match settings.lifetime {
            None => body["expiresAt"] = Value::Null,
            Some(it) => body["expiresIn"] = json!(it),
        }
        let path = if caller.is_some() {
            KEYS.to_owned()
        } else {
            format!("{}/api-keys", self.account_path(account))
        };
        let key = caller.map_or(&*self.server.root.text, |it| self.text(it));
        let repeatable = format!("creation-{}", self.asked);
        let request =
            Request::new("POST", &path).key(key).header("Idempotency-Key", &repeatable).json(&body);
        self.send_creation(request, caller, account, settings)
    }

    fn send_creation(
        &mut self,
        request: Request,
        caller: Option<Place>,
        account: usize,
        settings: &Settings,
    ) -> Checked {
        let answer = self.server.send(&request);
        let made = answer.json();
        let mut key = self.model_key(account, settings);
        made["id"].as_str().unwrap_or_default().clone_into(&mut key.id);
        key.credentials.push(Credential::new(made["key"].as_str().unwrap_or_default()));
        if compare(&answer, self.model.create(caller, key))? {
            let (key, at) = (self.model.keys.len() - 1, self.model.now);
            let settings = settings.clone();
            self.creations.push(Creation { request, caller, account, settings, key, at, answer });
        }
        Ok(())
    }

    /// Sends an earlier creation again. Its answer is kept for a day; later, it is a new request.
    pub(super) fn repeat(&mut self, creation: usize, same_body: bool) -> Checked {
        let Some(chosen) = creation.checked_rem(self.creations.len()) else { return Ok(()) };
        if self.creations[chosen].at + DAY <= self.model.now {
            let Creation { request, caller, account, settings, .. } = self.creations.remove(chosen);
            return self.send_creation(request, caller, account, &settings);
        }
        let Creation { request, caller, key, answer: first, .. } = &self.creations[chosen];
        let request = request.clone();
        let request = if same_body {
            request
        } else {
            request.body(json!({ "name": "other", "scopes": [] }).to_string())
        };
        let answer = self.server.send(&request);
        if compare(&answer, self.model.repeat(*caller, *key, same_body))? {
            prop_assert_eq!(answer.text(), first.text());
            prop_assert_eq!(answer.header("idempotency-replayed"), Some("true"));
        }
        Ok(())
    }

    /// Returns the text of a key of another system.
    fn foreign(account: usize, digest: u8) -> String {
        format!("sk_live_of_another_system_{account}_{digest}")
    }

    fn declared(&self, account: usize, digest: u8) -> Option<usize> {
        let text = Self::foreign(account, digest);
        self.model.keys.iter().position(|it| it.credentials[0].text == text)
    }

    pub(super) fn import(&mut self, account: usize, digest: u8, settings: &Settings) -> Checked {
        let text = Self::foreign(account, digest);
        let row = json!({ "name": "x", "scopes": settings.scopes, "account": format!("cust_{account}"),
                          "expiresAt": settings.lifetime.map(|it| instant(self.model.now + it * SECOND)),
                          "allowedIps": LISTS[settings.list].map(|it| [it]), "rateLimit": settings.limit.map(limit),
                          "sha256": sha256(&text) });
        let answer = control(&self.server.data_dir(), "/imports", &json!({ "rows": [row] }));
        let made = answer["outcomes"][0]["key_id"].as_str();
        let mut key = self.model_key(account, settings);
        key.credentials.push(Credential::new(&text));
        made.unwrap_or_default().clone_into(&mut key.id);
        let wanted =
            self.declared(account, digest).is_none() && self.model.create(None, key).is_ok();
        prop_assert_eq!(made.is_some(), wanted, "{}", answer);
        Ok(())
    }

    pub(super) fn apply(&mut self, account: usize, digest: u8, scopes: Scopes) -> Checked {
        if self.model.accounts[account].deleted {
            return Ok(()); // The file would make another account.
        }
        let text = Self::foreign(account, digest);
        let key = json!({ "sha256": sha256(&text), "name": "x", "scopes": scopes });
        let owner =
            json!({ "settings": { "externalId": format!("cust_{account}") }, "keys": [key] });
        let file = json!({ "dry_run": false, "prune": false, "keys": [], "accounts": [owner] });
        let answer = control(&self.server.data_dir(), "/apply", &file);
        let wanted = match self.declared(account, digest) {
            Some(key) if !self.model.keys[key].is_usable(self.model.now) => Ok("left"),
            Some(key) => {
                let before = self.model.events.len();
                self.model.update(None, key, Change::Declared(scopes)).expect("the operator may");
                if before == self.model.events.len() { Ok("") } else { Ok("updated") }
            }
            None => {
                let settings = Settings { scopes, lifetime: None, list: 0, limit: None };
                let mut key = self.model_key(account, &settings);
                key.credentials.push(Credential::new(&text));
                // The answer does not tell the identifier.
                key.id = self.id_of_newest(account);
                self.model.create(None, key).map(|()| "created")
            }
        };
        let faults = answer["faults"].as_array().unwrap();
        prop_assert_eq!(faults.is_empty(), wanted.is_ok(), "{}", answer);
        if let Ok(wanted) = wanted {
            prop_assert_eq!(
                answer["changes"][0]["action"].as_str().unwrap_or_default(),
                wanted,
                "{}",
                answer
            );
        }
        Ok(())
    }

    fn id_of_newest(&self, account: usize) -> String {
        let path = format!("{}/api-keys?order=desc&limit=1", self.account_path(account));
        let list = self.server.get(&self.server.root.text, &path).json();
        list["data"][0]["id"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn update(&mut self, key: usize, by: Caller, change: Change) -> Checked {
        let it = &self.model.keys[key];
        let by = if matches!(by, Caller::Itself { .. }) { Caller::Operator } else { by };
        let manages = key < 2 && !matches!(change, Change::Enabled(_));
        if manages || matches!(change, Change::Limit(_)) && it.limit.is_none() {
            return Ok(());
        }
        let (change, body) = match change {
            Change::Name(name) => (change, json!({ "name": format!("n{name}") })),
            Change::Scopes(scopes) => (change, json!({ "scopes": scopes })),
            Change::End(None) => (change, json!({ "expiresAt": null })),
            Change::End(Some(after)) => {
                let at = self.model.now + after * SECOND;
                (Change::End(Some(at)), json!({ "expiresAt": instant(at) }))
            }
            Change::List(list) => (change, json!({ "allowedIps": LISTS[list].map(|it| [it]) })),
            Change::Enabled(enabled) => (change, json!({ "enabled": enabled })),
            Change::Limit(count) => (change, json!({ "rateLimit": limit(count) })),
            Change::Declared(_) => return Ok(()),
        };
        let caller = self.caller(key, by);
        let answer = self.call("PUT", &self.path(key, by), caller, &body);
        compare(&answer, self.model.update(caller, key, change)).map(|_| ())
    }

    pub(super) fn rotate(&mut self, key: usize, by: Caller, grace: Option<u64>) -> Checked {
        let body = grace.map_or_else(|| json!({}), |it| json!({ "gracePeriodSeconds": it }));
        let caller = self.caller(key, by);
        let answer = self.call("POST", &format!("{}/rotate", self.path(key, by)), caller, &body);
        let fresh = answer.json()["key"].as_str().unwrap_or_default().to_owned();
        compare(&answer, self.model.rotate(caller, key, grace, [&fresh, &code_of(&answer)]))
            .map(|_| ())
    }

    pub(super) fn verify(
        &mut self,
        place: Place,
        scope: &'static str,
        address: &'static str,
    ) -> Checked {
        let scopes: &[&str] = if scope.is_empty() { &[] } else { &[scope] };
        let body = json!({ "key": self.text(place), "scopes": scopes, "clientIp": address });
        let answer = self.call("POST", &format!("{KEYS}/verify"), None, &body).json();
        let question = Question { scope, address, cost: 1 };
        let (said, possible) =
            (answer["code"].as_str().unwrap_or_default(), self.model.verdicts(place, &question));
        prop_assert!(possible.contains(&said), "{}, not {:?}", answer, possible);
        prop_assert_eq!(&answer["valid"], &json!(said == "VALID"));
        self.learn(place, said);
        Ok(())
    }

    /// Takes over what the verdict on a request says about the use of the key.
    pub(super) fn learn(&mut self, place: Place, verdict: &str) {
        match verdict {
            "VALID" => self.model.accept(place, 1),
            "RATE_LIMITED" => self.model.limited(place.0),
            _ => (),
        }
    }

    pub(super) fn exchange(&mut self, place: Place) -> Checked {
        let answer = exchange(&self.server, self.text(place), &[]);
        let question = Question { scope: "", address: HERE, cost: 1 };
        let possible = self.model.verdicts(place, &question);
        let said = if answer.status == 200 { "VALID".to_owned() } else { code_of(&answer) };
        let found = possible.iter().find(|it| **it == said || refusal(it) == said);
        prop_assert!(found.is_some(), "{}, not {:?}", answer.text(), possible);
        self.learn(place, found.copied().unwrap_or_default());
        if answer.status == 200 {
            self.tokens.push(Token::in_answer(&self.server, &answer));
            self.model.tokens.push(Issued { place, narrowed: false });
        }
        Ok(())
    }
}
