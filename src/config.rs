//! The settings: flags, environment variables and a TOML file in, a complete [`Config`] out.
//!
//! This layer does no I/O: the caller passes the text of the file and the variables. The result has
//! types, so no other layer validates a setting. A refusal lists all faults at once. No secret is a
//! setting.

mod declared;
mod faults;
mod file;
mod listen;
mod read;
mod routes;
mod scopes;
mod settings;
mod toml_text;
mod variables;
mod webhooks;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

pub use self::{
    declared::{DeclaredFile, DeclaredSection, declared_name, declared_value},
    faults::{ConfigErrors, Fault, SettingSource},
    listen::ListenAddress,
    read::{LogFormat, LogLevel},
    routes::RouteSetting,
    scopes::ScopeSetting,
    variables::unknown as unknown_variable,
    webhooks::WebhookSetting,
};
use self::{
    read::Raw,
    settings::{SETTINGS, Setting},
};
use crate::domain::{
    client_address::AddressRecording, data_layout::DataLayout, job::Job,
    plaintext_key::PrefixLabel, token_key::TokenAlgorithm,
};

/// The commented configuration file that packages install. It has every setting at its default.
pub const DEFAULT_FILE: &str = include_str!("../packaging/keyward.toml");

/// The variables that only the command line reads, with their meanings. They are not settings.
pub const COMMAND_LINE_VARIABLES: [(&str, &str); 5] = [
    ("KEYWARD_CONFIG", "The configuration file, if --config names none"),
    ("KEYWARD_URL", "The server to use; --url, --data-dir and --config override it"),
    ("KEYWARD_KEY", "The API key to send to it"),
    ("KEYWARD_KEY_FILE", "The file that holds that key; overrides KEYWARD_KEY"),
    ("KEYWARD_CA_FILE", "Certificates to trust, in PEM form, in place of the system's"),
];

/// Returns the variable of each setting with the name of the setting.
pub fn setting_variables() -> impl Iterator<Item = (String, String)> {
    SETTINGS.iter().map(|it| (it.variable(), it.path()))
}

const DAY: Duration = Duration::from_hours(24);

/// Every setting with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the server listens: at least one address. Port 0 lets the system choose.
    pub listen: Vec<ListenAddress>,
    pub data_dir: PathBuf,
    /// The file that provides the root key for the first start. `None` means that keyward makes one.
    pub root_key_file: Option<PathBuf>,
    /// The number of threads that serve HTTP. 0 means one for each processor.
    pub workers: usize,
    /// The most connections at the same time. 0 means a number that depends on the memory.
    pub max_connections: u32,
    /// The address at which browsers and gateways reach the server, without a slash at its end. It is the
    /// issuer of tokens. `None` means no tokens, and for links the address to which the request was sent.
    pub public_url: Option<String>,
    /// Whether the server serves the console.
    pub console: bool,
    /// Whether the server serves Swagger UI.
    pub docs: bool,
    /// The networks whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    pub tls: TlsConfig,
    pub log: LogConfig,
    pub keys: KeysConfig,
    pub tokens: TokensConfig,
    /// The scopes of the catalogue in their order, without keyward's own.
    pub scopes: Vec<ScopeSetting>,
    pub audit: AuditConfig,
    pub authz: AuthzConfig,
    pub backup: BackupConfig,
    /// When each job runs: cron lines of six fields, seconds first, in UTC. It has every job.
    pub jobs: BTreeMap<Job, String>,
    /// The receivers of events, in the order of the file.
    pub webhooks: Vec<WebhookSetting>,
}

/// TLS on every TCP listener. Needs both files or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// The certificate and the intermediate certificates, in PEM form.
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
    /// The first part of new keys, before the underscore.
    pub prefix: PrefixLabel,
    /// The grace period of a rotation that names none. Whole seconds.
    pub rotation_grace: Duration,
    pub hash_iterations: u32,
    pub max_keys_per_account: u32,
    /// The longest lifetime of a key. `None` means no maximum. Whole seconds.
    pub max_lifetime: Option<Duration>,
    /// The lifetime of a new key whose request names no expiry. `None` means that it never expires.
    pub default_lifetime: Option<Duration>,
    /// How long a console link is valid whose request does not say so. Whole seconds.
    pub console_link_lifetime: Duration,
    /// The most changes that the keys of one account may make at once, after a pause.
    pub max_changes_at_once: u32,
    /// The number of further changes in each second.
    pub max_changes_per_second: u32,
    /// How long expired and revoked keys are kept before the purge. Whole seconds.
    pub retention: Duration,
    /// Whether the addresses from which keys are used are stored, and new ones announced.
    pub client_addresses: AddressRecording,
}

/// Tokens that gateways verify on their own.
#[derive(Clone, Debug, PartialEq)]
pub struct TokensConfig {
    /// How long a token is valid. Whole seconds.
    pub lifetime: Duration,
    pub algorithm: TokenAlgorithm,
    /// The audiences that a token may have, the default first. Without any, the issuer is the audience.
    pub audiences: Vec<String>,
    /// How long a gateway may keep a status list. Whole seconds.
    pub status_ttl: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// The file of the key that signs checkpoints. `None` means the file in the data directory.
    pub checkpoint_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuthzConfig {
    /// The file of the route policy. Without a policy, a request needs an accepted key and the scopes
    /// that the proxy asks for.
    pub policy_file: Option<PathBuf>,
    /// Whether a CORS preflight request passes without a key.
    pub allow_preflight: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// The directory of backups. `None` means the one in the data directory.
    pub dir: Option<PathBuf>,
    /// How many scheduled backups are kept. 0 means that none is made.
    pub keep: u32,
}

/// The settings that the command line gives. They win over all others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    pub listen: Option<String>,
    pub data_dir: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub public_url: Option<String>,
}

/// The text of a configuration file. Only messages use `path`.
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
            root_key_file: None,
            workers: 0,
            max_connections: 0,
            public_url: None,
            console: true,
            docs: true,
            trusted_proxies: [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .map(|it: IpAddr| it.into())
                .into(),
            tls: TlsConfig::default(),
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Auto },
            keys: KeysConfig {
                prefix: PrefixLabel::DEFAULT,
                rotation_grace: Duration::from_mins(5),
                hash_iterations: 1000,
                max_keys_per_account: 1000,
                max_lifetime: None,
                default_lifetime: None,
                console_link_lifetime: Duration::from_mins(15),
                max_changes_at_once: 1000,
                max_changes_per_second: 1,
                retention: 30 * DAY,
                client_addresses: AddressRecording::Announce,
            },
            tokens: TokensConfig {
                lifetime: Duration::from_mins(5),
                algorithm: TokenAlgorithm::EdDsa,
                audiences: Vec::new(),
                status_ttl: Duration::from_secs(30),
            },
            scopes: scopes::shipped(),
            audit: AuditConfig { checkpoint_key: None },
            authz: AuthzConfig { policy_file: None, allow_preflight: false },
            backup: BackupConfig { dir: None, keep: 7 },
            jobs: Job::ALL.map(|it| (it, it.default_schedule().to_owned())).into(),
            webhooks: Vec::new(),
        }
    }
}

impl Config {
    /// Resolves the settings: `flags` over `variables` over `file` over the defaults.
    ///
    /// Ignores variables that do not begin with `KEYWARD_`. An overridden value must be valid too,
    /// because it takes effect when the override is removed.
    ///
    /// # Errors
    ///
    /// Every fault, with its place. A variable that begins with `KEYWARD_` and has no meaning is one of
    /// them, see [`unknown_variable`].
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

    /// Returns the configuration as a file, which [`Config::assemble`] turns back into it.
    pub fn to_toml(&self) -> String {
        let mut lines = Vec::new();
        // An array of tables cannot be empty, and a plain array must precede the tables.
        if self.scopes.is_empty() {
            lines.push("scopes = []".to_owned());
        }
        let mut table = "";
        for setting in SETTINGS.iter() {
            if setting.table != table {
                table = setting.table;
                lines.push(format!("\n[{table}]"));
            }
            lines.push(format!("{} = {}", setting.name, (setting.show)(self)));
        }
        lines.extend(self.scopes.iter().map(ScopeSetting::to_toml));
        lines.extend(self.webhooks.iter().map(WebhookSetting::to_toml));
        lines.join("\n") + "\n"
    }

    /// Returns the names of the settings whose values differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let differs = |it: &&Setting| (it.show)(self) != (it.show)(other);
        let mut names: Vec<_> = SETTINGS.iter().filter(differs).map(Setting::path).collect();
        if self.scopes != other.scopes {
            names.push("scopes".to_owned());
        }
        if self.webhooks != other.webhooks {
            names.push("webhooks".to_owned());
        }
        names
    }

    /// Returns the files of the data directory.
    pub fn layout(&self) -> DataLayout {
        DataLayout::new(&self.data_dir)
    }

    /// Returns the URL of the first address at which the server listens.
    pub fn first_url(&self) -> String {
        let scheme = if self.tls.certificate.is_some() { "https" } else { "http" };
        match self.listen.first() {
            Some(unix @ ListenAddress::Unix(_)) => unix.to_string(),
            Some(tcp @ ListenAddress::Tcp(_)) => format!("{scheme}://{tcp}"),
            None => format!("{scheme}://localhost"),
        }
    }

    /// Returns the directory of backups.
    pub fn backup_dir(&self) -> PathBuf {
        self.backup.dir.clone().unwrap_or_else(|| self.layout().backups())
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
    /// Returns the given flags by their names on the command line, with their values.
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { listen, data_dir, log_level, log_format, public_url } = self;
        [
            ("--listen", listen),
            ("--data-dir", data_dir),
            ("--log-level", log_level),
            ("--log-format", log_format),
            ("--public-url", public_url),
        ]
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value.as_deref()?)))
    }
}

#[cfg(test)]
mod tests;
