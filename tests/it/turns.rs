//! Which process gets the data directory, and which one waits for it.

use std::{
    mem::MaybeUninit, os::unix::net::UnixListener, path::Path, process::Stdio, sync::Arc, thread,
};

use keyward::{
    config::Config,
    env::{ManualClock, SeededEntropy},
    server::{self, Backend, DataDir, DataDirError, Sources},
};
use rustix::fs::inotify;

use crate::support::{Binary, Process, TestServer, keyward, keyward_in};

fn reach(data: &Path, wait: &mut dyn FnMut() -> bool) -> Result<Backend, server::Error> {
    let config = Config { data_dir: data.to_owned(), ..Config::default() };
    let clock = Arc::new(ManualClock::at(TestServer::EPOCH));
    let sources = Sources { clock, entropy: Arc::new(SeededEntropy::new(1)) };
    server::open_or_connect(&config, sources, wait)
}

/// Runs `start`, which needs the directory. Holds the directory until `start` has tried once
/// without success, and then releases it.
fn in_the_way<T>(data: &Path, start: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let held = DataDir::take(data).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    let lock = data.join("keyward.lock");
    inotify::add_watch(&watch, lock, inotify::WatchFlags::CLOSE_WRITE).unwrap();
    thread::scope(|scope| {
        let started = scope.spawn(start);
        let mut buffer = [MaybeUninit::uninit(); 512];
        // A process that does not get the lock closes its file. The file of this test stays open.
        inotify::Reader::new(&watch, &mut buffer).next().unwrap();
        drop(held);
        started.join().unwrap()
    })
}

#[test]
fn a_command_waits_for_the_directory_and_at_last_names_the_process_that_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::take(dir.path()).unwrap();
    let mut asked = 0;
    let mut thrice = || {
        asked += 1;
        asked < 3
    };
    match reach(dir.path(), &mut thrice) {
        Err(server::Error::DataDir(DataDirError::InUse { holder, .. })) => {
            assert_eq!(holder, std::process::id().to_string());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(asked, 3);
    let mut held = Some(held);
    let mut make_room = || {
        held = None;
        true
    };
    assert!(matches!(reach(dir.path(), &mut make_room), Ok(Backend::Local(_))));
}

#[test]
fn a_command_finds_a_server_that_was_still_starting() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::take(dir.path()).unwrap();
    let mut listener = None;
    let mut bind = || {
        listener = Some(held.listen_at(&held.layout().control_socket()).unwrap());
        true
    };
    match reach(dir.path(), &mut bind) {
        Ok(Backend::Server(socket)) => assert_eq!(socket, held.layout().control_socket()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_does_not_wait_for_one_that_answers() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::take(dir.path()).unwrap();
    let left_behind: UnixListener = held.listen_at(&held.layout().control_socket()).unwrap();
    let mut never = || panic!("a server answers");
    let outcome = DataDir::take_in_turn(dir.path(), &mut never);
    assert!(matches!(outcome, Err(DataDirError::InUse { .. })), "{outcome:?}");
    drop(left_behind);
    let mut once = || false;
    let outcome = DataDir::take_in_turn(dir.path(), &mut once);
    assert!(matches!(outcome, Err(DataDirError::InUse { .. })), "{outcome:?}");
}

#[test]
fn commands_and_servers_continue_once_the_directory_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    for arguments in [&["keys", "list"][..], &["run-job", "purge"], &["events", "tail"]] {
        let output = in_the_way(&data, || keyward_in(&data, arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    }
    let server = in_the_way(&data, || Binary::serve(&data));
    assert!(server.terminate().status.success());
}

#[test]
fn many_simultaneous_commands_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(Binary::serve(&data).terminate().status.success());
    let start = |arguments: &[&str]| {
        let mut command = keyward();
        command.args(arguments).arg("--data-dir").arg(&data);
        Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let many: Vec<_> =
        (0..2).flat_map(|_| [start(&["keys", "list"]), start(&["root-key", "reset"])]).collect();
    for child in many {
        let output = child.wait_with_output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    assert!(!data.join("command.sock").exists());
}
