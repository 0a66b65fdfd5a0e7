//! The report of a command line that cannot be parsed.

use std::{env, ffi::OsString, io::Write, path::Path, process::ExitCode};

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::{
    cli::exit_code::USAGE,
    domain::{text::masked, visible::escaped},
};

/// The argument of `verify`, as messages name it.
const STANDARD_INPUT: &str = "<->";
const LONGEST_WORD: usize = 15;
const REVOKED_KEYS: &str = "revoked keys are not in the list; the audit log says who revoked a key, and when: \
    'keyward events tail -n 1000 | grep api_key.revoked'";
const HOW_TO_VERIFY: &str = "Pass keys by standard input, so that no list of processes and no \
    history of a shell shows them: `keyward verify -`";

/// Prints the help that was asked for, or the mistake. Never repeats a key that was typed in a wrong
/// place, because messages end up in histories of terminals and in logs.
pub(super) fn explain(mut err: Error) -> ExitCode {
    if !err.use_stderr() {
        // There is no further place to report to.
        let _ = err.print();
        return ExitCode::SUCCESS;
    }
    // Masks before clap adds colours: the last letter of an escape sequence would be part of a key.
    let texts = err.context().filter_map(|(kind, value)| {
        let ContextValue::String(text) = value else { return None };
        Some((kind, escaped(&masked(text)).into_owned()))
    });
    for (kind, text) in texts.collect::<Vec<_>>() {
        err.insert(kind, ContextValue::String(text));
    }
    let argument = err.get(ContextKind::InvalidArg).map(ToString::to_string);
    // A surplus argument that is too long for a word may be a key of any shape.
    let surplus = argument.as_deref().is_some_and(|it| {
        !it.starts_with(['-', '<', '['])
            && LONGEST_WORD < it.len()
            && !it.contains('…')
            && !is_path(it)
    });
    if err.kind() == ErrorKind::UnknownArgument && surplus {
        err.insert(ContextKind::InvalidArg, ContextValue::String("…".to_owned()));
    }
    if argument.as_deref() == Some(STANDARD_INPUT) {
        // A wrong argument of `verify` was meant as a key.
        err.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    if err.kind() == ErrorKind::UnknownArgument
        && let Some(tip) = argument.as_deref().and_then(|it| listen_tip(it).or_else(|| to_tip(it)))
    {
        err.remove(ContextKind::SuggestedArg);
        err.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    let is_status = argument.as_deref().is_some_and(|it| it.starts_with("--status"));
    if is_status && err.get(ContextKind::InvalidValue).is_some_and(|it| it.to_string() == "revoked")
    {
        err.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![REVOKED_KEYS.into()]));
    }
    // Other parts, such as the message of a parser, are masked with the whole text.
    let mut text = err.render().ansi().to_string();
    if env::args_os().nth(1).is_some_and(|it| it == "verify") {
        text = format!("{}\n\n{HOW_TO_VERIFY}\n", text.trim_end());
    }
    let _ = anstream::stderr().write_all(masked(&text).as_bytes());
    ExitCode::from(USAGE)
}

/// Returns whether the argument names a file in a directory that exists. No key does: of the texts that can be
/// keys, only those in base64 have a slash.
fn is_path(argument: &str) -> bool {
    let dir = Path::new(argument).parent();
    dir.is_some_and(|it| it.parent().is_some() && it.is_dir())
}

/// Suggests `--to` for the file of `backup create`, which is an argument of `backup verify`.
fn to_tip(argument: &str) -> Option<String> {
    let is_create = env::args_os().skip(1).take(2).eq(["backup", "create"]);
    (is_create && !argument.starts_with('-'))
        .then(|| "to name the file of the backup, write '--to FILE'".to_owned())
}

/// Suggests `--listen` for an argument by which other servers take a port or an address.
fn listen_tip(argument: &str) -> Option<String> {
    let port = ["--port", "-p"].contains(&argument)
        || argument.trim_start_matches(['*', ':']).parse::<u16>().is_ok();
    let host = ["--host", "--bind", "--address", "--addr"].contains(&argument);
    if !(port || host) {
        return None;
    }
    // The number itself, or the one given with the option.
    let number = |it: OsString| it.to_str()?.rsplit(['=', ':']).next()?.parse::<u16>().ok();
    let given = env::args_os().skip(1).find_map(number).unwrap_or(8081);
    Some(format!("to choose the address to listen on, write '--listen 127.0.0.1:{given}'"))
}
