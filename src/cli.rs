//! The command line: every command, and the file that runs it.

mod accounts;
mod advice;
mod api;
mod appendix;
mod apply;
mod backup;
mod clock;
mod completions;
mod config;
mod dev;
mod doctor;
mod error;
mod events;
mod exit_code;
mod health;
pub(crate) mod import;
mod keys;
mod limits;
mod man;
mod output;
mod report;
mod request;
mod root_key;
mod routes;
mod run_job;
mod scan;
mod scopes;
mod secret;
mod serve;
mod settings;
mod usage;
mod usage_error;
mod verify;
mod webhooks;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use rustix::{
    fs::Mode,
    process::{self, DumpableBehavior, Resource, Rlimit},
};

use self::{error::Error, exit_code::done, settings::Settings};
use crate::http::openapi;

/// A self-hosted API-key server.
#[derive(Debug, Parser)]
#[command(name = "keyward", version = env!("BUILD_VERSION"), about, arg_required_else_help = true)]
#[command(after_long_help = appendix::help(&appendix::of_the_program()))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_long_help = appendix::help(&appendix::of_serve()))]
    Serve(Settings),
    /// Run a server with sample keys and a settable clock, for the tests of other programs
    #[command(after_long_help = appendix::help(&appendix::examples_of("dev")))]
    Dev(dev::Options),
    /// Manage keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Manage accounts
    #[command(subcommand)]
    Accounts(accounts::Command),
    /// List the scopes
    Scopes(scopes::Options),
    /// Verify a key; exit 3 if it is not valid
    #[command(after_long_help = appendix::help(&appendix::examples_of("verify")))]
    Verify(verify::Options),
    /// Show how often keys are used, by day
    Usage(usage::Options),
    /// Check that the server works; exit 1 if it does not
    Health(health::Options),
    /// Diagnose this installation; exit 1 if a check failed
    Doctor(doctor::Options),
    /// Check and print the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Generate a root key in advance, or recover access with a new one
    #[command(subcommand)]
    RootKey(root_key::Command),
    /// Run a scheduled job now; if it is running already, wait and run it again
    RunJob(run_job::Options),
    /// Import keys that another system issued; exit 3 if any was refused
    #[command(after_long_help = appendix::help(&appendix::examples_of("import")))]
    Import(import::Options),
    /// Make accounts and keys what a file declares; exit 3 if they still differ
    #[command(after_long_help = appendix::help(&appendix::examples_of("apply")))]
    Apply(apply::Options),
    /// Find keys in files, without a server; exit 1 if there are any
    #[command(after_long_help = appendix::help(&appendix::examples_of("scan")))]
    Scan(scan::Options),
    /// Print patterns of keys for gitleaks and GitHub secret scanning
    ScanPatterns(scan::Patterns),
    /// Create, check and restore backups
    #[command(subcommand)]
    Backup(backup::Command),
    /// Print, check and export the audit log
    #[command(subcommand)]
    Events(events::Command),
    /// Check and try out the route policy of forward auth
    #[command(subcommand)]
    Routes(routes::Command),
    /// List and enable webhooks
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Accept the machine's clock
    #[command(subcommand)]
    Clock(clock::Command),
    /// Print a script that completes commands in your shell
    Completions(completions::Options),
    /// Write the manual pages
    Man(man::Options),
    /// Print the API document
    Openapi {
        /// Print YAML instead of JSON
        #[arg(long)]
        yaml: bool,
        /// Print OpenAPI 3.0 instead of 3.1, for tools that cannot read 3.1
        #[arg(long = "v3.0", conflicts_with = "yaml")]
        v3_0: bool,
    },
}

/// Runs the command in the arguments of this process.
pub fn main() -> ExitCode {
    protect_secrets();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return usage_error::explain(err),
    };
    match run(cli.command) {
        Ok(code) => code,
        // The reader of the output closed it early, as `head` does.
        Err(Error::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(err) => {
            report::report(&err);
            ExitCode::from(err.exit_code())
        }
    }
}

/// Keeps new files unreadable for other users, and keys out of core dumps.
fn protect_secrets() {
    process::umask(Mode::RWXG | Mode::RWXO);
    // Best effort: either call alone prevents a core dump, and a kernel may support neither.
    let _ = process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = process::setrlimit(Resource::Core, none);
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Serve(settings) => serve::run(&settings).map(done),
        Command::Dev(it) => it.run().map(done),
        Command::Keys(command) => command.run(),
        Command::Accounts(command) => command.run().map(done),
        Command::Scopes(it) => it.run().map(done),
        Command::Verify(it) => it.run(),
        Command::Usage(it) => it.run().map(done),
        Command::Health(it) => it.run(),
        Command::Doctor(it) => it.run(),
        Command::Config(command) => command.run(),
        Command::RootKey(command) => command.run().map(done),
        Command::RunJob(it) => it.run().map(done),
        Command::Import(it) => it.run(),
        Command::Apply(it) => it.run(),
        Command::Scan(it) => it.run(),
        Command::ScanPatterns(it) => it.run().map(done),
        Command::Backup(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Routes(command) => command.run(),
        Command::Webhooks(command) => command.run().map(done),
        Command::Clock(command) => command.run().map(done),
        Command::Completions(it) => it.run(&mut Cli::command()).map(done),
        Command::Man(it) => it.run(Cli::command()).map(done),
        Command::Openapi { yaml, v3_0 } => {
            let document = match (yaml, v3_0) {
                (true, _) => openapi::document_yaml(),
                (false, true) => openapi::document_json_3_0(),
                (false, false) => openapi::document_json(),
            };
            Ok(write!(io::stdout(), "{document}").map(done)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_command() {
        for (line, _) in appendix::EXAMPLES.iter().flat_map(|(_, all)| *all) {
            let command = line.split(['|', '<', '>']).next().unwrap_or_default();
            // Between quotes, a blank does not end a word.
            let parts = command.split('"').enumerate();
            let words: Vec<&str> =
                parts
                    .flat_map(|(index, it)| {
                        if index % 2 == 1 { vec![it] } else { it.split_whitespace().collect() }
                    })
                    .collect();
            if let Err(err) = Cli::try_parse_from(words) {
                panic!("{line}: {err}");
            }
        }
    }

    #[test]
    fn every_command_with_examples_exists() {
        for (name, _) in appendix::EXAMPLES {
            let program = Cli::command();
            let mut command = &program;
            for word in name.split(' ') {
                command = command.find_subcommand(word).expect(name);
            }
        }
    }
}
