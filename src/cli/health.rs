//! `keyward health` and `keyward doctor`: is it well, and if not, what ails it?

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use rustix::process::geteuid;
use serde_json::json;

use crate::{
    cli::{
        Error, Settings,
        client::Target,
        config,
        network::reach,
        output::{self, Format, Output},
        socket,
    },
    config::{Config, ListenAddress},
    env::{Clock, SystemClock, Timestamp},
    http::control::SOCKET,
    server,
    service::LogFile,
    store,
};

/// Something is not as it should be.
const UNWELL: u8 = 1;
/// Whoever asks whether it is well has no use for a late answer.
const PATIENCE: Duration = Duration::from_secs(5);
const LEAST_FREE: u64 = 64 * 1024 * 1024;
const LARGE_LOG: u64 = 512 * 1024 * 1024;
const OLD_BACKUP: Duration = Duration::from_hours(26);

#[derive(Args, Debug)]
pub(super) struct Health {
    /// Whether it can do its work, instead of whether it is alive
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    target: Target,
}

/// Asks over the network if a URL is named, and otherwise by the control socket, as it has one
/// whatever it listens at.
pub(super) fn health(it: &Health) -> Result<ExitCode, Error> {
    let path = if it.ready { "/readyz" } else { "/livez" };
    let answer = if let Some(url) = it.target.url() {
        reach(&url, path, PATIENCE)?
    } else {
        let dir = it.target.config()?.data_dir;
        socket::probe(dir.join(SOCKET), path, PATIENCE).map_err(|err| unanswered(dir, err))?
    };
    let well = answer == 200;
    writeln!(io::stdout(), "{}", if well { "ok" } else { "not well" })?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(UNWELL) })
}

fn unanswered(dir: PathBuf, err: io::Error) -> Error {
    use io::ErrorKind as Kind;
    if err.kind() == Kind::TimedOut {
        return Error::Silent { patience: PATIENCE };
    }
    let nobody = matches!(err.kind(), Kind::NotFound | Kind::ConnectionRefused);
    if nobody { Error::NoServer { dir } } else { Error::Control(err) }
}

#[derive(Args, Debug)]
pub(super) struct Doctor {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    settings: Settings,
}

/// How something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Ok,
    Warning,
    Failed,
}

struct Finding {
    what: &'static str,
    state: State,
    says: String,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

pub(super) fn doctor(it: &Doctor) -> Result<ExitCode, Error> {
    let config = config::load_here(&it.settings)?;
    let findings: Vec<_> = examine(&config)
        .into_iter()
        .map(|(what, (state, says))| Finding { what, state, says })
        .collect();
    if it.output.output == Format::Json {
        let list = findings
            .iter()
            .map(|it| json!({ "check": it.what, "state": it.state.as_str(), "detail": it.says }));
        writeln!(io::stdout(), "{}", json!(list.collect::<Vec<_>>()))?;
    } else {
        let rows = findings
            .iter()
            .map(|it| [it.what.to_owned(), it.state.as_str().to_owned(), it.says.clone()]);
        output::table(["CHECK", "STATE", "DETAIL"], &rows.collect::<Vec<_>>())?;
    }
    let failed = findings.iter().any(|it| it.state == State::Failed);
    Ok(if failed { ExitCode::from(UNWELL) } else { ExitCode::SUCCESS })
}

type Diagnosis = (State, String);

fn examine(config: &Config) -> Vec<(&'static str, Diagnosis)> {
    let dir = &config.data_dir;
    vec![
        ("files named in the configuration", files(config)),
        ("listeners", listeners(config)),
        ("data directory", data_dir(dir)),
        ("database", database(dir)),
        ("free space", free_space(dir)),
        ("write-ahead log", write_ahead_log(dir)),
        ("clock", clock(dir)),
        ("initial root key", initial_key(dir)),
        ("checkpoint key", checkpoint_key(config)),
        ("backup", backup(config)),
        ("server", running(dir)),
    ]
}

fn ok(says: impl Into<String>) -> Diagnosis {
    (State::Ok, says.into())
}

fn warning(says: impl Into<String>) -> Diagnosis {
    (State::Warning, says.into())
}

fn failed(says: impl Into<String>) -> Diagnosis {
    (State::Failed, says.into())
}

fn files(config: &Config) -> Diagnosis {
    match server::check_files(config) {
        Ok(()) => ok("sound"),
        Err(err) => failed(err.to_string()),
    }
}

fn listeners(config: &Config) -> Diagnosis {
    let plain = config.tls.certificate.is_none();
    let facing = config.listen.iter().filter(|it| plain && it.faces_the_network());
    let facing: Vec<_> = facing.map(ListenAddress::to_string).collect();
    if facing.is_empty() {
        return ok("no key crosses the network in the clear by them");
    }
    warning(format!("{} face the network without TLS", facing.join(", ")))
}

fn data_dir(dir: &Path) -> Diagnosis {
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return failed(format!("there is no {}; `keyward serve` makes it", dir.display()));
        }
        Err(err) => return failed(format!("{}: {err}", dir.display())),
    };
    if found.permissions().mode() & 0o077 != 0 {
        return warning("others may look into it; chmod 700");
    }
    let me = geteuid().as_raw();
    if found.uid() != me {
        return warning(format!("it belongs to user {}, and this is user {me}", found.uid()));
    }
    ok(dir.display().to_string())
}

fn database(dir: &Path) -> Diagnosis {
    let path = dir.join("keyward.db");
    match LogFile::open(&path).and_then(|it| it.census()) {
        Ok(it) => ok(format!("{} keys, {} accounts, {} events", it.keys, it.accounts, it.events)),
        Err(err) => failed(err.to_string()),
    }
}

fn free_space(dir: &Path) -> Diagnosis {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let says = format!("{} MiB", free / 1024 / 1024);
            if free < LEAST_FREE { failed(says) } else { ok(says) }
        }
        Err(err) => failed(err.to_string()),
    }
}

fn write_ahead_log(dir: &Path) -> Diagnosis {
    let size = fs::metadata(dir.join("keyward.db-wal")).map_or(0, |it| it.len());
    let says = format!("{} MiB", size / 1024 / 1024);
    if size < LARGE_LOG {
        ok(says)
    } else {
        warning(format!("{says}: something never stops reading"))
    }
}

fn clock(dir: &Path) -> Diagnosis {
    let now = SystemClock::new().wall();
    match store::stored_time_floor(&dir.join("keyward.db")) {
        Ok(Some(floor)) if now < floor => warning(format!(
            "it is behind {floor}, which keyward has seen; `keyward clock accept` if it is right"
        )),
        Ok(_) => ok(now.to_string()),
        Err(err) => failed(err.to_string()),
    }
}

fn initial_key(dir: &Path) -> Diagnosis {
    match dir.join("initial-root-key").try_exists() {
        Ok(true) => warning("it still lies in a file; use it once, and the file goes"),
        Ok(false) => ok("used, or never in a file"),
        Err(err) => failed(err.to_string()),
    }
}

fn checkpoint_key(config: &Config) -> Diagnosis {
    let own = config.data_dir.join("checkpoint.key");
    let path = config.audit.checkpoint_key.as_ref().unwrap_or(&own);
    match path.try_exists() {
        Ok(true) => ok("there; keep a copy elsewhere, it is in no backup"),
        Ok(false) => failed(format!("{} is gone, which signs the audit log", path.display())),
        Err(err) => failed(format!("{}: {err}", path.display())),
    }
}

fn backup(config: &Config) -> Diagnosis {
    if config.backup.keep == 0 {
        return warning("none is scheduled: backup.keep is 0");
    }
    let dir = config.backup.dir.clone().unwrap_or_else(|| config.data_dir.join("backups"));
    let files = fs::read_dir(&dir).into_iter().flatten().flatten().map(|it| it.path());
    let made = files.filter(|it| it.extension().is_some_and(|it| it == "db")).filter_map(|it| {
        let at = fs::metadata(&it).ok()?.mtime();
        Some(Timestamp::from_millis(at.saturating_mul(1_000)))
    });
    match made.max() {
        None => warning(format!("there is none in {} yet", dir.display())),
        Some(last) if last.after(OLD_BACKUP) < SystemClock::new().wall() => {
            warning(format!("the last one is of {last}"))
        }
        Some(last) => ok(format!("the last one is of {last}")),
    }
}

fn running(dir: &Path) -> Diagnosis {
    match socket::probe(dir.join(SOCKET), "/readyz", PATIENCE) {
        Ok(200) => ok("ready"),
        Ok(status) => failed(format!("it runs and is not ready: status {status}")),
        Err(err) if err.kind() == io::ErrorKind::TimedOut => {
            failed(Error::Silent { patience: PATIENCE }.to_string())
        }
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => failed(err.to_string()),
        Err(_) => warning("none runs here"),
    }
}
