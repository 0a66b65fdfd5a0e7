//! The authorizer: which keys a caller may reach, and which scopes it may grant.

use std::sync::Arc;

use crate::{
    domain::{
        account::{Account, AccountStatus},
        address_list::AddressList,
        id::KeyId,
        policy::RequiredScopes,
        scope::{self, Catalogue, ScopeBits},
    },
    env::Timestamp,
    service::{Denial, Error, KeyAccess, Principal},
    store::{IndexedCredential, KeyRecord, ReadTx},
};

/// Decides from the scopes of the catalogue what a caller may do.
#[derive(Debug)]
pub(super) struct Authorizer {
    pub catalogue: Arc<Catalogue>,
}

impl Authorizer {
    /// Returns whether `powers` include one of the scopes `any_of`.
    pub fn permits(&self, powers: ScopeBits, any_of: &[&'static str]) -> bool {
        !self.needed(any_of).any.and(powers).is_empty()
    }

    /// Returns these scopes as what a request needs: one of them is enough.
    pub fn needed(&self, any_of: &[&'static str]) -> RequiredScopes {
        let bits = any_of.iter().map(|it| self.catalogue.reserved(it));
        let any = bits.fold(ScopeBits::default(), ScopeBits::or);
        RequiredScopes { all: ScopeBits::default(), any }
    }

    /// Returns the scopes of the key that an accepted request with these needs used.
    pub fn used(&self, entry: &IndexedCredential, required: RequiredScopes) -> ScopeBits {
        required.used(entry.key.scopes(), self.catalogue.star())
    }

    /// Returns the key, if it is not revoked and the caller may do this with it.
    ///
    /// # Errors
    /// [`Error::NO_KEY`] in every other case, so that a caller learns nothing of other accounts.
    pub fn accessible_key(
        &self,
        tx: &ReadTx<'_>,
        caller: &Principal,
        id: KeyId,
        access: KeyAccess,
    ) -> Result<KeyRecord, Error> {
        let record = tx.key(id)?.filter(|it| it.key.revoked_at.is_none());
        let record = record.ok_or(Error::NO_KEY)?;
        let within = |own, all| {
            let is_own = record.key.account_id == caller.account;
            self.permits(caller.powers, &[all]) || is_own && self.permits(caller.powers, &[own])
        };
        let accessible = match access {
            KeyAccess::Itself => caller.key() == Some(id),
            KeyAccess::Read => within(scope::KEYS_READ, scope::ACCOUNTS_READ),
            KeyAccess::Write => within(scope::KEYS_WRITE, scope::ACCOUNTS_WRITE),
        };
        accessible.then_some(record).ok_or(Error::NO_KEY)
    }

    /// Returns the caller as the transaction sees it at `now`.
    ///
    /// # Errors
    /// If the presented credential is no longer accepted, or has lost the scopes `any_of`.
    pub fn reauthorize(
        &self,
        tx: &ReadTx<'_>,
        now: Timestamp,
        caller: &Principal,
        any_of: &'static [&'static str],
    ) -> Result<Principal, Error> {
        // Callers on the control socket present no key, so there is nothing to check again.
        let Some(presented) = caller.presented else { return Ok(caller.clone()) };
        let denied = |denial| Err(Error::Unauthenticated(denial));
        let Some(record) = tx.key(presented.key)? else { return denied(Denial::InvalidKey) };
        let key = &record.key;
        let account = tx.account(key.account_id)?;
        let credential = record.find(presented.prefix).filter(|it| it.ended_at.is_none());
        let reasons = [
            (key.revoked_at.is_some(), Denial::Revoked),
            (credential.is_none_or(|it| !it.credential.is_valid_at(now)), Denial::Rotated),
            (
                account.is_none_or(|it| it.status == AccountStatus::Suspended),
                Denial::AccountSuspended,
            ),
            (!key.enabled, Denial::Disabled),
            (key.is_expired_at(now), Denial::Expired),
        ];
        if let Some((_, denial)) = reasons.into_iter().find(|(applies, _)| *applies) {
            return denied(denial);
        }
        if !AddressList::admits(key.allowed_ips.as_ref(), caller.client_ip) {
            return Err(Error::AddressNotAllowed);
        }
        let powers = self.catalogue.powers(self.catalogue.bits(&key.scopes));
        if !any_of.is_empty() && !self.permits(powers, any_of) {
            return Err(Error::MissingScope(any_of));
        }
        let gives_until = record.key.gives_until();
        let allowed_ips = record.key.allowed_ips;
        Ok(Principal { powers, gives_until, allowed_ips, ..caller.clone() })
    }

    /// Returns what a caller may hand on: its powers, and the right to rotate if it may change keys.
    pub fn handed_on(&self, caller: &Principal) -> ScopeBits {
        if self.permits(caller.powers, &[scope::KEYS_WRITE]) {
            return caller.powers.or(self.catalogue.reserved(scope::KEYS_ROTATE));
        }
        caller.powers
    }

    /// Returns the scopes that a caller may give to a key of this account.
    pub fn grantable(&self, caller: &Principal, account: &Account) -> ScopeBits {
        let ceiling = if account.is_operator() {
            self.catalogue.everything()
        } else {
            self.catalogue.ceiling(account.allowed_scopes.as_ref())
        };
        if account.id == caller.account { ceiling.and(self.handed_on(caller)) } else { ceiling }
    }

    /// Refuses the scopes in `wanted` that are not in `limit`, and names them.
    pub fn refuse_beyond(&self, wanted: ScopeBits, limit: ScopeBits) -> Result<(), Error> {
        let beyond = wanted.minus(limit);
        if beyond.is_empty() {
            return Ok(());
        }
        let names = self.catalogue.names(beyond).map(str::to_owned).collect();
        Err(Error::ScopeEscalation(names))
    }
}
