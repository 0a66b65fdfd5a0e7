//! What `keyward serve` prints when it is ready.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::{config::Config, server::Running, service::RootKey};

/// What to do next. The root key is shown on a terminal and nowhere else.
pub(super) fn greeting(
    running: &Running,
    config: &Config,
    root_key: Option<&RootKey>,
    terminal: bool,
) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(4096));
    let Some(url) = running.urls.first() else { return out };
    // What curl asks a socket for has a host as well.
    let (curl, host) = match url.strip_prefix("unix:") {
        Some(path) => (format!("curl --unix-socket {path}"), "http://localhost"),
        None => ("curl".to_owned(), url.as_str()),
    };
    let dir = config.data_dir.display();
    let mut say = |line: &str| {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{line}");
    };
    say(&format!(
        "keyward {} · {} · data in {dir}",
        env!("CARGO_PKG_VERSION"),
        running.urls.join(" ")
    ));
    match root_key {
        Some(root) if terminal => {
            say("\n  A root key was made. It is shown this once; only its hash is kept:\n");
            say(&format!("      {}\n", root.plaintext.expose()));
            say("  Try it:\n");
            say(&format!("      export KEYWARD_KEY='{}'", root.plaintext.expose()));
        }
        Some(_) => {
            say(&format!("\n  A root key was made. It waits in {dir}/initial-root-key,"));
            say("  which is removed when the key is first used. Try it:\n");
            say(&format!("      export KEYWARD_KEY=\"$(cat {dir}/initial-root-key)\""));
        }
        None => {
            say("\n  Root key lost?  keyward root-key reset");
            say(&format!("  Swagger UI      {host}/docs/"));
            return out;
        }
    }
    say(&format!("      {curl} -H \"X-API-Key: $KEYWARD_KEY\" {host}/api/v1/api-keys\n"));
    say(&format!("  Swagger UI  {host}/docs/"));
    say(&format!("  Audit log   signed with {} (also in", running.app().checkpoint_key()));
    say(&format!("              {dir}/checkpoint.pub); keep that key elsewhere, for auditors"));
    out
}
