//! Where settings come from: options, files and variables. Only this file reads the environment.

use std::{
    env, fs,
    io::{self, Write},
    path::{self, Path, PathBuf},
};

use clap::Args;

use crate::{
    cli::error::Error,
    config::{Config, ConfigFile, Fault, Flags, unknown_variable},
    domain::data_layout::DataLayout,
};

/// The files that are tried, in this order, when no file is named.
const USUAL_FILES: [&str; 2] = ["keyward.toml", "/etc/keyward/keyward.toml"];
pub(super) const NO_FILE: &str =
    "no configuration file: there is neither ./keyward.toml nor /etc/keyward/keyward.toml";

/// The settings of a server. Flags override the environment (`KEYWARD_…`), the environment overrides
/// the file, and the file overrides the defaults.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Settings {
    #[command(flatten)]
    location: Location,
    /// The address to listen on, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The log format: auto, text, json or journal
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// The place of a keyward on this machine.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Location {
    /// The configuration file; also `KEYWARD_CONFIG`. Without it ./keyward.toml or
    /// /etc/keyward/keyward.toml, if one exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

impl Location {
    /// Tells whether an option names a place on this machine.
    pub(super) fn is_named(&self) -> bool {
        self.data_dir.is_some() || self.config.is_some()
    }
}

/// Returns the configuration of a command other than `serve`. Such a command runs in the environment
/// of a person or of another program, so an unknown variable `KEYWARD_…` is only a warning.
pub(super) fn load(location: &Location) -> Result<Config, Error> {
    let (strange, known): (Vec<_>, Vec<_>) =
        variables().into_iter().partition(|(name, value)| unknown_variable(name, value).is_some());
    let settings = Settings { location: location.clone(), ..Settings::default() };
    let (config, _) = load_with(&settings, &known)?;
    for fault in strange.iter().filter_map(|(name, value)| unknown_variable(name, value)) {
        warn(&fault);
    }
    Ok(config)
}

fn warn(fault: &Fault) {
    // The command can do its work without this warning.
    let _ = writeln!(io::stderr(), "keyward: ignored: {fault}");
}

/// Returns the configuration of a server, and the file that it was read from, if there is one. An
/// unknown variable `KEYWARD_…` is an error.
pub(super) fn load_strictly(settings: &Settings) -> Result<(Config, Option<PathBuf>), Error> {
    load_with(settings, &variables())
}

fn load_with(
    settings: &Settings,
    variables: &[(String, String)],
) -> Result<(Config, Option<PathBuf>), Error> {
    let named = settings.location.config.clone().or_else(|| {
        let found = variables.iter().find(|(name, _)| name == "KEYWARD_CONFIG");
        found.map(|(_, path)| PathBuf::from(path))
    });
    let text = match &named {
        Some(path) => Some((path.clone(), read(path)?)),
        None => usual_file()?,
    };
    let flags = Flags {
        listen: settings.listen.clone(),
        data_dir: settings.location.data_dir.clone(),
        log_level: settings.log_level.clone(),
        log_format: settings.log_format.clone(),
        public_url: None,
    };
    let file = text.as_ref().map(|(path, text)| ConfigFile { path, text });
    let mut config = Config::assemble(&flags, file, variables)?;
    use_credentials(&mut config);
    // A relative path would depend on the current directory.
    let file = text.map(|(path, _)| path::absolute(&path).unwrap_or(path));
    Ok((config, file))
}

/// Returns the configuration of a command that works on this machine only. If `KEYWARD_URL` names
/// another server, that server may be meant, so the command must name a place on this machine.
pub(super) fn load_here(location: &Location) -> Result<Config, Error> {
    insist_on_this_machine(location, "--data-dir or --config")?;
    load(location)
}

/// Refuses if another server may be meant; `options` are those that name this machine.
pub(super) fn insist_on_this_machine(location: &Location, options: &str) -> Result<(), Error> {
    if location.is_named() || variable("KEYWARD_URL").is_none() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "this command works only on the machine of the server, but KEYWARD_URL names a server on the \
         network: unset it, or give {options}"
    )))
}

/// Returns the database in the data directory. A directory that this user may not read is another
/// error than one without a database.
pub(super) fn database(data_dir: &Path) -> Result<PathBuf, Error> {
    let path = DataLayout::new(data_dir).database();
    match fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Err(Error::NoAccess { path }),
        Err(_) => Err(Error::NoDatabase { path }),
    }
}

/// Uses the files that systemd hands over (systemd.exec(5), `LoadCredential=`) for settings that name
/// no file.
fn use_credentials(config: &mut Config) {
    let directory = environment().find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
    let Some((_, directory)) = directory else { return };
    let credential = |name: &str| {
        // systemd adds a prefix to the names of files that it loads from a directory.
        let names = [name.to_owned(), format!("keyward_{name}")];
        names.map(|it| PathBuf::from(&directory).join(it)).into_iter().find(|it| it.exists())
    };
    for (setting, name) in [
        (&mut config.root_key_file, "root-key"),
        (&mut config.audit.checkpoint_key, "checkpoint.key"),
        (&mut config.tls.certificate, "tls.pem"),
        (&mut config.tls.key, "tls.key"),
    ] {
        if setting.is_none() {
            *setting = credential(name);
        }
    }
    for webhook in config.webhooks.iter_mut().filter(|it| it.secret_file.is_none()) {
        webhook.secret_file = credential(&format!("webhook-{}.secret", webhook.name));
    }
}

fn usual_file() -> Result<Option<(PathBuf, String)>, Error> {
    for path in USUAL_FILES.map(PathBuf::from) {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(source) => return Err(Error::ConfigFile { path, source }),
        }
    }
    Ok(None)
}

pub(super) fn read(path: &PathBuf) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::ConfigFile { path: path.clone(), source })
}

/// Returns the variable with this name, unless it is empty.
pub(super) fn variable(name: &str) -> Option<String> {
    let found = variables().into_iter().find(|(it, _)| it == name);
    found.map(|(_, value)| value).filter(|it| !it.is_empty())
}

/// Returns the variables of this process that begin with `KEYWARD_`.
fn variables() -> Vec<(String, String)> {
    environment().filter(|(name, _)| name.starts_with("KEYWARD_")).collect()
}

/// Returns every variable of this process whose name is UTF-8. The standard library's own iterator
/// panics at the first variable that is not UTF-8.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}
