//! Rules about the source that no compiler checks.

use std::{fs, path::Path};

use keyward::{
    config::{Config, ConfigFile, Flags},
    domain::scope::{Catalogue, Scope},
};

/// Each layer, and the layers that it may use. From top to bottom, this is the architecture.
const LAYERS: [(&str, &[&str]); 10] = [
    ("env", &[]),
    ("domain", &["env"]),
    ("store", &["env", "domain"]),
    ("service", &["env", "domain", "store"]),
    ("telemetry", &["config", "env", "domain", "service"]),
    ("jobs", &["service", "telemetry"]),
    ("http", &["env", "domain", "service", "telemetry"]),
    ("webhooks", &["env", "domain", "http", "service", "telemetry"]),
    ("config", &["domain"]),
    (
        "server",
        &["config", "env", "domain", "http", "jobs", "service", "store", "telemetry", "webhooks"],
    ),
];
/// These may use everything.
const ABOVE: [&str; 4] = ["cli", "main", "lib", "fuzzing"];

const LINES: usize = 400;
/// Files that may be longer, each with the reason.
const LONGER: [(&str, &str); 0] = [];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Returns the text without the tests.
    fn code(&self) -> &str {
        if self.path.ends_with("/tests.rs") {
            return "";
        }
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    /// Returns the text without tests and comments.
    fn statements(&self) -> String {
        let lines = self.code().lines().filter(|it| !it.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the first part of its path below `src`.
    fn layer(&self) -> &str {
        self.path.trim_end_matches(".rs").split('/').next().unwrap_or_default()
    }
}

/// Returns every Rust file below `root`, with its path from there.
fn sources(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let (mut found, mut dirs) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 5);
    found
}

/// Returns the layers in `use crate::a::…`, `use crate::{a::…, b::…}` and `crate::a::…`.
fn named_layers(code: &str) -> Vec<&str> {
    let word = |it: &str| it.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(it.len());
    let mut named = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            named.push(&rest[..word(rest)]);
            continue;
        };
        let (mut depth, mut item_starts) = (1, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => item_starts = true,
                _ if item_starts && c.is_alphabetic() => {
                    named.push(&list[at..][..word(&list[at..])]);
                    item_starts = false;
                }
                _ => (),
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

#[test]
fn a_layer_uses_only_the_layers_that_it_may() {
    let mut strays = Vec::new();
    for source in sources("src") {
        let layer = source.layer();
        if ABOVE.contains(&layer) {
            continue;
        }
        let row = LAYERS.iter().find(|(name, _)| *name == layer);
        let (_, below) = row.unwrap_or_else(|| panic!("{}: add its layer to LAYERS", source.path));
        let code = source.statements();
        for named in named_layers(&code) {
            // A macro names its own layer, and the binary names the library.
            if named != layer && !below.contains(&named) {
                strays.push(format!("{}: `{layer}` must not know about `{named}`", source.path));
            }
        }
    }
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn layers_are_found_in_every_form_of_use() {
    let code = "use crate::store::Store; use crate::{domain::{id, text}, service, env::Env};
                fn f() -> crate::http::Problem";
    assert_eq!(named_layers(code), ["store", "domain", "service", "env", "http"]);
}

#[test]
fn every_file_begins_with_its_purpose() {
    for root in ["src", "tests/it"] {
        for source in sources(root) {
            assert!(source.text.starts_with("//! "), "{root}/{}", source.path);
        }
    }
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for root in ["src", "tests/it"] {
        for source in sources(root) {
            let lines = source.code().lines().count();
            let path = format!("{root}/{}", source.path);
            let reason = LONGER.iter().find(|(it, _)| *it == path);
            if LINES < lines && reason.is_none() {
                long.push(format!("{path}: {lines} lines; split it"));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn sql_is_only_in_the_store() {
    for source in sources("src").iter().filter(|it| it.layer() != "store") {
        let code = source.statements();
        for word in [
            "SELECT ",
            "INSERT INTO",
            "INSERT OR",
            "REPLACE INTO",
            "UPDATE ",
            "DELETE FROM",
            "PRAGMA",
            "CREATE TABLE",
            "rusqlite",
        ] {
            assert!(!code.contains(word), "{} says {word}", source.path);
        }
    }
}

/// The compiler hides the writer itself from all use cases; see `service/change.rs`.
#[test]
fn a_use_case_with_a_caller_makes_changes_only_within_the_budget() {
    const DOORS: &str = "service/change.rs";
    for source in sources("src").iter().filter(|it| it.layer() == "service" && it.path != DOORS) {
        let code = source.statements();
        for function in code.split("fn ").skip(1) {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            let (signature, body) = function.split_once('{').unwrap_or((function, ""));
            let writes = body.contains("system_change");
            let called = signature.contains("Principal");
            assert!(!(writes && called), "{}: {name} must use Keyward::change", source.path);
        }
        let permits = code.matches("permit_revocation(").count();
        let allowed = usize::from(source.path == "service/keys.rs")
            + usize::from(source.path == "service/change_budget.rs");
        assert_eq!(permits, allowed, "{}: only a revocation needs no budget", source.path);
    }
}

/// Words that a reader whose first language is not English may not understand. Each is in two
/// parts, so that this file does not contain it.
const BANNED: [(&str, &str); 6] = [
    ("who", "ever"),
    ("what", "ever"),
    ("no", "body"),
    ("some", "body"),
    ("be ", "it"),
    ("so to ", "speak"),
];

/// The files and folders with texts that people read.
const READ_BY_PEOPLE: [&str; 13] = [
    ".ci",
    ".github",
    "benches",
    "docs",
    "openapi",
    "packaging",
    "src",
    "tests",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "schema.sql",
];

/// Returns each text file at or below `path`, with its text.
fn texts(path: &Path) -> Vec<(String, String)> {
    if path.is_dir() {
        let mut below: Vec<_> = fs::read_dir(path).unwrap().map(|it| it.unwrap().path()).collect();
        below.sort();
        return below.iter().flat_map(|it| texts(it)).collect();
    }
    let text = fs::read(path).ok().and_then(|it| String::from_utf8(it).ok());
    text.map(|it| (path.display().to_string(), it)).into_iter().collect()
}

/// Returns whether the line holds `word`, not only as a part of a longer word.
fn holds_word(line: &str, word: &str) -> bool {
    let is_letter = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_letter(line[..at].chars().next_back())
            && !is_letter(line[at + word.len()..].chars().next())
    })
}

#[test]
fn no_text_contains_a_banned_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for (path, text) in READ_BY_PEOPLE.iter().flat_map(|it| texts(&root.join(it))) {
        for (number, line) in text.lines().enumerate() {
            let opener = line.trim_start_matches([' ', '/', '!', '#', '*']).starts_with("Of a");
            // A user of the system has this name.
            let user = ["no", "body"].concat();
            let named = [format!("\"{user}\""), format!("chown {user}")];
            let line = named.iter().fold(line.to_lowercase(), |line, it| line.replace(it, ""));
            let banned = BANNED.iter().map(|(start, end)| [*start, *end].concat());
            if opener || banned.into_iter().any(|it| holds_word(&line, &it)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{} lines: {found:#?}", found.len());
}

#[test]
fn a_file_of_the_data_directory_is_named_in_one_place() {
    const LAYOUT: &str = "domain/data_layout.rs";
    // A credential from systemd has the same name as the file that it replaces.
    const CREDENTIAL: (&str, &str) = ("cli/settings.rs", "checkpoint.key");
    let sources = sources("src");
    let layout = sources.iter().find(|it| it.path == LAYOUT).unwrap().code();
    let names: Vec<_> = layout
        .lines()
        .filter_map(|it| it.trim().strip_suffix("\";")?.split_once(" = \"").map(|(_, name)| name))
        .collect();
    assert!(names.contains(&"keyward.db") && names.contains(&"backups"), "{names:?}");
    for source in sources.iter().filter(|it| it.path != LAYOUT) {
        let code = source.statements();
        for name in names.iter().filter(|it| CREDENTIAL != (&*source.path, **it)) {
            // A name of one word is also an ordinary word.
            let is_word = name.chars().all(|it| it.is_ascii_lowercase());
            let spellings = [format!("(\"{name}\")"), format!("\"{name}\""), format!("}}/{name}")];
            let spelt = spellings.iter().take(if is_word { 1 } else { 3 });
            for spelling in spelt {
                assert!(!code.contains(spelling), "{}: {spelling}: use DataLayout", source.path);
            }
        }
    }
}

#[test]
fn no_source_has_a_todo() {
    let [todo, fixme] =
        ["TO", "FIX"].map(|it| it.to_owned() + if it == "TO" { "DO" } else { "ME" });
    for root in ["src", "tests/it"] {
        for source in sources(root).iter().filter(|it| it.path != "tidy.rs") {
            for mark in [&*todo, &*fixme, "XXX", "todo!", "unimplemented!", "dbg!"] {
                assert!(!source.text.contains(mark), "{root}/{}: {mark}", source.path);
            }
        }
    }
}

/// Programs that every Debian has, even the smallest (debootstrap's minbase), without `kill`.
const EVERYWHERE: [&str; 8] =
    ["cp", "mkfifo", "mount", "sh", "sha256sum", "timeout", "umount", "unshare"];

#[test]
fn a_test_is_skipped_if_a_program_that_it_needs_may_be_missing() {
    for source in sources("tests/it").iter().filter(|it| it.path != "tidy.rs") {
        for rest in source.text.split("Command::new(\"").skip(1) {
            let program = rest.split('"').next().unwrap();
            let asks = source.text.contains("has(&[") || source.text.contains("skip(");
            let fine = EVERYWHERE.contains(&program) || program != "kill" && asks;
            assert!(fine, "{}: {program} may be missing", source.path);
        }
    }
}

#[test]
fn programs_beside_a_test_are_started_in_one_place_which_ends_them() {
    for source in sources("tests/it") {
        let may = ["support/process.rs", "tidy.rs"].contains(&&*source.path);
        assert!(may || !source.text.contains(".spawn()"), "{}: Process::start", source.path);
    }
}

/// Returns whether a configuration may have a scope of this name in its catalogue.
fn may_be_configured(name: &str) -> bool {
    let quoted = serde_json::to_string(name).unwrap();
    let text = format!("[[scopes]]\nname = {quoted}\ndescription = \"x\"\n");
    let file = ConfigFile { path: Path::new("keyward.toml"), text: &text };
    Config::assemble(&Flags::default(), Some(file), &[]).is_ok()
}

#[test]
fn the_configuration_and_the_domain_agree_on_what_a_scope_is() {
    let catalogue = Catalogue::new([]);
    let reserved: Vec<_> = catalogue.entries().iter().map(|it| it.scope.as_str()).collect();
    assert_eq!(reserved.len(), 9);
    for name in &reserved {
        assert!(!may_be_configured(name), "{name} is keyward's own");
    }
    let longest = format!("{}:{}", "a".repeat(31), "b".repeat(32));
    let too_long = format!("{longest}b");
    assert_eq!(longest.len(), Scope::MAX_LEN);
    for name in [
        "orders:read",
        "a:b",
        "0:0",
        "-:-",
        "a-b:c-d",
        "api-keys:list",
        "metrics:write",
        "accounts:admin",
        &longest,
        &too_long,
        "",
        ":",
        "a:",
        ":b",
        "a",
        "a:b:c",
        "a b:c",
        "A:b",
        "a:B",
        "a_b:c",
        "a.b:c",
        "a/b:c",
        "ä:b",
        "orders:*",
        "*:read",
        "*",
        "**",
        " a:b",
        "a:b ",
        "a:b\n",
        "a\u{0}:b",
    ] {
        let grammar = Scope::parse(name).is_ok() && !reserved.contains(&name);
        assert_eq!(may_be_configured(name), grammar, "{name:?}");
    }
}

#[test]
fn the_configuration_accepts_as_many_scopes_as_fit_into_the_catalogue() {
    let with = |count: usize| {
        let scope = |i| format!("[[scopes]]\nname = \"s{i}:x\"\ndescription = \"x\"\n");
        let text: String = (0..count).map(scope).collect();
        let file = ConfigFile { path: Path::new("keyward.toml"), text: &text };
        Config::assemble(&Flags::default(), Some(file), &[])
    };
    assert!(with(Catalogue::MAX_OWN).is_ok());
    assert!(with(Catalogue::MAX_OWN + 1).is_err());
}
