//! What `keyward dev` prints when it is ready.

use std::io::{self, Write};

use crate::{
    cli::output::table, config::Config, domain::development_key::DevelopmentKey,
    http::development::Development,
};

/// Prints the address, the sample keys and the first steps.
pub(super) fn greet(
    urls: &[String],
    config: &Config,
    development: Option<&Development>,
) -> Result<(), io::Error> {
    let version = env!("BUILD_VERSION");
    let url = urls.first().map(String::as_str).unwrap_or_default();
    writeln!(
        io::stdout(),
        "keyward {version} · {} · DEVELOPMENT MODE, NOT FOR PRODUCTION\n",
        urls.join(" ")
    )?;
    let samples = development.map(|it| it.samples.as_slice()).unwrap_or_default();
    let rows: Vec<_> = samples
        .iter()
        .map(|it| {
            let account = it.account.unwrap_or_default().to_owned();
            let code = it.verdict.as_str().to_owned();
            [it.name.to_owned(), account, it.key.clone(), it.scopes.join(" "), code]
        })
        .collect();
    table(["NAME", "ACCOUNT", "KEY", "SCOPES ASKED", "VERIFY ANSWERS"], &rows)?;
    let mut out = io::stdout().lock();
    writeln!(out, "\n  export KEYWARD_URL={url} KEYWARD_KEY={}\n", DevelopmentKey::Root.text())?;
    writeln!(out, "  Sample keys  GET {url}/dev/keys")?;
    writeln!(out, "  Clock        POST {url}/dev/clock with {{\"advanceSeconds\": 3600}}")?;
    for (name, address) in [
        config.console.then_some(("Console", "/console/")),
        config.docs.then_some(("Swagger UI", "/docs/")),
    ]
    .into_iter()
    .flatten()
    {
        writeln!(out, "  {name:<13}{url}{address}")?;
    }
    writeln!(out, "  Data         {}, removed at the end", config.data_dir.display())
}
