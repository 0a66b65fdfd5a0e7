//! Callers that were refused, for the audit log.

use actix_web::http::header::HeaderMap;

use super::presented::PresentedKey;
use crate::{
    domain::{
        id::{AccountId, KeyId},
        plaintext_key::{KeyPrefix, PlaintextKey},
    },
    http::problem::Problem,
    service::{DeniedCall, Identity, Keyward, Principal},
};

/// A caller that was refused, as far as it is known.
#[derive(Clone, Copy, Default)]
pub struct DeniedCaller {
    prefix: Option<KeyPrefix>,
    /// Known only if the whole secret was presented.
    key: Option<(KeyId, AccountId)>,
}

impl DeniedCaller {
    /// Reads the headers of a request that was refused because of its key.
    pub fn in_request(app: &Keyward, headers: &HeaderMap) -> Self {
        let presented = PresentedKey::in_request(app, headers);
        presented.text.map_or_else(Self::default, |it| Self::of_key(app, it))
    }

    /// Describes the caller that presented this text.
    pub fn of_key(app: &Keyward, text: &[u8]) -> Self {
        let prefix = PlaintextKey::parse(text).ok().map(|it| it.prefix());
        let key = match app.identify(text) {
            Identity::Known(entry) => Some((entry.key.id, entry.key.account)),
            Identity::Malformed | Identity::Unknown | Identity::Unverified(_) => None,
        };
        Self { prefix, key }
    }

    /// Describes a caller that was accepted, and then refused an operation.
    pub fn of_principal(it: &Principal) -> Self {
        let presented = it.presented;
        Self {
            prefix: presented.map(|it| it.prefix),
            key: presented.map(|presented| (presented.key, it.account)),
        }
    }

    /// Records the refused call for the audit log.
    pub fn record(self, app: &Keyward, problem: &Problem, address: Option<std::net::IpAddr>) {
        let Self { prefix, key } = self;
        app.count_denial(DeniedCall { reason: problem.code(), prefix, key, address });
    }
}
