//! What `keyward serve` prints when it is ready.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::{config::Config, server::Running, service::RootKey};

/// Returns the first steps with this server. The root key is shown on a terminal only.
pub(super) fn greeting(
    running: &Running,
    config: &Config,
    root_key: Option<&RootKey>,
    terminal: bool,
) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(4096));
    let Some(url) = running.urls.first() else { return out };
    // curl needs a host for a request to a socket, too.
    let (curl, host) = match url.strip_prefix("unix:") {
        Some(path) => (format!("curl --unix-socket {path}"), "http://localhost"),
        None => ("curl".to_owned(), url.as_str()),
    };
    let layout = config.layout();
    let dir = layout.root().display();
    let pages = [(config.console, "Console", "/console/"), (config.docs, "Swagger UI", "/docs/")];
    let pages = pages.into_iter().filter(|it| it.0).map(|(_, name, address)| (name, address));
    let mut say = |line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{line}");
    };
    say(&format!("keyward {} · {} · data in {dir}", env!("BUILD_VERSION"), running.urls.join(" ")));
    match root_key {
        Some(root) if terminal => {
            say("\n  A root key was created. It is shown only once; keyward keeps its hash:\n");
            say(&format!("      {}\n", root.plaintext.expose()));
            say("  Try it:\n");
            say(&format!("      export KEYWARD_KEY='{}'", root.plaintext.expose()));
        }
        Some(_) => {
            let file = layout.initial_root_key();
            let file = file.display();
            say(&format!("\n  A root key was created. It is in {file};"));
            say("  keyward removes this file when the key is first used. Try it:\n");
            say(&format!("      export KEYWARD_KEY=\"$(cat {file})\""));
        }
        None => {
            say("\n  Root key lost?  keyward root-key reset");
            for (name, address) in pages {
                say(&format!("  {name:<16}{host}{address}"));
            }
            return out;
        }
    }
    say(&format!("      {curl} -H \"X-API-Key: $KEYWARD_KEY\" {host}/api/v1/api-keys\n"));
    for (name, address) in pages {
        say(&format!("  {name:<12}{host}{address}"));
    }
    say(&format!("  Audit log   signed with {} (also in", running.app().checkpoint_key()));
    let public_key = layout.checkpoint_public_key();
    let public_key = public_key.display();
    say(&format!("              {public_key}); keep that key elsewhere, for auditors"));
    out
}
