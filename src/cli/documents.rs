//! What packages ship besides the program, made from the commands themselves.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Cli, Error, appendix};

/// The section before which a page's own stand.
const VERSION: &str = ".SH VERSION\n";

/// Prints a script for this shell.
pub(super) fn completions(shell: Shell) -> Result<(), io::Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)
}

/// Writes a page for the program and one for each command.
pub(super) fn manual(directory: &Path) -> Result<(), Error> {
    let unusable = |source| Error::File { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(unusable)?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    write_pages(&program, directory).map_err(unusable)
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
    let (before, version) = page.split_at(page.find(VERSION).unwrap_or(page.len()));
    let page = format!("{before}{}{version}", appendix::roff(&sections));
    let path = directory.join(file);
    fs::write(&path, page)?;
    // For every user, unlike all else that is written.
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Without what formatters complain of: blank lines, and blanks at the ends of others. And with its
/// version where it belongs, behind a date of which there is none.
fn tidied(page: &str, name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(".TH \"{name}\" 1 \"\" \"keyward {version}\" keyward");
    let page = page.replace(".br\n\n.br\n", ".sp\n");
    let lines = page.lines().map(|it| if it.starts_with(".TH ") { &title } else { it.trim_end() });
    lines.flat_map(|it| [it, "\n"]).collect()
}
