//! Reports of leaked keys on the wire.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    domain::text::Location,
    http::request::json::Members,
    service::{Fault, Faults},
};

/// The most keys in one report.
const MOST_KEYS: usize = 100;

/// Keys that became known to others than their holders.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ReportLeakedKeysRequest {
    /// The full keys.
    #[schema(
        min_items = 1,
        max_items = 100,
        example = json!(["rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK"])
    )]
    pub keys: Vec<String>,
    /// Where the keys were found, such as a URL. The events of the keys show it.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 200,
        example = "https://git.example/acme/shop/commit/1f0c"
    )]
    pub location: Option<String>,
}

/// The receipt of a report. It says nothing about the keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LeakReport)]
pub struct LeakReportBody {
    /// The number of keys in the report, known or not.
    #[schema(format = Int64, example = 1)]
    pub received: usize,
}

/// What [`ReportLeakedKeysRequest`] says. The keys are wiped as any other.
pub struct LeakReport {
    pub keys: Vec<Zeroizing<String>>,
    pub location: Option<Location>,
}

/// Reads a [`ReportLeakedKeysRequest`]. A key may be any text: a fault would tell which keys are
/// known here.
pub fn read_leak_report(mut members: Members) -> Result<LeakReport, Faults> {
    let keys = members.optional("keys", read_keys);
    let keys = members.required("keys", keys);
    let location = members.optional("location", |it: String| Location::parse(&it));
    members.finish(keys.map(|keys| LeakReport { keys, location }))
}

fn read_keys(items: Vec<Value>) -> Result<Vec<Zeroizing<String>>, Faults> {
    if items.is_empty() || MOST_KEYS < items.len() {
        let detail = format!("must have 1 to {MOST_KEYS} keys");
        return Err(Fault::new("", "out_of_range", detail).into());
    }
    let (mut keys, mut faults) = (Vec::with_capacity(items.len()), Faults::default());
    for (i, item) in items.into_iter().enumerate() {
        match item {
            Value::String(key) => keys.push(Zeroizing::new(key)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                faults.push(Fault::new(format!("/{i}"), "invalid_type", "must be a string"));
            }
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}
