//! Address lists and rate limits on the wire.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    domain::{
        address_list::AddressList,
        rate_limit::{RateLimit, RateState},
    },
    http::{request::json::Members, wire::fields::read_number},
    service::{Fault, Faults},
};

/// A number of requests in each window of time. Windows are counted from 1970-01-01 UTC: a window of
/// 3600 seconds starts on the hour, one of 86400 at midnight.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RateLimit)]
pub struct RateLimitBody {
    /// How much may be used in a window. A verification uses 1, or its `cost`.
    #[schema(example = 100, minimum = 1, maximum = 1_000_000_000)]
    limit: u32,
    /// The length of a window, in seconds; at most 30 days.
    #[schema(example = 60, minimum = 1, maximum = 2_592_000)]
    window_seconds: u32,
}

/// What is left of a rate limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RateState)]
pub struct RateStateBody {
    #[schema(example = 100)]
    limit: u32,
    /// What is left in the window, after this request.
    #[schema(example = 99)]
    remaining: u32,
    /// When the next window starts.
    #[schema(format = DateTime, example = "2026-01-20T10:01:00.000Z")]
    reset_at: String,
}

impl From<RateLimit> for RateLimitBody {
    fn from(it: RateLimit) -> Self {
        Self { limit: *it.limit(), window_seconds: *it.window_secs() }
    }
}

impl From<RateState> for RateStateBody {
    fn from(it: RateState) -> Self {
        Self {
            limit: *it.rate.limit(),
            remaining: it.remaining,
            reset_at: it.resets_at.to_string(),
        }
    }
}

/// Returns an address list as answers show it.
pub(super) fn shown_networks(list: Option<&AddressList>) -> Option<Vec<String>> {
    list.map(|it| it.iter().map(ToString::to_string).collect())
}

/// Takes a rate limit; null is `Some(None)`.
pub(super) fn read_rate_limit(members: &mut Members, name: &str) -> Option<Option<RateLimit>> {
    members.nullable(name, |it: Map<String, Value>| {
        let mut members = Members::new(Value::Object(it));
        let limit = members.optional("limit", |it| read_number(it, &(1..=RateLimit::MAX_LIMIT)));
        let limit = members.required("limit", limit);
        let window = members
            .optional("windowSeconds", |it| read_number(it, &(1..=RateLimit::MAX_WINDOW_SECS)));
        let window = members.required("windowSeconds", window);
        members.finish(limit.zip(window).and_then(|(limit, window)| RateLimit::new(limit, window)))
    })
}

/// Takes an address list; null is `Some(None)`.
pub(super) fn read_allowed_ips(members: &mut Members) -> Option<Option<AddressList>> {
    members.nullable("allowedIps", |items: Vec<Value>| read_networks(&items))
}

fn read_networks(items: &[Value]) -> Result<AddressList, Faults> {
    let (mut networks, mut faults) = (Vec::with_capacity(items.len()), Faults::default());
    for (i, item) in items.iter().enumerate() {
        if faults.is_full() {
            break;
        }
        let (code, detail) = match item.as_str().map(AddressList::parse_network) {
            Some(Ok(network)) => {
                networks.push(network);
                continue;
            }
            Some(Err(err)) => ("invalid_format", err.to_string()),
            None => ("invalid_type", "must be a string".to_owned()),
        };
        faults.push(Fault::new(format!("/{i}"), code, detail));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    AddressList::new(networks).ok_or_else(|| {
        let detail = format!("must name 1 to {} networks", AddressList::MAX_LEN);
        Fault::new("", "out_of_range", detail).into()
    })
}
