//! The examples for Ansible and Compose in the operations, run by these tools.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{blocks, text_of};
use crate::support::{Binary, clean, has, keyward};

const PAGE: &str = "docs/operations.md";
const HEADING: &str = "The root key from a file";

fn run(mut command: Command, dir: &Path) -> String {
    // Ansible keeps its files below HOME.
    let output = command.current_dir(dir).env("HOME", dir).output().unwrap();
    let said = text_of(&output);
    assert!(output.status.success(), "{said}");
    said
}

/// The tasks stand as in the page, but for their place: `/etc/keyward` is a directory of the test.
#[test]
fn ansible_writes_a_root_key_that_the_server_takes() {
    let [tasks, _] = blocks(PAGE, HEADING, "yaml");
    if !has(&["ansible-playbook"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| dir.path().join(name);
    let generated = keyward().args(["root-key", "generate"]).output().unwrap();
    let key = text_of(&generated).trim().to_owned();
    let values = json!({
        "keyward_root_key": key,
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    });
    fs::write(here("values.json"), values.to_string()).unwrap();
    let etc = here("etc/keyward");
    let tasks = tasks.text.replace("/etc/keyward", etc.to_str().unwrap());
    let tasks: String = tasks.lines().map(|it| format!("    {it}\n")).collect();
    let play = "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n";
    fs::write(here("play.yaml"), format!("{play}{tasks}")).unwrap();
    let again = || {
        let mut ansible = clean("ansible-playbook");
        ansible.args(["-i", "localhost,", "-e", "@values.json", "play.yaml"]);
        run(ansible, dir.path())
    };
    let first = again();
    assert!(first.contains("changed=2"), "{first}");
    let second = again();
    assert!(second.contains("changed=0"), "{second}");
    let file = etc.join("credentials/root-key");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("sha256:") && !written.contains(&key), "{written}");
    let variables = [("KEYWARD_ROOT_KEY_FILE", file.to_str().unwrap())];
    let server = Binary::serve_with(&here("data"), &variables);
    let url = format!("http://{}", server.address);
    let mut list = keyward();
    list.args(["keys", "list"]).env("KEYWARD_URL", url).env("KEYWARD_KEY", &key);
    run(list, dir.path());
}

/// The block is a part of a Compose file, so a second file has the image.
#[test]
fn compose_gives_the_server_the_file_that_the_variable_names() {
    let [_, part] = blocks(PAGE, HEADING, "yaml");
    if !has(&["docker-compose"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = "services: { keyward: { image: localhost/keyward } }\n";
    fs::write(dir.path().join("image.yaml"), image).unwrap();
    fs::write(dir.path().join("part.yaml"), &part.text).unwrap();
    let mut compose = clean("docker-compose");
    // Debian's docker-compose needs Debian's libraries.
    compose.env_remove("PYTHONPATH");
    compose.args(["--file", "image.yaml", "--file", "part.yaml", "config"]);
    let merged = run(compose, dir.path());
    let name = "root-key";
    let given = format!("KEYWARD_ROOT_KEY_FILE: /run/secrets/{name}\n");
    let secret = format!("secrets:\n  {name}:\n    file: {}/root-key.digest", dir.path().display());
    for line in [given, format!("- source: {name}\n"), secret] {
        assert!(merged.contains(&line), "no {line:?} in {merged}");
    }
}
