//! `keyward accounts list`

use clap::{Args, builder::PossibleValuesParser};

use crate::{
    cli::{
        api::client::{Target, encoded},
        error::Error,
        output::{self, Format, Limit, Output},
    },
    domain::account::AccountStatus,
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Show only accounts whose name or external identifier contains this text, or whose identifier
    /// begins with it
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// Filter by status
    #[arg(long, value_parser = PossibleValuesParser::new(AccountStatus::ALL.map(AccountStatus::as_str)))]
    status: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let client = self.target.open()?;
        let filters = [("q", &self.query), ("status", &self.status)];
        let filter: String = filters
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}&", encoded(value.as_ref()?))))
            .collect();
        let mut accounts =
            client.first(&format!("/accounts?{filter}"), self.limit.and_one_more())?;
        self.limit.cut(&mut accounts);
        if self.output.output == Format::Json {
            output::list(&accounts)?;
            return client.close();
        }
        let rows = accounts.iter().map(|it| {
            [
                output::text(it, "id", ""),
                output::text(it, "name", ""),
                output::text(it, "externalId", "-"),
                output::text(it, "status", ""),
                output::on_or_off(&it["tokenExchange"]).unwrap_or_default(),
                output::moment(it, "createdAt", ""),
            ]
        });
        let headings = ["ID", "NAME", "EXTERNAL ID", "STATUS", "EXCHANGE", "CREATED"];
        output::table(headings, &rows.collect::<Vec<_>>())?;
        client.close()
    }
}
