//! The expiry of callers and keys: a caller that expires gives no later expiry than its own, and no key
//! outlives the maximum lifetime of its account. Only a console link gives a later expiry than its own.

use crate::{
    domain::{
        address_list::AddressList,
        api_key::{ApiKey, RequestedExpiry},
        event::EventSource,
        lifetime::Lifetimes,
        scope::Catalogue,
    },
    env::Timestamp,
    service::{Fault, Faults, KeyPatch, Principal},
};

/// What a change gives to the holder of a key.
#[derive(Clone, Copy)]
pub enum Gain<'a> {
    /// Neither a secret nor a scope nor a later expiry.
    Nothing,
    /// A new plaintext key, which works as long as the key does.
    Secret,
    /// The settings in this patch.
    Settings(&'a KeyPatch),
}

/// The maker of a key: the source of the event, its own limits, and the scopes that keys may have.
#[derive(Clone, Copy)]
pub(in crate::service) struct Maker<'a> {
    pub source: &'a EventSource,
    /// The latest end that the maker gives; `None` means any.
    pub gives_until: Option<Timestamp>,
    /// The lifetimes of keys in the account of the new key.
    pub lifetimes: Lifetimes,
    /// `None` means that the maker is accepted from everywhere.
    pub allowed_ips: Option<&'a AddressList>,
    pub catalogue: &'a Catalogue,
}

impl<'a> Maker<'a> {
    /// keyward itself, or a local command, for a key of the operator account.
    pub fn cli(catalogue: &'a Catalogue) -> Self {
        let lifetimes = Lifetimes::default();
        Self {
            source: &EventSource::CLI,
            gives_until: None,
            lifetimes,
            allowed_ips: None,
            catalogue,
        }
    }

    /// Returns the expiry of a new key whose request names none: the default lifetime, which ends with
    /// the maker at the latest.
    pub fn default_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.lifetimes.default_end(now).into_iter().chain(self.gives_until).min()
    }
}

/// The context of a requested expiry.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    pub now: Timestamp,
    /// The caller, whose own expiry is the latest that it gives.
    pub caller: &'a Principal,
    /// The lifetimes of keys in the account of the key.
    pub lifetimes: Lifetimes,
    /// The key to change. A setting that it already has is no change.
    pub existing: Option<&'a ApiKey>,
}

/// Returns whether `end`, where `None` means never, is later than `limit`, where `None` means no limit.
pub(in crate::service) fn outlives(end: Option<Timestamp>, limit: Option<Timestamp>) -> bool {
    limit.is_some_and(|limit| end.is_none_or(|it| limit < it))
}

impl Expiry<'_> {
    /// The code of an expiry that lies beyond the longest lifetime.
    pub const TOO_LATE: &'static str = "expires_too_late";

    /// Returns what is wrong with a requested expiry.
    pub fn fault(self, wanted: RequestedExpiry) -> Option<Fault> {
        let own = self.existing.map(|it| it.expires_at);
        let pointer = match wanted {
            RequestedExpiry::Inherit => return None,
            RequestedExpiry::In(_) => "/expiresIn",
            RequestedExpiry::Never | RequestedExpiry::At(_) => "/expiresAt",
        };
        let end = wanted.or(None, self.now);
        if own == Some(end) {
            return None;
        }
        if end.is_some_and(|it| it <= self.now) {
            return Some(Fault::new(pointer, "in_the_past", "must lie in the future"));
        }
        // A nearer end gives nothing, also if it is still beyond a limit.
        if own.is_some_and(|own| outlives(own, end)) {
            return None;
        }
        let (code, detail) = self.beyond_caller(end).or_else(|| self.beyond_lifetime(end))?;
        Some(Fault::new(pointer, code, detail))
    }

    /// Returns code and sentence, if a key with this end outlives its caller.
    fn beyond_caller(self, end: Option<Timestamp>) -> Option<(&'static str, String)> {
        let limit = self.caller.gives_until.filter(|it| outlives(end, Some(*it)))?;
        let detail = if end.is_some() {
            format!("must not be later than the end of the calling key, {limit}")
        } else {
            format!("must not be null: the calling key expires at {limit}")
        };
        Some(("expires_after_caller", detail))
    }

    /// Returns code and sentence, if a key with this end lives longer than its account allows.
    ///
    /// The time counts from the creation or the last rotation, when the secret was made. If it counted
    /// from each change, repeated changes would extend a life without end.
    fn beyond_lifetime(self, end: Option<Timestamp>) -> Option<(&'static str, String)> {
        let from = self.existing.map_or(self.now, ApiKey::secret_made_at);
        let limit = self.lifetimes.limit(from).filter(|it| outlives(end, Some(*it)))?;
        let must = if end.is_some() { "" } else { "be null or " };
        let since =
            if self.existing.is_some() { " from its creation or last rotation" } else { "" };
        let max = self.lifetimes.max.unwrap_or_default();
        let detail = format!(
            "must not {must}be later than {limit}: a key of this account lives at most {max} \
             seconds{since}"
        );
        Some((Self::TOO_LATE, detail))
    }

    /// Returns everything in this change that would outlive the caller, end in the past, or work from
    /// addresses from which the caller is not accepted.
    pub fn faults(self, gain: Gain<'_>) -> Faults {
        let patch = match gain {
            Gain::Nothing => return Faults::default(),
            Gain::Secret => None,
            Gain::Settings(patch) => Some(patch),
        };
        let wanted = patch.map(|it| it.expires_at).unwrap_or_default();
        let mut faults: Faults = self.fault(wanted).into_iter().collect();
        faults.extend(self.revivals(patch, wanted));
        faults.extend(self.address_faults(gain));
        faults
    }

    /// Returns the gains other than a new expiry, if the key outlives its caller: a secret, a key
    /// that is enabled again, or an added scope. A caller that changes its own key gains no life.
    fn revivals(self, patch: Option<&KeyPatch>, wanted: RequestedExpiry) -> Faults {
        let (Some(limit), Some(key)) = (self.caller.gives_until, self.existing) else {
            return Faults::default();
        };
        let is_own = self.caller.key() == Some(key.id);
        // A console link ends soon, but gives later ends than its own.
        let link_end = key.console_link.map(|it| it.gives_until);
        let end = link_end.unwrap_or_else(|| wanted.or(key.expires_at, self.now));
        if is_own || !outlives(end, Some(limit)) {
            return Faults::default();
        }
        let pointers = match patch {
            None => vec![("", true)],
            Some(patch) => {
                let enabled = patch.enabled == Some(true) && !key.enabled;
                vec![("/enabled", enabled), ("/scopes", patch.widens_scopes_of(key))]
            }
        };
        let detail = format!("this key outlives the calling key, which expires at {limit}");
        let applied = pointers.into_iter().filter(|(_, applies)| *applies);
        applied.map(|(at, _)| Fault::new(at, "expires_after_caller", &*detail)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::AccountId, scope::ScopeBits};

    #[test]
    fn a_caller_gives_no_later_end_than_its_own() {
        let at = Timestamp::from_millis;
        let code = |end: Option<i64>, wanted| {
            let caller = Principal {
                presented: None,
                account: AccountId::from_raw(1),
                operator: false,
                powers: ScopeBits::default(),
                gives_until: end.map(at),
                allowed_ips: None,
                client_ip: None,
                source: EventSource::CLI.into(),
            };
            let lifetimes = Lifetimes::default();
            let expiry = Expiry { now: at(1_000), caller: &caller, lifetimes, existing: None };
            expiry.fault(wanted).map(|it| it.code)
        };
        let (inherit, never) = (RequestedExpiry::Inherit, RequestedExpiry::Never);
        let ends = |millis| RequestedExpiry::At(at(millis));
        assert_eq!(code(None, inherit), None);
        assert_eq!(code(None, never), None);
        assert_eq!(code(None, ends(1_001)), None);
        assert_eq!(code(None, ends(1_000)), Some("in_the_past"));
        assert_eq!(code(Some(2_000), inherit), None);
        assert_eq!(code(Some(2_000), ends(2_000)), None);
        assert_eq!(code(Some(2_000), ends(2_001)), Some("expires_after_caller"));
        assert_eq!(code(Some(2_000), never), Some("expires_after_caller"));
    }
}
