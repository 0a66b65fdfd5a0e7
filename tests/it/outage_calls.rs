//! Each system call of a commit fails once: verification goes on, no answered change is lost, and
//! the server takes changes again without a restart.

mod operations;
mod victim;

use self::victim::{CALLS, Victim};
use crate::support::keyward_in;

/// The errors of the call, used in turn; and other calls that fail, and when.
#[derive(Clone, Copy, Default)]
struct Faults {
    errors: &'static [&'static str],
    also: &'static [&'static str],
    /// Checkpoints the write-ahead log before each attempt, so that the next change goes to its
    /// start.
    folded: bool,
}

const IO: Faults = Faults { errors: &["EIO"], also: &[], folded: false };

/// Fails each call of this name that `act` makes the thread do, one after the other. Returns how
/// many failed.
fn fail_each(call: &str, faults: Faults, act: impl Fn(&Victim)) -> usize {
    let Some(victim) = Victim::start() else { return usize::MAX };
    let (mut n, mut missed) = (1, false);
    while n < CALLS {
        if faults.folded {
            upkeep(&victim);
        }
        let error = faults.errors[n % faults.errors.len()];
        let fault = format!("{call}:error={error}:when={n}");
        let failed = victim.failing(&[&[fault.as_str()], faults.also].concat(), || {
            act(&victim);
            victim.check(&victim.server);
        });
        let failed = failed.expect("traced before");
        victim.insist(&format!("{fault}\n{failed}"));
        if failed.contains(&format!("{call}(")) {
            (n, missed) = (n + 1, false);
        } else if missed {
            victim.end();
            return n - 1;
        } else {
            // On a busy machine, an attempt may come after the calls were watched.
            missed = true;
        }
    }
    panic!("{call}: more than {CALLS} calls");
}

fn change(victim: &Victim) {
    victim.insist("while a call fails");
}

fn change_twice(victim: &Victim) {
    change(victim);
    change(victim);
}

fn upkeep(victim: &Victim) {
    // It may fail, and then it reports that.
    keyward_in(&victim.data(), &["run-job", "upkeep"]);
}

fn upkeep_and_change(victim: &Victim) {
    upkeep(victim);
    change(victim);
}

#[test]
fn any_write_of_a_commit_may_fail() {
    let faults = Faults { errors: &["EIO", "ENOSPC", "EINTR"], ..IO };
    assert!(20 < fail_each("pwrite64", faults, change));
}

#[test]
fn any_lock_or_unlock_of_a_commit_may_fail() {
    assert!(3 < fail_each("fcntl", Faults { errors: &["EIO", "ENOLCK"], ..IO }, change));
}

/// After a checkpoint of the write-ahead log, a commit makes more calls than usual.
#[test]
fn any_call_of_a_commit_that_restarts_the_write_ahead_log_may_fail() {
    let faults = Faults { folded: true, ..IO };
    for (call, least) in [("fcntl", 3), ("fsync", 1), ("newfstatat", 0)] {
        assert!(least < fail_each(call, faults, change), "{call}");
    }
}

#[test]
fn any_call_of_a_write_ahead_log_checkpoint_may_fail() {
    let faults = Faults { errors: &["EIO", "ENOSPC"], ..IO };
    for (call, least) in [("fsync", 3), ("pread64", 9), ("pwrite64", 9), ("ftruncate", 1)] {
        assert!(least < fail_each(call, faults, upkeep_and_change), "{call}");
    }
    let faults = Faults { errors: &["EIO", "EACCES"], ..IO };
    assert!(1 < fail_each("newfstatat", faults, upkeep_and_change));
}

/// The first commit fails, so the file is opened and read again, while another call fails.
const REOPENED: Faults = Faults { also: &["fsync:error=EIO:when=1"], ..IO };

/// SQLite reports a page that it cannot read as a damaged page.
#[test]
fn any_call_that_reopens_the_file_may_fail() {
    assert!(19 < fail_each("pread64", REOPENED, change));
    let faults = Faults { errors: &["EIO", "EACCES", "ENOMEM"], ..REOPENED };
    for (call, least) in [("newfstatat", 19), ("openat", 1), ("statfs", 0)] {
        assert!(least < fail_each(call, faults, change), "{call}");
    }
}

#[test]
fn any_lock_of_the_reopened_file_may_fail() {
    assert!(19 < fail_each("fcntl", REOPENED, change));
}

/// A lock that could not be released ends with the last connection of the process. Everything that
/// the connections share is then built again.
#[test]
fn any_call_that_reopens_a_locked_file_may_fail() {
    let faults = Faults { also: &["fcntl:error=EIO:when=3"], ..IO };
    for call in ["mmap", "ftruncate"] {
        assert!(0 < fail_each(call, faults, change_twice), "{call}");
    }
}
