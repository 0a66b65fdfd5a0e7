//! Who is calling, what they may do, and to whose keys.

use crate::{
    domain::{
        account::{Account, AccountStatus},
        credential::KeyPrefix,
        event::EventSource,
        id::{AccountId, KeyId},
        scope::{self, ScopeBits},
    },
    env::Timestamp,
    service::{Denial, Error, Expiry, Gain, Rules},
    store::{KeyRecord, ReadTx, WriteTx},
};

/// Whoever the request comes from, already authenticated.
///
/// A snapshot: every change looks at the caller again inside its own transaction.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key that was presented; `None` for whoever may use the control socket.
    pub presented: Option<Presented>,
    pub account: AccountId,
    /// A key of the operator account.
    pub operator: bool,
    /// What the caller may do, with `*` spelt out.
    pub powers: ScopeBits,
    /// `None` means that the caller never expires.
    pub expires_at: Option<Timestamp>,
    pub source: EventSource,
}

/// Which of a key's values was presented; it may have several alive.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    pub key: KeyId,
    pub prefix: KeyPrefix,
}

impl Principal {
    /// The identifier of the key that was presented.
    pub fn key(&self) -> Option<KeyId> {
        self.presented.map(|it| it.key)
    }
}

/// What is to be done with a key, and so which scopes allow it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAccess {
    Read,
    Write,
    /// The caller itself, whatever else it may do.
    Itself,
}

impl KeyAccess {
    /// Within the caller's own account, and across all.
    fn scopes(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => (scope::KEYS_READ, scope::ACCOUNTS_READ),
            Self::Write => (scope::KEYS_WRITE, scope::ACCOUNTS_WRITE),
            Self::Itself => (scope::KEYS_ROTATE, scope::KEYS_WRITE),
        }
    }
}

/// Which key is to be changed, as what, and at which revision if the client names one.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub id: KeyId,
    pub access: KeyAccess,
    pub expected: Option<i64>,
}

impl Rules {
    /// Whether `powers` hold any of these scopes.
    pub fn permits(&self, powers: ScopeBits, any_of: &[&'static str]) -> bool {
        any_of.iter().any(|it| {
            let wanted = self.catalogue.reserved(it);
            !wanted.is_empty() && wanted.is_subset_of(powers)
        })
    }

    /// The key, if it stands and the caller may do this with it; otherwise it is not there.
    pub(super) fn accessible_key(
        &self,
        tx: &ReadTx<'_>,
        caller: &Principal,
        id: KeyId,
        access: KeyAccess,
    ) -> Result<KeyRecord, Error> {
        let record = tx.key(id)?.filter(|it| it.key.revoked_at.is_none());
        let record = record.ok_or(Error::NO_KEY)?;
        let (own, all) = access.scopes();
        let reachable = match access {
            KeyAccess::Itself => caller.key() == Some(id),
            KeyAccess::Read | KeyAccess::Write => {
                self.permits(caller.powers, &[all])
                    || record.key.account_id == caller.account
                        && self.permits(caller.powers, &[own])
            }
        };
        reachable.then_some(record).ok_or(Error::NO_KEY)
    }

    /// The caller as the transaction sees it: still alive, and with one of these scopes still.
    ///
    /// A caller that was revoked before this commits must change nothing.
    pub(super) fn reauthorize(
        &self,
        tx: &WriteTx<'_>,
        caller: &Principal,
        any_of: &'static [&'static str],
    ) -> Result<Principal, Error> {
        let dead = |denial| Err(Error::Unauthenticated(denial));
        // Whoever sits at the machine has no key that could have been revoked.
        let Some(caller_key) = caller.presented else { return Ok(caller.clone()) };
        let Some(record) = tx.key(caller_key.key)? else { return dead(Denial::InvalidKey) };
        let key = &record.key;
        let presented = record.find(caller_key.prefix);
        let account = tx.account(key.account_id)?;
        if key.revoked_at.is_some() {
            return dead(Denial::Revoked);
        }
        if !presented.is_some_and(|it| it.ended_at.is_none() && it.credential.is_valid_at(tx.now()))
        {
            return dead(Denial::Rotated);
        }
        if account.is_none_or(|it| it.status == AccountStatus::Suspended) {
            return dead(Denial::AccountSuspended);
        }
        if !key.enabled {
            return dead(Denial::Disabled);
        }
        if key.is_expired_at(tx.now()) {
            return dead(Denial::Expired);
        }
        let powers = self.catalogue.powers(self.catalogue.bits(&key.scopes));
        if !any_of.is_empty() && !self.permits(powers, any_of) {
            return Err(Error::MissingScope(any_of));
        }
        Ok(Principal { powers, expires_at: key.expires_at, ..caller.clone() })
    }

    /// The key that a caller may change in this way. The only way to a key for a change, so that every
    /// operation says what it gives, and is held to what the caller has.
    ///
    /// Refuses, in this order: a key that the caller cannot reach, another revision than the expected
    /// one, what would outlive the caller, and power over a stronger key of the caller's own account.
    pub(super) fn key_to_change(
        &self,
        tx: &ReadTx<'_>,
        now: Timestamp,
        caller: &Principal,
        change: Change,
        gain: Gain<'_>,
    ) -> Result<KeyRecord, Error> {
        let record = self.accessible_key(tx, caller, change.id, change.access)?;
        let key = &record.key;
        if change.expected.is_some_and(|it| it != key.revision) {
            return Err(Error::PreconditionFailed);
        }
        let faults = Expiry { now, caller, existing: Some(key) }.faults(gain);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        // Across accounts only the operator comes here: it manages accounts as such.
        if key.account_id == caller.account {
            self.refuse_beyond(self.catalogue.bits(&key.scopes), self.gives(caller))?;
        }
        Ok(record)
    }

    /// What a caller may hand on: its powers, and the right to rotate if it may change keys at all.
    fn gives(&self, caller: &Principal) -> ScopeBits {
        if self.permits(caller.powers, &[scope::KEYS_WRITE]) {
            return caller.powers.or(self.catalogue.reserved(scope::KEYS_ROTATE));
        }
        caller.powers
    }

    /// What a caller may put on a key of this account.
    pub(super) fn grantable(&self, caller: &Principal, account: &Account) -> ScopeBits {
        let ceiling = if account.is_operator() {
            self.catalogue.everything()
        } else {
            self.catalogue.ceiling(account.allowed_scopes.as_ref())
        };
        if account.id == caller.account { ceiling.and(self.gives(caller)) } else { ceiling }
    }

    pub(super) fn refuse_beyond(&self, wanted: ScopeBits, limit: ScopeBits) -> Result<(), Error> {
        let beyond = wanted.minus(limit);
        if beyond.is_empty() {
            return Ok(());
        }
        let names = self.catalogue.names(beyond).map(str::to_owned).collect();
        Err(Error::ScopeEscalation(names))
    }
}
