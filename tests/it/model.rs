//! Random histories of changes: verification answers as a small model does.

use std::time::Duration;

use keyward::{domain::policy::RequiredScopes, service::Identity};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{Request, Response, TestServer};

#[derive(Clone, Debug)]
enum Step {
    Create { expires_after: Option<u64> },
    Rotate { key: usize, grace: u64 },
    Complete { key: usize },
    Revoke { key: usize },
    Enable { key: usize, enabled: bool },
    Pass { seconds: u64 },
    WallStepsBack,
    Run { job: &'static str },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..4_usize;
    prop_oneof![
        3 => proptest::option::of(select(vec![60, 300, 86_400]))
            .prop_map(|expires_after| Step::Create { expires_after }),
        5 => (key(), select(vec![0, 60, 300]))
            .prop_map(|(key, grace)| Step::Rotate { key, grace }),
        2 => key().prop_map(|key| Step::Complete { key }),
        1 => key().prop_map(|key| Step::Revoke { key }),
        2 => (key(), any::<bool>()).prop_map(|(key, enabled)| Step::Enable { key, enabled }),
        4 => select(vec![1, 59, 60, 61, 300, 86_400, 31 * 86_400])
            .prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::WallStepsBack),
        3 => select(vec!["end_graces", "expire_keys", "purge", "flush_usage", "keep_time"])
            .prop_map(|job| Step::Run { job }),
        1 => Just(Step::Restart),
    ]
}

/// The expected state, in seconds since the start.
#[derive(Default)]
struct Model {
    now: u64,
    /// Everything that ended before this second may be purged.
    purged_until: Option<u64>,
    keys: Vec<ModelKey>,
}

struct ModelKey {
    id: String,
    disabled: bool,
    revoked_at: Option<u64>,
    expires_at: Option<u64>,
    /// Every credential and its end; the last one is current.
    values: Vec<(String, Option<u64>)>,
}

impl ModelKey {
    fn live_olds(&self, now: u64) -> usize {
        self.values.iter().filter(|(_, end)| end.is_some_and(|it| now < it)).count()
    }

    fn end_olds(&mut self, at: u64) {
        let olds = self.values.iter_mut().filter_map(|(_, end)| end.as_mut());
        olds.for_each(|end| *end = (*end).min(at));
    }
}

impl Model {
    fn codes(&self, key: &ModelKey, end: Option<u64>) -> Vec<&'static str> {
        let past = |at: Option<u64>| at.is_some_and(|it| it <= self.now);
        let code = match () {
            () if past(key.revoked_at) => "REVOKED",
            () if past(end) => "ROTATED",
            () if key.disabled => "DISABLED",
            () if past(key.expires_at) => "EXPIRED",
            () => "VALID",
        };
        let dead_since = [key.revoked_at, end, key.expires_at].into_iter().flatten().min();
        let forgotten = dead_since.zip(self.purged_until).is_some_and(|(at, until)| at < until);
        if forgotten { vec![code, "NOT_FOUND"] } else { vec![code] }
    }
}

fn send(server: &TestServer, method: &str, id: &str, end: &str, body: &Value) -> Response {
    let path = format!("/api/v1/api-keys/{id}{end}");
    server.send(&Request::new(method, &path).key(&server.root.text).json(body))
}

fn create(server: &TestServer, model: &mut Model, expires_after: Option<u64>) {
    let expires_at = expires_after.map(|it| model.now + it);
    let end = expires_at.map(|it| TestServer::EPOCH.after(Duration::from_secs(it)));
    let made = server.create(
        &server.root.text,
        &json!({ "name": "x", "scopes": ["orders:read"],
                 "expiresAt": end.map(|it| it.to_string()) }),
    );
    let (id, values) = (made.id, vec![(made.text, None)]);
    let (disabled, revoked_at) = (false, None);
    model.keys.push(ModelKey { id, disabled, revoked_at, expires_at, values });
}

fn rotate(server: &TestServer, model: &mut Model, key: usize, grace: u64) {
    let now = model.now;
    let Some(key) = model.keys.get_mut(key) else { return };
    let body = json!({ "gracePeriodSeconds": grace });
    let answer = send(server, "POST", &key.id, "/rotate", &body);
    let crowded = 0 < grace && 1 < key.live_olds(now);
    if key.revoked_at.is_some() {
        assert_eq!(answer.status, 404, "{}", answer.text());
    } else if key.expires_at.is_some_and(|it| it <= now) {
        assert!([404, 409].contains(&answer.status), "{}", answer.text());
    } else if crowded {
        assert_eq!(answer.problem(), "too_many_live_keys");
    } else {
        let fresh = answer.expect(200).json()["key"].as_str().unwrap().to_owned();
        let end = key.expires_at.map_or(now + grace, |it| it.min(now + grace));
        key.values.last_mut().unwrap().1 = Some(end);
        if grace == 0 {
            key.end_olds(now);
        }
        key.values.push((fresh, None));
    }
}

/// Takes the step in the server and in the model, and compares their answers.
fn take(server: &mut TestServer, model: &mut Model, step: &Step) {
    let now = model.now;
    match step {
        Step::Create { expires_after } => create(server, model, *expires_after),
        Step::Rotate { key, grace } => rotate(server, model, *key, *grace),
        Step::Complete { key } => {
            let Some(key) = model.keys.get_mut(*key) else { return };
            if send(server, "POST", &key.id, "/rotate/complete", &json!({})).status == 200 {
                assert_eq!(key.revoked_at, None);
                key.end_olds(now);
            }
        }
        Step::Revoke { key } => {
            let Some(key) = model.keys.get_mut(*key) else { return };
            if send(server, "DELETE", &key.id, "", &json!({})).status == 204 {
                assert_eq!(key.revoked_at, None);
                key.revoked_at = Some(now);
            }
        }
        Step::Enable { key, enabled } => {
            let Some(key) = model.keys.get_mut(*key) else { return };
            if send(server, "PUT", &key.id, "", &json!({ "enabled": enabled })).status == 200 {
                assert_eq!(key.revoked_at, None);
                key.disabled = !enabled;
            }
        }
        Step::Pass { seconds } => {
            server.advance(Duration::from_secs(*seconds));
            model.now += seconds;
        }
        // keyward's time goes on from its last value.
        Step::WallStepsBack => server.clock.step_wall(-3_600_000),
        Step::Run { job } => {
            server.run_job(job);
            if *job == "purge" {
                model.purged_until = model.purged_until.max(now.checked_sub(30 * 86_400));
            }
        }
        Step::Restart => server.restart(|_| ()),
    }
}

fn code(server: &TestServer, text: &str) -> &'static str {
    let identity = match server.app.identify(text.as_bytes()) {
        Identity::Unverified(it) => server.app.verify_secret(it).unwrap().0,
        known => known,
    };
    server.app.judge(&identity, RequiredScopes::default()).verdict.as_str()
}

#[test]
fn verification_agrees_with_the_model_after_every_step() {
    let config =
        Config { cases: 64, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(step(), 1..40), |steps| {
        let (mut server, mut model) = (TestServer::start(), Model::default());
        for step in &steps {
            take(&mut server, &mut model, step);
            for key in &model.keys {
                for (text, end) in &key.values {
                    let (code, wanted) = (code(&server, text), model.codes(key, *end));
                    prop_assert!(wanted.contains(&code), "{code}, not {wanted:?}: {}", key.id);
                }
            }
        }
        prop_assert_eq!(server.app.first_broken_event().unwrap(), None);
        Ok(())
    });
    outcome.unwrap_or_else(|err| panic!("{err}"));
}
