//! The targets: for each a name, what it does with an input, and texts that mutations insert.

mod bodies;
mod config;
mod cursors;
mod declared;
mod etag;
mod forwarded;
mod import;
mod json;
mod keys;
mod mask;
mod networks;
mod notes;
mod path;
mod phc;
mod policy;
mod scopes;
mod token;

use std::sync::LazyLock;

use keyward::{
    config::Config,
    domain::{event::EventSource, scope::Catalogue},
    server::{Instance, Sources},
    service::Principal,
};

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub tokens: &'static [&'static str],
}

macro_rules! targets {
    ($($name:ident),+) => {
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name::run, tokens: $name::TOKENS }),+];
    };
}

targets!(
    keys, mask, path, policy, cursors, phc, config, declared, import, json, bodies, forwarded,
    networks, etag, scopes, notes, token
);

/// A key with a good checksum.
pub const KEY: &str = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";

/// Fails if a message repeats [`KEY`].
pub fn keeps_the_secret(message: &str) {
    assert!(!message.contains(KEY), "a message repeats a key: {message}");
}

/// Splits an input at its first line `---`.
pub fn halves(text: &str) -> (&str, &str) {
    text.split_once("\n---\n").unwrap_or((text, ""))
}

/// The scopes of a new installation.
pub static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(Config::default().scopes.into_iter().map(|it| (it.name, it.description)))
});

/// An application on a fresh database, and the operator at the machine. run.sh removes its directory.
pub struct Application {
    pub instance: Instance,
    pub operator: Principal,
}

pub static APPLICATION: LazyLock<Application> = LazyLock::new(|| {
    let data_dir = std::env::temp_dir().join(format!("keyward-fuzz-{}", std::process::id()));
    let config = Config { data_dir, ..Config::default() };
    let instance = Instance::open(&config, Sources::system()).expect("no instance");
    instance.first_start(|_| Ok(())).expect("no first start");
    let operator = instance.app.local_operator(EventSource::CLI).expect("no operator");
    Application { instance, operator }
});
