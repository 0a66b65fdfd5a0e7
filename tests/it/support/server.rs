//! The real server in this process: `server::start`, as the binary calls it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use keyward::{
    config::Config,
    env::{ManualClock, SeededEntropy, Timestamp},
    http::stream_limits::{StreamLimits, Streams},
    server::{self, Instance, Sources},
    service::Keyward,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::support::{Request, Response};

/// A key as the answers to create and rotate show it.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub text: String,
    pub body: Value,
}

pub struct TestServer {
    pub app: Arc<Keyward>,
    pub clock: Arc<ManualClock>,
    pub root: Key,
    pub config: Config,
    streams: StreamLimits,
    pub address: SocketAddr,
    /// Whether the chain is checked at the end; false only where a test has broken it.
    pub audited: bool,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    dir: TempDir,
    /// The number of starts so far. No two starts draw the same random numbers.
    starts: u64,
}

impl TestServer {
    /// 2026-01-01T00:00:00Z
    pub const EPOCH: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    pub fn start() -> Self {
        Self::with(|_| ())
    }

    /// Starts it with a changed default configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::built(change, StreamLimits::default())
    }

    /// Starts it with these limits on event streams.
    pub fn with_streams(limits: StreamLimits) -> Self {
        Self::built(|_| (), limits)
    }

    fn built(change: impl FnOnce(&mut Config), streams: StreamLimits) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            data_dir: dir.path().join("data"),
            workers: 1,
            ..Config::default()
        };
        // Jobs run when a test asks for them, and once at the start.
        config.jobs.values_mut().for_each(|it| "0 0 0 1 1 *".clone_into(it));
        change(&mut config);
        let clock = Arc::new(ManualClock::at(Self::EPOCH));
        let (app, address, running, root) = boot(&config, streams, &clock, 1);
        let root = root.expect("a first start makes a root key");
        Self {
            app,
            clock,
            root,
            config,
            streams,
            address,
            audited: true,
            running: Some(running),
            dir,
            starts: 1,
        }
    }

    /// Stops it and starts it again on the same directory, with the same clock.
    pub fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop();
        change(&mut self.config);
        self.starts += 1;
        let (app, address, running, root) =
            boot(&self.config, self.streams, &self.clock, self.starts);
        assert!(root.is_none(), "only the first start makes a root key");
        (self.app, self.address, self.running) = (app, address, Some(running));
    }

    /// Starts it again on the files as they are now, as after a crash: what a stop stores is lost.
    pub fn crash(&mut self) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        let data = copy.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        // While a transaction reads, no page of its snapshot leaves the write-ahead log.
        let reader = Connection::open(self.database()).expect("the database");
        let snapshot = "BEGIN; SELECT count(*) FROM sqlite_schema";
        reader.execute_batch(snapshot).expect("a read transaction");
        for entry in std::fs::read_dir(self.data_dir()).expect("the data directory") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_file() {
                std::fs::copy(entry.path(), data.join(entry.file_name())).expect("a copy");
            }
        }
        drop(reader);
        self.stop();
        self.dir = copy;
        self.restart(|config| config.data_dir = data);
    }

    /// Stops it as SIGTERM does. The directory stays until the end of the test.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // The receiver is gone if the server died; the thread reports why.
            let _ = stop.send(());
            let outcome = thread.join();
            assert!(outcome.is_ok() || std::thread::panicking(), "the server failed");
        }
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("data/keyward.db")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn run_job(&self, name: &str) -> u64 {
        let job = keyward::service::Job::parse(name).expect("a job");
        self.app.run_job(job, &|| false).expect("the job runs")
    }

    pub fn send(&self, request: &Request) -> Response {
        request.send(self.address)
    }

    pub fn get(&self, key: &str, target: &str) -> Response {
        self.send(&Request::new("GET", target).key(key))
    }

    pub fn post(&self, key: &str, target: &str, body: &Value) -> Response {
        self.send(&Request::new("POST", target).key(key).json(body))
    }

    pub fn put(&self, key: &str, target: &str, body: &Value) -> Response {
        self.send(&Request::new("PUT", target).key(key).json(body))
    }

    pub fn delete(&self, key: &str, target: &str) -> Response {
        self.send(&Request::new("DELETE", target).key(key))
    }

    /// Makes a key of the caller's account.
    #[track_caller]
    pub fn create(&self, caller: &str, body: &Value) -> Key {
        Key::from(&self.post(caller, "/api/v1/api-keys", body).expect(201))
    }

    /// Makes a key of the operator account with these scopes.
    #[track_caller]
    pub fn key(&self, scopes: &[&str]) -> Key {
        self.create(&self.root.text, &json!({ "name": "test", "scopes": scopes }))
    }

    /// Makes an account; returns its id and its first key.
    #[track_caller]
    pub fn account(&self, body: &Value) -> (String, Key) {
        let made = self.post(&self.root.text, "/api/v1/accounts", body).expect(201).json();
        let id = made["id"].as_str().expect("an id").to_owned();
        (id, Key::of(&made["apiKey"]))
    }

    #[track_caller]
    pub fn rotate(&self, caller: &str, id: &str, body: &Value) -> Key {
        let path = format!("/api/v1/api-keys/{id}/rotate");
        Key::from(&self.post(caller, &path, body).expect(200))
    }

    /// Returns the whole answer of verify.
    #[track_caller]
    pub fn verify(&self, text: &str, scopes: &[&str]) -> Value {
        let question = json!({ "key": text, "scopes": scopes });
        let answer = self.post(&self.root.text, "/api/v1/api-keys/verify", &question);
        let body = answer.expect(200).json();
        assert_eq!(body["valid"], body["code"] == "VALID", "{body}");
        body
    }

    /// Returns the verdict of verify, without required scopes.
    #[track_caller]
    pub fn code(&self, text: &str) -> String {
        self.verify(text, &[])["code"].as_str().expect("a code").to_owned()
    }

    /// Returns all events that the operator sees, the oldest first.
    pub fn events(&self) -> Vec<Value> {
        let list = self.get(&self.root.text, "/api/v1/events").expect(200).json();
        list["data"].as_array().cloned().expect("a list")
    }

    /// Returns the types of the events about this key or account.
    pub fn story_of(&self, subject: &str) -> Vec<String> {
        let about = |it: &&Value| it["subject"] == subject;
        let types = self.events().iter().filter(about).map(|it| it["type"].clone()).collect();
        serde_json::from_value(Value::Array(types)).expect("types are strings")
    }
}

impl Key {
    fn from(response: &Response) -> Self {
        Self::of(&response.json())
    }

    fn of(body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().expect(name).to_owned();
        Self { id: text("id"), text: text("key"), body: body.clone() }
    }

    pub fn path(&self) -> String {
        format!("/api/v1/api-keys/{}", self.id)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
        // After every test, the chain must be unbroken.
        if self.audited && !std::thread::panicking() {
            assert_eq!(self.app.first_broken_event().expect("a readable log"), None);
        }
    }
}

type Running = (oneshot::Sender<()>, JoinHandle<()>);

fn open(config: &Config, clock: &Arc<ManualClock>, seed: u64) -> Instance {
    let (clock, entropy) = (Arc::clone(clock), Arc::new(SeededEntropy::new(seed)));
    Instance::open(config, Sources { clock, entropy }).expect("the instance opens")
}

fn boot(
    config: &Config,
    streams: StreamLimits,
    clock: &Arc<ManualClock>,
    seed: u64,
) -> (Arc<Keyward>, SocketAddr, Running, Option<Key>) {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (config, clock) = (config.clone(), Arc::clone(clock));
    let thread = std::thread::spawn(move || {
        let mut site = open(&config, &clock, seed);
        site.streams = Arc::new(Streams::new(streams));
        let made = site.first_start(|_| Ok(())).expect("a first start");
        let root = made.map(|it| Key {
            id: it.id.to_string(),
            text: it.plaintext.expose().to_owned(),
            body: Value::Null,
        });
        actix_web::rt::System::new().block_on(async move {
            let listeners = server::bind(&config).expect("a free port");
            let running = server::start(site, listeners, &config).await.expect("the server starts");
            let app = Arc::clone(running.app());
            tell.send((app, running.address.expect("a TCP address"), root))
                .expect("the test is listening");
            let _ = stopped.await;
            running.stop().await.expect("the server stops");
        });
    });
    let Ok((app, address, root)) = told.recv() else {
        let why = thread.join().expect_err("the server did not come up");
        std::panic::resume_unwind(why);
    };
    (app, address, (stop, thread), root)
}
