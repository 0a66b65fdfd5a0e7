//! Bodies and queries of requests, made from options.

use clap::Args;
use serde_json::{Map, Value};

use crate::cli::{api::client::encoded, error::Error};

/// The option of commands that revoke or delete.
#[derive(Args, Debug)]
pub(super) struct Reason {
    /// Why; the audit log keeps this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Reason {
    /// Returns the query of the request, with its question mark.
    pub(super) fn query(&self) -> String {
        let given = self.reason.as_deref();
        given.map_or_else(String::new, |it| format!("?reason={}", encoded(it)))
    }
}

/// Returns a JSON object of the members that have a value.
pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// Returns [`object`], and an error if no member has a value.
pub(super) fn changes<'a>(
    members: impl IntoIterator<Item = (&'a str, Option<Value>)>,
) -> Result<Value, Error> {
    let members: Vec<_> = members.into_iter().collect();
    if members.iter().all(|(_, value)| value.is_none()) {
        return Err(Error::Usage(
            "nothing to change: name at least one property; see --help".to_owned(),
        ));
    }
    Ok(object(members))
}

/// Returns a list as JSON, unless it is empty.
pub(super) fn list(items: &[String]) -> Option<Value> {
    (!items.is_empty()).then(|| items.into())
}
