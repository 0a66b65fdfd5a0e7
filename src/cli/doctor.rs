//! `keyward doctor`: diagnoses this installation.

mod writable;

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use rustix::{fs::StatVfsMountFlags, process::geteuid};
use serde_json::json;

use self::writable::obstacle;
use crate::{
    cli::{
        api::socket::probe,
        error::Error,
        exit_code,
        output::{self, Format, Output, holds},
        settings::{self, Location},
    },
    config::{Config, ListenAddress},
    domain::{checkpoint::CheckpointKey, data_layout::DataLayout},
    env::{Clock, SystemClock, Timestamp},
    server::{self, KeyPair, user_name},
    service::{LEAST_FREE, LogFile, Mismatch, check_against_checkpoints, own_backups, read_text},
    store,
};

const LARGE_LOG: u64 = 512 * 1024 * 1024;
const OLD_BACKUP: Duration = Duration::from_hours(26);

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let config = settings::load_here(&self.location)?;
        let findings = examine(&config);
        if self.output.output == Format::Json {
            let list = findings.iter().map(|(check, (state, detail))| {
                json!({ "check": check, "state": state.as_str(), "detail": detail })
            });
            output::json(&list.collect())?;
        } else {
            let rows = findings.iter().map(|(check, (state, detail))| {
                [(*check).to_owned(), state.as_str().to_owned(), detail.clone()]
            });
            output::table(["CHECK", "STATE", "DETAIL"], &rows.collect::<Vec<_>>())?;
        }
        let failed = findings.iter().any(|(_, (state, _))| *state == State::Failed);
        Ok(exit_code::health(!failed))
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Ok,
    Warning,
    Failed,
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

type Diagnosis = (State, String);

fn examine(config: &Config) -> Vec<(&'static str, Diagnosis)> {
    let layout = &config.layout();
    let dir = layout.root();
    let server = running(layout);
    let mut checks = vec![
        ("files named in the configuration", files(config)),
        ("certificate", certificate(config)),
        ("listeners", listeners(config)),
        ("data directory", data_dir(dir)),
    ];
    // Without the directory, every other check would only repeat that.
    if fs::metadata(dir).is_err_and(|it| it.kind() == io::ErrorKind::NotFound) {
        return checks;
    }
    checks.extend([
        ("data files", data_files(dir)),
        ("database", database(layout)),
        ("audit log", audit_log(config)),
        ("free space", free_space(dir)),
        ("write-ahead log", write_ahead_log(layout)),
        ("clock", clock(layout)),
        ("initial root key", initial_key(layout)),
        ("checkpoint key", checkpoint_key(config, &server)),
        ("token keys", token_keys(layout)),
        ("token exchange", token_exchange(config)),
        ("backup", backup(config, &server)),
        ("server", server),
    ]);
    checks
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

/// Returns the text that a refused start prints.
fn causes(err: impl Into<server::Error>) -> String {
    Error::from(err.into()).with_causes()
}

fn certificate(config: &Config) -> Diagnosis {
    match KeyPair::load(&config.tls) {
        Ok(None) => ok("TLS is off"),
        Ok(Some(pair)) => match pair.expiry_warning(SystemClock::new().wall()) {
            Some(says) => warning(says),
            None => ok(format!("valid until {}", pair.not_after)),
        },
        Err(err) => failed(err.to_string()),
    }
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
        return ok("no listener takes keys from the network without TLS");
    }
    warning(format!("{} face the network without TLS", facing.join(", ")))
}

fn data_dir(dir: &Path) -> Diagnosis {
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return failed(format!("there is no {}; `keyward serve` creates it", dir.display()));
        }
        Err(err) => return failed(format!("{}: {err}", dir.display())),
    };
    if found.permissions().mode() & 0o077 != 0 {
        return warning("other users may read it; run chmod 700");
    }
    let (owner, me) = (found.uid(), geteuid());
    if owner != me.as_raw() && !me.is_root() {
        let (owner, me) = (user_name(owner), user_name(me.as_raw()));
        return warning(format!("it belongs to the user {owner}, and this command runs as {me}"));
    }
    ok(format!("{}, of the user {}", dir.display(), user_name(owner)))
}

/// Checks the data files as a start of the server does.
fn data_files(dir: &Path) -> Diagnosis {
    let mut faults: Vec<_> = server::data_file_faults(dir).into_iter().map(causes).collect();
    faults.extend(server::lost_database(&DataLayout::new(dir)).map(|it| it.to_string()));
    faults.extend(server::DataDir::silent_holder(dir).map(|it| it.to_string()));
    if faults.is_empty() {
        ok("owned by the right user, and closed to others")
    } else {
        failed(faults.join("; "))
    }
}

fn database(layout: &DataLayout) -> Diagnosis {
    match store::check_startup(&layout.database()) {
        Ok(it) => ok(holds(it.events, it.accounts, it.keys)),
        Err(err) => failed(err.about(&layout.database())),
    }
}

fn audit_log(config: &Config) -> Diagnosis {
    let layout = config.layout();
    if fs::metadata(layout.checkpoint()).is_ok_and(|it| !it.is_file()) {
        return failed(format!("{} is not a file", layout.checkpoint().display()));
    }
    let signer = server::find_signer(&layout, config.audit.checkpoint_key.as_deref());
    let key = signer.ok().map(|it| it.public().clone());
    let public = || CheckpointKey::parse(&read_text(&layout.checkpoint_public_key()).ok()?).ok();
    let Some(key) = key.or_else(public) else {
        return warning("its signatures are not checked: there is no checkpoint key");
    };
    let held = LogFile::open(&layout.database())
        .map_err(Mismatch::Store)
        .and_then(|mut it| it.read(|tx| check_against_checkpoints(tx, &key, &layout.checkpoint())));
    match held {
        Ok(()) => ok("agrees with its last checkpoint; `keyward events verify` checks all of it"),
        Err(Mismatch::Store(err)) => failed(err.about(&layout.database())),
        Err(err) => failed(causes(err)),
    }
}

fn free_space(dir: &Path) -> Diagnosis {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let says = format!("{} MiB", free / 1024 / 1024);
            if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return failed(
                    "the file system is read-only: the server can verify keys, but not change anything",
                );
            }
            if free < LEAST_FREE { failed(says) } else { ok(says) }
        }
        Err(err) => failed(err.to_string()),
    }
}

fn write_ahead_log(layout: &DataLayout) -> Diagnosis {
    let size = fs::metadata(layout.wal()).map_or(0, |it| it.len());
    let says = format!("{} MiB", size / 1024 / 1024);
    if size < LARGE_LOG {
        ok(says)
    } else {
        warning(format!("{says}: it cannot be emptied while a program reads the database"))
    }
}

fn clock(layout: &DataLayout) -> Diagnosis {
    let now = SystemClock::new().wall();
    let file = LogFile::open(&layout.database());
    match file.and_then(|it| it.time_floor()) {
        Ok(Some(floor)) if now < floor => warning(format!(
            "it is behind {floor}, which keyward has seen; if the clock is right, run `keyward clock accept`"
        )),
        Ok(_) => ok(now.to_string()),
        Err(err) => failed(err.about(&layout.database())),
    }
}

fn initial_key(layout: &DataLayout) -> Diagnosis {
    match layout.initial_root_key().try_exists() {
        Ok(true) => {
            warning("it is still in its file; use the key once, and keyward removes the file")
        }
        Ok(false) => ok("not in a file"),
        Err(err) => failed(err.to_string()),
    }
}

fn checkpoint_key(config: &Config, server: &Diagnosis) -> Diagnosis {
    let layout = config.layout();
    match server::find_signer(&layout, config.audit.checkpoint_key.as_deref()) {
        Ok(_) => ok("there; keep a copy elsewhere, it is in no backup"),
        // A server without its key is never ready.
        Err(err) if err.is_out_of_sight() && server.0 == State::Ok => ok("the server has it"),
        Err(err) if err.is_out_of_sight() => match layout.checkpoint_public_key().try_exists() {
            Ok(true) => warning(
                "this user cannot see it; `serve` needs it, as a file or as a credential of the service",
            ),
            Ok(false) => warning("there is none yet; `serve` creates it"),
            Err(err) => failed(err.to_string()),
        },
        Err(err) => failed(causes(err)),
    }
}

fn token_keys(layout: &DataLayout) -> Diagnosis {
    match server::check_token_keys(layout) {
        Ok(()) => ok("sound, or made when they are needed"),
        Err(err) => failed(causes(err)),
    }
}

fn token_exchange(config: &Config) -> Diagnosis {
    if let Some(url) = &config.public_url {
        return ok(format!("tokens name {url} as their issuer"));
    }
    let path = config.layout().database();
    let has_exchange = |file: LogFile| match file.outdated()? {
        // Earlier versions have no exchange.
        Some(_) => Ok(false),
        None => file.has_token_exchange(),
    };
    match LogFile::open(&path).and_then(has_exchange) {
        Ok(true) => warning("it is on for an account, but no token is issued: set public_url"),
        Ok(false) => ok("off"),
        Err(err) => failed(err.about(&path)),
    }
}

fn backup(config: &Config, server: &Diagnosis) -> Diagnosis {
    if config.backup.keep == 0 {
        return warning("none is scheduled: backup.keep is 0");
    }
    let dir = config.backup_dir();
    if let Some(why) = obstacle(&config.data_dir, &dir, server.0 == State::Ok) {
        return failed(format!("no backup can be made: {why}"));
    }
    let made = own_backups(&dir).unwrap_or_default().into_iter().filter_map(|it| {
        let at = fs::metadata(&it).ok()?.mtime();
        Some(Timestamp::from_millis(at.saturating_mul(1_000)))
    });
    match made.max() {
        None => warning(format!("there is none in {} yet", dir.display())),
        Some(last) if last.after(OLD_BACKUP) < SystemClock::new().wall() => {
            warning(format!("the last one was made at {last}"))
        }
        Some(last) => ok(format!("the last one was made at {last}")),
    }
}

fn running(layout: &DataLayout) -> Diagnosis {
    match probe(layout.control_socket(), "/readyz") {
        Ok(200) => ok("ready"),
        Ok(status) => failed(format!("it runs, but is not ready: status {status}")),
        Err(err @ (Error::Silent { .. } | Error::NoAccess { .. })) => failed(err.to_string()),
        Err(_) => warning("no server runs"),
    }
}
