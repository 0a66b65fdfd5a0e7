//! `keyward root-key`: makes a root key in advance, and recovers access on this machine.

use std::{
    io::{self, IsTerminal, Write},
    path::{self, Path},
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{
        api::machine::control,
        appendix,
        error::Error,
        output::{self, Format, Output},
        secret,
        settings::{self, Location},
    },
    domain::{plaintext_key::PlaintextKey, root_key::ProvidedRootKey},
    env::SystemEntropy,
    http::control::{ResetAnswer, ResetRequest},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create another root key; all other keys keep working
    Reset(Reset),
    /// Print a root key for `root_key_file`, without a server
    #[command(after_long_help = appendix::help(&appendix::examples_of("root-key generate")))]
    Generate(Generate),
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    /// Also print, on a second line, the digest that provides this key
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

#[derive(Args, Debug)]
pub(super) struct Reset {
    /// Revoke all other keys with the scope `*`
    #[arg(long)]
    revoke_others: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

impl Command {
    pub(super) fn run(&self) -> Result<(), Error> {
        match self {
            Self::Reset(it) => it.run(),
            Self::Generate(it) => it.run(),
        }
    }
}

impl Generate {
    fn run(&self) -> Result<(), Error> {
        let label = settings::load(&self.location)?.keys.prefix;
        secret::check_output()?;
        let key = PlaintextKey::generate(label, &SystemEntropy);
        let digest = ProvidedRootKey::digest_line(&key);
        if self.output.output == Format::Json {
            return Ok(output::json(&json!({ "key": key.expose(), "digest": digest }))?);
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", key.expose())?;
        if self.digest {
            writeln!(out, "{digest}")?;
        }
        Ok(())
    }
}

impl Reset {
    fn run(&self) -> Result<(), Error> {
        let config = settings::load_here(&self.location)?;
        let file = path::absolute(config.layout().initial_root_key())?;
        let file = (!io::stdout().is_terminal()).then_some(file);
        let request = ResetRequest { revoke_others: self.revoke_others, to_file: file.clone() };
        let answer: ResetAnswer = control(&config, "/root-key/reset", &request)?;
        if self.output.output == Format::Json {
            return Ok(output::json(&json!({
                "keyId": answer.key_id,
                "keyPrefix": answer.key_prefix,
                // Only on a terminal: everywhere else the key is in the file.
                "key": answer.key,
                "path": file,
                "revoked": answer.revoked,
            }))?);
        }
        print(&answer, file.as_deref())
    }
}

fn print(answer: &ResetAnswer, file: Option<&Path>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if let Some(key) = &answer.key {
        writeln!(out, "A root key was created. It is shown only once; keyward keeps its hash:\n")?;
        writeln!(out, "    {key}\n")?;
    } else if let Some(file) = file {
        writeln!(
            out,
            "A root key was created. It is in {}; keyward removes this file when the key is first used.",
            file.display()
        )?;
    }
    match answer.revoked.len() {
        0 => writeln!(out, "All other keys still work.")?,
        revoked => writeln!(out, "Root keys revoked: {revoked}.")?,
    }
    Ok(())
}
