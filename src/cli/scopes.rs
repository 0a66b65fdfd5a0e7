//! `keyward scopes`: the scopes that keys may hold.

use clap::Args;
use serde_json::Value;

use crate::cli::{
    api::{answer::parse, client::Target},
    error::Error,
    output::{self, Format, Output},
};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let body = self.target.ask("GET", "/scopes", None)?;
        if self.output.output == Format::Json {
            return Ok(output::raw(&body)?);
        }
        let found: Value = parse(&body)?;
        let all = found["data"].as_array().into_iter().flatten();
        let row = |it| [output::text(it, "name", ""), output::text(it, "description", "")];
        Ok(output::table(["SCOPE", "DESCRIPTION"], &all.map(row).collect::<Vec<_>>())?)
    }
}
