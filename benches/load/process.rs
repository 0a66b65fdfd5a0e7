//! The servers under load, each in a process of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    Outcome,
    client::{Connection, Request},
};

/// The release binary, as `cargo build --release` makes it.
pub const KEYWARD: &str = env!("CARGO_BIN_EXE_keyward");

pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process to its first 200.
    pub start: Duration,
}

impl Process {
    /// Starts `keyward serve` with its defaults on this data directory.
    pub fn keyward(data_dir: &Path) -> Outcome<Self> {
        Self::serve(KEYWARD.as_ref(), data_dir, &[])
    }

    /// Does the same with another binary of keyward, and with these variables.
    pub fn serve(binary: &Path, data_dir: &Path, variables: &[(&str, &str)]) -> Outcome<Self> {
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KEYWARD_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
        command.stdin(Stdio::null());
        Self::start(command, true)
    }

    /// Starts keyward with a clock that [`Process::put_forward`] moves.
    pub fn aged(data_dir: &Path) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["baseline", "aged"]).arg(data_dir).stdin(Stdio::piped());
        Self::start(command, true)
    }

    pub fn put_forward(&mut self, by: Duration) -> Outcome<()> {
        let clock = self.child.stdin.as_mut().ok_or("no clock")?;
        Ok(writeln!(clock, "{}", by.as_secs())?)
    }

    /// Starts this program again, as one of the servers in `baseline`.
    pub fn baseline(name: &str, argument: &Path) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["baseline", name]).arg(argument).stdin(Stdio::null());
        Self::start(command, false)
    }

    /// Starts a program without output, and waits until it accepts connections.
    pub fn silent(mut command: Command, address: SocketAddr) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let mut process = Self { child: command.spawn()?, address, start: Duration::ZERO };
        while TcpStream::connect(address).is_err() {
            if process.child.try_wait()?.is_some() || Duration::from_secs(30) < started.elapsed() {
                return Err("it does not start".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        process.start = started.elapsed();
        Ok(process)
    }

    fn start(mut command: Command, has_livez: bool) -> Outcome<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|it| it.split_whitespace().next());
        let address = address.ok_or_else(|| format!("no address in {line:?}"))?.parse()?;
        if has_livez {
            Connection::open(address)?.ask(&Request::new("GET", "/livez", None, None))?;
        }
        let start = started.elapsed();
        // The rest must be read, because a full pipe would block the server.
        thread::spawn(move || out.read_to_end(&mut Vec::new()));
        Ok(Self { child, address, start })
    }

    pub fn cpu(&self) -> Outcome<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// Returns the memory that the process holds, in bytes.
    pub fn rss(&self) -> Outcome<u64> {
        self.status("VmRSS:")
    }

    /// Returns the part of that memory that no file backs. The kernel cannot take it back.
    pub fn anonymous(&self) -> Outcome<u64> {
        self.status("RssAnon:")
    }

    /// Returns how many sockets it has open.
    pub fn sockets(&self) -> Outcome<usize> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?;
        // A file may be closed meanwhile.
        let targets = files.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
        Ok(targets.filter(|it| it.to_string_lossy().starts_with("socket:")).count())
    }

    fn status(&self, field: &str) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix(field));
        let kib = line.and_then(|it| it.split_whitespace().next()).ok_or("no such field")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Sends SIGTERM, as systemd does, and waits.
    pub fn stop(mut self) -> Outcome<()> {
        let killed = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        let ended = self.child.wait()?;
        if killed.success() && ended.success() { Ok(()) } else { Err("it did not stop".into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is already gone if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of a process, in user mode and in the kernel; `self` is this process.
pub fn cpu_of(process: &str) -> Outcome<Duration> {
    /// `getconf CLK_TCK`: 100 on every current Linux.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold any character. After it, state is field 3, utime 14, stime 15.
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}
