//! A whole keyward on a free port, with a directory of its own and a clock that the test holds.

pub mod authz;
mod binary;
mod client;
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
pub mod webhook;

use std::{io::Write, process::Command};

pub use self::{
    binary::{Binary, keyward, keyward_in},
    client::{Request, Response},
    forgery::{checksum, forged},
    logged::Logged,
    process::{Process, signal},
    receiver::{Reaction, Receiver, Sent},
    server::{Key, TestServer},
    stream::{EventStream, Message},
    stub::{Answer, Stub},
    supervised::Supervised,
};

/// Whether these programs are there; if not, that is said.
pub fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|it| Command::new(it).arg("--version").output().is_err());
    if let Some(missing) = missing {
        skip(&format!("there is no {missing}"));
    }
    missing.is_none()
}

/// Says what cannot be tried here, and why, past the harness, which keeps to itself what a test that
/// passes has said. Where everything is to be tried, that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be tried: {why}");
    writeln!(std::io::stderr(), "skipped: {why}").expect("standard error is open");
}
