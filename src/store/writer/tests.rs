//! What the callers of one commit are told.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::{
    domain::{
        account::{Account, AccountKind, AccountStatus},
        event::{EventSource, EventType, NewEvent, Subject},
        id::AccountId,
        lifetime::Lifetimes,
        plaintext_key::KeyPrefix,
        scope::Catalogue,
        text::{Metadata, Name},
    },
    env::{Clock, ManualClock, SystemEntropy, Timekeeper, Timestamp},
    store::{DirectoryLock, LockHolder, StatusPlace, Store, StoreWriter},
};

type Answer = std::sync::mpsc::Receiver<Result<u64, StoreError>>;

/// Queues a change, and waits for no answer.
fn queue(
    writer: &Writer,
    body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<u64, StoreError> + Send + 'static,
) -> Answer {
    let (reply, answer) = sync_channel(1);
    let change = Change { body: Some(body), outcome: None, first: false, reply };
    writer.enqueue(Work::Change(Box::new(change))).unwrap();
    answer
}

/// Makes a change that reaches the file, and of which its caller and the index do not hear.
fn lose(
    store: &Store,
    body: impl for<'tx> FnOnce(&'tx WriteTx<'_>) -> Result<(), StoreError> + Send + 'static,
) {
    let lost = queue(&store.writer, move |tx| {
        body(tx)?;
        tx.sql.execute_batch("COMMIT").map_err(StoreError::from)?;
        Ok(0)
    });
    assert!(lost.recv().unwrap().unwrap_err().is_temporary());
}

/// The file is gone with the directory.
fn opened() -> (tempfile::TempDir, Arc<ManualClock>, Store, StoreWriter) {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Arc::new(Catalogue::new([]));
    // A clock that stands still, or the time for a batch could be over.
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_225_600_000)));
    let time = Arc::new(Timekeeper::start(Arc::clone(&clock) as _, None));
    let env = Env { time, entropy: Arc::new(SystemEntropy) };
    let (store, writer) = Store::open(&dir.path().join("keyward.db"), &env, &catalogue).unwrap();
    (dir, clock, store, writer)
}

#[test]
fn a_refusal_that_rests_on_a_change_which_was_undone_is_not_told() {
    let (_dir, clock, store, writer) = opened();
    let (go, told) = sync_channel::<()>(0);
    // Holds the writer until the others are in the queue, so that they share a commit.
    let sure = queue(&store.writer, move |_| {
        told.recv().unwrap();
        Err(StoreError::WrongReceipt)
    });
    let changed = queue(&store.writer, |tx| {
        let event = NewEvent {
            event_type: EventType::ServerStarted,
            account: None,
            subject: Subject::Server,
            data: serde_json::json!({}),
        };
        tx.record(&EventSource::CLI, &event)?;
        Ok(1)
    });
    let refused = queue(&store.writer, |tx| match tx.audit_head()?.seq {
        0 => Ok(0),
        _ => Err(StoreError::WrongReceipt),
    });
    let spoiler = queue(&store.writer, |tx| {
        tx.sql.execute_batch("ROLLBACK").map_err(StoreError::from)?;
        Ok(3)
    });
    go.send(()).unwrap();
    let outcome = sure.recv().unwrap();
    assert!(matches!(outcome, Err(StoreError::WrongReceipt)), "before any change: {outcome:?}");
    for answer in [changed, refused, spoiler] {
        let outcome = answer.recv().unwrap();
        assert!(matches!(outcome, Err(StoreError::RolledBack)), "{outcome:?}");
    }
    let newest = store.read(|tx| Ok::<_, StoreError>(tx.audit_head()?.seq));
    assert_eq!(newest.unwrap(), 0);
    assert_eq!(store.storage_fault(), Some(StorageFault::Failed), "the file is opened again");
    clock.advance(Duration::from_secs(1));
    writer.write(|_| Ok::<_, StoreError>(())).unwrap();
    assert_eq!(store.storage_fault(), None);
}

#[test]
fn no_change_runs_between_a_lost_transaction_and_the_file_opened_again() {
    let (_dir, _, store, _writer) = opened();
    let (go, told) = sync_channel::<()>(0);
    let first = queue(&store.writer, move |_| {
        told.recv().unwrap();
        Ok(1)
    });
    let spoiler = queue(&store.writer, |tx| {
        tx.sql.execute_batch("ROLLBACK").map_err(StoreError::from)?;
        Err(StoreError::WrongReceipt)
    });
    let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let late = queue(&store.writer, {
        let ran = Arc::clone(&ran);
        move |_| {
            ran.store(true, std::sync::atomic::Ordering::Relaxed);
            Ok(3)
        }
    });
    go.send(()).unwrap();
    for answer in [first, spoiler, late] {
        let outcome = answer.recv().unwrap();
        assert!(outcome.unwrap_err().is_temporary());
    }
    assert!(!ran.load(std::sync::atomic::Ordering::Relaxed), "the file was not opened again");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("outside of any body");
    }
}

#[test]
fn a_panic_outside_of_a_change_is_told_as_the_end_of_writing() {
    let (_dir, _, store, writer) = opened();
    let (reply, answer) = sync_channel(1);
    drop(answer);
    let body = |_: &WriteTx<'_>| Ok::<_, StoreError>(Bomb);
    let change = Change { body: Some(body), outcome: None, first: false, reply };
    store.writer.enqueue(Work::Change(Box::new(change))).unwrap();
    let told = (0..10_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        store.divergence().is_some()
    });
    assert!(told);
    assert_eq!(store.divergence(), Some(&Divergence::WriterPanicked));
    let refused = writer.write(|_| Ok::<_, StoreError>(()));
    assert!(matches!(refused, Err(StoreError::Halted)), "{refused:?}");
}

#[test]
fn a_place_that_was_retired_before_an_outage_rests_from_its_end_on() {
    let (_dir, clock, store, writer) = opened();
    let prefix = KeyPrefix::from_stored("rg_8fK2mQ9zT").unwrap();
    let place = writer.write(move |tx| tx.give_status_place(prefix)).unwrap();
    lose(&store, move |tx| tx.retire_status_places(&[prefix]).map(drop));
    let index = store.index();
    assert_eq!(index.status_place_of(prefix), Some(place), "tokens with it are issued meanwhile");
    clock.advance(Duration::from_hours(2));
    writer.write(|_| Ok::<_, StoreError>(())).unwrap();
    assert_eq!(index.status_place_of(prefix), None);
    let rests_since = |state| matches!(state, StatusPlace::Retired(at) if at == clock.wall());
    assert!(rests_since(store.read(|tx| tx.status_place(place)).unwrap()));
    let mut states = Vec::new();
    index.for_each_status_place(|_, state| states.push(state));
    assert!(matches!(states[..], [state] if rests_since(state)), "{states:?}");
}

/// A lock whose file was removed, and that other processes hold one after the other, so many times.
#[derive(Debug)]
struct TakenLock(AtomicU32);

impl DirectoryLock for TakenLock {
    fn holder(&self) -> LockHolder {
        let left =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1));
        match left {
            Ok(1) => LockHolder::ThisProcessAgain,
            Ok(_) => LockHolder::AnotherProcess,
            Err(_) => LockHolder::ThisProcess,
        }
    }
}

/// Makes changes until one succeeds, or none ever will. Returns how many were refused.
fn refused_changes(times_taken: u32) -> (u32, Store) {
    let (_dir, clock, store, writer) = opened();
    store.writer.state().watch(Arc::new(TakenLock(AtomicU32::new(times_taken + 1))));
    let mut refused = 0;
    while store.divergence().is_none() && writer.write(|_| Ok::<_, StoreError>(())).is_err() {
        refused += 1;
        assert!(refused < 10, "{:?}", store.storage_fault());
        clock.advance(Duration::from_secs(20));
    }
    (refused, store)
}

#[test]
fn a_lock_that_two_commands_held_for_a_moment_is_not_lost() {
    let (refused, store) = refused_changes(3);
    assert_eq!((refused, store.divergence()), (3, None));
}

#[test]
fn a_lock_that_another_process_holds_at_every_attempt_is_lost() {
    let (_, store) = refused_changes(4);
    let why = store.divergence();
    assert!(matches!(why, Some(Divergence::LockLost { .. })), "{why:?}");
}

#[test]
fn a_change_that_reached_the_file_before_an_outage_is_in_the_index_after_it() {
    let (_dir, clock, store, writer) = opened();
    let index = store.index();
    let id = writer.write(|tx| Ok::<_, StoreError>(tx.next_account_id())).unwrap();
    lose(&store, move |tx| {
        let data = serde_json::json!({});
        let event = NewEvent::about_account(EventType::AccountCreated, id, data);
        let receipt = tx.record(&EventSource::CLI, &event)?;
        tx.insert_account(&suspended_account(id), &receipt)
    });
    assert_eq!(index.account(id, |it| it.suspended), None);
    clock.advance(Duration::from_secs(1));
    writer.write(|_| Ok::<_, StoreError>(())).unwrap();
    assert_eq!(index.account(id, |it| it.suspended), Some(true));
}

fn suspended_account(id: AccountId) -> Account {
    Account {
        id,
        kind: AccountKind::Customer,
        name: Name::parse("Acme").unwrap(),
        external_id: None,
        status: AccountStatus::Suspended,
        allowed_scopes: None,
        max_keys: None,
        lifetimes: Lifetimes::default(),
        rate_limit: None,
        key_rate_limit: None,
        token_exchange: false,
        metadata: Metadata::empty(),
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        deleted_at: None,
        revision: 1,
    }
}
