//! The table of settings. Keys of the file, variables, flags and suggestions all come from it.
//!
//! The scope catalogue is not in it: it is a list, and only a file can hold it.

use std::{ops::RangeInclusive, path::Path, sync::LazyLock, time::Duration};

use super::{
    Config, DAY, listen,
    read::{self, LogFormat, LogLevel, Raw},
};
use crate::domain::{
    client_address::AddressRecording,
    job::Job,
    lifetime::LONGEST_SECONDS,
    token_key::{LONGEST_LIFETIME, TokenAlgorithm},
};

type Read = dyn Fn(&mut Config, Raw<'_>) -> Result<(), String> + Send + Sync;
type Show = dyn Fn(&Config) -> String + Send + Sync;

/// One setting.
pub(super) struct Setting {
    /// The section of the file; empty for the settings above all sections.
    pub table: &'static str,
    pub name: &'static str,
    /// Sets the value. The error completes a sentence: `must be …, not …`.
    pub read: Box<Read>,
    /// Returns the value as a TOML literal.
    pub show: Box<Show>,
}

impl Setting {
    /// Returns the dotted name, such as `log.level`.
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

/// Makes the setting of a field of [`Config`] that has its name. The first expression reads the raw
/// value, the second shows the field.
macro_rules! setting {
    ($name:ident, $raw:ident => $read:expr, $it:ident => $show:expr) => {
        setting!(@ "", $name, ($name), $raw => $read, $it => $show)
    };
    ($table:ident.$name:ident, $raw:ident => $read:expr, $it:ident => $show:expr) => {
        setting!(@ stringify!($table), $name, ($table.$name), $raw => $read, $it => $show)
    };
    (@ $table:expr, $name:ident, ($($field:ident).+), $raw:ident => $read:expr, $it:ident => $show:expr) => {
        Setting {
            table: $table,
            name: stringify!($name),
            read: Box::new(|config, $raw| {
                config.$($field).+ = $read?;
                Ok(())
            }),
            show: Box::new(|config| {
                let $it = &config.$($field).+;
                $show
            }),
        }
    };
}

/// The shortest and the longest lifetime of keys.
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(LONGEST_SECONDS as u64);

/// The shortest and the longest validity of console links.
const LINK_LIFETIMES: RangeInclusive<Duration> = Duration::from_mins(1)..=DAY;

/// The shortest and the longest lifetime of tokens.
const TOKEN_LIFETIMES: RangeInclusive<Duration> = Duration::from_mins(1)..=LONGEST_LIFETIME;

/// The shortest and the longest time for which a gateway may keep a status list.
const STATUS_TTLS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_mins(5);

/// Every setting, in the order of the file.
pub(super) static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut settings = vec![
        setting!(listen, raw => listen::addresses(raw), it => match &**it {
            [one] => text(&one.to_string()),
            several => array(several),
        }),
        setting!(data_dir, raw => read::path(raw), it => path(Some(it))),
        setting!(root_key_file, raw => read::optional_file(raw), it => path(it.as_deref())),
        setting!(workers, raw => read::number(raw, 0..=256), it => it.to_string()),
        setting!(max_connections, raw => read::number(raw, 0..=1_000_000), it => it.to_string()),
        setting!(
            public_url,
            raw => read::optional_url(raw),
            it => text(it.as_deref().unwrap_or_default())
        ),
        setting!(console, raw => read::boolean(raw), it => it.to_string()),
        setting!(docs, raw => read::boolean(raw), it => it.to_string()),
        setting!(trusted_proxies, raw => read::networks(raw), it => array(it)),
        setting!(tls.certificate, raw => read::optional_file(raw), it => path(it.as_deref())),
        setting!(tls.key, raw => read::optional_file(raw), it => path(it.as_deref())),
        setting!(
            log.level,
            raw => read::choice(raw, &LogLevel::ALL, LogLevel::as_str),
            it => text(it.as_str())
        ),
        setting!(
            log.format,
            raw => read::choice(raw, &LogFormat::ALL, LogFormat::as_str),
            it => text(it.as_str())
        ),
        setting!(keys.prefix, raw => read::key_prefix(raw), it => text(it.as_str())),
        setting!(
            keys.rotation_grace,
            raw => read::duration(raw, Duration::ZERO..=7 * DAY),
            it => text(&read::duration_text(*it))
        ),
        setting!(
            keys.hash_iterations,
            raw => read::number(raw, 1000..=2_000_000),
            it => it.to_string()
        ),
        setting!(
            keys.max_keys_per_account,
            raw => read::number(raw, 1..=1_000_000),
            it => it.to_string()
        ),
        setting!(
            keys.max_lifetime,
            raw => read::optional_duration(raw, LIFETIMES),
            it => text(&it.map_or_else(String::new, read::duration_text))
        ),
        setting!(
            keys.default_lifetime,
            raw => read::optional_duration(raw, LIFETIMES),
            it => text(&it.map_or_else(String::new, read::duration_text))
        ),
        setting!(
            keys.console_link_lifetime,
            raw => read::duration(raw, LINK_LIFETIMES),
            it => text(&read::duration_text(*it))
        ),
        setting!(
            keys.max_changes_at_once,
            raw => read::number(raw, 1..=1_000_000),
            it => it.to_string()
        ),
        setting!(
            keys.max_changes_per_second,
            raw => read::number(raw, 1..=1_000),
            it => it.to_string()
        ),
        setting!(
            keys.retention,
            raw => read::duration(raw, DAY..=3650 * DAY),
            it => text(&read::duration_text(*it))
        ),
        setting!(
            keys.client_addresses,
            raw => read::choice(raw, &AddressRecording::ALL, AddressRecording::as_str),
            it => text(it.as_str())
        ),
        setting!(
            tokens.lifetime,
            raw => read::duration(raw, TOKEN_LIFETIMES),
            it => text(&read::duration_text(*it))
        ),
        setting!(
            tokens.algorithm,
            raw => read::choice(raw, &TokenAlgorithm::ALL, TokenAlgorithm::as_str),
            it => text(it.as_str())
        ),
        setting!(tokens.audiences, raw => read::audiences(raw), it => array(it)),
        setting!(
            tokens.status_ttl,
            raw => read::duration(raw, STATUS_TTLS),
            it => text(&read::duration_text(*it))
        ),
        setting!(audit.checkpoint_key, raw => read::optional_file(raw), it => path(it.as_deref())),
        setting!(authz.policy_file, raw => read::optional_file(raw), it => path(it.as_deref())),
        setting!(authz.allow_preflight, raw => read::boolean(raw), it => it.to_string()),
        setting!(backup.dir, raw => read::optional_dir(raw), it => path(it.as_deref())),
        setting!(backup.keep, raw => read::number(raw, 0..=10_000), it => it.to_string()),
    ];
    settings.extend(Job::ALL.map(schedule));
    settings
});

fn schedule(job: Job) -> Setting {
    Setting {
        table: "jobs",
        name: job.as_str(),
        read: Box::new(move |it, raw| {
            it.jobs.insert(job, read::cron(raw)?);
            Ok(())
        }),
        show: Box::new(move |it| text(it.jobs.get(&job).map_or("", String::as_str))),
    }
}

/// Returns `value` as a TOML string with the quotes that it needs.
pub(super) fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn array(items: &[impl ToString]) -> String {
    let texts = items.iter().map(|it| text(&it.to_string()));
    format!("[{}]", texts.collect::<Vec<_>>().join(", "))
}

fn path(path: Option<&Path>) -> String {
    text(&path.unwrap_or(Path::new("")).to_string_lossy())
}
