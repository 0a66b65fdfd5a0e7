//! What is said to whoever typed something that is no command.

use std::{env, ffi::OsString, io::Write, process::ExitCode};

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::domain::{text::masked, visible::escaped};

/// The argument of `verify`, as it is called in messages.
const STANDARD_INPUT: &str = "<->";
const LONGEST_WORD: usize = 15;
const HOW_TO_VERIFY: &str = "Keys come by standard input, where no list of processes and no \
    history of a shell shows them: `keyward verify -`";

/// Prints the help that was asked for, or what is wrong. No key that was typed in a wrong place is
/// repeated: messages come to rest in terminals' histories and in logs.
pub(super) fn explain(mut err: Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
    if !err.use_stderr() {
        // Nobody is left to tell if this fails.
        let _ = err.print();
        return code;
    }
    // Before they are coloured: the letter at the end of an escape sequence is none of a key's.
    let texts = err.context().filter_map(|(kind, value)| {
        let ContextValue::String(text) = value else { return None };
        Some((kind, escaped(&masked(text)).into_owned()))
    });
    for (kind, text) in texts.collect::<Vec<_>>() {
        err.insert(kind, ContextValue::String(text));
    }
    let argument = err.get(ContextKind::InvalidArg).map(ToString::to_string);
    // What nobody asked for, and is too long for a word, may be a key of any shape.
    let surplus = argument.as_deref().is_some_and(|it| {
        !it.starts_with(['-', '<', '[']) && LONGEST_WORD < it.len() && !it.contains('…')
    });
    if err.kind() == ErrorKind::UnknownArgument && surplus {
        err.insert(ContextKind::InvalidArg, ContextValue::String("…".to_owned()));
    }
    if argument.as_deref() == Some(STANDARD_INPUT) {
        // Whatever it looks like, it was meant as a secret.
        err.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    if err.kind() == ErrorKind::UnknownArgument
        && let Some(tip) = argument.as_deref().and_then(listen_tip)
    {
        err.remove(ContextKind::SuggestedArg);
        err.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    // What else is in it, such as the complaint of a parser, is masked as a whole.
    let mut text = err.render().ansi().to_string();
    if env::args_os().nth(1).is_some_and(|it| it == "verify") {
        text = format!("{}\n\n{HOW_TO_VERIFY}\n", text.trim_end());
    }
    let _ = anstream::stderr().write_all(masked(&text).as_bytes());
    code
}

/// What to write instead of an argument that other servers take for the place to listen at.
fn listen_tip(argument: &str) -> Option<String> {
    let port = ["--port", "-p"].contains(&argument)
        || argument.trim_start_matches(['*', ':']).parse::<u16>().is_ok();
    let host = ["--host", "--bind", "--address", "--addr"].contains(&argument);
    if !(port || host) {
        return None;
    }
    // The number itself, or the one that came with the option.
    let number = |it: OsString| it.to_str()?.rsplit(['=', ':']).next()?.parse::<u16>().ok();
    let given = env::args_os().skip(1).find_map(number).unwrap_or(8081);
    Some(format!("to choose where it listens, write '--listen 127.0.0.1:{given}'"))
}
