//! Programs that a test starts end with the test, however the tests were started.

use std::{
    fs,
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::Process;

/// A shell with a child, which has a child in a session of its own. Each prints its process id.
const FAMILY: &str =
    "echo $$; sh -c 'echo $$; setsid sh -c \"echo \\$\\$; sleep 100\" & wait' & wait";

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The process is gone, or it is a zombie that process 1 has not waited for.
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_test_that_fails_leaves_no_process() {
    let mut family = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut command = Command::new("sh");
        let command = command.args(["-c", FAMILY]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(command);
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        family.extend(lines.take(3).map(Result::unwrap));
        assert!(family.iter().all(|it| is_running(it)), "{family:?}");
        std::panic::resume_unwind(Box::new("the test fails"));
    }));
    assert!(outcome.is_err());
    assert_eq!(family.len(), 3);
    let deadline = Instant::now() + Duration::from_secs(30);
    while family.iter().any(|it| is_running(it)) {
        assert!(Instant::now() < deadline, "left behind: {family:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn child_processes_react_to_an_interrupt_even_where_the_tests_ignore_it() {
    // A shell starts background jobs like this.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' INT; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    let test = "tail::a_follower_resumes_where_it_was_when_the_server_returns";
    let output = shell.args(["--exact", test]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
