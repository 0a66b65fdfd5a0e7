//! The header fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers, from -08
//! on), which tell a client how much it may use and what is left.

use std::fmt::Write as _;

use actix_web::{
    HttpResponseBuilder,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    domain::rate_limit::{RateState, Rates},
    env::Timestamp,
};

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The values of both fields.
#[derive(Clone, Debug)]
pub(super) struct RateFields {
    policy: HeaderValue,
    state: HeaderValue,
}

impl RateFields {
    /// Returns `None` if there is no rate limit.
    pub fn new(rates: &Rates, now: impl FnOnce() -> Timestamp) -> Option<Box<Self>> {
        if rates.key.is_none() && rates.account.is_none() {
            return None;
        }
        let now = now();
        let named = [("key", rates.key), ("account", rates.account)];
        let (mut policy, mut state) = (String::new(), String::new());
        for (name, it) in named {
            let Some(RateState { rate, remaining, .. }) = it else { continue };
            let comma = if policy.is_empty() { "" } else { ", " };
            let left = it.map_or(0, |it| it.secs_left(now));
            let (limit, window) = (rate.limit(), rate.window_secs());
            // Writing to a string does not fail.
            let _ = write!(policy, "{comma}\"{name}\";q={limit};w={window}");
            let _ = write!(state, "{comma}\"{name}\";r={remaining};t={left}");
        }
        let (policy, state) = (HeaderValue::try_from(policy), HeaderValue::try_from(state));
        policy.ok().zip(state.ok()).map(|(policy, state)| Box::new(Self { policy, state }))
    }

    pub fn append_to(&self, response: &mut HttpResponseBuilder) {
        response.insert_header((POLICY.clone(), self.policy.clone()));
        response.insert_header((STATE.clone(), self.state.clone()));
    }

    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(POLICY.clone(), self.policy.clone());
        headers.insert(STATE.clone(), self.state.clone());
    }
}
