//! `keyward apply`: makes accounts and keys what a file declares them to be.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        api::machine::Machine,
        error::Error,
        exit_code,
        output::{self, Format, Output},
        settings::{self, Location},
    },
    config::{
        ConfigErrors, ConfigFile, DeclaredFile, DeclaredSection, Fault, SettingSource,
        declared_name, declared_value,
    },
    domain::visible::escaped,
    http::control::apply::{
        ApplyAccount, ApplyAnswer, ApplyChange, ApplyFault, ApplyRequest, MAX_LEN,
    },
};

/// The largest file, in bytes. Its JSON may be twice as long.
const MAX_FILE: usize = MAX_LEN / 3;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The file, or `-` for standard input
    file: PathBuf,
    /// Print what would change, and change nothing; exit 3 if anything would
    #[arg(long)]
    dry_run: bool,
    /// Also revoke keys and suspend accounts that an earlier file made and this one does not name. The file
    /// must end with the line `[end]`
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let config = settings::load_here(&self.location)?;
        let (path, text) = self.read()?;
        let fault = |line, says: &str| Fault {
            origin: SettingSource::File { path: path.clone(), line },
            message: says.to_owned(),
        };
        if MAX_FILE < text.len() {
            let says = "the file is larger than 16 MiB, which is the most that one run takes";
            return Err(ConfigErrors(vec![fault(1, says)]).into());
        }
        let (file, mut faults) = DeclaredFile::read(ConfigFile { path: &path, text: &text });
        if self.prune && file.accounts.is_empty() && file.keys.is_empty() {
            let says =
                "nothing is declared here, so `--prune` would end all that earlier files made";
            faults.push(fault(1, says));
        } else if self.prune && !file.is_complete {
            let says = "`--prune` needs `[end]` as the last line of the file: a file that was cut off \
                        would end what its missing part declares";
            faults.push(fault(text.lines().count().max(1), says));
        }
        let has_form = faults.is_empty();
        let request = request(&file, self.dry_run || !has_form, self.prune && has_form);
        let answer = Machine::open(&config).and_then(|machine| {
            let answer: ApplyAnswer = machine.control("/apply", &request)?;
            machine.close()?;
            Ok(answer)
        });
        match answer {
            Ok(answer) if has_form && answer.faults.is_empty() => self.report(&answer.changes),
            // The faults of the file are known also if the server cannot be asked about the rest.
            Err(err) if has_form => Err(err),
            answer => {
                let found = answer.map(|it| it.faults).unwrap_or_default();
                faults.extend(found.iter().filter_map(|it| placed(&path, &file, it)));
                faults.sort_by_key(line);
                Err(ConfigErrors(faults).into())
            }
        }
    }

    fn read(&self) -> Result<(PathBuf, String), Error> {
        let unreadable = |source| Error::File { path: self.file.clone(), source };
        let (path, file): (_, Box<dyn Read>) = if self.file == Path::new("-") {
            (PathBuf::from("standard input"), Box::new(io::stdin().lock()))
        } else {
            (self.file.clone(), Box::new(File::open(&self.file).map_err(unreadable)?))
        };
        // One byte more than allowed shows that the file is too long.
        let mut text = Vec::new();
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        let invalid = |err| unreadable(io::Error::new(io::ErrorKind::InvalidData, err));
        Ok((path, String::from_utf8(text).map_err(invalid)?))
    }

    /// Prints the changes. A dry run prints the same as the run that it stands for.
    fn report(&self, changes: &[ApplyChange]) -> Result<ExitCode, Error> {
        let count = |action: &str| changes.iter().filter(|it| it.action == action).count();
        let left = count("left");
        let total = |action: &str| match action {
            "created" => count(action) + count("recreated"),
            _ => count(action),
        };
        if self.output.output == Format::Json {
            let report = json!({ "dryRun": self.dry_run, "changes": changes });
            output::json(&report)?;
        } else {
            let mut out = io::stdout().lock();
            for it in changes {
                writeln!(out, "{}", escaped(&sentence(it)))?;
            }
            let counts = ["created", "updated", "revoked", "suspended", "left"];
            let counts = counts.map(|it| format!("{} {it}", total(it)));
            writeln!(out, "{}", counts.join(", "))?;
        }
        let differs = if self.dry_run { !changes.is_empty() } else { 0 < left };
        Ok(exit_code::answer(!differs))
    }
}

fn request(file: &DeclaredFile, dry_run: bool, prune: bool) -> ApplyRequest {
    let members = |them: &[DeclaredSection]| them.iter().map(|it| it.members.clone()).collect();
    let accounts = file.accounts.iter().map(|(account, keys)| ApplyAccount {
        settings: account.members.clone(),
        keys: members(keys),
    });
    ApplyRequest { dry_run, prune, keys: members(&file.keys), accounts: accounts.collect() }
}

/// Returns a fault of the server with its line in the file; `None` if the member is malformed, which is
/// reported already.
fn placed(path: &Path, file: &DeclaredFile, fault: &ApplyFault) -> Option<Fault> {
    let account = fault.account.and_then(|it| file.accounts.get(it));
    let keys = account.map_or(&file.keys, |(_, keys)| keys);
    let section = match fault.key {
        Some(index) => keys.get(index),
        None => account.map(|(section, _)| section),
    };
    if section.is_some_and(|it| it.is_malformed(&fault.field)) {
        return None;
    }
    let line = section.map_or(1, |it| it.line_of(&fault.field));
    let origin = SettingSource::File { path: path.to_owned(), line };
    let message = match &*fault.field {
        "" => fault.detail.clone(),
        field => about(declared_name(field), &fault.detail),
    };
    Some(Fault { origin, message })
}

/// Returns a sentence about a member. Most details of the API continue one; the others are sentences.
fn about(member: &str, detail: &str) -> String {
    const VERBS: [&str; 6] = ["must", "is", "names", "holds", "nests", "may"];
    let continues = detail.split(' ').next().is_some_and(|it| VERBS.contains(&it));
    let sign = if continues { "" } else { ":" };
    format!("`{member}`{sign} {detail}")
}

fn line(fault: &Fault) -> usize {
    if let SettingSource::File { line, .. } = &fault.origin { *line } else { 0 }
}

/// Returns the line about a change.
fn sentence(change: &ApplyChange) -> String {
    let account = change.account.as_deref();
    let what = match (&change.key, account) {
        (Some(key), Some(account)) => format!("key \"{key}\" of {account}"),
        (Some(key), None) => format!("key \"{key}\" of the operator"),
        (None, account) => format!("account {}", account.unwrap_or("operator")),
    };
    match &*change.action {
        "updated" => format!("updated {what}: {}", differences(&change.before, &change.after)),
        "recreated" => {
            format!(
                "created {what} again: the one before it was deleted, and its keys stay revoked"
            )
        }
        "left" if change.key_id.is_some() => {
            format!("left {what}: it was revoked or has expired, and is not created again")
        }
        "left" => format!(
            "left {what}: a key with this digest was here before, and was rotated or has ended; it is \
             not created again"
        ),
        action => format!("{action} {what}"),
    }
}

fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> String {
    let names = before.keys().chain(after.keys().filter(|it| !before.contains_key(*it)));
    let told = names.map(|name| {
        let value = |of: &Map<String, Value>| of.get(name).cloned().unwrap_or_default();
        let said = difference(name, &value(before), &value(after));
        format!("{} {said}", declared_name(name.trim_end_matches("Digest")))
    });
    let mut told: Vec<_> = told.collect();
    told.dedup();
    told.join(", ")
}

/// Returns the items that a list gains and loses, or both values of another member.
fn difference(name: &str, before: &Value, after: &Value) -> String {
    if name.starts_with("metadata") {
        return "changed".to_owned();
    }
    let (Some(old), Some(new)) = (before.as_array(), after.as_array()) else {
        return format!("{} -> {}", declared_value(name, before), declared_value(name, after));
    };
    let only = |sign: char, these: &[Value], those: &[Value]| {
        let items = these.iter().filter(|it| !those.contains(it)).filter_map(Value::as_str);
        items.map(|it| format!("{sign}{it}")).collect::<Vec<_>>()
    };
    let both = [only('+', new, old), only('-', old, new)].concat();
    // The same items in another order are a change of nothing that matters.
    both.join(" ")
}
