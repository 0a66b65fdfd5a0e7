//! `keyward keys`: manages the keys of an account, by the rules of the API.

mod create;
mod key;
mod list;
mod revoke;
mod rotate;
mod selection;
mod unused;
mod update;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::{
    appendix::{examples_of, help},
    error::Error,
    exit_code::done,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List keys
    #[command(after_long_help = help(&examples_of("keys list")))]
    List(list::Options),
    /// Create a key; the full key is shown only once
    #[command(after_long_help = help(&examples_of("keys create")))]
    Create(create::Options),
    /// Show a key
    Show(key::OneKey),
    /// Change the given properties of a key
    #[command(after_long_help = help(&examples_of("keys update")))]
    Update(update::Options),
    /// Replace the credential of a key; the old one works for a grace period
    #[command(after_long_help = help(&examples_of("keys rotate")))]
    Rotate(rotate::Options),
    /// Revoke keys at once; this cannot be undone
    #[command(after_long_help = help(&examples_of("keys revoke")))]
    Revoke(revoke::Options),
    /// List unused keys, or keys with unused scopes
    #[command(after_long_help = help(&examples_of("keys unused")))]
    Unused(unused::Options),
    /// Show the last five addresses from which a key was used
    Addresses(key::OneKey),
}

impl Command {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::List(it) => it.run().map(done),
            Self::Create(it) => it.run().map(done),
            Self::Show(it) => it.show().map(done),
            Self::Update(it) => it.run().map(done),
            Self::Rotate(it) => it.run().map(done),
            Self::Revoke(it) => it.run(),
            Self::Unused(it) => it.run().map(done),
            Self::Addresses(it) => it.print_addresses().map(done),
        }
    }
}
