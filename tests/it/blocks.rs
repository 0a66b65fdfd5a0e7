//! Each block of code in README and the documentation is run by a test as it stands.

mod deployment;
mod exchange;
mod page;
mod session;
mod shape;

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use rcgen::generate_simple_self_signed;
use serde_json::{Value, json};

use self::page::{Block, all, root};
use crate::support::{
    Binary, Receiver, TestServer,
    apply::{applied, nothing},
    has, keyward, keyward_in,
    webhook::{OK, SECRET, Secrets, create, webhook},
};

/// How a block is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Check {
    /// Pasted into a shell beside a server, after the other blocks of its page; see `session.rs`.
    Shell,
    /// The output of the block above, which is `Shell`. ` …` in an object stands for further members.
    Output,
    /// A file `keyward.toml` that `keyward config check` accepts.
    Configuration,
    /// A test of this crate reads it, in this file with [`block`].
    Here,
    /// This script takes it from the page and runs it. If the script changes a word of it, it says which and why.
    Script(&'static str),
    /// It cannot be run by a test, for this reason.
    NotRun(&'static str),
}
use Check::{Configuration, Here, NotRun, Output as Shown, Script, Shell};

/// The page, the heading (`*` for all of the page), the language, and the test.
const BLOCKS: [(&str, &str, &str, Check); 48] = [
    ("CONTRIBUTING.md", "Set up", "sh", Script(".ci/bare")),
    ("README.md", "keyward", "sh", Script("tests/first_key.sh")),
    ("README.md", "First key in 30 seconds", "sh", Shell),
    ("README.md", "First key in 30 seconds", "json", Shown),
    ("README.md", "First key in 30 seconds", "", Shown),
    ("README.md", "Protect an API", "sh", Script("tests/protect.sh")),
    ("README.md", "Scopes", "toml", Configuration),
    ("README.md", "Accounts", "sh", Shell),
    ("README.md", "An audit log that can be checked", "sh", Shell),
    ("README.md", "Declared in a file", "toml", Here),
    ("README.md", "Running it", "sh", Script(".ci/run")),
    ("docs/api.md", "The key format", "python", Here),
    ("docs/api.md", "Console links", "json", Here),
    ("docs/api.md", "Leaked keys", "sh", Shell),
    ("docs/api.md", "Repeating a create or rotate", "sh", Shell),
    ("docs/api.md", "Following the log", "sh", Shell),
    ("docs/architecture.md", "Bird's-eye view", "", NotRun("is a drawing")),
    ("docs/clients.md", "*", "sh", Script("tests/clients.py")),
    ("docs/clients.md", "*", "ts", Script("tests/clients.py")),
    ("docs/clients.md", "*", "python", Script("tests/clients.py")),
    ("docs/clients.md", "*", "toml", Script("tests/clients.py")),
    ("docs/clients.md", "*", "rust", Script("tests/clients.py")),
    ("docs/container.md", "The static binary", "sh", Script(".ci/run")),
    (
        "docs/container.md",
        "The other architecture",
        "sh",
        NotRun(
            "only rustup has the standard library of another target, and no package registry does",
        ),
    ),
    ("docs/container.md", "The image", "sh", Script("tests/container.sh")),
    ("docs/container.md", "Compose", "sh", Script("tests/container.sh")),
    ("docs/container.md", "Kubernetes", "yaml", Script("tests/container.sh")),
    ("docs/contributing.md", "Change the console", "sh", Script(".ci/run")),
    ("docs/forward-auth.md", "The route policy", "toml", Here),
    ("docs/forward-auth.md", "The route policy", "sh", Shell),
    ("docs/integrate.md", "*", "sh", Script("tests/examples.py")),
    ("docs/operations.md", "*", "sh", Script("packaging/life.sh")),
    ("docs/operations.md", "Listening", "toml", Configuration),
    ("docs/operations.md", "The root key from a file", "yaml", Here),
    ("docs/operations.md", "Keys from another system", "", Here),
    ("docs/operations.md", "A standby machine", "bash", Here),
    ("docs/operations.md", "A standby machine", "", Here),
    ("docs/operations.md", "Webhooks", "toml", Configuration),
    ("docs/operations.md", "Webhooks", "", Here),
    ("docs/performance.md", "Performance", "sh", Script(".ci/run")),
    ("docs/security.md", "Keeping checkpoints", "sh", Shell),
    ("docs/security.md", "Checking", "sh", Shell),
    ("openapi/README.md", "The API document", "sh", Script(".ci/run")),
    ("docs/tokens.md", "The exchange", "text", Here),
    ("docs/tokens.md", "The exchange", "json", Here),
    ("docs/tokens.md", "Python", "sh", Script("tests/tokens.py")),
    ("docs/tokens.md", "Node", "sh", Script("tests/tokens.py")),
    ("openapi/README.md", "Checks", "sh", Script(".ci/run")),
];

const HOW: &str = "Add a row to BLOCKS in tests/it/blocks.rs, so that a test runs this block as it stands:\n  \
    Shell          it works in a shell beside a server that listens on localhost:8080, with its key in KEYWARD_KEY\n  \
    Shown          it is the output of the Shell block above it\n  \
    Configuration  it is a keyward.toml\n  \
    Script(\"…\")    a script that .ci/run starts takes the block from the page and runs it\n  \
    Here           a new test in tests/it reads it and does something else with it\n  \
    NotRun(\"…\")    it needs another machine or another's secret; give the reason in a line";

/// Returns the test of a block.
fn check_of(block: &Block) -> Option<Check> {
    let fits = |(page, heading, language, _): &&(&str, &str, &str, Check)| {
        *page == block.page
            && ["*", &block.heading].contains(heading)
            && *language == block.language
    };
    BLOCKS.iter().find(fits).map(|it| it.3)
}

/// Returns the only block at this place that a test of this file reads.
fn block(page: &str, heading: &str, language: &str) -> Block {
    let [block] = blocks(page, heading, language);
    block
}

/// Returns the blocks at this place, if there are as many as expected.
fn blocks<const N: usize>(page: &str, heading: &str, language: &str) -> [Block; N] {
    let is_it = |it: &Block| it.page == page && it.heading == heading && it.language == language;
    let found: Vec<_> = all().into_iter().filter(is_it).collect();
    let count = found.len();
    let found = found.try_into().ok();
    found.unwrap_or_else(|| panic!("{page}: {count} blocks \"{language}\" below \"{heading}\""))
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned()
}

#[test]
fn every_block_of_every_page_has_a_test() {
    let blocks = all();
    let untested: Vec<_> =
        blocks.iter().filter(|it| check_of(it).is_none()).map(Block::place).collect();
    assert!(untested.is_empty(), "{}\n\n{HOW}", untested.join("\n"));
    for (page, heading, language, check) in &BLOCKS {
        let fits = |it: &&Block| {
            it.page == *page && ["*", &it.heading].contains(heading) && it.language == *language
        };
        assert!(blocks.iter().any(|it| fits(&it)), "{page}: no block {language} below {heading}");
        match check {
            Script(path) => {
                let script = fs::read_to_string(root().join(path)).unwrap();
                for word in [page, heading].into_iter().filter(|it| **it != "*") {
                    assert!(script.contains(word), "{path} does not read {word} of {page}");
                }
                let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
                let is_run = *path == ".ci/run" || ci.contains(path);
                assert!(is_run, ".ci/run does not run {path}");
            }
            NotRun(reason) => assert!(!reason.is_empty(), "{page}: no reason"),
            Shell | Shown | Configuration | Here => {}
        }
    }
}

/// Tests the output of a `Shell` block against the block below it in the page.
fn compare(shown: &Block, output: &str) {
    if shown.language.is_empty() {
        let lines: Vec<_> = output.lines().map(str::trim).collect();
        let missing = shown.text.lines().find(|it| !lines.contains(it));
        assert_eq!(missing, None, "{}: {output}", shown.place());
        return;
    }
    let expected = shape::read(&shown.text);
    let answers = output.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    let found: Vec<_> = answers.map(|it| shape::differences("", &expected, &it)).collect();
    assert!(found.iter().any(Vec::is_empty), "{}: {found:#?}\n{output}", shown.place());
}

#[test]
fn the_commands_of_each_page_work_and_print_what_the_page_shows() {
    if !has(&["bash", "curl", "jq"]) {
        return;
    }
    let policy = block("docs/forward-auth.md", "The route policy", "toml").text;
    let blocks = all();
    let is = |block: &Block, check| check_of(block) == Some(check);
    let pages: BTreeSet<_> = blocks.iter().filter(|it| is(it, Shell)).map(|it| &it.page).collect();
    assert_eq!(pages.len(), 4, "{pages:?}");
    for page in pages {
        let of_page: Vec<_> = blocks.iter().filter(|it| it.page == *page).collect();
        let run: Vec<_> = of_page.iter().copied().filter(|it| is(it, Shell)).collect();
        let outputs = session::outputs(page, &run, &policy);
        assert_eq!(outputs.len(), run.len(), "{page}");
        for pair in of_page.windows(2).filter(|it| is(it[1], Shown)) {
            let above = run.iter().position(|it| it.line == pair[0].line);
            let above = above.unwrap_or_else(|| panic!("{}: no Shell above", pair[1].place()));
            compare(pair[1], &outputs[above]);
        }
    }
}

#[test]
fn configurations_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [
        ("/etc/keyward/tls/fullchain.pem", file("fullchain.pem", &pair.cert.pem())),
        ("/etc/keyward/tls/privkey.pem", file("privkey.pem", &pair.signing_key.serialize_pem())),
    ];
    file("webhook-siem.secret", SECRET);
    let configurations = all().into_iter().filter(|it| check_of(it) == Some(Configuration));
    for block in configurations {
        let text = files.iter().fold(block.text.clone(), |text, (it, real)| text.replace(it, real));
        let path = file("keyward.toml", &text);
        let mut check = keyward();
        check.args(["config", "check", "--config", &path]).env("CREDENTIALS_DIRECTORY", dir.path());
        let output = check.output().unwrap();
        assert!(output.status.success(), "{}: {}", block.place(), text_of(&output));
    }
}

#[test]
fn the_program_for_checksums_tells_a_key_from_a_typo() {
    let text = block("docs/api.md", "The key format", "python").text;
    if !has(&["python3"]) {
        return;
    }
    let key = TestServer::start().root.text.clone();
    let typo = key.replacen(|it: char| it.is_ascii_digit(), "x", 1);
    let short = &key[..49];
    for (key, said) in [(&*key, "True\n"), (&*typo, "False\n"), (short, "False\n")] {
        let output = Command::new("python3").args(["-c", &text, key]).output().unwrap();
        assert_eq!(text_of(&output), said, "{key}");
    }
}

#[test]
fn a_console_link_is_answered_as_the_rules_show() {
    let shown = shape::read(&block("docs/api.md", "Console links", "json").text);
    let url = "https://keys.example.com";
    let server = TestServer::with(|config| config.public_url = Some(url.to_owned()));
    let (account, _) = server.account(&json!({ "name": "Acme" }));
    let path = format!("/api/v1/accounts/{account}/console-links");
    let real = server.post(&server.root.text, &path, &json!({})).expect(201).json();
    assert_eq!(shape::differences("", &shown, &real), [""; 0]);
}

#[test]
fn a_table_of_keys_is_imported_as_the_operations_show() {
    let text = block("docs/operations.md", "Keys from another system", "").text;
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let text = text.replace(&format!("{}…", &digest[..16]), digest);
    assert!(text.contains(digest), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("keys.csv"));
    fs::write(&file, text).unwrap();
    let _server = Binary::serve(&data);
    for arguments in [
        &["accounts", "create", "--name", "Acme", "--external-id", "cust_42"][..],
        &["import", file.to_str().unwrap()],
    ] {
        let output = keyward_in(&data, arguments);
        assert!(output.status.success(), "{}", text_of(&output));
    }
    let listed = text_of(&keyward_in(&data, &["keys", "list", "--all"]));
    assert!(listed.contains("Acme, two"), "{listed}");
}

#[test]
fn a_file_is_applied_as_the_readme_shows() {
    let server = TestServer::start();
    let file = block("README.md", "Declared in a file", "toml").text;
    let said = applied(&server.data_dir(), &file, &["--prune"]);
    assert_eq!(said.lines().count(), 3, "an account, a key, and the summary: {said}");
    assert_eq!(applied(&server.data_dir(), &file, &["--prune"]), nothing());
}

#[test]
fn a_webhook_is_delivered_as_the_operations_show() {
    let text = block("docs/operations.md", "Webhooks", "").text;
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let receiver = Receiver::start(OK);
    let secrets = Secrets::new(SECRET);
    let url = format!("http://{}/keyward", receiver.address);
    let it = webhook("siem", &url, &["api_key.*"], &secrets.path());
    let server = TestServer::with(|config| config.webhooks = vec![it]);
    create(&server, "first");
    let sent = receiver.wait_for(1).remove(0);
    assert_eq!(lines.next(), Some(&*sent.line));
    for (name, shown) in lines.map(|it| it.split_once(": ").unwrap()) {
        let (shown, real) = (Value::from(shown), Value::from(sent.header(name)));
        assert_eq!(shape::differences(name, &shown, &real), [""; 0]);
    }
    assert_eq!(shape::differences("", &shape::read(body), &sent.json()), [""; 0]);
}

/// Returns the commands of keyward that a page names within a line, without those that leave something out.
fn named_commands(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    // Within a paragraph, code may go on in the next line.
    let outside = text.split("```").step_by(2).flat_map(|it| it.split("\n\n"));
    let code = outside.flat_map(|it| it.split('`').skip(1).step_by(2));
    // The beginnings of a hashed text and of a line in a log.
    let others = ["keyward event v1", "keyward cannot verify"];
    let is_command = |it: &&str| it.starts_with("keyward ") && !it.contains('…');
    let commands = code.filter(|it| is_command(it) && !others.contains(it));
    commands
        .map(|it| it.split_whitespace().skip(1).map(|it| it.replace('\'', "")).collect())
        .collect()
}

#[test]
fn every_command_that_a_page_names_exists() {
    let pages = all().into_iter().map(|it| it.page).filter(|it| !it.starts_with("openapi/"));
    let mut named = BTreeSet::new();
    for page in pages.collect::<BTreeSet<_>>() {
        named.extend(named_commands(&page).into_iter().map(|it| (it, page.clone())));
    }
    assert!(40 < named.len(), "{named:?}");
    for (words, page) in named {
        // Its help is printed only after the arguments before it were accepted.
        let output = keyward().args(&words).arg("--help").output().unwrap();
        let says = text_of(&output);
        assert!(output.status.success(), "{page}: keyward {}: {says}", words.join(" "));
    }
}

#[test]
fn readme_names_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let output = keyward().args(["man", "--out"]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, table) = readme.split_once("\n## Commands\n").unwrap();
    let (table, _) = table.split_once("\n\nIf ").unwrap();
    let pages = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
    let pages: BTreeSet<_> = pages.map(|it| it.into_string().unwrap()).collect();
    let mut named = BTreeSet::new();
    for row in table.lines() {
        let cells = row.split('`').skip(1).step_by(2);
        let cells =
            cells.map(|it| it.trim_start_matches("keyward ").split(' ').collect::<Vec<_>>());
        // `keyward keys list`, `create`: the group stands once.
        let group = cells.clone().next().map_or("", |it| it[0]);
        for words in cells {
            named.insert(words[0].to_owned());
            named.insert(words.iter().take(2).copied().collect::<Vec<_>>().join("-"));
            named.insert(format!("{group}-{}", words[0]));
        }
    }
    let commands = pages.iter().filter_map(|it| it.strip_prefix("keyward-")?.strip_suffix(".1"));
    let is_group = |it: &str| pages.iter().any(|page| page.starts_with(&format!("keyward-{it}-")));
    let missing: Vec<_> = commands.filter(|it| !is_group(it) && !named.contains(*it)).collect();
    assert!(missing.is_empty(), "README's table lacks {missing:?}");
}
