//! Transactions, and what each kind may do.

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
    store::{AuditHead, StoreError, schema},
};

/// A snapshot. Its queries are in `records`, `keys`, `accounts` and `audit`.
pub struct ReadTx<'conn> {
    pub(super) sql: &'conn Connection,
}

/// The one writer. Reads like a [`ReadTx`]; writes want an [`super::AuditReceipt`].
pub struct WriteTx<'conn> {
    read: ReadTx<'conn>,
    now: Timestamp,
    entropy: &'conn dyn Entropy,
    /// What the writer remembers from one transaction to the next, moved on by this one.
    pub(super) marks: Cell<Marks>,
    /// The rows whose image in the index this transaction makes stale.
    pub(super) touched: RefCell<HashSet<Touched>>,
}

/// The end of the chain and of the identifiers: both only ever grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub head: AuditHead,
    pub last_id: u128,
}

/// Something that the index must look at again once the transaction is on the disk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Touched {
    Key(KeyId),
    Account(AccountId),
    /// A value that is gone from the file.
    Gone(KeyPrefix),
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

    /// The transaction's instant. Read once, so that every row and event that it writes agree.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A new key's identifier, above every identifier ever given: what is listed by creation time
    /// and identifier never lets a row appear behind a reader's cursor.
    pub fn next_key_id(&self) -> KeyId {
        KeyId::from_raw(self.next_id())
    }

    /// As [`WriteTx::next_key_id`], for an account.
    pub fn next_account_id(&self) -> AccountId {
        AccountId::from_raw(self.next_id())
    }

    fn next_id(&self) -> u128 {
        let mut marks = self.marks.get();
        marks.last_id = id::next_raw(self.now, self.entropy, marks.last_id);
        self.marks.set(marks);
        marks.last_id
    }

    /// Changes no row, but makes the commit reach the disk.
    pub fn touch_disk(&self) -> Result<(), StoreError> {
        schema::write_version(self.sql)
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
