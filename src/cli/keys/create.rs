//! `keyward keys create`

use clap::Args;
use serde_json::Value;

use super::key::print_full_key;
use crate::cli::{
    accounts::account::{about_account, account_id},
    api::client::Target,
    error::Error,
    limits::KeyLimits,
    output::{self, Output},
    request, secret,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Display name
    #[arg(long)]
    name: String,
    /// A scope of the key; repeatable
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    scopes: Vec<String>,
    /// When the key ends: 90d, 2027-01-20, 2027-01-20T12:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = output::expiry)]
    expires: Option<(&'static str, Value)>,
    /// Metadata of the key: a JSON object
    #[arg(long, value_name = "JSON", value_parser = output::object)]
    metadata: Option<Value>,
    #[command(flatten)]
    limits: KeyLimits,
    /// The account: its identifier or your own external identifier
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Print only the key
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        secret::check_output()?;
        let client = self.target.open()?;
        let account = self.account.as_ref().map(|it| account_id(&client, it)).transpose()?;
        let path = account.map_or("/api-keys".to_owned(), |it| format!("/accounts/{it}/api-keys"));
        let body = request::object(
            [
                ("name", Some(self.name.clone().into())),
                ("scopes", Some(self.scopes.clone().into())),
                output::expiry_member(self.expires.as_ref()),
                ("metadata", self.metadata.clone()),
            ]
            .into_iter()
            .chain(self.limits.members()),
        );
        let mut made = client.ask("POST", &path, Some(&body));
        if let Some(account) = &self.account {
            made = about_account(made, account);
        }
        let printed = print_full_key(&made?, "created", self.quiet, self.output);
        client.close()?;
        printed
    }
}
