//! The cost of a write must not grow with the history of its key or of its account.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    AccountDraft, Error, IssuedKey, KeyAccess, KeyChange, KeyPatch, Keyward, NewKey, Presented,
    Principal,
};
use crate::{
    config::Config,
    domain::{
        event::{Actor, EventSource},
        id::AccountId,
        lifetime::Lifetimes,
        scope::ScopeSet,
        text::{Metadata, Name},
        verdict::Verdict,
    },
    env::{ManualClock, SeededEntropy, Timestamp},
    server::{Instance, Sources},
    store::steps,
};

pub(super) struct Bench {
    pub app: Arc<Keyward>,
    pub operator: Principal,
    account: AccountId,
    /// A key of the account that manages the others.
    manager: Principal,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_225_600_000)));
        let entropy = Arc::new(SeededEntropy::new(1));
        let instance = Instance::open(&config, Sources { clock, entropy }).unwrap();
        instance.first_start(|_| Ok(())).unwrap();
        let app = Arc::clone(&instance.app);
        let operator = app.local_operator(EventSource::CLI).unwrap();
        let draft = AccountDraft {
            name: name("shop"),
            external_id: None,
            allowed_scopes: None,
            max_keys: None,
            lifetimes: Lifetimes::default(),
            rate_limit: None,
            key_rate_limit: None,
            token_exchange: false,
            metadata: Metadata::empty(),
        };
        let permit = app.permit_new_account(&operator, &draft).unwrap();
        let made = app.create_account(permit, draft, app.mint()).unwrap();
        let account = made.account.id;
        let manager = caller(&app, account, &made.first_key);
        Self { app, operator, account, manager, _dir: dir }
    }

    /// Returns the steps of SQLite on the writer thread for `change`.
    fn steps(&self, change: impl FnOnce()) -> u64 {
        let taken = || self.app.system_change(|_| Ok::<_, Error>(steps::taken())).unwrap();
        // The first empty write leaves its own steps to the second.
        taken();
        let empty = taken();
        change();
        taken() - empty
    }

    pub fn create(&self) -> IssuedKey {
        let new = NewKey::new(name("test"), ScopeSet::from_stored("orders:read").unwrap());
        let permit = self.app.permit_new_key(&self.manager, self.account, &new).unwrap();
        self.app.create_key(permit, self.account, new, self.app.mint()).unwrap()
    }

    pub fn rotate(&self, key: &IssuedKey, grace: u64) -> IssuedKey {
        let grace = Some(Duration::from_secs(grace));
        let permit = self.app.permit_rotation(&self.operator, change(key), grace).unwrap();
        let minted = self.app.mint();
        self.app.rotate_key(permit, change(key), grace, minted).unwrap()
    }

    fn rename(&self, key: &IssuedKey, to: &str) {
        let patch = KeyPatch { name: Some(name(to)), ..KeyPatch::default() };
        self.app.update_key(&self.operator, change(key), patch).unwrap();
    }

    fn revoke(&self, key: &IssuedKey) {
        self.app.revoke_key(&self.operator, change(key), None).unwrap();
    }

    pub fn use_once(&self, key: &IssuedKey) {
        let super::Identity::Unverified(unverified) =
            self.app.identify(key.plaintext.expose().as_bytes())
        else {
            panic!("it was used before")
        };
        let (identity, _) = self.app.verify_secret(unverified).unwrap();
        let found = self.app.judge(&identity, crate::domain::policy::RequiredScopes::default());
        assert_eq!(found.verdict, Verdict::Valid);
    }

    /// Returns the steps of every kind of change to one key.
    fn changes(&self, key: &IssuedKey) -> Steps {
        let rename = self.steps(|| self.rename(key, "one"));
        let rename_back = self.steps(|| self.rename(key, "two"));
        let rotate = self.steps(|| drop(self.rotate(key, 0)));
        let mut fresh = None;
        let graceful = self.steps(|| fresh = Some(self.rotate(key, 60)));
        let complete = self.steps(|| {
            self.app.complete_rotation(&self.operator, change(key)).unwrap();
        });
        self.use_once(&fresh.unwrap());
        let usage = self.steps(|| {
            self.app.flush_usage().unwrap();
        });
        vec![
            ("rename", rename),
            ("rename back", rename_back),
            ("rotate", rotate),
            ("rotate with grace", graceful),
            ("complete", complete),
            ("flush usage", usage),
        ]
    }
}

pub(super) fn change(key: &IssuedKey) -> KeyChange {
    KeyChange { id: key.view.key.id, access: KeyAccess::Write, expected: None }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn caller(app: &Keyward, account: AccountId, key: &IssuedKey) -> Principal {
    let (id, prefix) = (key.view.key.id, key.plaintext.prefix());
    Principal {
        presented: Some(Presented { key: id, prefix }),
        account,
        operator: false,
        powers: app.catalogue().powers(app.catalogue().bits(&key.view.key.scopes)),
        gives_until: None,
        allowed_ips: None,
        client_ip: None,
        source: EventSource {
            actor: Actor::Key { id, prefix, account },
            request_id: None,
            client_ip: None,
        }
        .into(),
    }
}

type Steps = Vec<(&'static str, u64)>;

/// Returns the fewer steps of two measurements: every 256th event also completes a part of the
/// Merkle tree.
fn least_of_two(measure: impl Fn() -> Steps) -> Steps {
    let (one, other) = (measure(), measure());
    one.into_iter().zip(other).map(|((what, one), (_, other))| (what, one.min(other))).collect()
}

/// Asserts that no change takes more steps than before. 150 more rows of history would be seen.
fn assert_no_growth(before: &Steps, now: &Steps) {
    for ((what, before), (_, now)) in before.iter().zip(now) {
        assert!(*now <= before + 100, "{what}: {before} steps, then {now}");
    }
}

#[test]
fn a_change_to_a_key_costs_no_more_the_more_credentials_the_key_had() {
    let bench = Bench::new();
    let key = bench.create();
    let rotations = |count: u32| {
        for _ in 0..count {
            bench.use_once(&bench.rotate(&key, 0));
            bench.app.flush_usage().unwrap();
        }
    };
    rotations(30);
    let before = least_of_two(|| bench.changes(&key));
    rotations(150);
    assert_no_growth(&before, &least_of_two(|| bench.changes(&key)));
    let last = bench.steps(|| bench.revoke(&key));
    assert!(last < 20_000, "{last} steps for a revocation");
}

#[test]
fn a_change_in_an_account_costs_no_more_the_more_keys_the_account_had() {
    let bench = Bench::new();
    let rounds = |count: u32| {
        for _ in 0..count {
            bench.revoke(&bench.create());
        }
    };
    let all = || {
        let mut key = None;
        let create = bench.steps(|| key = Some(bench.create()));
        let key = key.unwrap();
        let mut steps = vec![("create", create)];
        steps.extend(bench.changes(&key));
        steps.push(("revoke", bench.steps(|| bench.revoke(&key))));
        steps
    };
    rounds(20);
    let before = least_of_two(all);
    rounds(150);
    assert_no_growth(&before, &least_of_two(all));
}
