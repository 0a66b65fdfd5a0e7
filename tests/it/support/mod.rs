//! The complete server on a free port, with a directory of its own and a clock that the test sets.

mod address;
pub mod apply;
pub mod authz;
mod binary;
mod client;
pub mod control;
pub mod dev;
mod dice;
mod forgery;
pub mod import;
mod logged;
pub mod operations;
mod process;
pub mod proxy;
mod receiver;
pub mod schema;
mod server;
mod stream;
mod stub;
mod supervised;
mod tokens;
mod triggers;
pub mod webhook;

use std::{fs::OpenOptions, io::Write, process::Command, thread};

pub use self::{
    address::ReservedAddress,
    binary::{Binary, clean, keyward, keyward_in},
    client::{Request, Response},
    dice::Dice,
    forgery::{checksum, forged},
    logged::Logged,
    process::{Process, signal},
    receiver::{Reaction, Receiver, Sent},
    server::{Key, TestServer},
    stream::{EventStream, Message},
    stub::{Answer, Stub},
    supervised::Supervised,
    tokens::{ISSUER, StatusList, Token, exchange, form, issuing},
    triggers::without_triggers,
};

/// Returns whether these programs are installed. Reports it if they are not.
pub fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|it| Command::new(it).arg("--version").output().is_err());
    if let Some(missing) = missing {
        skip(&format!("there is no {missing}"));
    }
    missing.is_none()
}

/// Reports a test that cannot run here, and why. It writes past the test harness, which hides the
/// output of a test that passes. Where all tests are required, it fails instead.
///
/// If `SKIPPED_TESTS` names a file, the name of the test is added to it, for a second run with all tools.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be tried: {why}");
    writeln!(std::io::stderr(), "skipped: {why}").expect("standard error is open");
    if let Some(list) = std::env::var_os("SKIPPED_TESTS") {
        let list = OpenOptions::new().append(true).open(list);
        // The harness gives the thread of a test the name of the test.
        let test = thread::current().name().expect("the thread of a test").to_owned();
        list.and_then(|mut it| writeln!(it, "{test}")).expect("the list of skipped tests");
    }
}
