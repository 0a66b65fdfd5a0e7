//! The report of an error, on standard error.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::cli::{advice::Advice, error::Error};

/// How long the report of an error waits for its reader.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Writes the error, and what to do about it, to standard error. A reader that has paused delays the
/// end of the process by at most [`LAST_WORDS`].
pub(super) fn report(err: &Error) {
    let mut text = format!("keyward: {}\n", err.with_causes());
    if let Some(advice) = Advice::about(err) {
        text.push_str(&advice.to_string());
        text.push('\n');
    }
    let (done, wait) = mpsc::channel();
    let writer = thread::Builder::new().spawn(move || {
        // There is no further place to report to.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = wait.recv_timeout(LAST_WORDS);
    }
}
