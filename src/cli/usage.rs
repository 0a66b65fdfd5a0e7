//! `keyward usage`: how often the keys of an account, or one key, are used.

use clap::Args;
use serde_json::Value;

use crate::{
    cli::{
        accounts::account::{about_account, account_id},
        api::{
            answer::parse,
            client::{Target, encoded},
        },
        error::Error,
        output::{self, Format, Output},
    },
    service::Keyward,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// A key: its identifier or its prefix. Without it, the keys of an account are summed
    #[arg(value_name = "KEY", conflicts_with = "account")]
    key: Option<String>,
    /// The account: its identifier or your own external identifier. Default: the account of the key in
    /// use, or the operator account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// The number of days
    #[arg(long, default_value_t = 30, value_parser = days())]
    days: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let days = self.days;
        let answer = match (&self.key, &self.account) {
            (Some(key), _) => {
                client.ask("GET", &format!("/api-keys/{}/usage?days={days}", encoded(key)), None)?
            }
            (None, account) => {
                let account = account.as_deref().unwrap_or("self");
                let id = account_id(&client, account)?;
                let path = format!("/accounts/{id}/usage?days={days}");
                about_account(client.ask("GET", &path, None), account)?
            }
        };
        client.close()?;
        if self.output.output == Format::Json {
            return Ok(output::raw(&answer)?);
        }
        let usage: Value = parse(&answer)?;
        let rows = usage["data"].as_array().into_iter().flatten().map(|day| {
            let denied = day["denied"].as_object().into_iter().flatten();
            let denied: u64 = denied.filter_map(|(_, it)| it.as_u64()).sum();
            [output::text(day, "date", ""), day["allowed"].to_string(), denied.to_string()]
        });
        Ok(output::table(["DATE", "ALLOWED", "DENIED"], &rows.collect::<Vec<_>>())?)
    }
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(Keyward::MOST_DAYS))
}
