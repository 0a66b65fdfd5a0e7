//! A running `keyward dev`.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use keyward::domain::development_key::DevelopmentKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Process, Request, Response, keyward};

const START: &str = "2027-01-01T00:00:00Z";

/// A running `keyward dev` with a directory of its own for temporary files.
pub struct Dev {
    pub child: Process,
    pub address: SocketAddr,
    pub temporary: TempDir,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

impl Dev {
    /// Starts it on a free port, always at the same time of its clock.
    pub fn start() -> Self {
        Self::with(&["--listen", "127.0.0.1:0", "--now", START])
    }

    pub fn with(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (temporary.path().join("out"), temporary.path().join("err"));
        let mut command = dev(temporary.path(), arguments);
        let to = |path: &Path| Stdio::from(File::create(path).unwrap());
        let mut child = Process::start(command.stdout(to(&stdout)).stderr(to(&stderr)));
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = fs::read_to_string(&stdout).unwrap();
            if said.contains("removed at the end") {
                let address = said.split("http://").nth(1).and_then(|it| it.split(' ').next());
                let address = address.unwrap().parse().unwrap();
                return Self { child, address, temporary, stdout, stderr };
            }
            let errors = || fs::read_to_string(&stderr).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", errors());
            assert!(Instant::now() < deadline, "it does not start: {}", errors());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn get(&self, path: &str) -> Response {
        Request::new("GET", path).key(&DevelopmentKey::Root.text()).send(self.address)
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        let key = DevelopmentKey::Root.text();
        Request::new("POST", path).key(&key).json(body).send(self.address)
    }

    pub fn verify(&self, question: &Value) -> Value {
        self.post("/api/v1/api-keys/verify", question).expect(200).json()
    }

    /// Returns the verdict about a sample key, for no scopes.
    pub fn code(&self, key: DevelopmentKey) -> Value {
        self.verify(&json!({ "key": key.text() }))["code"].clone()
    }

    pub fn samples(&self) -> Vec<Value> {
        self.get("/dev/keys").expect(200).json()["data"].as_array().unwrap().clone()
    }

    pub fn advance(&self, seconds: u64) -> Value {
        let answer = self.post("/dev/clock", &json!({ "advanceSeconds": seconds }));
        answer.expect(200).json()["now"].clone()
    }

    /// Returns its data directory, which is the only directory for temporary files.
    pub fn data(&self) -> PathBuf {
        let found = directories(self.temporary.path());
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }
}

/// Returns the command `keyward dev`, with this directory for temporary files.
pub fn dev(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = keyward();
    command.arg("dev").args(arguments).env("TMPDIR", temporary);
    command
}

pub fn directories(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().map(|it| it.unwrap().path());
    entries.filter(|it| it.is_dir()).collect()
}
