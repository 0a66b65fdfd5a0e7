//! A server with webhooks, and what tests of webhooks look at.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use keyward::{config::WebhookSetting, domain::webhook::EventPattern, service::WebhookStatus};
use serde_json::json;
use tempfile::TempDir;

use super::{Reaction, Sent, TestServer};

/// The secret of the specification's vector, and another one.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
pub const OK: Reaction = Reaction::Answer(204, "");

/// A directory with a file of secrets.
pub struct Secrets(TempDir);

impl Secrets {
    pub fn new(text: &str) -> Self {
        let it = Self(tempfile::tempdir().unwrap());
        it.write(text);
        it
    }

    pub fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("hook.secret")
    }
}

pub fn webhook(name: &str, url: &str, events: &[&str], secrets: &Path) -> WebhookSetting {
    WebhookSetting {
        name: name.to_owned(),
        url: url.to_owned(),
        events: events.iter().map(|it| EventPattern::parse(it).unwrap()).collect(),
        secret_file: Some(secrets.to_owned()),
        allow_private: true,
        timeout: Duration::from_secs(20),
    }
}

/// A server with the webhook `hook` for this receiver.
pub fn server_with(url: &str, events: &[&str], secrets: &Secrets) -> TestServer {
    let it = webhook("hook", url, events, &secrets.path());
    TestServer::with(|config| config.webhooks = vec![it])
}

pub fn create(server: &TestServer, name: &str) -> String {
    server.create(&server.root.text, &json!({ "name": name, "scopes": ["orders:read"] })).id
}

pub fn names(sent: &[Sent]) -> Vec<String> {
    let name = |it: &Sent| it.json()["data"]["data"]["after"]["name"].as_str().unwrap().to_owned();
    sent.iter().map(name).collect()
}

/// Waits until the only webhook is in this state, and returns it.
#[track_caller]
pub fn wait_until(server: &TestServer, what: impl Fn(&WebhookStatus) -> bool) -> WebhookStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = server.app.list_webhooks().unwrap();
        match found.into_iter().find(|it| it.name == "hook") {
            Some(it) if what(&it) => return it,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}
