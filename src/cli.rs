//! What people type.

mod accounts;
mod audit;
mod backup;
mod client;
mod config;
mod control;
mod documents;
mod events;
mod export;
mod health;
mod import;
mod keys;
mod output;
mod routes;
mod serve;
mod socket;
mod supervisor;
mod verify;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::{accounts::AccountsCommand, backup::BackupCommand, keys::KeysCommand};
use crate::{
    config::ConfigErrors,
    domain::note::NoteError,
    http::openapi,
    server::{self, DataDirError},
    service::{self, Mismatch},
    store::StoreError,
};

/// The answer is no.
const NO: u8 = 3;

/// A self-hosted API-key server.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
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
    /// List the scopes that there are
    Scopes(verify::Scopes),
    /// Ask whether a key is good for that, now; exit 3 if it is not
    Verify(verify::Verify),
    /// Ask whether the server is well; exit 1 if it is not
    Health(health::Health),
    /// Look for whatever ails this installation; exit 1 if something does
    Doctor(health::Doctor),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Recover access on this machine
    RootKey {
        #[command(subcommand)]
        command: RootKeyCommand,
    },
    /// Run a job of the scheduler now, or, if it is running, once that run is over
    RunJob {
        /// Its name: `end_graces`, `expire_keys`, `purge`, `flush_usage`, `keep_time`,
        /// `record_denials`, `checkpoint`, `backup` or `upkeep`
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Take over keys that another system issued; exit 3 if any was refused
    Import(import::Import),
    /// Make, check and restore backups
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Look at the audit log
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Look at the route policy of forward auth
    Routes {
        #[command(subcommand)]
        command: RoutesCommand,
    },
    /// Decide about the clock
    Clock {
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Print a script that completes commands in your shell
    Completions { shell: Shell },
    /// Write the manual pages
    Man {
        /// The directory for them
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print the API document
    Openapi {
        /// As YAML instead of JSON
        #[arg(long)]
        yaml: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration; exit 78 and every fault if it is not sound
    Check(Settings),
    /// Print the configuration that is in force
    Print(Settings),
    /// Print a commented configuration file with every default
    Default,
}

#[derive(Debug, Subcommand)]
enum RootKeyCommand {
    /// Make another root key; every other key goes on working
    Reset {
        /// Revoke all other keys with the scope `*`
        #[arg(long)]
        revoke_others: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Print the newest events, the oldest of them first
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: u32,
        /// Then go on with each event as it is recorded; needs a running server
        #[arg(short, long)]
        follow: bool,
        /// One line for people, or one JSON object, for each event
        #[arg(long, value_enum, default_value_t = EventFormat::Text)]
        format: EventFormat,
        #[command(flatten)]
        settings: Settings,
    },
    /// Recompute the whole log; exit 3 and the first bad event if it is not what it was
    Verify(audit::Verify),
    /// Write the log in a form that other systems take, a line for each event
    Export(audit::Export),
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// Find every mistake in the policy; exit 3 if there is one
    Check(routes::Check),
    /// Tell which route decides about a request, and what it needs; exit 3 if it is refused
    Test(routes::Test),
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// Take the machine's clock for right although keyward has seen a later time
    Accept(Settings),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EventFormat {
    Text,
    Jsonl,
}

/// What every command that needs the configuration takes. Flags win over the environment
/// (`KEYWARD_…`), that over the file, that over the defaults.
#[derive(Args, Clone, Debug, Default)]
struct Settings {
    /// The configuration file; also `KEYWARD_CONFIG`. Without it ./keyward.toml or
    /// /etc/keyward/keyward.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// auto, text, json or journal
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("the configuration file {path} cannot be read")]
    ConfigFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Server(#[from] server::Error),
    #[error("the running server cannot be asked")]
    Control(#[source] io::Error),
    #[error("{url} cannot be reached")]
    Unreachable { url: String, source: ureq::Error },
    #[error("refused: {0}")]
    Refused(String),
    #[error("refused: {0}")]
    Denied(String),
    #[error("try again: {0}")]
    Busy(String),
    #[error(
        "a key is needed: put it into the variable KEYWARD_KEY, or its file's name into \
         KEYWARD_KEY_FILE"
    )]
    NoKey,
    #[error("{0}")]
    Usage(String),
    #[error("nothing was changed")]
    NotConfirmed,
    #[error("there is no database {path}; `keyward serve` makes one")]
    NoDatabase { path: PathBuf },
    #[error("{path} cannot be used")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no public key: {source}")]
    PublicKey { path: PathBuf, source: NoteError },
    #[error("no server answers in {dir}, so nothing can be added to its log")]
    NothingToFollow { dir: PathBuf },
    #[error(
        "the server says that it made {path}, and from here that file is not there: the service has \
         its own /tmp and may write only to its own directories. Leave --to out, or give it a \
         directory by ReadWritePaths= in its unit"
    )]
    OutOfSight { path: PathBuf },
    #[error("there is no job `{name}`; there are {known}")]
    NoSuchJob { name: String, known: String },
    #[error("there is no route policy: name one with --file, or set `authz.policy_file`")]
    NoPolicy,
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// Runs the command in the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        // Whoever reads this has seen enough.
        Err(Error::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(err) => {
            report(&err);
            ExitCode::from(err.exit_code())
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Events { command: EventsCommand::Verify(it) } => return audit::verify(&it),
        Command::Events { command: EventsCommand::Export(it) } => audit::export(&it),
        Command::Routes { command: RoutesCommand::Check(it) } => return routes::check(&it),
        Command::Routes { command: RoutesCommand::Test(it) } => return routes::test(&it),
        Command::Import(it) => return import::import(&it),
        Command::Health(it) => return health::health(&it),
        Command::Doctor(it) => return health::doctor(&it),
        Command::Verify(it) => return verify::verify(&it),
        Command::Scopes(it) => verify::scopes(&it),
        Command::Backup { command } => return backup::run(command),
        Command::Keys { command } => keys::run(command),
        Command::Accounts { command } => accounts::run(command),
        Command::Completions { shell } => Ok(documents::completions(shell)?),
        Command::Man { out } => documents::manual(&out),
        Command::Serve(settings) => serve::serve(&settings),
        Command::Config { command: ConfigCommand::Check(settings) } => {
            server::check_files(&config::load(&settings)?)?;
            Ok(writeln!(io::stdout(), "the configuration is sound")?)
        }
        Command::Config { command: ConfigCommand::Print(settings) } => {
            Ok(write!(io::stdout(), "{}", config::load(&settings)?.to_toml())?)
        }
        Command::Config { command: ConfigCommand::Default } => {
            Ok(write!(io::stdout(), "{}", crate::config::DEFAULT_FILE)?)
        }
        Command::RootKey { command: RootKeyCommand::Reset { revoke_others, settings } } => {
            control::reset_root_key(&settings, revoke_others)
        }
        Command::RunJob { name, settings } => control::run_job(&settings, &name),
        Command::Clock { command: ClockCommand::Accept(settings) } => {
            control::accept_clock(&settings)
        }
        Command::Events { command: EventsCommand::Tail { lines, follow, format, settings } } => {
            events::tail(&settings, lines, follow, format)
        }
        Command::Openapi { yaml } => {
            let document = if yaml { openapi::document_yaml() } else { openapi::document_json() };
            Ok(write!(io::stdout(), "{document}")?)
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

impl Error {
    /// 1 failed, 2 wrong usage, 4 not allowed, 75 busy or I/O (try again), 78 configuration or data.
    /// That an answer is no ([`NO`]) is no error.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigFile { .. } | Self::NoDatabase { .. } => 78,
            Self::NoSuchJob { .. } | Self::PublicKey { .. } | Self::NoPolicy | Self::Usage(_) => 2,
            Self::NoKey | Self::Denied(_) => 4,
            Self::Busy(_) => 75,
            Self::Server(err) => server_exit_code(err),
            Self::Control(_)
            | Self::Refused(_)
            | Self::Unreachable { .. }
            | Self::NotConfirmed
            | Self::NothingToFollow { .. }
            | Self::OutOfSight { .. }
            | Self::File { .. }
            | Self::Output(_) => 1,
        }
    }
}

fn server_exit_code(err: &server::Error) -> u8 {
    match err {
        server::Error::DataDir(DataDirError::InUse { .. }) | server::Error::Halted => 75,
        server::Error::Store(err)
        | server::Error::Mismatch(Mismatch::Store(err))
        | server::Error::Service(
            service::Error::Unavailable(err) | service::Error::Internal(err),
        ) => store_exit_code(err),
        server::Error::DataDir(_)
        | server::Error::Mismatch(_)
        | server::Error::Tls(_)
        | server::Error::Policy(_) => 78,
        server::Error::Migration(err) => backup::migration_exit_code(err),
        server::Error::Backup(err) => backup::exit_code(err),
        server::Error::AfterExchange { source, .. } => server_exit_code(source),
        server::Error::Service(_)
        | server::Error::Listen { .. }
        | server::Error::Jobs(_)
        | server::Error::Run(_) => 1,
    }
}

fn store_exit_code(err: &StoreError) -> u8 {
    if err.is_temporary() { 75 } else { 78 }
}

/// The error and its causes, for people.
fn report(err: &Error) {
    let mut text = format!("keyward: {err}");
    let mut cause = std::error::Error::source(err);
    while let Some(it) = cause {
        let it_says = it.to_string();
        if !text.ends_with(&it_says) {
            text = format!("{text}: {it_says}");
        }
        cause = it.source();
    }
    // Nobody is left to tell if this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The one of them with this name; empty means not set.
fn variable(name: &str) -> Option<String> {
    let found = variables().into_iter().find(|(it, _)| it == name);
    found.map(|(_, value)| value).filter(|it| !it.is_empty())
}

/// The variables of this process that are ours.
fn variables() -> Vec<(String, String)> {
    env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")).collect()
}
