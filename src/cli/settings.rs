//! The options of `serve`, and finding and reading the configuration: the only place that looks at
//! the environment.

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

/// Looked for in this order, when no file is named.
const USUAL_PLACES: [&str; 2] = ["keyward.toml", "/etc/keyward/keyward.toml"];
pub(super) const NO_FILE: &str =
    "no configuration file: there is neither ./keyward.toml nor /etc/keyward/keyward.toml";

/// The settings of a server. Flags win over the environment (`KEYWARD_…`), that over the file, that
/// over the defaults.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Settings {
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
    /// Whether an option names a place on this machine.
    pub(super) fn is_named(&self) -> bool {
        self.data_dir.is_some() || self.config.is_some()
    }
}

/// The configuration of a command that asks or changes something. Such a command runs in the
/// environment of a person or of another program, so it only warns about variables that begin with
/// `KEYWARD_` and mean nothing.
pub(super) fn load(place: &Location) -> Result<Config, Error> {
    let (strange, known): (Vec<_>, Vec<_>) =
        variables().into_iter().partition(|(name, value)| unknown_variable(name, value).is_some());
    let settings = Settings { place: place.clone(), ..Settings::default() };
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

/// The configuration of a server, and the file that it was read from, if there is one. Variables
/// that begin with `KEYWARD_` and mean nothing are errors.
pub(super) fn load_strictly(settings: &Settings) -> Result<(Config, Option<PathBuf>), Error> {
    load_with(settings, &variables())
}

fn load_with(
    settings: &Settings,
    variables: &[(String, String)],
) -> Result<(Config, Option<PathBuf>), Error> {
    let named = settings.place.config.clone().or_else(|| {
        let found = variables.iter().find(|(name, _)| name == "KEYWARD_CONFIG");
        found.map(|(_, path)| PathBuf::from(path))
    });
    let text = match &named {
        Some(path) => Some((path.clone(), read(path)?)),
        None => usual_file()?,
    };
    let flags = Flags {
        listen: settings.listen.clone(),
        data_dir: settings.place.data_dir.clone(),
        log_level: settings.log_level.clone(),
        log_format: settings.log_format.clone(),
    };
    let file = text.as_ref().map(|(path, text)| ConfigFile { path, text });
    let mut config = Config::assemble(&flags, file, variables)?;
    use_credentials(&mut config);
    // Which of the files of that name depends on where the command was given.
    let file = text.map(|(path, _)| path::absolute(&path).unwrap_or(path));
    Ok((config, file))
}

/// The configuration of a command that only this machine can carry out. Whoever has the variable
/// for another server set and names nothing here may mean that one, so nothing is done.
pub(super) fn load_here(place: &Location) -> Result<Config, Error> {
    insist_on_this_machine(place, "--data-dir or --config")?;
    load(place)
}

/// `options` are those that say that this machine is meant.
pub(super) fn insist_on_this_machine(place: &Location, options: &str) -> Result<(), Error> {
    if place.is_named() || variable("KEYWARD_URL").is_none() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "this is done on the machine of the server itself, and KEYWARD_URL names a server on the \
         network: unset it, or name {options}"
    )))
}

/// The database in the data directory, if there is one. That somebody may not look is not that
/// there is nothing to see.
pub(super) fn database(data_dir: &Path) -> Result<PathBuf, Error> {
    let path = DataLayout::new(data_dir).database();
    match fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Err(Error::NoAccess { path }),
        Err(_) => Err(Error::NoDatabase { path }),
    }
}

/// Files that systemd hands over (systemd.exec(5), `LoadCredential=`), for settings that name none.
fn use_credentials(config: &mut Config) {
    let directory = environment().find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
    let Some((_, directory)) = directory else { return };
    let credential = |name: &str| {
        // Under its own name, or as one file of a directory that was handed over whole.
        let names = [name.to_owned(), format!("keyward_{name}")];
        names.map(|it| PathBuf::from(&directory).join(it)).into_iter().find(|it| it.exists())
    };
    for (setting, name) in [
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
    for place in USUAL_PLACES.map(PathBuf::from) {
        match fs::read_to_string(&place) {
            Ok(text) => return Ok(Some((place, text))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(source) => return Err(Error::ConfigFile { path: place, source }),
        }
    }
    Ok(None)
}

fn read(path: &PathBuf) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::ConfigFile { path: path.clone(), source })
}

/// The variable with this name; empty means not set.
pub(super) fn variable(name: &str) -> Option<String> {
    let found = variables().into_iter().find(|(it, _)| it == name);
    found.map(|(_, value)| value).filter(|it| !it.is_empty())
}

/// The variables of this process that begin with `KEYWARD_`.
fn variables() -> Vec<(String, String)> {
    environment().filter(|(name, _)| name.starts_with("KEYWARD_")).collect()
}

/// Every variable of this process whose name is UTF-8. The standard library's own iterator panics at
/// the first variable that is not, of any program.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}
