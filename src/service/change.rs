//! The two ways to a write: [`Keyward::change`] acts for a caller, [`Keyward::system_change`] for
//! keyward itself.
//!
//! The compiler holds this. [`Store`] only reads; the [`StoreWriter`] is private to this module.
//! And only a [`Change`], which is the caller as its transaction sees it, tells the
//! [`CallerSource`] under which an event is recorded.

mod caller_source;

use std::{cell::Cell, ops::Deref, sync::Arc};

pub use self::caller_source::CallerSource;
#[cfg(doc)]
use crate::store::Store;
use crate::{
    domain::{
        account::Account,
        event::{EventSource, NewEvent},
        policy::RequiredScopes,
        scope::ScopeBits,
    },
    env::Timestamp,
    service::{
        AnswerKeeper, Authorizer, ChangePermit, Error, Expiry, Gain, KeyChange, Keyward, Principal,
        Settings, keys::expiry::Maker,
    },
    store::{AuditReceipt, KeyIndex, KeyRecord, ReadTx, StoreError, StoreWriter, WriteTx},
};

/// The writer, which only the functions of this module use.
#[derive(Debug)]
pub(super) struct Writes(StoreWriter);

/// A change that a caller asked for, inside its transaction.
///
/// Only [`Keyward::change`] makes one. The caller was looked up again: its credential is accepted,
/// and holds a required scope.
pub(super) struct Change<'tx> {
    tx: &'tx WriteTx<'tx>,
    caller: Principal,
    pub authorizer: Arc<Authorizer>,
    pub settings: Arc<Settings>,
    /// Whether wall clock and monotonic clock agree; see [`Timekeeper`](crate::env::Timekeeper).
    pub clock_is_settled: bool,
    /// As it was before this change.
    pub index: Arc<KeyIndex>,
    /// Keeps the answer, if the request has an `Idempotency-Key`.
    pub keeper: Option<AnswerKeeper>,
    /// The scopes that the change needs of its caller, because other keys have or get them.
    handed_on: &'tx Cell<ScopeBits>,
}

/// The checks of a use case. They run on a snapshot before anything slow, and again in its
/// transaction.
#[derive(Clone, Copy)]
pub(super) struct Checks<'a> {
    pub tx: &'a ReadTx<'a>,
    pub now: Timestamp,
    pub caller: &'a Principal,
    pub authorizer: &'a Authorizer,
    pub settings: &'a Settings,
    /// As in [`Change`]; `None` on a snapshot.
    handed_on: Option<&'a Cell<ScopeBits>>,
}

impl Writes {
    pub fn new(writer: StoreWriter) -> Self {
        Self(writer)
    }
}

impl Keyward {
    /// Runs `body` as the only writer, for the caller with this permit.
    ///
    /// # Errors
    /// If the caller is no longer accepted, or holds none of the scopes `any_of` any more.
    pub(super) fn change<T, E>(
        &self,
        permit: ChangePermit,
        any_of: &'static [&'static str],
        body: impl FnOnce(Change<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + From<StoreError> + Send + 'static,
    {
        let (authorizer, settings) = (Arc::clone(&self.authorizer), Arc::clone(&self.settings));
        let clock_is_settled = self.env.time.is_settled();
        let index = Arc::clone(self.store.index());
        let (caller, keeper) = permit.into_parts();
        let presented = caller.presented;
        // Until the commit: then a repeated request finds the answer.
        let _turn = keeper.as_ref().map(AnswerKeeper::turn);
        let (done, needed) = self.writes.0.write(move |tx| {
            let caller = authorizer.reauthorize(tx, tx.now(), &caller, any_of)?;
            let needed = Cell::default();
            let handed_on = &needed;
            let done = body(Change {
                tx,
                caller,
                authorizer,
                settings,
                clock_is_settled,
                index,
                keeper,
                handed_on,
            })?;
            Ok::<_, E>((done, needed.get()))
        })?;
        if let Some(presented) = presented {
            self.use_scopes(presented, RequiredScopes::all(needed));
        }
        Ok(done)
    }

    /// Runs `body` as the only writer, for keyward itself: jobs, starts, local commands, and what
    /// verification records.
    pub(super) fn system_change<T, E>(
        &self,
        body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writes.0.write(body)
    }

    /// The checks of a use case on a snapshot.
    pub(super) fn checks<'a>(&'a self, tx: &'a ReadTx<'a>, caller: &'a Principal) -> Checks<'a> {
        let (authorizer, settings) = (&*self.authorizer, &*self.settings);
        let now = self.env.time.now();
        Checks { tx, now, caller, authorizer, settings, handed_on: None }
    }
}

impl<'tx> Deref for Change<'tx> {
    type Target = WriteTx<'tx>;

    fn deref(&self) -> &Self::Target {
        self.tx
    }
}

impl Change<'_> {
    pub fn caller(&self) -> &Principal {
        &self.caller
    }

    pub fn source(&self) -> &EventSource {
        &self.caller.source.0
    }

    /// The caller as the maker of a key in this account.
    pub fn maker(&self, account: &Account) -> Maker<'_> {
        let Principal { gives_until, allowed_ips, .. } = &self.caller;
        Maker {
            source: self.source(),
            gives_until: *gives_until,
            lifetimes: self.settings.lifetimes_of(account),
            allowed_ips: allowed_ips.as_ref(),
            catalogue: &self.authorizer.catalogue,
        }
    }

    /// Records an event of the caller.
    pub fn record(&self, event: &NewEvent) -> Result<AuditReceipt<'_>, StoreError> {
        self.tx.record(self.source(), event)
    }

    pub fn checks(&self) -> Checks<'_> {
        let Self { tx, caller, authorizer, settings, handed_on, .. } = self;
        let handed_on = Some(*handed_on);
        Checks { tx, now: tx.now(), caller, authorizer, settings, handed_on }
    }
}

impl Checks<'_> {
    /// Returns the key that the caller wants to change.
    ///
    /// # Errors
    /// In this order: the caller cannot reach the key, the revision is not the expected one, the
    /// change outlives the caller, or the key is stronger than the caller in the same account.
    pub fn key_to_change(self, wanted: KeyChange, gain: Gain<'_>) -> Result<KeyRecord, Error> {
        let Self { tx, now, caller, authorizer, settings, .. } = self;
        let record = authorizer.accessible_key(tx, caller, wanted.id, wanted.access)?;
        let key = &record.key;
        if wanted.expected.is_some_and(|it| it != key.revision) {
            return Err(Error::PreconditionFailed);
        }
        let account = tx.account(key.account_id)?.ok_or(Error::NO_ACCOUNT)?;
        let lifetimes = settings.lifetimes_of(&account);
        let faults = Expiry { now, caller, lifetimes, existing: Some(key) }.faults(gain);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        // Across accounts only the operator comes this far, and manages any account.
        if key.account_id == caller.account {
            let held = authorizer.catalogue.bits(&key.scopes);
            authorizer.refuse_beyond(held, authorizer.handed_on(caller))?;
            if Some(key.id) != caller.key() {
                self.note_need(held);
            }
        }
        Ok(record)
    }

    /// Refuses scopes that the caller may not give to a key of this account.
    pub fn refuse_beyond_grantable(
        self,
        wanted: ScopeBits,
        account: &Account,
    ) -> Result<(), Error> {
        let grantable = self.authorizer.grantable(self.caller, account);
        self.authorizer.refuse_beyond(wanted, grantable)?;
        if account.id == self.caller.account {
            self.note_need(wanted);
        }
        Ok(())
    }

    /// Notes scopes that the caller needed. They count as used, although no request requires them of
    /// its key: without them, the key could not make this change.
    fn note_need(self, scopes: ScopeBits) {
        if let Some(noted) = self.handed_on {
            noted.set(noted.get().or(scopes));
        }
    }
}
