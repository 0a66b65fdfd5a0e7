//! Bodies of requests, made from options.

use serde_json::{Map, Value};

use crate::cli::error::Error;

/// Returns a JSON object of the members that have a value.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// Returns [`object`], and an error if no member has a value.
pub(super) fn changes<const N: usize>(members: [(&str, Option<Value>); N]) -> Result<Value, Error> {
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
