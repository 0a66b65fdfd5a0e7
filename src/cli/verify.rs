//! `keyward verify`: verifies a key, as a gateway does.

use std::{net::IpAddr, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    api::{answer::parse, client::Target},
    error::Error,
    exit_code,
    output::{self, Format, Output},
    secret,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// `-`: read the key from standard input, so that no list of processes shows it
    #[arg(value_name = "-", value_parser = ["-"])]
    _standard_input: String,
    /// A scope that the key must hold; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// A scope of which the key must hold at least one; repeatable
    #[arg(long = "any-scope", value_name = "SCOPE", value_delimiter = ',')]
    any_scopes: Vec<String>,
    /// The address of the client
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let key = secret::read("Key to verify")?;
        let mut question = json!({ "key": *key });
        if !self.scopes.is_empty() {
            question["scopes"] = json!(self.scopes);
        }
        if !self.any_scopes.is_empty() {
            question["anyScopes"] = json!(self.any_scopes);
        }
        if let Some(address) = self.client_ip {
            question["clientIp"] = json!(address.to_string());
        }
        let body = self.target.ask("POST", "/api-keys/verify", Some(&question))?;
        let found: Value = parse(&body)?;
        if self.output.output == Format::Json {
            output::raw(&body)?;
        } else {
            let member = |name: &str| found[name].as_str().map(str::to_owned);
            let list = |name| Some(output::words(&found, name)).filter(|it| !it.is_empty());
            output::facts(&[
                ("code", member("code")),
                ("id", member("keyId")),
                ("name", member("name")),
                ("account", member("accountId")),
                ("external id", member("externalId")),
                ("scopes", list("scopes")),
                ("missing", list("missingScopes")),
                ("expires", member("expiresAt")),
            ])?;
        }
        Ok(exit_code::answer(found["valid"] == true))
    }
}
