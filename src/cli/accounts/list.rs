//! `keyward accounts list`

use clap::Args;

use crate::cli::{
    api::client::{Target, encoded},
    error::Error,
    output::{self, Format, Limit, Output},
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Show only accounts whose name or external identifier contains this text
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
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
        let filter =
            self.query.as_ref().map_or_else(String::new, |it| format!("q={}&", encoded(it)));
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
                output::moment(it, "createdAt", ""),
            ]
        });
        let headings = ["ID", "NAME", "EXTERNAL ID", "STATUS", "CREATED"];
        output::table(headings, &rows.collect::<Vec<_>>())?;
        client.close()
    }
}
