//! `keyward keys list`

use clap::{Args, builder::PossibleValuesParser};

use super::selection::Selection;
use crate::{
    cli::{error::Error, output},
    domain::{api_key::KeyStatus, list_order::ListOrder},
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Filter by status
    #[arg(long, value_parser = PossibleValuesParser::new(KeyStatus::ALL.map(KeyStatus::as_str)))]
    status: Option<String>,
    /// Filter by scope
    #[arg(long)]
    scope: Option<String>,
    /// Show only keys that expire before this: 30d, 2027-01-20 or 2027-01-20T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expiring_before: Option<String>,
    /// Show only keys whose name contains this text, or whose prefix or identifier begins with it
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// Show only keys that this key created; `operator` means the keys of the operator account
    #[arg(long, value_name = "KEY")]
    created_by: Option<String>,
    /// The order by age: the oldest or the newest first
    #[arg(long, value_parser = PossibleValuesParser::new(ListOrder::ALL.map(ListOrder::as_str)))]
    order: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let filters = [
            ("status", &self.status),
            ("scope", &self.scope),
            ("expiringBefore", &self.expiring_before),
            ("q", &self.query),
            ("createdBy", &self.created_by),
            ("order", &self.order),
        ];
        let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let mut filter = form_urlencoded::Serializer::new(String::new());
        self.selection.print_all(&format!("{}&", filter.extend_pairs(filters).finish()))
    }
}

fn when(text: &str) -> Result<String, String> {
    output::instant(text).map(|it| it.to_string())
}
