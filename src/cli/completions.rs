//! `keyward completions`: scripts for shells, made from the commands themselves.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::error::Error;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The shell
    shell: Shell,
}

impl Options {
    pub(super) fn run(&self, program: &mut Command) -> Result<(), Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, program, "keyward", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}
