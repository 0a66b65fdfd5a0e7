//! Ends of callers and of keys: a caller that expires gives no later end than its own.

use crate::{
    domain::{api_key::ApiKey, event::EventSource, scope::ScopeSet},
    env::Timestamp,
    service::{Fault, KeyPatch, Principal},
};

/// What a change of a key gives.
#[derive(Clone, Copy)]
pub enum Gain<'a> {
    /// Neither a secret nor a power nor a later end.
    Nothing,
    /// A new plaintext key, which works as long as the key does.
    Secret,
    /// These settings.
    Settings(&'a KeyPatch),
}

/// The maker of a key: the source of its event, and its own end.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub source: &'a EventSource,
    /// `None` means that the maker never expires.
    pub expires_at: Option<Timestamp>,
}

impl Maker<'static> {
    /// The program itself, or a command on the machine.
    pub const CLI: Self = Self { source: &EventSource::CLI, expires_at: None };
}

/// What an expiry is held against.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    pub now: Timestamp,
    /// Its own end is the latest that it gives.
    pub caller: &'a Principal,
    /// The key that is changed; what it has already is no change.
    pub existing: Option<&'a ApiKey>,
}

/// Whether a key with this end works after its caller has ended.
pub(super) fn outlives(end: Option<Timestamp>, caller: Option<Timestamp>) -> bool {
    caller.is_some_and(|limit| end.is_none_or(|it| limit < it))
}

impl Expiry<'_> {
    /// What is wrong with an expiry, if it was given: outside the option.
    pub fn fault(self, wanted: Option<Option<Timestamp>>) -> Option<Fault> {
        let wanted = wanted?;
        if self.existing.is_some_and(|it| it.expires_at == wanted) {
            return None;
        }
        if wanted.is_some_and(|it| it <= self.now) {
            return Some(Fault::new("/expiresAt", "in_the_past", "must lie in the future"));
        }
        let limit = self.caller.expires_at.filter(|_| outlives(wanted, self.caller.expires_at))?;
        let detail = if wanted.is_some() {
            format!("must not be later than the end of the key that asks, {limit}")
        } else {
            format!("must not be null: the key that asks ends at {limit}")
        };
        Some(Fault::new("/expiresAt", "expires_after_caller", detail))
    }

    /// Everything in this change that would outlive the caller, or end in the past.
    pub fn faults(self, gain: Gain<'_>) -> Vec<Fault> {
        let patch = match gain {
            Gain::Nothing => return Vec::new(),
            Gain::Secret => None,
            Gain::Settings(patch) => Some(patch),
        };
        let wanted = patch.and_then(|it| it.expires_at);
        let mut faults: Vec<_> = self.fault(wanted).into_iter().collect();
        faults.extend(self.revivals(patch, wanted));
        faults
    }

    /// Apart from a new end itself: a secret, a key enabled again, or a scope added, if the key goes
    /// on after its caller. A caller that changes its own key gains no life by that.
    fn revivals(
        self,
        patch: Option<&KeyPatch>,
        wanted: Option<Option<Timestamp>>,
    ) -> impl Iterator<Item = Fault> {
        let limit = self.caller.expires_at;
        let key = self.existing.filter(|it| self.caller.key() != Some(it.id));
        let key = key.filter(|it| outlives(wanted.unwrap_or(it.expires_at), limit));
        let enabled = |key: &ApiKey, patch: &KeyPatch| patch.enabled == Some(true) && !key.enabled;
        let widened = |key: &ApiKey, patch: &KeyPatch| {
            let beyond = |it: &ScopeSet| it.iter().any(|it| !key.scopes.contains(it));
            patch.scopes.as_ref().is_some_and(beyond)
        };
        let pointers = key.map_or_else(Vec::new, |key| match patch {
            None => vec![""],
            Some(patch) => [("/enabled", enabled(key, patch)), ("/scopes", widened(key, patch))]
                .into_iter()
                .filter(|(_, applies)| *applies)
                .map(|(pointer, _)| pointer)
                .collect(),
        });
        pointers.into_iter().zip(limit.into_iter().cycle()).map(|(pointer, limit)| {
            let detail = format!("this key outlives the key that asks, which ends at {limit}");
            Fault::new(pointer, "expires_after_caller", detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::AccountId, scope::ScopeBits};

    #[test]
    fn a_caller_gives_no_later_end_than_its_own() {
        let at = Timestamp::from_millis;
        let code = |end: Option<i64>, wanted: Option<Option<i64>>| {
            let caller = Principal {
                presented: None,
                account: AccountId::from_raw(1),
                operator: false,
                powers: ScopeBits::default(),
                expires_at: end.map(at),
                source: EventSource::CLI.into(),
            };
            let expiry = Expiry { now: at(1_000), caller: &caller, existing: None };
            expiry.fault(wanted.map(|it| it.map(at))).map(|it| it.code)
        };
        assert_eq!(code(None, None), None);
        assert_eq!(code(None, Some(None)), None);
        assert_eq!(code(None, Some(Some(1_001))), None);
        assert_eq!(code(None, Some(Some(1_000))), Some("in_the_past"));
        assert_eq!(code(Some(2_000), None), None);
        assert_eq!(code(Some(2_000), Some(Some(2_000))), None);
        assert_eq!(code(Some(2_000), Some(Some(2_001))), Some("expires_after_caller"));
        assert_eq!(code(Some(2_000), Some(None)), Some("expires_after_caller"));
    }
}
