//! What an operator may set: flags, variables and a TOML file in, a complete [`Config`] out.
//!
//! Nothing here touches the world: the caller brings the text of the file and the variables. What
//! comes out is fully typed, so that no other module validates a setting; what is refused is
//! refused with all its faults at once. No secret is a setting.

mod faults;
mod file;
mod listen;
mod read;
mod routes;
mod scopes;
mod settings;
mod variables;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::faults::{ConfigErrors, Fault, SettingSource};
pub use self::listen::ListenAddress;
pub use self::read::{LogFormat, LogLevel};
pub use self::routes::RouteSetting;
pub use self::scopes::ScopeSetting;
pub use self::variables::unknown as unknown_variable;

use ipnet::IpNet;

use self::read::Raw;
use self::settings::{SETTINGS, Setting};

/// The commented configuration file that packages install: every setting, at its default.
pub const DEFAULT_FILE: &str = include_str!("../packaging/keyward.toml");

/// Not settings: what the command line reads for itself, and what it does with it.
pub const COMMAND_LINE_VARIABLES: [(&str, &str); 5] = [
    ("KEYWARD_CONFIG", "The configuration file, if --config names none"),
    ("KEYWARD_URL", "The server to ask; --url, --data-dir and --config win"),
    ("KEYWARD_KEY", "The API key to ask it with"),
    ("KEYWARD_KEY_FILE", "The file that holds that key; wins over KEYWARD_KEY"),
    ("KEYWARD_CA_FILE", "Certificates to trust, in PEM form, not the system's"),
];

/// The variable of each setting, and the setting.
pub fn setting_variables() -> impl Iterator<Item = (String, String)> {
    SETTINGS.iter().map(|it| (it.variable(), it.path()))
}

const DAY: Duration = Duration::from_hours(24);

/// Every setting, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the server listens, at least one place. Port 0 lets the system choose.
    pub listen: Vec<ListenAddress>,
    pub data_dir: PathBuf,
    /// Threads that serve HTTP; 0 means one for each processor.
    pub workers: usize,
    /// Connections at the same time; 0 is a number that follows from the memory.
    pub max_connections: u32,
    /// Whether Swagger UI is served.
    pub docs: bool,
    /// From where `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub tls: TlsConfig,
    pub log: LogConfig,
    pub keys: KeysConfig,
    /// The catalogue without keyward's own scopes, in the order in which it is shown.
    pub scopes: Vec<ScopeSetting>,
    pub audit: AuditConfig,
    pub authz: AuthzConfig,
    pub backup: BackupConfig,
    pub jobs: JobsConfig,
}

/// TLS on every TCP listener; both files or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// The certificate and those between it and the root, in PEM form.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM form.
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeysConfig {
    /// What new keys begin with, before the underscore.
    pub prefix: String,
    /// How long the old value works after a rotation that names no grace period. Whole seconds.
    pub rotation_grace: Duration,
    pub hash_iterations: u32,
    pub max_keys_per_account: u32,
    /// How many changes the keys of one account may make at once, after a pause.
    pub max_changes_at_once: u32,
    /// How many more in each second.
    pub max_changes_per_second: u32,
    /// How long expired and revoked keys are kept before the purge. Whole seconds.
    pub retention: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// The file with the key that signs checkpoints; `None` is one in the data directory.
    pub checkpoint_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuthzConfig {
    /// The file with the route policy; `None` is no policy: a key and the scopes in the proxy's
    /// question are all that counts.
    pub policy_file: Option<PathBuf>,
    /// Whether the question that browsers ask before a request from another origin needs no key.
    pub allow_preflight: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// `None` is `backups` in the data directory.
    pub dir: Option<PathBuf>,
    /// How many scheduled backups are kept; 0 makes none.
    pub keep: u32,
}

/// When each job runs: cron lines of six fields, seconds first, in UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct JobsConfig {
    pub end_graces: String,
    pub expire_keys: String,
    pub purge: String,
    pub flush_usage: String,
    pub keep_time: String,
    pub record_denials: String,
    pub checkpoint: String,
    pub backup: String,
    pub upkeep: String,
}

/// What the command line was given. It wins over everything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    pub listen: Option<String>,
    pub data_dir: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
}

/// A configuration file that has been read: `path` is only for the messages.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)).into()],
            data_dir: PathBuf::from("./keyward-data"),
            workers: 0,
            max_connections: 0,
            docs: true,
            trusted_proxies: [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .map(|it: IpAddr| it.into())
                .into(),
            tls: TlsConfig::default(),
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Auto },
            keys: KeysConfig {
                prefix: "rg".to_owned(),
                rotation_grace: Duration::from_mins(5),
                hash_iterations: 1000,
                max_keys_per_account: 1000,
                max_changes_at_once: 1000,
                max_changes_per_second: 1,
                retention: 30 * DAY,
            },
            scopes: scopes::shipped(),
            audit: AuditConfig { checkpoint_key: None },
            authz: AuthzConfig { policy_file: None, allow_preflight: false },
            backup: BackupConfig { dir: None, keep: 7 },
            jobs: JobsConfig {
                end_graces: "*/5 * * * * *".to_owned(),
                expire_keys: "*/10 * * * * *".to_owned(),
                purge: "0 */10 * * * *".to_owned(),
                flush_usage: "*/5 * * * * *".to_owned(),
                keep_time: "0 * * * * *".to_owned(),
                record_denials: "*/30 * * * * *".to_owned(),
                checkpoint: "30 * * * * *".to_owned(),
                backup: "0 30 2 * * *".to_owned(),
                upkeep: "0 17 3 * * *".to_owned(),
            },
        }
    }
}

impl Config {
    /// Resolves the settings: `flags` over `variables` over `file` over the defaults.
    ///
    /// Variables that do not begin with `KEYWARD_` are ignored; those that do and mean nothing are
    /// faults, see [`unknown_variable`]. An overridden value must be sound all the same: it would
    /// take effect on the day the override goes away.
    pub fn assemble(
        flags: &Flags,
        file: Option<ConfigFile<'_>>,
        variables: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let mut config = Self::default();
        let mut faults = Vec::new();

        if let Some(file) = file {
            faults.extend(file::apply(&mut config, file));
        }
        for (name, value) in variables {
            if let Err(message) = config.apply_variable(name, value) {
                faults.push(Fault { origin: SettingSource::Variable(name.clone()), message });
            }
            faults.extend(variables::unknown(name, value));
        }
        for (flag, value) in flags.given() {
            if let Err(message) = config.apply_flag(flag, value) {
                faults.push(Fault { origin: SettingSource::Flag(flag), message });
            }
        }

        if faults.is_empty() { Ok(config) } else { Err(ConfigErrors(faults)) }
    }

    /// The effective configuration as a file that [`Config::assemble`] turns back into it.
    pub fn to_toml(&self) -> String {
        let mut lines = Vec::new();
        // An array of tables cannot be empty, and a plain array has to stand before the tables.
        if self.scopes.is_empty() {
            lines.push("scopes = []".to_owned());
        }
        let mut table = "";
        for setting in SETTINGS {
            if setting.table != table {
                table = setting.table;
                lines.push(format!("\n[{table}]"));
            }
            lines.push(format!("{} = {}", setting.name, (setting.show)(self)));
        }
        lines.extend(self.scopes.iter().map(ScopeSetting::to_toml));
        lines.join("\n") + "\n"
    }

    /// The settings that are not the same in both, by their names.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let differs = |it: &&Setting| (it.show)(self) != (it.show)(other);
        let mut names: Vec<_> = SETTINGS.iter().filter(differs).map(Setting::path).collect();
        if self.scopes != other.scopes {
            names.push("scopes".to_owned());
        }
        names
    }

    fn apply_variable(&mut self, name: &str, value: &str) -> Result<(), String> {
        let setting = SETTINGS.iter().find(|it| it.variable() == name);
        setting.map_or(Ok(()), |it| (it.read)(self, Raw::Text(value)))
    }

    fn apply_flag(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let setting = SETTINGS.iter().find(|it| it.flag() == flag).ok_or("sets nothing")?;
        (setting.read)(self, Raw::Text(value))
    }
}

impl Flags {
    /// The flags that were given, under the names they have on the command line.
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { listen, data_dir, log_level, log_format } = self;
        [
            ("--listen", listen),
            ("--data-dir", data_dir),
            ("--log-level", log_level),
            ("--log-format", log_format),
        ]
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value.as_deref()?)))
    }
}

#[cfg(test)]
mod tests;
