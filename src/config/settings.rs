//! The table of settings: keys of the file, variables, flags and suggestions all come from it.
//!
//! The scope catalogue is not in it: it is a list, and only a file can hold it.

use std::path::Path;
use std::time::Duration;

use super::listen;
use super::read::{self, LogFormat, LogLevel, Raw};
use super::{Config, DAY};

/// One setting: what it is called, how it is read and how it is shown.
pub(super) struct Setting {
    /// The section of the file; empty for the settings above all sections.
    pub table: &'static str,
    pub name: &'static str,
    /// Puts a value in its place, or says what it must be: `must be …, not …`.
    pub read: fn(&mut Config, Raw<'_>) -> Result<(), String>,
    /// The value as a TOML literal.
    pub show: fn(&Config) -> String,
}

impl Setting {
    const fn new(
        table: &'static str,
        name: &'static str,
        read: fn(&mut Config, Raw<'_>) -> Result<(), String>,
        show: fn(&Config) -> String,
    ) -> Self {
        Self { table, name, read, show }
    }

    /// The dotted name, such as `log.level`.
    pub fn path(&self) -> String {
        if self.table.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.table, self.name)
        }
    }

    pub fn variable(&self) -> String {
        format!("KEYWARD_{}", self.path().replace('.', "_").to_ascii_uppercase())
    }

    pub fn flag(&self) -> String {
        format!("--{}", self.path().replace(['.', '_'], "-"))
    }
}

/// Every setting, in the order of the file.
pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "",
        "listen",
        |it, raw| put(&mut it.listen, listen::addresses(raw)),
        |it| match &*it.listen {
            [one] => text(&one.to_string()),
            several => array(several),
        },
    ),
    Setting::new(
        "",
        "data_dir",
        |it, raw| put(&mut it.data_dir, read::path(raw)),
        |it| text(&it.data_dir.to_string_lossy()),
    ),
    Setting::new(
        "",
        "workers",
        |it, raw| put(&mut it.workers, read::number(raw, 0..=256)),
        |it| it.workers.to_string(),
    ),
    Setting::new(
        "",
        "max_connections",
        |it, raw| put(&mut it.max_connections, read::number(raw, 0..=1_000_000)),
        |it| it.max_connections.to_string(),
    ),
    Setting::new(
        "",
        "docs",
        |it, raw| put(&mut it.docs, read::boolean(raw)),
        |it| it.docs.to_string(),
    ),
    Setting::new(
        "",
        "trusted_proxies",
        |it, raw| put(&mut it.trusted_proxies, read::networks(raw)),
        |it| array(&it.trusted_proxies),
    ),
    Setting::new(
        "tls",
        "certificate",
        |it, raw| put(&mut it.tls.certificate, read::optional_file(raw)),
        |it| text(&file_text(it.tls.certificate.as_deref())),
    ),
    Setting::new(
        "tls",
        "key",
        |it, raw| put(&mut it.tls.key, read::optional_file(raw)),
        |it| text(&file_text(it.tls.key.as_deref())),
    ),
    Setting::new(
        "log",
        "level",
        |it, raw| put(&mut it.log.level, read::choice(raw, &LogLevel::ALL, LogLevel::as_str)),
        |it| text(it.log.level.as_str()),
    ),
    Setting::new(
        "log",
        "format",
        |it, raw| put(&mut it.log.format, read::choice(raw, &LogFormat::ALL, LogFormat::as_str)),
        |it| text(it.log.format.as_str()),
    ),
    Setting::new(
        "keys",
        "prefix",
        |it, raw| put(&mut it.keys.prefix, read::key_prefix(raw)),
        |it| text(&it.keys.prefix),
    ),
    Setting::new(
        "keys",
        "rotation_grace",
        |it, raw| put(&mut it.keys.rotation_grace, read::duration(raw, Duration::ZERO..=7 * DAY)),
        |it| text(&read::duration_text(it.keys.rotation_grace)),
    ),
    Setting::new(
        "keys",
        "hash_iterations",
        |it, raw| put(&mut it.keys.hash_iterations, read::number(raw, 1000..=2_000_000)),
        |it| it.keys.hash_iterations.to_string(),
    ),
    Setting::new(
        "keys",
        "max_keys_per_account",
        |it, raw| put(&mut it.keys.max_keys_per_account, read::number(raw, 1..=1_000_000)),
        |it| it.keys.max_keys_per_account.to_string(),
    ),
    Setting::new(
        "keys",
        "max_changes_at_once",
        |it, raw| put(&mut it.keys.max_changes_at_once, read::number(raw, 1..=1_000_000)),
        |it| it.keys.max_changes_at_once.to_string(),
    ),
    Setting::new(
        "keys",
        "max_changes_per_second",
        |it, raw| put(&mut it.keys.max_changes_per_second, read::number(raw, 1..=1_000)),
        |it| it.keys.max_changes_per_second.to_string(),
    ),
    Setting::new(
        "keys",
        "retention",
        |it, raw| put(&mut it.keys.retention, read::duration(raw, DAY..=3650 * DAY)),
        |it| text(&read::duration_text(it.keys.retention)),
    ),
    Setting::new(
        "audit",
        "checkpoint_key",
        |it, raw| put(&mut it.audit.checkpoint_key, read::optional_file(raw)),
        |it| text(&file_text(it.audit.checkpoint_key.as_deref())),
    ),
    Setting::new(
        "authz",
        "policy_file",
        |it, raw| put(&mut it.authz.policy_file, read::optional_file(raw)),
        |it| text(&file_text(it.authz.policy_file.as_deref())),
    ),
    Setting::new(
        "authz",
        "allow_preflight",
        |it, raw| put(&mut it.authz.allow_preflight, read::boolean(raw)),
        |it| it.authz.allow_preflight.to_string(),
    ),
    Setting::new(
        "backup",
        "dir",
        |it, raw| put(&mut it.backup.dir, read::optional_dir(raw)),
        |it| text(&file_text(it.backup.dir.as_deref())),
    ),
    Setting::new(
        "backup",
        "keep",
        |it, raw| put(&mut it.backup.keep, read::number(raw, 0..=10_000)),
        |it| it.backup.keep.to_string(),
    ),
    Setting::new(
        "jobs",
        "end_graces",
        |it, raw| put(&mut it.jobs.end_graces, read::cron(raw)),
        |it| text(&it.jobs.end_graces),
    ),
    Setting::new(
        "jobs",
        "expire_keys",
        |it, raw| put(&mut it.jobs.expire_keys, read::cron(raw)),
        |it| text(&it.jobs.expire_keys),
    ),
    Setting::new(
        "jobs",
        "purge",
        |it, raw| put(&mut it.jobs.purge, read::cron(raw)),
        |it| text(&it.jobs.purge),
    ),
    Setting::new(
        "jobs",
        "flush_usage",
        |it, raw| put(&mut it.jobs.flush_usage, read::cron(raw)),
        |it| text(&it.jobs.flush_usage),
    ),
    Setting::new(
        "jobs",
        "keep_time",
        |it, raw| put(&mut it.jobs.keep_time, read::cron(raw)),
        |it| text(&it.jobs.keep_time),
    ),
    Setting::new(
        "jobs",
        "record_denials",
        |it, raw| put(&mut it.jobs.record_denials, read::cron(raw)),
        |it| text(&it.jobs.record_denials),
    ),
    Setting::new(
        "jobs",
        "checkpoint",
        |it, raw| put(&mut it.jobs.checkpoint, read::cron(raw)),
        |it| text(&it.jobs.checkpoint),
    ),
    Setting::new(
        "jobs",
        "backup",
        |it, raw| put(&mut it.jobs.backup, read::cron(raw)),
        |it| text(&it.jobs.backup),
    ),
    Setting::new(
        "jobs",
        "upkeep",
        |it, raw| put(&mut it.jobs.upkeep, read::cron(raw)),
        |it| text(&it.jobs.upkeep),
    ),
];

/// `value` as a TOML string, quoted as it needs.
pub(super) fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn array(items: &[impl ToString]) -> String {
    let texts = items.iter().map(|it| text(&it.to_string()));
    format!("[{}]", texts.collect::<Vec<_>>().join(", "))
}

fn file_text(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |it| it.to_string_lossy().into_owned())
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}
