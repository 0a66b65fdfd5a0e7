//! Output that appears only on a terminal.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Binary, Logged, Process, Request, has, keyward, signal};

/// A `keyward serve` on a terminal, and what the terminal shows.
struct Terminal {
    child: Process,
    data: PathBuf,
    screen: PathBuf,
}

/// Returns the command `script`, which makes a terminal for this keyward command and stores its
/// output.
fn on_a_terminal(arguments: &str, screen: &Path) -> Command {
    let program = keyward();
    let line = format!("exec {} {arguments}", program.get_program().display());
    let mut script = Command::new("script");
    for (name, _) in program.get_envs() {
        script.env_remove(name);
    }
    script.args(["-qefc", &line]).arg(screen).stdin(Stdio::null()).stdout(Stdio::null());
    script.env("TERM", "xterm");
    // Other variables that decide about colours; unattended test runs set `CI`.
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        script.env_remove(name);
    }
    script
}

fn shown(screen: &Path) -> String {
    String::from_utf8_lossy(&fs::read(screen).unwrap_or_default()).into_owned()
}

impl Terminal {
    /// Starts it with these variables and waits until its first output is complete.
    fn serve(dir: &Path, variables: &[(&str, &str)]) -> Self {
        let (data, screen) = (dir.join("data"), dir.join("screen"));
        let serve = format!("serve --listen 127.0.0.1:0 --data-dir {}", data.display());
        let mut script = on_a_terminal(&serve, &screen);
        let child = Process::start(script.envs(variables.iter().copied()));
        let it = Self { child, data, screen };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !it.shown().contains("/docs/") {
            assert!(Instant::now() < deadline, "{}", it.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
        it
    }

    fn shown(&self) -> String {
        shown(&self.screen)
    }

    /// Stops it; returns all its output.
    fn terminate(self) -> String {
        let pid = fs::read_to_string(self.data.join("keyward.lock")).unwrap();
        signal(pid.trim().parse().unwrap(), "-TERM");
        let Self { child, screen, .. } = self;
        assert!(child.wait_for_end().status.success());
        shown(&screen)
    }
}

#[test]
fn a_first_start_on_a_terminal_shows_the_root_key_once() {
    if !has(&["script"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Terminal::serve(dir.path(), &[]);
    let data = server.data.clone();
    assert!(!data.join("initial-root-key").exists());
    let shown = server.shown();
    assert!(!shown.contains("checkpoint.note"), "no further notice on the screen: {shown}");
    let (_, after) = shown.split_once("rg_").expect("a key");
    let key = format!("rg_{}", &after[..47]);
    let (_, after) = shown.split_once("· http://").expect("an address");
    let address = after.split(' ').next().unwrap().parse().unwrap();
    let answer = Request::new("GET", "/api/v1/api-keys").key(&key).send(address).expect(200);
    assert_eq!(answer.json()["data"][0]["scopes"], json!(["*"]));
    let all = server.terminate();
    assert!(!all.contains("checkpoint.note"), "{all}");

    let again = Logged::serve(&data, &[]);
    assert!(!again.said().contains("rg_"), "{}", again.said());
    assert!(again.said().contains("checkpoint.note"), "as evidence: {}", again.said());
}

#[test]
fn the_log_is_coloured_unless_colours_are_switched_off() {
    if !has(&["script"]) {
        return;
    }
    for (variables, coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "")], true),
        (&[("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let shown = Terminal::serve(dir.path(), variables).terminate();
        assert!(shown.contains("keyward is ready"), "{shown}");
        assert_eq!(shown.contains("\u{1b}["), coloured, "{variables:?}: {shown}");
    }
}

#[test]
fn a_new_root_key_is_in_json_output_on_a_terminal_only() {
    if !has(&["script"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, screen) = (dir.path().join("data"), dir.path().join("screen"));
    assert!(Binary::serve(&data).terminate().status.success());
    fs::remove_file(data.join("initial-root-key")).unwrap();
    let reset = format!("root-key reset -o json --data-dir {}", data.display());
    assert!(on_a_terminal(&reset, &screen).status().unwrap().success());
    let shown = fs::read_to_string(&screen).unwrap();
    let start = shown.find('{').expect("an object");
    let end = shown.rfind('}').expect("its end");
    let found: Value = serde_json::from_str(&shown[start..=end]).unwrap();
    let key = found["key"].as_str().expect("a key");
    assert_eq!((&found["keyPrefix"], &found["path"]), (&json!(key[..12]), &Value::Null));
    assert!(!data.join("initial-root-key").exists());
}

#[test]
fn a_key_typed_on_a_terminal_ends_with_the_line_and_is_not_shown() {
    if !has(&["script"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, screen) = (dir.path().join("data"), dir.path().join("screen"));
    let server = Binary::serve(&data);
    let key = server.root_key();
    let verify = format!("verify - --data-dir {}", data.display());
    let mut child = Process::start(on_a_terminal(&verify, &screen).stdin(Stdio::piped()));
    let mut keyboard = child.stdin.take().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let shown = || String::from_utf8_lossy(&fs::read(&screen).unwrap_or_default()).into_owned();
    while !shown().contains("Key to verify: ") {
        assert!(Instant::now() < deadline, "{}", shown());
        std::thread::sleep(Duration::from_millis(5));
    }
    keyboard.write_all(format!("{key}\n").as_bytes()).unwrap();
    // The input stays open, so only the end of the line completes the key.
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "{}", shown());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(shown().contains("VALID"), "{}", shown());
    assert!(!shown().contains(&key[12..]), "{}", shown());
    drop(keyboard);
}
