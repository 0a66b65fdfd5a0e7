//! Options about address lists and rate limits.

use clap::Args;
use serde_json::{Value, json};

use crate::domain::rate_limit::RateLimit;

/// The limits of a key.
#[derive(Args, Debug)]
pub(super) struct KeyLimits {
    /// Accept the key only from this network or address; repeatable. `any` means from everywhere
    #[arg(long = "allowed-ip", value_name = "CIDR", value_delimiter = ',')]
    allowed_ips: Vec<String>,
    /// How often the key may be used, such as 100/60s or 10000/30d. `none` means the default of the
    /// account
    #[arg(long, value_name = "LIMIT", value_parser = rate)]
    rate_limit: Option<Value>,
}

/// The rate limits of an account.
#[derive(Args, Debug)]
pub(super) struct AccountLimits {
    /// How often all keys of the account together may be used, such as 100/60s, or `none`
    #[arg(long, value_name = "LIMIT", value_parser = rate)]
    rate_limit: Option<Value>,
    /// The rate limit of each key that has none of its own, such as 100/60s, or `none`
    #[arg(long, value_name = "LIMIT", value_parser = rate)]
    key_rate_limit: Option<Value>,
}

impl KeyLimits {
    pub fn members(&self) -> [(&'static str, Option<Value>); 2] {
        let networks = match &*self.allowed_ips {
            [] => None,
            [any] if any == "any" => Some(Value::Null),
            networks => Some(networks.into()),
        };
        [("allowedIps", networks), ("rateLimit", self.rate_limit.clone())]
    }
}

impl AccountLimits {
    pub fn members(&self) -> [(&'static str, Option<Value>); 2] {
        [("rateLimit", self.rate_limit.clone()), ("keyRateLimit", self.key_rate_limit.clone())]
    }
}

/// Returns how people read a rate limit; `None` for none.
pub(super) fn shown_rate(rate: &Value) -> Option<String> {
    Some(format!("{}/{}s", rate["limit"].as_u64()?, rate["windowSeconds"].as_u64()?))
}

/// Parses a number of requests and a window, as in `100/60s`.
pub(super) fn rate(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let parts = RateLimit::parts(text);
    let rate = parts.map(|(limit, secs)| json!({ "limit": limit, "windowSeconds": secs }));
    rate.ok_or_else(|| {
        "must be a number, a slash and a window in s, m, h or d, such as 100/60s; or none"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_window() {
        for (text, limit, secs) in
            [("100/60s", 100, 60), ("5/m", 5, 60), ("1/2h", 1, 7_200), ("9/30d", 9, 2_592_000)]
        {
            let expected = json!({ "limit": limit, "windowSeconds": secs });
            assert_eq!(rate(text), Ok(expected.clone()), "{text}");
            assert_eq!(shown_rate(&expected), Some(format!("{limit}/{secs}s")));
        }
        assert_eq!(rate("none"), Ok(Value::Null));
        for text in ["", "100", "100/", "/60s", "-1/60s", "100/60", "100/60w", "1/99999999999s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
