//! `keyward run-job`: runs a scheduled job now.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        api::machine::control,
        error::Error,
        output::{self, Format, Output},
        settings::{self, Location},
    },
    http::control::JobAnswer,
    service::Job,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[arg(help = known_jobs())]
    name: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

fn known_jobs() -> String {
    let [others @ .., last] = Job::ALL.map(|it| format!("`{}`", it.as_str()));
    format!("The job: {} or {last}", others.join(", "))
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let Some(job) = Job::parse(&self.name) else {
            let known = Job::ALL.map(Job::as_str).join(", ");
            return Err(Error::NoSuchJob { name: self.name.clone(), known });
        };
        let config = settings::load_here(&self.location)?;
        let answer: JobAnswer = control(&config, &format!("/jobs/{}/run", job.as_str()), &())?;
        if self.output.output == Format::Json {
            let done = json!({ "job": job.as_str(), "changed": answer.changed });
            return Ok(output::json(&done)?);
        }
        Ok(writeln!(io::stdout(), "{}: {}", job.as_str(), outcome_of(job, answer.changed))?)
    }
}

/// Describes the result of a job; `changed` is what it counts.
fn outcome_of(job: Job, changed: u64) -> String {
    let count = |thing| output::count(i64::try_from(changed).unwrap_or(i64::MAX), thing);
    match (job, changed) {
        (Job::EndGraces, _) => format!("{} ended", count("grace period")),
        (Job::ExpireKeys, _) => format!("{} recorded as expired", count("key")),
        (Job::Notices, _) => format!("{} recorded", count("notice")),
        (Job::Purge, _) => format!("{changed} removed"),
        (Job::FlushUsage, _) => format!("last use of {} stored", count("credential")),
        (Job::KeepTime, _) => format!("the time was stored; {} recorded", count("clock step")),
        (Job::RecordDenials, _) => format!("{} recorded", count("event")),
        (Job::Checkpoint, 0) => "none was signed: the log has no new events".to_owned(),
        (Job::Checkpoint, _) => "signed".to_owned(),
        (Job::Backup, 0) => "none was made: backup.keep is 0".to_owned(),
        (Job::Backup, _) => "made and checked".to_owned(),
        (Job::Tokens, 0) => "nothing about tokens was due".to_owned(),
        (Job::Tokens, n) => format!("changed {n} keys, places and counts of tokens"),
        (Job::Upkeep, 0) => {
            "the write-ahead log was not emptied: a reader of the database holds it".to_owned()
        }
        (Job::Upkeep, _) => "the write-ahead log was emptied".to_owned(),
    }
}
