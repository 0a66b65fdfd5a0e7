//! `keyward man`: the manual pages, made from the commands themselves.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Args, Command};
use clap_mangen::Man;

use crate::cli::{appendix, error::Error};

/// The section that follows a page's own sections.
const VERSION: &str = ".SH VERSION\n";

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The directory to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Options {
    /// Writes a page for the program and one for each command.
    pub(super) fn run(&self, program: Command) -> Result<(), Error> {
        let unusable = |source| Error::File { path: self.out.clone(), source };
        fs::create_dir_all(&self.out).map_err(unusable)?;
        let mut program = program.disable_help_subcommand(true);
        program.build();
        write_pages(&program, &self.out).map_err(unusable)
    }
}

fn write_pages(command: &Command, directory: &Path) -> Result<(), io::Error> {
    for it in command.get_subcommands() {
        write_pages(it, directory)?;
    }
    let path = command.get_bin_name().unwrap_or_default();
    let sections = match command.get_name() {
        "keyward" => appendix::of_the_program(),
        "serve" => appendix::of_serve(),
        _ => appendix::examples_of(path.strip_prefix("keyward ").unwrap_or_default()),
    };
    let man = Man::new(command.clone().after_long_help(None::<&str>));
    let mut page = Vec::new();
    man.render(&mut page)?;
    let file = man.get_filename();
    let page = tidied(&String::from_utf8_lossy(&page), file.trim_end_matches(".1"));
    let page = with_values(&page, command);
    let (before, version) = page.split_at(page.find(VERSION).unwrap_or(page.len()));
    let page = format!("{before}{}{version}", appendix::roff(&sections));
    let path = directory.join(file);
    fs::write(&path, page)?;
    // Manual pages are for every user, unlike all other files.
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Adds the values of options to the synopsis, which `clap_mangen` leaves out.
fn with_values(page: &str, command: &Command) -> String {
    const START: &str = ".SH SYNOPSIS\n";
    const END: &str = ".SH DESCRIPTION\n";
    let (Some((before, _)), Some((_, after))) = (page.split_once(START), page.split_once(END))
    else {
        return page.to_owned();
    };
    let mut words = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    let shown = || command.get_arguments().filter(|it| !it.is_hide_set());
    words.extend(shown().filter(|it| !it.is_positional() && it.is_required_set()).map(synopsis));
    words.extend(shown().filter(|it| !it.is_positional() && !it.is_required_set()).map(synopsis));
    words.extend(shown().filter(|it| it.is_positional()).map(synopsis));
    if command.has_subcommands() {
        words.push("\\fICOMMAND\\fR".to_owned());
    }
    format!("{before}{START}{}\n{END}{after}", words.join(" "))
}

/// Renders one argument for a synopsis (man-pages(7)).
fn synopsis(it: &Arg) -> String {
    let short = it.get_short().map(|it| format!("-{it}"));
    let names = short.into_iter().chain(it.get_long().map(|it| format!("--{it}")));
    let mut text = names.map(|it| bold(&it)).collect::<Vec<_>>().join("|");
    if it.get_action().takes_values() {
        let value = it
            .get_value_names()
            .and_then(|it| it.first())
            .map_or_else(|| it.get_id().as_str().to_uppercase(), ToString::to_string);
        let gap = if text.is_empty() { "" } else { " " };
        text = format!("{text}{gap}\\fI{}\\fR", value.replace('-', "\\-"));
    }
    if matches!(it.get_action(), ArgAction::Append) {
        text.push_str("...");
    }
    if it.is_required_set() { text } else { format!("[{text}]") }
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", text.replace('-', "\\-"))
}

/// Removes blank lines and trailing blanks, which formatters complain about, and puts the version into
/// the title, after an empty date.
fn tidied(page: &str, name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(".TH \"{name}\" 1 \"\" \"keyward {version}\" keyward");
    let page = page.replace(".br\n\n.br\n", ".sp\n");
    let lines = page.lines().map(|it| if it.starts_with(".TH ") { &title } else { it.trim_end() });
    lines.flat_map(|it| [it, "\n"]).collect()
}
