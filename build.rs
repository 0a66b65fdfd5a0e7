//! Records the commit that the program is built from, so that `--version` tells two builds apart.
//!
//! Without a commit, as in a copy of the files, the build works and reports the version alone.

#![expect(clippy::disallowed_methods, reason = "cargo passes its values in variables")]

use std::{env, path::Path, process::Command};

/// All files of the program. A change of any other file makes no difference to the build.
pub const SOURCES: [&str; 6] =
    ["src", "build.rs", "Cargo.toml", "Cargo.lock", "schema.sql", "packaging/keyward.toml"];
/// `git archive` writes the commit here, because of `.gitattributes`.
const ARCHIVED: &str = "$Format:%H$";
/// Names the commit for a build in a copy without a repository, as in a container.
const GIVEN: &str = "SOURCE_COMMIT";
/// The length of a commit's name, which no repository makes longer or shorter.
const LENGTH: usize = 12;

fn main() {
    let root = Path::new(".");
    for path in SOURCES.into_iter().map(str::to_owned).chain(head_log(root)) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={GIVEN}");
    let given = env::var(GIVEN).ok();
    let commit = given
        .as_deref()
        .and_then(abbreviated)
        .or_else(|| commit_of(root))
        .or_else(|| abbreviated(ARCHIVED));
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let full = commit.as_ref().map_or(version.clone(), |it| format!("{version} ({it})"));
    // `cargo run` passes these on to the program, which refuses an unknown variable KEYWARD_….
    println!("cargo::rustc-env=BUILD_VERSION={full}");
    println!("cargo::rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// Returns the commit of the repository whose root this is, with a mark if the sources differ from it.
pub fn commit_of(root: &Path) -> Option<String> {
    let commit = abbreviated(git(root, &["rev-parse", "HEAD"])?.trim())?;
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(SOURCES);
    let is_modified = git(root, &status).is_none_or(|it| !it.is_empty());
    Some(if is_modified { format!("{commit}-modified") } else { commit })
}

/// Returns the file that changes with each commit and checkout. A debug build does not watch it: there, a
/// commit alone compiles nothing again, and the program names the commit at which its sources last changed.
fn head_log(root: &Path) -> Option<String> {
    let is_release = env::var("PROFILE").is_ok_and(|it| it == "release");
    let path = is_release.then(|| git(root, &["rev-parse", "--git-path", "logs/HEAD"]))??;
    // Cargo would run this script at every build for a file that does not exist.
    root.join(path.trim()).exists().then(|| path.trim().to_owned())
}

/// Asks git about this directory alone, not about a repository around it.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["--git-dir=.git", "--work-tree=."]).args(arguments);
    // A hook of git sets this variable for its own repository.
    let output = command.env_remove("GIT_INDEX_FILE").output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}

fn abbreviated(commit: &str) -> Option<String> {
    let is_commit = LENGTH <= commit.len() && commit.bytes().all(|it| it.is_ascii_hexdigit());
    is_commit.then(|| commit.chars().take(LENGTH).collect())
}
