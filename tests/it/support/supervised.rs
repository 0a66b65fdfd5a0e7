//! The built binary under a supervisor that listens as systemd does.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::{Process, keyward};

/// A running `keyward serve`, the notices that it sends, and its directory.
pub struct Supervised {
    pub child: Process,
    pub dir: PathBuf,
    notices: UnixDatagram,
}

impl Supervised {
    /// Starts it with this configuration in `dir`, and waits until it is ready.
    pub fn serve(dir: &Path, config: &str) -> Self {
        Self::serve_with(dir, config, &[])
    }

    /// As [`Supervised::serve`], with these environment variables too.
    pub fn serve_with(dir: &Path, config: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = keyward();
        command.envs(variables.iter().copied());
        Self::start(dir, config, command)
    }

    pub fn start(dir: &Path, config: &str, mut command: Command) -> Self {
        let socket = dir.join("notify");
        let _ = fs::remove_file(&socket);
        let notices = UnixDatagram::bind(&socket).expect("a socket");
        notices.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
        write_config(dir, config);
        command.args(["serve", "--config"]).arg(dir.join("keyward.toml"));
        command.arg("--data-dir").arg(dir.join("data")).env("NOTIFY_SOCKET", &socket);
        let errors = fs::File::create(dir.join("err")).expect("a file");
        let child = Process::start(command.stdout(Stdio::null()).stderr(errors));
        let it = Self { child, dir: dir.to_owned(), notices };
        it.hear("READY=1");
        it
    }

    /// Waits for the next notice that holds this line; drops those before it.
    pub fn hear(&self, line: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut buffer = [0; 4096];
        loop {
            let length = self.notices.recv(&mut buffer);
            let length = length.unwrap_or_else(|err| panic!("no {line}: {err}\n{}", self.said()));
            let notice = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if notice.lines().any(|it| it.starts_with(line)) {
                return notice;
            }
            assert!(Instant::now() < deadline, "no {line}");
        }
    }

    /// Returns how many notices with this line come until none has come for this long.
    pub fn count_for(&self, silence: Duration, line: &str) -> usize {
        self.notices.set_read_timeout(Some(silence)).expect("a deadline");
        let (mut buffer, mut count) = ([0; 4096], 0);
        while let Ok(length) = self.notices.recv(&mut buffer) {
            count += usize::from(String::from_utf8_lossy(&buffer[..length]).contains(line));
        }
        let usual = Some(Duration::from_secs(30));
        self.notices.set_read_timeout(usual).expect("a deadline");
        count
    }

    /// Returns the first address of the server with this beginning, from its status.
    pub fn url(&self, beginning: &str) -> String {
        self.signal("-HUP");
        self.hear("RELOADING=1");
        let status = self.hear("READY=1");
        let found = status.split_whitespace().find(|it| it.starts_with(beginning));
        found.unwrap_or_else(|| panic!("no {beginning} in {status}")).to_owned()
    }

    pub fn signal(&self, signal: &str) {
        self.child.signal(signal);
    }

    /// Makes it reload this changed configuration; returns what it logged about the reload.
    pub fn reload(&self, config: &str) -> String {
        let before = self.said().len();
        write_config(&self.dir, config);
        self.signal("-HUP");
        assert!(self.hear("RELOADING=1").contains("MONOTONIC_USEC="));
        self.hear("READY=1");
        self.said()[before..].to_owned()
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.join("err")).expect("its log")
    }

    pub fn root_key(&self) -> String {
        fs::read_to_string(self.dir.join("data/initial-root-key"))
            .expect("a root key")
            .trim()
            .to_owned()
    }

    pub fn terminate(mut self) -> Output {
        self.signal("-TERM");
        self.hear("STOPPING=1");
        let status = self.child.wait().expect("its end");
        Output { status, stdout: Vec::new(), stderr: self.said().into_bytes() }
    }
}

fn write_config(dir: &Path, config: &str) {
    fs::write(dir.join("keyward.toml"), config).expect("a configuration");
}
