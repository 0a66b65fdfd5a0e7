//! Counts of use on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::DayOfUse;

/// The usage of a key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageBody {
    /// One entry for each day, today last.
    pub data: Vec<DayOfUseBody>,
}

/// One day, from midnight to midnight UTC.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DayOfUse)]
pub struct DayOfUseBody {
    /// The day.
    #[schema(format = Date, example = "2026-01-20")]
    date: String,
    /// How often the key was accepted.
    #[schema(example = 1200)]
    allowed: u64,
    /// How often the key was refused.
    denied: DeniedBody,
}

/// How often the key was refused, by reason.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeniedUses)]
pub struct DeniedBody {
    /// After the key was revoked.
    revoked: u64,
    /// With a credential whose grace period is over.
    rotated: u64,
    /// While the account was suspended.
    account_suspended: u64,
    /// While the key was disabled.
    disabled: u64,
    /// After the key expired.
    expired: u64,
    /// From an address that is unknown or not in the list of the key.
    ip_not_allowed: u64,
    /// Because the key did not grant the required scopes.
    insufficient_scopes: u64,
    /// Because the rate limit of the key or of its account was reached.
    rate_limited: u64,
}

impl From<Vec<DayOfUse>> for UsageBody {
    fn from(days: Vec<DayOfUse>) -> Self {
        Self { data: days.into_iter().map(DayOfUseBody::from).collect() }
    }
}

impl From<DayOfUse> for DayOfUseBody {
    fn from(it: DayOfUse) -> Self {
        let [
            allowed,
            revoked,
            rotated,
            account_suspended,
            disabled,
            expired,
            ip_not_allowed,
            insufficient_scopes,
            rate_limited,
        ] = it.counts;
        let midnight = it.day.start().to_string();
        Self {
            date: midnight.split('T').next().unwrap_or_default().to_owned(),
            allowed,
            denied: DeniedBody {
                revoked,
                rotated,
                account_suspended,
                disabled,
                expired,
                ip_not_allowed,
                insufficient_scopes,
                rate_limited,
            },
        }
    }
}
