//! Commands for the machine's operator: through the control socket of the running server, or, when
//! none runs, on the database itself, under its lock.

use std::{
    io::{self, IsTerminal, Write},
    path, thread,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    cli::{
        Error, Location,
        client::refusal,
        config,
        output::{self, Format, Output},
        socket,
    },
    config::Config,
    env::{Clock, SystemClock},
    http::control::{ClockAnswer, JobAnswer, ResetAnswer, ResetRequest},
    server::{self, Backend, Sources},
    service::{self, Job, Keyward},
};

/// Between two attempts to get at the data directory.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn reset_root_key(
    place: &Location,
    revoke_others: bool,
    output: Output,
) -> Result<(), Error> {
    let config = config::load_here(place)?;
    let terminal = io::stdout().is_terminal();
    let file = path::absolute(config.layout().initial_root_key())?;
    let to_file = (!terminal).then_some(file.clone());
    let request = ResetRequest { revoke_others, to_file };
    let answer: ResetAnswer =
        ask(&config, "/root-key/reset", &request, |app| request.carry_out(app))?;
    if output.output == Format::Json {
        // The key itself only where it is shown to a person, as in words.
        return Ok(output::json(&json!({
            "keyId": answer.key_id,
            "keyPrefix": answer.key_prefix,
            "key": answer.key,
            "path": (!terminal).then_some(file),
            "revoked": answer.revoked,
        }))?);
    }
    let mut out = io::stdout().lock();
    match answer.key {
        Some(key) => {
            writeln!(out, "A root key was made. It is shown this once; only its hash is kept:\n")?;
            writeln!(out, "    {key}\n")?;
        }
        None => writeln!(
            out,
            "A root key was made. It waits in {}, which is removed when the key is first used.",
            file.display()
        )?,
    }
    match answer.revoked.len() {
        0 => writeln!(out, "Every other key goes on working.")?,
        revoked => writeln!(out, "Root keys revoked: {revoked}.")?,
    }
    Ok(())
}

/// Returns the help text of the argument of `run-job`.
pub(super) fn known_jobs() -> String {
    let [others @ .., last] = Job::ALL.map(|it| format!("`{}`", it.as_str()));
    format!("The job: {} or {last}", others.join(", "))
}

pub(super) fn run_job(place: &Location, name: &str, output: Output) -> Result<(), Error> {
    let Some(job) = Job::parse(name) else {
        let known = Job::ALL.map(Job::as_str).join(", ");
        return Err(Error::NoSuchJob { name: name.to_owned(), known });
    };
    let config = config::load_here(place)?;
    let path = format!("/jobs/{}/run", job.as_str());
    let answer: JobAnswer =
        ask(&config, &path, &(), |app| Ok(JobAnswer { changed: app.run_job(job, &|| false)? }))?;
    if output.output == Format::Json {
        let done = json!({ "job": job.as_str(), "changed": answer.changed });
        return Ok(output::json(&done)?);
    }
    Ok(writeln!(io::stdout(), "{name}: {}", outcome_of(job, answer.changed))?)
}

/// What a run of a job came to; `changed` is what it counts.
fn outcome_of(job: Job, changed: u64) -> String {
    let count = |thing| output::count(i64::try_from(changed).unwrap_or(i64::MAX), thing);
    match (job, changed) {
        (Job::EndGraces, _) => format!("{} ended", count("grace period")),
        (Job::ExpireKeys, _) => format!("{} recorded as expired", count("key")),
        (Job::Purge, _) => format!("{changed} removed"),
        (Job::FlushUsage, _) => format!("uses of {} written down", count("key value")),
        (Job::KeepTime, _) => format!("the time was written down; {}", count("step of the clock")),
        (Job::RecordDenials, _) => format!("{} recorded", count("event")),
        (Job::Checkpoint, 0) => "nothing was added to the log since the last one".to_owned(),
        (Job::Checkpoint, _) => "signed".to_owned(),
        (Job::Backup, 0) => "none was made".to_owned(),
        (Job::Backup, _) => "made and checked".to_owned(),
        (Job::Upkeep, 0) => {
            "the write-ahead log was not folded: a reader of the database holds it".to_owned()
        }
        (Job::Upkeep, _) => "the write-ahead log was folded".to_owned(),
    }
}

pub(super) fn accept_clock(place: &Location) -> Result<(), Error> {
    let config = config::load_here(place)?;
    let answer: ClockAnswer = ask(&config, "/clock/accept", &(), |app| {
        let back = app.accept_clock()?;
        Ok(ClockAnswer { back_ms: u64::try_from(back.as_millis()).unwrap_or(u64::MAX) })
    })?;
    let back = Duration::from_millis(answer.back_ms);
    let back = humantime::format_duration(back);
    Ok(writeln!(io::stdout(), "The machine's clock is taken for right; time went back by {back}.")?)
}

/// Asks the server that owns the data directory; if there is none, does it here.
pub(super) fn ask<T: DeserializeOwned>(
    config: &Config,
    path: &str,
    request: &impl Serialize,
    here: impl FnOnce(&Keyward) -> Result<T, service::Error>,
) -> Result<T, Error> {
    config::database(&config.data_dir)?;
    match open_or_connect(config)? {
        Backend::Local(instance) => {
            let answer = here(&instance.app).map_err(server::Error::Service)?;
            instance.close()?;
            Ok(answer)
        }
        Backend::Server(socket) => {
            let (status, body) = socket::post(&socket, path, request).map_err(Error::Control)?;
            if status != 200 {
                return Err(refusal(status, &body));
            }
            serde_json::from_slice(&body).map_err(|err| Error::Control(err.into()))
        }
    }
}

/// Opens the database or finds its server, in turn with other commands.
pub(super) fn open_or_connect(config: &Config) -> Result<Backend, server::Error> {
    server::open_or_connect(config, Sources::system(), &mut patience(Duration::from_secs(10)))
}

/// Waits a moment each time that it is asked, and says no when it has taken as long as this.
pub(super) fn patience(long: Duration) -> impl FnMut() -> bool {
    let clock = SystemClock::new();
    let started = clock.monotonic();
    move || {
        thread::sleep(PAUSE);
        clock.monotonic().since(started) < long
    }
}
