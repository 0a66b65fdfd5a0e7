//! `--help`, manual pages and completions are made from the commands and are complete.

use std::{fs, process::Command};

use keyward::config::{Config, ConfigFile, Flags};

use crate::support::{has, keyward};

const OTHERS: [&str; 5] =
    ["KEYWARD_CONFIG", "KEYWARD_URL", "KEYWARD_KEY", "KEYWARD_KEY_FILE", "KEYWARD_CA_FILE"];

fn printed(arguments: &[&str]) -> String {
    let output = keyward().args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the variable of every setting, by the names in the packaged configuration file.
fn setting_variables() -> Vec<String> {
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/keyward.toml"));
    let text = file.unwrap();
    let file = ConfigFile { path: "keyward.toml".as_ref(), text: &text };
    let config = Config::assemble(&Flags::default(), Some(file), &[]).unwrap();
    let (mut table, mut found) = (String::new(), Vec::new());
    for line in config.to_toml().lines() {
        if line.starts_with("[[") {
            break; // A list has no variable.
        } else if let Some(name) = line.strip_prefix('[') {
            table = name.replace(']', "_");
        } else if let Some((name, _)) = line.split_once(" = ") {
            found.push(format!("KEYWARD_{table}{name}").to_uppercase());
        }
    }
    assert!(20 < found.len(), "{found:?}");
    found
}

/// Returns whether a line of the text is about this name.
fn lists(text: &str, name: &str) -> bool {
    text.lines().any(|it| it.split_whitespace().next() == Some(name))
}

#[test]
fn help_lists_every_variable_and_exit_status() {
    let (program, serve) = (printed(&["--help"]), printed(&["serve", "--help"]));
    for name in setting_variables().iter().map(String::as_str).chain(["KEYWARD_CONFIG", "NO_COLOR"])
    {
        assert!(lists(&program, name) && lists(&serve, name), "{name}: {program}");
    }
    for name in OTHERS {
        assert!(lists(&program, name), "{name}: {program}");
    }
    for code in ["0", "1", "2", "75", "78"] {
        assert!(lists(&program, code) && lists(&serve, code), "{code}: {serve}");
    }
    assert!(lists(&program, "3") && !lists(&serve, "3"), "{serve}");
    assert!(!printed(&["-h"]).contains("KEYWARD_LISTEN"), "the short one stays short");
}

#[test]
fn manual_pages_have_the_usual_sections() {
    let dir = tempfile::tempdir().unwrap();
    printed(&["man", "--out", dir.path().to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("keyward-keys-create.1").contains("Display name"));
    let synopsis = |name: &str| {
        let page = page(name).replace("\\-", "-").replace("\\fB", "").replace("\\fI", "");
        let lines = page.replace("\\fR", "");
        lines.lines().skip_while(|it| *it != ".SH SYNOPSIS").nth(1).unwrap().to_owned()
    };
    for (name, part) in [
        ("keyward.1", "keyward [-h|--help] [-V|--version] COMMAND"),
        ("keyward-keys-create.1", "keyward keys create --name NAME --scope SCOPE... ["),
        ("keyward-keys-create.1", " [--expires WHEN] [--metadata JSON] "),
        ("keyward-keys-create.1", " [-q|--quiet] "),
        ("keyward-keys-revoke.1", " ID..."),
        ("keyward-verify.1", " -"),
    ] {
        assert!(synopsis(name).contains(part), "{name}: {}", synopsis(name));
    }
    for name in ["keyward.1", "keyward-serve.1"] {
        let page = page(name);
        for section in ["EXIT STATUS", "ENVIRONMENT"] {
            assert!(page.contains(&format!(".SH \"{section}\"")), "{name}: {section}");
        }
        for variable in setting_variables() {
            assert!(page.contains(&format!("\\fB{variable}\\fR")), "{name}: {variable}");
        }
    }
    assert!(!page("keyward-doctor.1").contains("ENVIRONMENT"));
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        let flawed = page.lines().find(|it| it.is_empty() || it.ends_with(' '));
        assert_eq!(flawed, None, "{}: {page}", path.display());
        assert!(page.contains(" 1 \"\" \"keyward 0."), "its version, and no date: {page}");
    }
    if !has(&["groff"]) {
        return;
    }
    let pages = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path());
    let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).args(pages).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for command in ["accounts", "root-key", "run-job", "verify"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
