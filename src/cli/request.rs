//! Bodies of requests, made from options.

use serde_json::{Map, Value};

use crate::cli::error::Error;

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
