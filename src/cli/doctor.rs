//! `keyward doctor`: checks of this installation.

mod writable;

use std::{
    fs,
    io::{self, Write},
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
    service::{LogFile, Mismatch, hold_to_checkpoints, own_backups},
    store,
};

const LEAST_FREE: u64 = 64 * 1024 * 1024;
const LARGE_LOG: u64 = 512 * 1024 * 1024;
const OLD_BACKUP: Duration = Duration::from_hours(26);

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Location,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let config = settings::load_here(&self.place)?;
        let findings: Vec<_> = examine(&config)
            .into_iter()
            .map(|(what, (state, says))| Finding { what, state, says })
            .collect();
        if self.output.output == Format::Json {
            let list = findings.iter().map(
                |it| json!({ "check": it.what, "state": it.state.as_str(), "detail": it.says }),
            );
            writeln!(io::stdout(), "{}", json!(list.collect::<Vec<_>>()))?;
        } else {
            let rows = findings
                .iter()
                .map(|it| [it.what.to_owned(), it.state.as_str().to_owned(), it.says.clone()]);
            output::table(["CHECK", "STATE", "DETAIL"], &rows.collect::<Vec<_>>())?;
        }
        let failed = findings.iter().any(|it| it.state == State::Failed);
        Ok(exit_code::health(!failed))
    }
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
    // Without the directory, each of the others would say only that once more.
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

fn certificate(config: &Config) -> Diagnosis {
    match KeyPair::load(&config.tls) {
        Ok(None) => ok("no TLS here"),
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
            return failed(format!("there is no {}; `keyward serve` makes it", dir.display()));
        }
        Err(err) => return failed(format!("{}: {err}", dir.display())),
    };
    if found.permissions().mode() & 0o077 != 0 {
        return warning("others may look into it; chmod 700");
    }
    let (owner, me) = (found.uid(), geteuid());
    if owner != me.as_raw() && !me.is_root() {
        let (owner, me) = (user_name(owner), user_name(me.as_raw()));
        return warning(format!("it belongs to the user {owner}, and this is {me}"));
    }
    ok(format!("{}, of the user {}", dir.display(), user_name(owner)))
}

/// What a start refuses for, by the same list.
fn data_files(dir: &Path) -> Diagnosis {
    let mut faults: Vec<_> = server::data_file_faults(dir)
        .into_iter()
        .map(|it| Error::from(server::Error::from(it)).with_causes())
        .collect();
    faults.extend(server::DataDir::silent_holder(dir).map(|it| it.to_string()));
    if faults.is_empty() {
        ok("of the right user, for that user alone")
    } else {
        failed(faults.join("; "))
    }
}

fn database(layout: &DataLayout) -> Diagnosis {
    match store::check_startup(&layout.database()) {
        Ok(it) => ok(holds(it.events, it.accounts, it.keys)),
        Err(err) => failed(err.to_string()),
    }
}

fn audit_log(config: &Config) -> Diagnosis {
    let layout = config.layout();
    let signer = server::find_signer(&layout, config.audit.checkpoint_key.as_deref());
    let key = signer.ok().map(|it| it.public().clone());
    let public =
        || CheckpointKey::parse(&fs::read_to_string(layout.checkpoint_public_key()).ok()?).ok();
    let Some(key) = key.or_else(public) else {
        return warning("there is no key to check its signatures with");
    };
    let held = LogFile::open(&layout.database())
        .map_err(Mismatch::Store)
        .and_then(|mut it| it.read(|tx| hold_to_checkpoints(tx, &key, &layout.checkpoint())));
    match held {
        Ok(()) => ok("as its last checkpoint says; `keyward events verify` checks all of it"),
        Err(err) => failed(err.to_string()),
    }
}

fn free_space(dir: &Path) -> Diagnosis {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let says = format!("{} MiB", free / 1024 / 1024);
            if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return failed(
                    "the file system is read-only; a server verifies and changes nothing",
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
        warning(format!("{says}: something never stops reading"))
    }
}

fn clock(layout: &DataLayout) -> Diagnosis {
    let now = SystemClock::new().wall();
    let file = LogFile::open(&layout.database());
    match file.and_then(|it| it.time_floor()) {
        Ok(Some(floor)) if now < floor => warning(format!(
            "it is behind {floor}, which keyward has seen; `keyward clock accept` if it is right"
        )),
        Ok(_) => ok(now.to_string()),
        Err(err) => failed(err.to_string()),
    }
}

fn initial_key(layout: &DataLayout) -> Diagnosis {
    match layout.initial_root_key().try_exists() {
        Ok(true) => warning("it still lies in a file; use it once, and the file goes"),
        Ok(false) => ok("used, or never in a file"),
        Err(err) => failed(err.to_string()),
    }
}

fn checkpoint_key(config: &Config, server: &Diagnosis) -> Diagnosis {
    let layout = config.layout();
    match server::find_signer(&layout, config.audit.checkpoint_key.as_deref()) {
        Ok(_) => ok("there; keep a copy elsewhere, it is in no backup"),
        // Nothing answers as ready that has no key.
        Err(err) if err.is_out_of_sight() && server.0 == State::Ok => ok("the server has it"),
        Err(err) if err.is_out_of_sight() => match layout.checkpoint_public_key().try_exists() {
            Ok(true) => warning(
                "not where this user can see it; `serve` needs it, if not from here then as a \
                 credential of the service",
            ),
            Ok(false) => warning("there is none yet; `serve` makes it"),
            Err(err) => failed(err.to_string()),
        },
        Err(err) => failed(err.to_string()),
    }
}

fn backup(config: &Config, server: &Diagnosis) -> Diagnosis {
    if config.backup.keep == 0 {
        return warning("none is scheduled: backup.keep is 0");
    }
    let dir = config.backup_dir();
    if let Some(why) = obstacle(&config.data_dir, &dir, server.0 == State::Ok) {
        return failed(format!("none can be made: {why}"));
    }
    let made = own_backups(&dir).unwrap_or_default().into_iter().filter_map(|it| {
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

fn running(layout: &DataLayout) -> Diagnosis {
    match probe(layout.control_socket(), "/readyz") {
        Ok(200) => ok("ready"),
        Ok(status) => failed(format!("it runs and is not ready: status {status}")),
        Err(err @ (Error::Silent { .. } | Error::NoAccess { .. })) => failed(err.to_string()),
        Err(_) => warning("none runs here"),
    }
}
