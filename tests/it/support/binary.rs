//! The built binary, as an operator runs it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::Process;

/// A running `keyward serve`.
pub struct Binary {
    pub child: Process,
    pub address: SocketAddr,
    pub data_dir: PathBuf,
}

/// Returns a command for the program, without variables of this environment that could affect it.
pub fn keyward() -> Command {
    clean(env!("CARGO_BIN_EXE_keyward"))
}

/// As [`keyward`], for a program that runs it.
pub fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command on this data directory and waits for its end.
pub fn keyward_in(data_dir: &Path, arguments: &[&str]) -> Output {
    let mut command = keyward();
    command.args(arguments).arg("--data-dir").arg(data_dir);
    command.output().expect("the binary runs")
}

impl Binary {
    /// Starts `keyward serve` on a free port and waits for its first line.
    pub fn serve(data_dir: &Path) -> Self {
        Self::serve_at("127.0.0.1:0", data_dir)
    }

    /// As [`Binary::serve`], at this address.
    pub fn serve_at(address: &str, data_dir: &Path) -> Self {
        Self::start(keyward(), address, data_dir)
    }

    /// As [`Binary::serve`], with these environment variables.
    pub fn serve_with(data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = keyward();
        command.envs(variables.iter().copied());
        Self::start(command, "127.0.0.1:0", data_dir)
    }

    /// As [`Binary::serve`], with a log level that leaves requests out. Otherwise the log of many
    /// requests would fill the pipe, which is not read before the end.
    pub fn serve_quietly(data_dir: &Path) -> Self {
        let mut command = keyward();
        command.env("KEYWARD_LOG_LEVEL", "warn");
        Self::start(command, "127.0.0.1:0", data_dir)
    }

    /// As [`Binary::serve`], with a prepared command.
    pub fn serve_as(command: Command, data_dir: &Path) -> Self {
        Self::start(command, "127.0.0.1:0", data_dir)
    }

    /// As [`Binary::serve`], run by another program such as a tracer.
    pub fn serve_under(wrapper: &[&str], data_dir: &Path) -> Self {
        let bare = keyward();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(bare.get_program()).stdin(Stdio::null());
        Self::start(command, "127.0.0.1:0", data_dir)
    }

    fn start(mut command: Command, address: &str, data_dir: &Path) -> Self {
        command.args(["serve", "--listen", address, "--data-dir"]).arg(data_dir);
        let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a first line");
        let Some(address) = line.split("http://").nth(1).and_then(|it| it.split(' ').next()) else {
            let _ = child.kill();
            let output = child.wait_with_output();
            panic!("no address in {line:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let address = address.parse().expect("an address");
        // A full pipe would block the server.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, address, data_dir: data_dir.to_owned() }
    }

    /// Returns the unused root key from its file.
    pub fn root_key(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("initial-root-key"))
            .expect("a root key")
            .trim()
            .to_owned()
    }

    /// Sends SIGTERM, as systemd does, and waits.
    pub fn terminate(self) -> Output {
        self.child.signal("-TERM");
        self.wait()
    }

    /// Waits until it ends by itself, which must happen soon.
    pub fn wait(self) -> Output {
        self.child.wait_for_end()
    }
}
