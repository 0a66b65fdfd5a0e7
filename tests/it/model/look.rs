//! Compares what the API shows with the model: the lists of keys, the status list of tokens, the audit log.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};

use super::{
    history::History,
    rules::{HERE, Key, LISTS, Question, SECOND, WINDOW},
};
use crate::support::{StatusList, TestServer};

/// Events that keyward records on its own. Their number depends on when jobs run.
const OWN: [&str; 9] = [
    "server.started",
    "server.stopped",
    "clock.stepped",
    "auth.denied",
    "api_key.rehashed",
    "api_key.retired_key_used",
    "api_key.new_address",
    "api_key.exchanged",
    "api_key.expiring",
];

fn instant(at: u64) -> Value {
    json!(TestServer::EPOCH.after(std::time::Duration::from_millis(at)).to_string())
}

fn sorted(scopes: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut scopes: Vec<_> = scopes.into_iter().map(|it| it.to_string()).collect();
    scopes.sort();
    scopes
}

/// Returns what a list shows of this key.
fn shown(key: &Key, now: u64) -> Value {
    let previous: Vec<_> = key.in_grace(now).map(|it| key.end_of_grace(it).map(instant)).collect();
    json!({
        "name": key.name, "status": key.status(now), "enabled": key.enabled,
        "expiresAt": key.expires_at.map(instant), "allowedIps": LISTS[key.list].map(|it| [it]),
        "rateLimit": key.limit.map(|it| json!({ "limit": it, "windowSeconds": WINDOW })),
        "previousKeys": previous,
    })
}

impl History {
    pub fn look(&mut self) -> Result<(), TestCaseError> {
        self.check_lists()?;
        self.check_tokens()
    }

    pub(super) fn check_lists(&self) -> Result<(), TestCaseError> {
        for (number, account) in
            self.model.accounts.iter().enumerate().filter(|(_, it)| !it.deleted)
        {
            let path = format!("/api/v1/accounts/{}/api-keys", account.id);
            let list = self.server.get(&self.server.root.text, &path).expect(200).json();
            let mut listed = list["data"].as_array().unwrap().iter();
            let keys = self.model.keys.iter().filter(|it| it.account == number && it.is_listed());
            for key in keys {
                let found = listed.next().cloned().unwrap_or_default();
                prop_assert_eq!(&found["id"], &json!(key.id));
                let mut known = shown(key, self.model.now);
                let mut said = found.clone();
                let ends = found["previousKeys"].as_array().unwrap().iter();
                said["previousKeys"] = ends.map(|it| it["validUntil"].clone()).collect();
                let members = known.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                let said: Value = members.iter().map(|it| (it.clone(), said[it].take())).collect();
                prop_assert_eq!(&said, &known.take());
                let scopes = found["scopes"].as_array().unwrap().clone();
                prop_assert_eq!(sorted(scopes), sorted(key.scopes.iter().map(|it| json!(it))));
                let prefix = key.current().text.get(..12).unwrap();
                prop_assert!(
                    found["keyPrefix"] == prefix || prefix.starts_with("sk_live"),
                    "{}",
                    found
                );
            }
            prop_assert!(listed.next().is_none(), "{}", list);
        }
        Ok(())
    }

    /// Compares the status list with the model, a second after the last change.
    fn check_tokens(&mut self) -> Result<(), TestCaseError> {
        if self.model.tokens.is_empty() {
            return Ok(());
        }
        self.server.advance(std::time::Duration::from_secs(1));
        self.model.now += SECOND;
        let now = TestServer::EPOCH.as_millis() + self.model.now.cast_signed();
        let list = StatusList::fetch(&self.server);
        for (token, issued) in self.tokens.iter().zip(&self.model.tokens) {
            if token.ends_at() * 1_000 <= now {
                continue;
            }
            let asked = Question { scope: "", address: HERE, cost: 0 };
            let verdict = self.model.verdicts(issued.place, &asked)[0];
            let accepted = ["VALID", "IP_NOT_ALLOWED"].contains(&verdict);
            prop_assert_eq!(
                list.refuses(token),
                issued.narrowed || !accepted,
                "{:?}: {}",
                issued,
                verdict
            );
        }
        Ok(())
    }

    /// Compares the audit log with the changes: of each subject, each change has one event, in order.
    pub fn check_events(&self) -> Result<(), TestCaseError> {
        let events = self.server.events();
        let mut recorded: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (event, seq) in events.iter().zip(1_u64..) {
            prop_assert_eq!(&event["seq"], &json!(seq));
            let (subject, kind) = (event["subject"].as_str(), event["type"].as_str().unwrap());
            let of_job = event["actor"]["type"] == "scheduler";
            let is_later = self.first_seq <= seq;
            if is_later && !of_job && !OWN.contains(&kind) {
                recorded
                    .entry(subject.unwrap_or_default().to_owned())
                    .or_default()
                    .push(kind.to_owned());
            }
        }
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (subject, kind) in &self.model.events {
            wanted.entry(subject.clone()).or_default().push((*kind).to_owned());
        }
        for (subject, types) in &wanted {
            prop_assert_eq!(
                recorded.remove(subject).unwrap_or_default(),
                types.clone(),
                "of {}",
                subject
            );
        }
        prop_assert!(recorded.is_empty(), "{:?}", recorded);
        prop_assert_eq!(self.server.app.first_broken_event().unwrap(), None);
        Ok(())
    }
}
