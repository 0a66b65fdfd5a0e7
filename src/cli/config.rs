//! `keyward config`: check and print the configuration.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{
        error::Error,
        exit_code::done,
        output::{self, Format, Output},
        report::report,
        settings::{NO_FILE, Settings, load_strictly},
    },
    config,
    server::{self, PolicyError},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration; print every mistake, and exit 78 if there is one
    Check(Check),
    /// Print the configuration that is in force
    Print(Settings),
    /// Print a commented configuration file with every default
    Default,
}

impl Command {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::Check(it) => check(it),
            Self::Print(settings) => print(settings).map(done),
            Self::Default => Ok(write!(io::stdout(), "{}", config::DEFAULT_FILE).map(done)?),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    settings: Settings,
}

fn check(it: &Check) -> Result<ExitCode, Error> {
    let errors: Vec<Error> = match load_strictly(&it.settings) {
        Ok((config, _)) => server::file_faults(&config).into_iter().map(Error::from).collect(),
        Err(err) => vec![err],
    };
    if it.output.output == Format::Json {
        let faults = errors.iter().flat_map(|err| {
            if let Error::Config(found)
            | Error::Server(server::Error::Policy(PolicyError::Faults(found))) = err
            {
                output::faults(found)
            } else {
                vec![json!({ "place": null, "detail": err.with_causes() })]
            }
        });
        let faults: Vec<_> = faults.collect();
        output::json(&json!({ "sound": errors.is_empty(), "faults": faults }))?;
    } else if errors.is_empty() {
        writeln!(io::stdout(), "the configuration is sound")?;
    } else {
        errors.iter().for_each(report);
    }
    Ok(errors.first().map_or(ExitCode::SUCCESS, |err| ExitCode::from(err.exit_code())))
}

fn print(settings: &Settings) -> Result<(), Error> {
    let (config, file) = load_strictly(settings)?;
    // Not to standard output, which may become a configuration file.
    let _ = match file {
        Some(file) => writeln!(io::stderr(), "keyward: read {}", file.display()),
        None => writeln!(io::stderr(), "keyward: {NO_FILE}"),
    };
    Ok(write!(io::stdout(), "{}", config.to_toml())?)
}
