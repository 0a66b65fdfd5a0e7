//! `keyward keys update`

use clap::Args;
use serde_json::Value;

use super::key::OneKey;
use crate::cli::{error::Error, limits::KeyLimits, output, request};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// A scope of the key; repeatable. Replaces the current scopes
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// When the key ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<(&'static str, Value)>,
    /// Accept the key again
    #[arg(long)]
    enable: bool,
    /// Refuse the key until it is enabled again
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// A JSON object that replaces the metadata of the key
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    #[command(flatten)]
    limits: KeyLimits,
    #[command(flatten)]
    key: OneKey,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let body = request::changes(
            [
                ("name", self.name.clone().map(Value::from)),
                ("scopes", request::list(&self.scopes)),
                output::expiry_member(self.expires.as_ref()),
                ("enabled", (self.enable || self.disable).then_some(self.enable.into())),
                ("metadata", self.metadata.clone()),
            ]
            .into_iter()
            .chain(self.limits.members()),
        )?;
        self.key.print_answer("PATCH", "", Some(&body))
    }
}
