//! `--version` names the commit of the build, and every place that shows the version agrees.

#[path = "../../build.rs"]
#[expect(dead_code, clippy::print_stdout, reason = "cargo runs the rest before it compiles")]
mod build_script;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use self::build_script::{SOURCES, commit_of};
use crate::support::{TestServer, has, keyward};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "user.name=x", "-c", "user.email=x@example.com"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a repository with a commit of the files that a build needs.
fn repository(directory: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["src", "packaging"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    for name in ["build.rs", ".gitattributes"] {
        fs::copy(root.join(name), directory.join(name)).unwrap();
    }
    for name in ["src/lib.rs", "packaging/keyward.toml", "README.md"] {
        fs::write(directory.join(name), "one").unwrap();
    }
    git(directory, &["init", "--quiet"]);
    git(directory, &["add", "."]);
    git(directory, &["commit", "--quiet", "--message", "one"]);
    git(directory, &["rev-parse", "HEAD"])
}

#[test]
fn a_build_names_its_commit_and_says_if_its_sources_differ_from_it() {
    if !has(&["git"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let commit = repository(root)[..12].to_owned();
    let modified = Some(format!("{commit}-modified"));
    assert_eq!(commit_of(root).as_ref(), Some(&commit));
    fs::write(root.join("README.md"), "two").unwrap();
    fs::write(root.join("notes"), "two").unwrap();
    assert_eq!(commit_of(root).as_ref(), Some(&commit), "no file of the program");
    for path in ["src/lib.rs", "src/new.rs", "packaging/keyward.toml"] {
        fs::write(root.join(path), "two").unwrap();
        assert_eq!(commit_of(root), modified, "{path}");
        git(root, &["stash", "--include-untracked", "--quiet"]);
        assert_eq!(commit_of(root).as_ref(), Some(&commit), "{path}");
    }
    let worktree = dir.path().join("worktree");
    git(root, &["worktree", "add", "--quiet", "--detach", "worktree"]);
    assert_eq!(commit_of(&worktree), Some(commit));
}

#[test]
fn a_copy_without_a_repository_has_no_commit_of_another_one() {
    if !has(&["git"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(commit_of(dir.path()), None);
    let around = dir.path().join("around");
    fs::create_dir(&around).unwrap();
    repository(&around);
    let copy = around.join("src");
    assert_eq!(commit_of(&copy), None);
    git(&copy, &["init", "--quiet"]);
    assert_eq!(commit_of(&copy), None, "there is no commit yet");
}

#[test]
fn an_archive_of_git_contains_its_commit() {
    if !has(&["git", "tar"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let commit = repository(dir.path());
    git(dir.path(), &["archive", "--output", "archive.tar", "HEAD"]);
    fs::remove_file(dir.path().join("build.rs")).unwrap();
    let mut tar = Command::new("tar");
    assert!(tar.args(["-xf", "archive.tar"]).current_dir(dir.path()).status().unwrap().success());
    let script = fs::read_to_string(dir.path().join("build.rs")).unwrap();
    assert!(script.contains(&format!("ARCHIVED: &str = \"{commit}\"")), "{script}");
}

/// Otherwise a build would keep the old commit after a change of the file.
#[test]
fn each_file_that_the_program_contains_is_watched() {
    fn check(directory: &Path, found: &mut usize) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            for rest in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1)
            {
                let name = rest.split('"').next().unwrap();
                let Ok(file) = path.parent().unwrap().join(name).canonicalize() else { continue };
                let watched = |it: &&str| file.starts_with(root.join(it));
                assert!(SOURCES.iter().any(watched), "{}: {name}", path.display());
                *found += 1;
            }
        }
    }
    let mut found = 0;
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(5 < found, "{found}");
    for path in SOURCES {
        // Cargo would compile everything again at each build.
        assert!(fs::exists(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap(), "{path}");
    }
}

#[test]
fn every_place_shows_the_same_version_and_commit() {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"));
    let full = match commit {
        "unknown" => version.to_owned(),
        _ => format!("{version} ({commit})"),
    };
    let output = keyward().arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("keyward {full}\n"));
    let server = TestServer::start();
    let started = server.events().into_iter().find(|it| it["type"] == "server.started").unwrap();
    assert_eq!(started["data"]["version"], version);
    assert_eq!(started["data"]["commit"], commit);
    let metrics = server.get(&server.root.text, "/metrics").expect(200).text();
    let line = format!("keyward_build_info{{version=\"{version}\",commit=\"{commit}\"}} 1\n");
    assert!(metrics.contains(&line), "{metrics}");
}

/// Runs the script that builds the package with programs that only write down their arguments.
fn package_version(directory: &Path) -> String {
    let programs = directory.join("target/programs");
    fs::create_dir_all(&programs).unwrap();
    let cargo = "case $1 in build) mkdir -p target/release; cp \"$0\" target/release/keyward;; \
        deb) echo \"$@\" >>target/asked;; esac";
    for (name, text) in [("cargo", cargo), ("dpkg-shlibdeps", "")] {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(directory.join("packaging/build-deb.sh"));
    let output = script.env("PATH", path).env_remove("CARGO_TARGET_DIR").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let asked = fs::read_to_string(directory.join("target/asked")).unwrap();
    let (_, version) = asked.trim().rsplit_once("deb --no-build --deb-version ").unwrap();
    version.to_owned()
}

#[test]
fn each_package_of_a_commit_has_a_version_that_is_newer_than_the_one_before() {
    if !has(&["git", "bash", "dpkg"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join("packaging")).unwrap();
    for name in ["packaging/build-deb.sh", "packaging/keyward.toml"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), root.join(name)).unwrap();
    }
    fs::write(root.join("Cargo.toml"), "[package]\nversion = \"0.2.0\"\n").unwrap();
    let plain = package_version(root);
    assert_eq!(plain, "0.2.0-1", "without a repository");
    git(root, &["init", "--quiet"]);
    git(root, &["add", "Cargo.toml"]);
    let commit = |date: &str| {
        let date = format!("GIT_COMMITTER_DATE={date}");
        let mut command = Command::new("env");
        command.args([&*date, "git", "-c", "user.name=x", "-c", "user.email=x@example.com"]);
        command.args(["commit", "--quiet", "--allow-empty", "--message", "x"]);
        assert!(command.current_dir(root).status().unwrap().success());
        package_version(root)
    };
    let first = commit("2026-01-01T00:30:00+0100");
    let second = commit("2026-01-01T00:00:00+0000");
    git(root, &["tag", "v0.2.0"]);
    let released = package_version(root);
    let after = commit("2026-02-01T00:00:00+0000");
    let head = git(root, &["rev-parse", "HEAD"]);
    assert!(first.starts_with("0.2.0~git20251231233000."), "{first}");
    assert_eq!(released, "0.2.0-1");
    assert_eq!(after, format!("0.2.0+git20260201000000.{}-1", &head[..12]));
    for pair in [first, second, released, after].windows(2) {
        let mut dpkg = Command::new("dpkg");
        dpkg.args(["--compare-versions", &pair[0], "lt", &pair[1]]);
        assert!(dpkg.status().unwrap().success(), "{pair:?}");
    }
}
