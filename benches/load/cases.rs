//! The measurements. Each case prints a table of its own.

mod authz;
mod history;
mod purge;
mod reads;
mod starts;
mod tokens;
mod unread;
mod verify;
mod writes;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Outcome, process::Process, site::Site};

/// The number of rounds. The servers take turns, and the median of the rounds is reported.
pub const ROUNDS: usize = 5;

pub type Case = fn(&mut Bench) -> Outcome<()>;

pub const CASES: &[(&str, Case)] = &[
    ("start", starts::start_and_memory),
    ("verify", verify::against_the_floor),
    ("authz", authz::against_the_floor),
    ("nginx", authz::behind_nginx),
    ("growth", verify::growth),
    ("usage", verify::usage),
    ("restart", starts::restart),
    ("create", writes::create),
    ("revoke", writes::revoke),
    ("history", history::of_keys_and_accounts),
    ("list", reads::list),
    ("flood", verify::flood),
    ("tokens", tokens::tokens),
    ("purge", purge::beside_verify),
    ("unread", unread::memory),
];

/// State that the cases share: directories with keys, made at the first use.
pub struct Bench {
    dir: PathBuf,
    pub full: bool,
    sites: BTreeMap<usize, Site>,
}

impl Bench {
    pub const SMALL: usize = 1_000;
    pub const MIDDLE: usize = 10_000;

    pub fn new(dir: &Path, full: bool) -> Self {
        Self { dir: dir.to_owned(), full, sites: BTreeMap::new() }
    }

    pub fn large(&self) -> usize {
        if self.full { 1_000_000 } else { 100_000 }
    }

    pub fn scratch(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Returns a directory with this many keys; no server runs on it.
    pub fn site(&mut self, count: usize) -> Outcome<&Site> {
        if !self.sites.contains_key(&count) {
            let (site, process) = Site::fill(&self.dir.join(format!("keys-{count}")), count)?;
            process.stop()?;
            self.sites.insert(count, site);
        }
        self.sites.get(&count).ok_or_else(|| "no site".into())
    }

    /// Starts a server on such a directory; also returns the requests to send.
    pub fn serve(&mut self, count: usize) -> Outcome<(&Site, Process)> {
        let site = self.site(count)?;
        let process = Process::keyward(&site.dir)?;
        Ok((site, process))
    }
}

pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
