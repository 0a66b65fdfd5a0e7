//! `keyward verify` and `keyward scopes`: what a gateway asks.

use std::{net::IpAddr, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    Error, NO,
    client::Target,
    output::{self, Format, Output},
    secret,
};

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// `-`: read the key from standard input, so that no list of processes shows it
    #[arg(value_name = "-", value_parser = ["-"])]
    _standard_input: String,
    /// A scope that the key must hold; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// The address of the client
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(super) fn verify(it: &Verify) -> Result<ExitCode, Error> {
    let key = secret::read("Key to verify")?;
    let mut question = json!({ "key": *key });
    if !it.scopes.is_empty() {
        question["scopes"] = json!(it.scopes);
    }
    if let Some(address) = it.client_ip {
        question["clientIp"] = json!(address.to_string());
    }
    let client = it.target.open()?;
    let body = client.ask("POST", "/api-keys/verify", Some(&question))?;
    client.close()?;
    let found: Value = serde_json::from_slice(&body).map_err(|err| Error::Control(err.into()))?;
    if it.output.output == Format::Json {
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
    Ok(if found["valid"] == true { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

#[derive(Args, Debug)]
pub(super) struct Scopes {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(super) fn scopes(it: &Scopes) -> Result<(), Error> {
    let client = it.target.open()?;
    let body = client.ask("GET", "/scopes", None)?;
    client.close()?;
    if it.output.output == Format::Json {
        return Ok(output::raw(&body)?);
    }
    let found: Value = serde_json::from_slice(&body).map_err(|err| Error::Control(err.into()))?;
    let all = found["data"].as_array().into_iter().flatten();
    let rows = all.map(|it| [output::text(it, "name", ""), output::text(it, "description", "")]);
    Ok(output::table(["SCOPE", "DESCRIPTION"], &rows.collect::<Vec<_>>())?)
}
