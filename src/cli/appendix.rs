//! The text below the options in `--help` and in the manual: examples, exit statuses, variables.

use std::fmt::Write;

use clap::builder::Styles;

use crate::{
    cli::exit_code::EXIT_STATUSES,
    config::{COMMAND_LINE_VARIABLES, setting_variables},
};

/// Longer names get a line of their own.
const WIDEST: usize = 40;
const NO_COLOR: (&str, &str) =
    ("NO_COLOR", "If it is set and not empty, the output has no colours");

/// Commands, examples of their use, and what each example does.
pub(super) const EXAMPLES: [(&str, &[(&str, &str)]); 17] = [
    (
        "serve",
        &[
            ("keyward serve", "Listen on 127.0.0.1:8080, with the data in ./keyward-data"),
            (
                "keyward serve --listen 127.0.0.1:8081 --data-dir ./test-data",
                "Run a second server beside it",
            ),
        ],
    ),
    (
        "dev",
        &[
            ("keyward dev", "Listen on 127.0.0.1:8080; the data are removed at the end"),
            (
                "keyward dev --listen 127.0.0.1:0 --now 2027-01-01T00:00:00Z",
                "On a free port, with the same time at each start",
            ),
            ("keyward dev --config keyward.toml", "With your own scopes and your route policy"),
        ],
    ),
    (
        "apply",
        &[
            (
                "keyward apply keys.toml --dry-run",
                "Print what would change; exit 3 if anything would",
            ),
            ("keyward apply keys.toml --prune", "Also remove what the file no longer names"),
        ],
    ),
    (
        "root-key generate",
        &[
            (
                "keyward root-key generate >root-key",
                "A key, in a file; `umask 077` before it keeps the file for you",
            ),
            (
                "keyward root-key generate --digest",
                "The key for you, and its digest for the server",
            ),
        ],
    ),
    (
        "keys list",
        &[
            ("keyward keys list --all --status expiring", "Keys of all accounts that end soon"),
            ("keyward keys list --query rg_ysCC0lKor", "The key with this prefix"),
            (
                "keyward events export | grep api_key.revoked",
                "Revoked keys, which no list contains: when each was revoked, and by which key",
            ),
        ],
    ),
    (
        "keys create",
        &[
            (
                "keyward keys create --name ci --scope orders:read --expires 90d",
                "A key of your own account",
            ),
            (
                "keyward keys create --name gateway --scope api-keys:verify -q >gateway.key",
                "A key for your gateway, in a file",
            ),
        ],
    ),
    ("keys update", &[("keyward keys update rg_ysCC0lKor --disable", "Refuse a key for now")]),
    (
        "keys rotate",
        &[(
            "keyward keys rotate rg_ysCC0lKor --grace 1d",
            "The old credential works for one more day",
        )],
    ),
    ("keys revoke", &[("keyward keys revoke rg_ysCC0lKor", "Revoke a key, after confirmation")]),
    (
        "keys unused",
        &[
            ("keyward keys unused --days 30", "Keys that you could revoke"),
            (
                "keyward keys unused --scopes --all",
                "Keys of all accounts with more scopes than they use",
            ),
        ],
    ),
    (
        "accounts create",
        &[(
            "keyward accounts create --name \"Acme Corp\" --external-id cust_42 --allow orders:read",
            "An account whose keys may only read orders",
        )],
    ),
    (
        "accounts link",
        &[
            ("keyward accounts link cust_42", "A link with all scopes that the account allows"),
            (
                "keyward accounts link cust_42 --scope api-keys:read,events:read --expires-in 1h",
                "A link that shows keys and events, and changes nothing",
            ),
        ],
    ),
    (
        "verify",
        &[
            ("keyward verify - --scope orders:read", "Ask for the key"),
            ("keyward verify - <customer.key", "Read the key from a file"),
        ],
    ),
    ("import", &[("keyward import keys.jsonl --dry-run", "Show which rows would be refused")]),
    (
        "scan",
        &[
            ("keyward scan .", "Keys with the configured prefix in this directory"),
            ("keyward scan - --prefix rg <dump.sql", "Keys with the prefix rg in standard input"),
        ],
    ),
    ("backup create", &[("keyward backup create --to /srv/keyward.db", "A backup in this file")]),
    ("events tail", &[("keyward events tail -f", "The last ten events, then each new one")]),
];

/// A list of names and their meanings.
pub(super) struct Section {
    heading: &'static str,
    entries: Vec<(String, String)>,
}

/// Returns the text below a command: its examples, if it has any.
pub(super) fn examples_of(command: &str) -> Vec<Section> {
    let found = EXAMPLES.iter().filter(|(name, _)| *name == command);
    found.map(|(_, all)| Section { heading: "Examples", entries: but(all, &[]) }).collect()
}

/// Returns the text below the program itself.
pub(super) fn of_the_program() -> Vec<Section> {
    vec![exit_statuses(&[]), environment(&[])]
}

/// Returns the text below `serve`, without the exit codes and variables of other commands.
pub(super) fn of_serve() -> Vec<Section> {
    let asking = ["KEYWARD_URL", "KEYWARD_KEY", "KEYWARD_KEY_FILE", "KEYWARD_CA_FILE"];
    let mut sections = examples_of("serve");
    sections.extend([exit_statuses(&["3", "4"]), environment(&asking)]);
    sections
}

/// Renders sections for the end of `--help`.
pub(super) fn help(sections: &[Section]) -> String {
    let heading = Styles::default();
    let heading = heading.get_header();
    let mut text = String::new();
    for section in sections {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading}{}:{heading:#}", section.heading);
        let width = section.entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, means) in &section.entries {
            let _ = if WIDEST < width {
                writeln!(text, "  {name}\n      {means}")
            } else {
                writeln!(text, "  {name:width$}  {means}")
            };
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Renders sections for a manual page (man(7)).
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
