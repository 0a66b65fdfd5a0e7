//! Transactions: one kind reads, the other also writes.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    ops::Deref,
};

use rusqlite::Connection;

use crate::{
    domain::{
        id::{self, AccountId, KeyId},
        plaintext_key::KeyPrefix,
    },
    env::{Entropy, Timestamp},
    store::AuditHead,
};

/// A consistent snapshot. Its queries are in `records`, `keys`, `accounts`, `audit` and others.
pub struct ReadTx<'conn> {
    pub(super) sql: &'conn Connection,
}

/// The transaction of the writer. It reads like a [`ReadTx`], and a change of an audited row takes an
/// [`super::AuditReceipt`].
pub struct WriteTx<'conn> {
    read: ReadTx<'conn>,
    now: Timestamp,
    entropy: &'conn dyn Entropy,
    /// Values that the writer keeps from one transaction to the next; this one advances them.
    pub(super) marks: Cell<Marks>,
    /// The rows of which the index holds something else after this transaction.
    pub(super) touched: RefCell<HashSet<Touched>>,
}

/// The newest event and the highest identifier. Both only grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub head: AuditHead,
    pub last_id: u128,
}

/// A row that the index must read again before the transaction is committed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Touched {
    Key(KeyId),
    Account(AccountId),
    /// A credential that was deleted.
    Gone(KeyPrefix),
    /// A place in the token status list.
    StatusPlace(u32),
}

impl<'conn> ReadTx<'conn> {
    pub(super) fn new(sql: &'conn Connection) -> Self {
        Self { sql }
    }
}

impl<'conn> WriteTx<'conn> {
    pub(super) fn new(
        sql: &'conn Connection,
        now: Timestamp,
        entropy: &'conn dyn Entropy,
        marks: Marks,
    ) -> Self {
        let touched = RefCell::default();
        Self { read: ReadTx::new(sql), now, entropy, marks: Cell::new(marks), touched }
    }

    /// Returns the instant of the transaction. It is read once, so all rows and events of the
    /// transaction have the same time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns a new identifier for a key, greater than every identifier before it. So in a list by
    /// creation time and identifier, no row appears behind the cursor of a reader.
    pub fn next_key_id(&self) -> KeyId {
        KeyId::from_raw(self.next_id())
    }

    /// Returns a new identifier for an account; see [`WriteTx::next_key_id`].
    pub fn next_account_id(&self) -> AccountId {
        AccountId::from_raw(self.next_id())
    }

    fn next_id(&self) -> u128 {
        let mut marks = self.marks.get();
        marks.last_id = id::next_raw(self.now, self.entropy, marks.last_id);
        self.marks.set(marks);
        marks.last_id
    }

    pub(super) fn touch(&self, what: Touched) {
        self.touched.borrow_mut().insert(what);
    }
}

impl<'conn> Deref for WriteTx<'conn> {
    type Target = ReadTx<'conn>;

    fn deref(&self) -> &Self::Target {
        &self.read
    }
}
