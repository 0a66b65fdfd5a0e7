//! The address lists of callers and keys: a caller with a list gives only keys whose list lies within
//! its own.

use crate::{
    domain::{address_list::AddressList, api_key::ApiKey},
    env::Timestamp,
    service::{Expiry, Fault, Faults, Gain, KeyPatch},
};

/// The code of the faults of this module.
pub(in crate::service) const OUTSIDE: &str = "outside_caller_addresses";

/// Returns whether a key with `list` is accepted only from addresses in `limit`, the list of its
/// caller. Without a list, a key is accepted from everywhere.
pub(in crate::service) fn lies_within(
    list: Option<&AddressList>,
    limit: Option<&AddressList>,
) -> bool {
    limit.is_none_or(|outer| list.is_some_and(|it| it.is_within(outer)))
}

impl Expiry<'_> {
    /// Returns what is wrong with a requested address list. `None` asks for that of the caller, or for
    /// no change.
    pub fn address_fault(&self, wanted: Option<&Option<AddressList>>) -> Option<Fault> {
        let (wanted, limit) = (wanted?.as_ref(), self.caller.allowed_ips.as_ref());
        let is_change = self.existing.is_none_or(|it| it.allowed_ips.as_ref() != wanted);
        if !is_change || lies_within(wanted, limit) {
            return None;
        }
        let detail = if wanted.is_some() {
            "must lie within the allowedIps of the calling key"
        } else {
            "must not be null: the calling key has allowedIps"
        };
        Some(Fault::new("/allowedIps", OUTSIDE, detail))
    }

    /// Returns everything in this change that a caller with an address list may not give: a wider
    /// list, or a gain for a key whose list does not lie within that of the caller.
    pub(super) fn address_faults(&self, gain: Gain<'_>) -> Faults {
        let patch = match gain {
            Gain::Nothing => return Faults::default(),
            Gain::Secret => None,
            Gain::Settings(patch) => Some(patch),
        };
        let wanted = patch.and_then(|it| it.allowed_ips.as_ref());
        if let Some(fault) = self.address_fault(wanted) {
            return fault.into();
        }
        let Some(key) = self.existing.filter(|it| self.caller.key() != Some(it.id)) else {
            return Faults::default();
        };
        let list = wanted.map_or(key.allowed_ips.as_ref(), Option::as_ref);
        if lies_within(list, self.caller.allowed_ips.as_ref()) {
            return Faults::default();
        }
        let gains = patch.map_or(vec![""], |it| settings_gained(it, key, self.now));
        let detail =
            "this key is accepted from addresses outside the allowedIps of the calling key";
        gains.into_iter().map(|at| Fault::new(at, OUTSIDE, detail)).collect()
    }
}

/// Returns the settings by which the key becomes stronger or lives longer.
fn settings_gained(patch: &KeyPatch, key: &ApiKey, now: Timestamp) -> Vec<&'static str> {
    let later = match (patch.expires_at.or(key.expires_at, now), key.expires_at) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(after), Some(before)) => before < after,
    };
    let gained = [
        ("/enabled", patch.enabled == Some(true) && !key.enabled),
        ("/expiresAt", later),
        ("/scopes", patch.widens_scopes_of(key)),
    ];
    gained.into_iter().filter(|(_, applies)| *applies).map(|(at, _)| at).collect()
}
