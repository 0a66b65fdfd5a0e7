//! What packages ship besides the program, made from the commands themselves.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Error};

/// Prints a script for this shell.
pub(super) fn completions(shell: Shell) -> Result<(), io::Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)
}

/// Writes a page for the program and one for each command.
pub(super) fn manual(directory: &Path) -> Result<(), Error> {
    let unusable = |source| Error::File { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(unusable)?;
    let program = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(program, directory).map_err(unusable)
}
