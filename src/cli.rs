//! What people type.

mod accounts;
mod advice;
mod appendix;
mod audit;
mod backup;
mod client;
mod config;
mod control;
mod documents;
mod error;
mod events;
mod export;
mod health;
mod import;
mod keys;
mod network;
mod output;
mod routes;
mod secret;
mod serve;
mod socket;
mod supervisor;
mod usage;
mod verify;
mod writable;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use rustix::{
    fs::Mode,
    process::{self, DumpableBehavior, Resource, Rlimit},
};

use self::{
    accounts::AccountsCommand, backup::BackupCommand, error::Error, keys::KeysCommand,
    output::Output,
};
use crate::http::openapi;

/// The answer is no.
const NO: u8 = 3;

/// A self-hosted API-key server.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, about, arg_required_else_help = true)]
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
    /// Manage keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Manage accounts
    Accounts {
        #[command(subcommand)]
        command: AccountsCommand,
    },
    /// List the scopes
    Scopes(verify::Scopes),
    /// Verify a key; exit 3 if it is not good
    #[command(after_long_help = appendix::help(&appendix::examples_of("verify")))]
    Verify(verify::Verify),
    /// Check that the server works; exit 1 if it does not
    Health(health::Health),
    /// Diagnose this installation; exit 1 if a check failed
    Doctor(health::Doctor),
    /// Check and print the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Recover access on this machine
    RootKey {
        #[command(subcommand)]
        command: RootKeyCommand,
    },
    /// Run a scheduled job now; if it is running already, wait and run it again
    RunJob {
        #[arg(help = control::known_jobs())]
        name: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Location,
    },
    /// Import keys that another system issued; exit 3 if any was refused
    #[command(after_long_help = appendix::help(&appendix::examples_of("import")))]
    Import(import::Import),
    /// Create, check and restore backups
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Print, check and export the audit log
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Check the route policy of forward auth
    Routes {
        #[command(subcommand)]
        command: RoutesCommand,
    },
    /// Accept the machine's clock
    Clock {
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Print a script that completes commands in your shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print the API document
    Openapi {
        /// Print YAML instead of JSON
        #[arg(long)]
        yaml: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration; print every mistake, and exit 78 if there is one
    Check(config::Check),
    /// Print the configuration that is in force
    Print(Settings),
    /// Print a commented configuration file with every default
    Default,
}

#[derive(Debug, Subcommand)]
enum RootKeyCommand {
    /// Create another root key; all other keys keep working
    Reset {
        /// Revoke all other keys with the scope `*`
        #[arg(long)]
        revoke_others: bool,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Location,
    },
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Print the newest events, the oldest of them first
    #[command(after_long_help = appendix::help(&appendix::examples_of("events tail")))]
    Tail(events::Tail),
    /// Check the whole log; if it was changed, print the first changed event and exit 3
    Verify(audit::Verify),
    /// Export the log for other systems, one line for each event
    Export(export::Export),
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// Check the policy; print every mistake, and exit 3 if there is one
    Check(routes::Check),
    /// Show which route decides about a request and what it needs; exit 3 if it is refused
    Test(routes::Test),
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// Accept the machine's clock although keyward has seen a later time
    Accept(Location),
}

/// The settings of a server. Flags win over the environment (`KEYWARD_…`), that over the file, that
/// over the defaults.
#[derive(Args, Clone, Debug, Default)]
struct Settings {
    #[command(flatten)]
    place: Location,
    /// Where to listen, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// auto, text, json or journal
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Where a command finds its data.
#[derive(Args, Clone, Debug, Default)]
struct Location {
    /// The configuration file; also `KEYWARD_CONFIG`. Without it ./keyward.toml or
    /// /etc/keyward/keyward.toml, if one exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// Runs the command in the arguments of this process.
pub fn main() -> ExitCode {
    keep_to_itself();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return usage::explain(err),
    };
    match run(cli.command) {
        Ok(code) => code,
        // The reader of a list has seen enough.
        Err(Error::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(err) => {
            err.report();
            ExitCode::from(err.exit_code())
        }
    }
}

/// No other user reads the files that are made from here on, and no core dump holds a key.
fn keep_to_itself() {
    process::umask(Mode::RWXG | Mode::RWXO);
    // Best effort: either alone is enough, and a command is no worse for a kernel that has neither.
    let _ = process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = process::setrlimit(Resource::Core, none);
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Events { command: EventsCommand::Verify(it) } => return audit::verify(&it),
        Command::Events { command: EventsCommand::Export(it) } => export::export(&it),
        Command::Routes { command: RoutesCommand::Check(it) } => return routes::check(&it),
        Command::Routes { command: RoutesCommand::Test(it) } => return routes::test(&it),
        Command::Import(it) => return import::import(&it),
        Command::Health(it) => return health::health(&it),
        Command::Doctor(it) => return health::doctor(&it),
        Command::Verify(it) => return verify::verify(&it),
        Command::Scopes(it) => verify::scopes(&it),
        Command::Backup { command } => return backup::run(command),
        Command::Keys { command } => return keys::run(command),
        Command::Accounts { command } => accounts::run(command),
        Command::Completions { shell } => Ok(documents::completions(shell)?),
        Command::Man { out } => documents::manual(&out),
        Command::Serve(settings) => serve::serve(&settings),
        Command::Config { command: ConfigCommand::Check(it) } => return config::check(&it),
        Command::Config { command: ConfigCommand::Print(settings) } => config::print(&settings),
        Command::Config { command: ConfigCommand::Default } => {
            Ok(write!(io::stdout(), "{}", crate::config::DEFAULT_FILE)?)
        }
        Command::RootKey { command: RootKeyCommand::Reset { revoke_others, output, place } } => {
            control::reset_root_key(&place, revoke_others, output)
        }
        Command::RunJob { name, output, place } => control::run_job(&place, &name, output),
        Command::Clock { command: ClockCommand::Accept(place) } => control::accept_clock(&place),
        Command::Events { command: EventsCommand::Tail(it) } => events::tail(&it),
        Command::Openapi { yaml } => {
            let document = if yaml { openapi::document_yaml() } else { openapi::document_json() };
            Ok(write!(io::stdout(), "{document}")?)
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The one of them with this name; empty means not set.
fn variable(name: &str) -> Option<String> {
    let found = variables().into_iter().find(|(it, _)| it == name);
    found.map(|(_, value)| value).filter(|it| !it.is_empty())
}

/// The variables of this process that begin with `KEYWARD_`.
fn variables() -> Vec<(String, String)> {
    environment().filter(|(name, _)| name.starts_with("KEYWARD_")).collect()
}

/// Every variable of this process whose name is UTF-8. The standard library's own iterator panics at
/// the first variable that is not, of any program.
fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}
