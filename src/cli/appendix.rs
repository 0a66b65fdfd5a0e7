//! What stands below the options, in `--help` and in the manual: exit statuses and variables.

use std::fmt::Write;

use clap::builder::Styles;

use crate::config::{COMMAND_LINE_VARIABLES, setting_variables};

/// Of all commands; not each has each.
const EXIT_STATUSES: [(&str, &str); 7] = [
    ("0", "Done; of a question, yes"),
    ("1", "Failed"),
    ("2", "Wrong usage; nothing was done"),
    ("3", "The answer is no: a key is refused; a log, a backup, a policy or rows are not sound"),
    ("4", "Not allowed: there is no key, or it may not do this"),
    ("75", "Try again: the data directory or the database is in use, or the disk failed"),
    ("78", "The configuration or the data is wrong; trying again does not help"),
];
const NO_COLOR: (&str, &str) = ("NO_COLOR", "If it is set and not empty, nothing is coloured");

/// A list of names and what they mean.
pub(super) struct Section {
    heading: &'static str,
    entries: Vec<(String, String)>,
}

/// Below the program itself.
pub(super) fn of_the_program() -> Vec<Section> {
    vec![exit_statuses(&[]), environment(&[])]
}

/// Below `serve`, which answers no question and asks no other server.
pub(super) fn of_serve() -> Vec<Section> {
    let asking = ["KEYWARD_URL", "KEYWARD_KEY", "KEYWARD_KEY_FILE", "KEYWARD_CA_FILE"];
    vec![exit_statuses(&["3", "4"]), environment(&asking)]
}

/// As `--help` ends.
pub(super) fn help(sections: &[Section]) -> String {
    let heading = Styles::default();
    let heading = heading.get_header();
    let mut text = String::new();
    for section in sections {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading}{}:{heading:#}", section.heading);
        let width = section.entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, means) in &section.entries {
            let _ = writeln!(text, "  {name:width$}  {means}");
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// As sections of a manual page (man(7)).
pub(super) fn roff(sections: &[Section]) -> String {
    let escaped = |it: &str| it.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let mut text = String::new();
    for section in sections {
        let _ = writeln!(text, ".SH \"{}\"", section.heading.to_uppercase());
        for (name, means) in &section.entries {
            let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(means));
        }
    }
    text
}

fn exit_statuses(without: &[&str]) -> Section {
    Section { heading: "Exit status", entries: but(&EXIT_STATUSES, without) }
}

fn environment(without: &[&str]) -> Section {
    let mut entries = but(&COMMAND_LINE_VARIABLES, without);
    entries.extend(setting_variables().map(|(name, path)| (name, format!("The setting {path}"))));
    entries.extend(but(&[NO_COLOR], &[]));
    Section { heading: "Environment", entries }
}

fn but(all: &[(&str, &str)], without: &[&str]) -> Vec<(String, String)> {
    let kept = all.iter().filter(|(name, _)| !without.contains(name));
    kept.map(|(name, means)| ((*name).to_owned(), (*means).to_owned())).collect()
}
