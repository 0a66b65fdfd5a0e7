//! Counts of use, and the addresses of clients, on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::{DayOfUse, SeenAddress};

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

/// The last addresses from which a key was used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyAddresses)]
pub struct KeyAddressesBody {
    /// At most five addresses, the one that was used last first.
    #[schema(max_items = 5)]
    data: Vec<KeyAddressBody>,
}

/// An address from which a key was used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyAddress)]
pub struct KeyAddressBody {
    /// The IPv4 address of the client, or the /64 network of its IPv6 address.
    #[schema(example = "203.0.113.7")]
    address: String,
    /// When the key was first used from this address, since it is one of the five.
    #[schema(format = DateTime, example = "2026-01-20T10:00:00.000Z")]
    first_used_at: String,
    /// When the key was last used from this address.
    #[schema(format = DateTime, example = "2026-01-21T08:30:00.000Z")]
    last_used_at: String,
}

impl From<Vec<SeenAddress>> for KeyAddressesBody {
    fn from(addresses: Vec<SeenAddress>) -> Self {
        Self { data: addresses.into_iter().map(KeyAddressBody::from).collect() }
    }
}

impl From<SeenAddress> for KeyAddressBody {
    fn from(it: SeenAddress) -> Self {
        Self {
            address: it.address.to_string(),
            first_used_at: it.first_used_at.to_string(),
            last_used_at: it.last_used_at.to_string(),
        }
    }
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
