//! The only place where tests start programs that run beside them.

use std::{
    fs,
    ops::{Deref, DerefMut},
    process::{Child, Command, Output},
    sync::Once,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A child process that does not outlive its test: dropping it kills the child with all its
/// descendants and waits for its end.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts the command. Panics if that fails.
    pub fn start(command: &mut Command) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(heed_interrupts);
        let child = command.spawn();
        Self(child.unwrap_or_else(|err| panic!("{command:?} does not start: {err}")))
    }

    /// Sends a signal; see [`signal`].
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it ends by itself, at most 30 seconds, then returns what is left in its pipes.
    pub fn wait_for_end(mut self) -> Output {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.wait_with_output()
    }

    /// Closes its standard input, then reads all its output and waits for its end.
    pub fn wait_with_output(mut self) -> Output {
        drop(self.stdin.take());
        let (out, err) = (self.stdout.take(), self.stderr.take());
        let errors = std::thread::spawn(move || read_all(err));
        let stdout = read_all(out);
        let stderr = errors.join().expect("its errors");
        Output { status: self.wait().expect("its end"), stdout, stderr }
    }
}

fn read_all(pipe: Option<impl std::io::Read>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut text).expect("its output");
    }
    text
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has been waited for has no descendants, and its id may belong to another.
        if matches!(self.try_wait(), Ok(None)) {
            let descendants = descendants(self.id());
            let _ = self.kill();
            for pid in descendants {
                // It may have ended with its parent.
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = self.wait();
        }
    }
}

/// Returns the children of this process, their children, and so on, also those in other sessions.
fn descendants(of: u32) -> Vec<Pid> {
    let processes: Vec<_> = fs::read_dir("/proc").into_iter().flatten().flatten().collect();
    let parents: Vec<(i32, i32)> = processes
        .iter()
        .filter_map(|it| {
            let pid = it.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(it.path().join("stat")).ok()?;
            // proc_pid_stat(5): the name may hold blanks and brackets; state and parent follow it.
            let (_, rest) = stat.rsplit_once(") ")?;
            Some((pid, rest.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family = vec![i32::try_from(of).expect("a process number")];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|it| it.1 == parent).map(|it| it.0));
        next += 1;
    }
    family.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// Sends the signal that `kill` sends for this option, such as `-TERM`. A minimal Debian has no
/// program `kill`.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let signal = match name {
        "-ABRT" => Signal::ABORT,
        "-CONT" => Signal::CONT,
        "-HUP" => Signal::HUP,
        "-INT" => Signal::INT,
        "-KILL" => Signal::KILL,
        "-STOP" => Signal::STOP,
        "-TERM" => Signal::TERM,
        "-USR1" => Signal::USR1,
        other => panic!("no test has sent {other} before"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).expect("a process of ours");
}

/// Makes child processes react to SIGINT. A shell that starts the tests in the background, and
/// `nohup`, make them ignore signals, and children inherit that. Children do not inherit a handler,
/// so one that does nothing is enough; the tests go on ignoring SIGINT.
fn heed_interrupts() {
    use tokio::signal::unix::{SignalKind, signal};
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|it| it.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0);
    // proc_pid_status(5): the bit of signal n is n - 1.
    if ignored & 1 << (Signal::INT.as_raw() - 1) != 0 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let _guard = runtime.as_ref().expect("a runtime").enter();
        // The handler stays until the process ends.
        drop(signal(SignalKind::interrupt()).expect("a handler"));
    }
}
