//! The blocks of a page, pasted into one shell beside a running server.

use std::{fs, path::Path};

use crate::support::{Binary, clean};

use super::page::Block;

/// What a newcomer has besides the page: keyward in the path, and the tools of a machine with systemd. A
/// failed request ends the shell, and a stream that has no end is cut off.
const PRELUDE: &str = "set -euo pipefail
curl() {
    local code=0
    [[ $1 == -*f* ]] || set -- --fail-with-body \"$@\"
    command curl --max-time 3 \"$@\" || code=$?
    ((code == 0 || code == 28))
}
systemctl() {
    [[ $* == 'reload keyward' ]]
    kill -HUP \"$SERVER\"
}
";
const MARK: &str = "---- the output of the next block ----";
/// The pages name the address that a server has without a configuration.
const ADDRESSES: [&str; 2] = ["localhost:8080", "127.0.0.1:8080"];

/// Runs the blocks in order, and returns the output of each.
///
/// The current directory is one in which a server was started without a configuration. It also has the copies that
/// [the audit log](../../../docs/security.md) needs, and the route policy of the page.
pub fn outputs(page: &str, blocks: &[&Block], policy: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| dir.path().join(name);
    let data = here("keyward-data");
    fs::write(here("routes.toml"), policy).unwrap();
    let routes = here("routes.toml");
    let server =
        Binary::serve_with(&data, &[("KEYWARD_AUTHZ_POLICY_FILE", routes.to_str().unwrap())]);
    for name in ["checkpoint", "checkpoint.pub"] {
        fs::copy(data.join(name), here(name)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_keyward")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = clean("bash");
    shell.arg("-c").arg(script(blocks, &server.address.to_string())).current_dir(dir.path());
    shell.env("PATH", format!("{}:{path}", program.display()));
    shell.env("SERVER", server.child.id().to_string()).env("KEYWARD_KEY", server.root_key());
    let output = shell.output().unwrap();
    let text = |it: Vec<u8>| String::from_utf8(it).unwrap();
    let (out, errors) = (text(output.stdout), text(output.stderr));
    let outputs: Vec<_> = out.split(MARK).skip(1).map(str::to_owned).collect();
    let last = blocks.get(outputs.len().saturating_sub(1)).map(|it| it.place());
    assert!(output.status.success(), "{page}: {last:?} failed: {errors}\n{out}");
    outputs
}

/// Returns the text for the shell: the blocks as they stand, but for the address.
fn script(blocks: &[&Block], address: &str) -> String {
    let mut text = PRELUDE.to_owned();
    for block in blocks {
        // The pages say to make this copy after the checkpoint was kept.
        if block.text.contains("COPY.db") {
            text.push_str("keyward backup create --to COPY.db\n");
        }
        text.extend(["echo '", MARK, "'\n", &block.text]);
    }
    ADDRESSES.iter().fold(text, |text, it| text.replace(it, address))
}
