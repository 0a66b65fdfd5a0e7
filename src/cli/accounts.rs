//! `keyward accounts`: manages the accounts of the operator's customers.

pub(super) mod account;
mod create;
mod link;
mod list;
mod stop;
mod update;

use clap::Subcommand;

use crate::cli::{
    appendix::{examples_of, help},
    error::Error,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List accounts
    List(list::Options),
    /// Create an account and its first key; the full key is shown only once
    #[command(after_long_help = help(&examples_of("accounts create")))]
    Create(create::Options),
    /// Create a link to the console, with which the holder of the account manages its keys
    #[command(after_long_help = help(&examples_of("accounts link")))]
    Link(link::Options),
    /// Show an account
    Show(account::Show),
    /// Change the given properties of an account
    Update(update::Options),
    /// Refuse all keys of an account until it is resumed
    Suspend(stop::Options),
    /// Accept the keys of a suspended account again
    Resume(account::OneAccount),
    /// Delete an account and revoke all its keys; this cannot be undone
    Delete(stop::Deletion),
}

impl Command {
    pub(super) fn run(&self) -> Result<(), Error> {
        match self {
            Self::List(it) => it.run(),
            Self::Create(it) => it.run(),
            Self::Link(it) => it.run(),
            Self::Show(it) => it.run(),
            Self::Update(it) => it.run(),
            Self::Suspend(it) => it.suspend(),
            Self::Resume(it) => it.resume(),
            Self::Delete(it) => it.run(),
        }
    }
}
