//! The faults of a configuration, each with its place.

use std::{fmt, path::PathBuf};

/// All faults, one line each: those of the file from top to bottom, of variables, of flags.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigErrors(pub Vec<Fault>);

/// One fault. Its message never repeats a long value in full: it may be a misplaced secret.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct Fault {
    pub origin: SettingSource,
    pub message: String,
}

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingSource {
    /// A line of a file, counted from one.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Returns the known name that is most similar to `wanted`, if one is similar enough.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    known
        .map(|it| (strsim::normalized_damerau_levenshtein(&wanted, &it.to_lowercase()), it))
        .filter(|(likeness, _)| 0.6 <= *likeness)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, it)| it)
}

/// Returns a value in the form for a message: on one line, and cut if it could be a pasted key.
pub(super) fn quoted(value: &str) -> String {
    const LONGEST: usize = 40;
    const KEPT: usize = 12;
    if value.chars().count() <= LONGEST {
        return format!("`{}`", value.escape_debug());
    }
    let start: String = value.chars().take(KEPT).collect();
    format!("`{}…`", start.escape_debug())
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
