//! What the callers of one commit are told.

use super::*;
use crate::{
    domain::{
        event::{EventSource, EventType, NewEvent, Subject},
        scope::Catalogue,
    },
    env::{ManualClock, SystemEntropy, Timekeeper, Timestamp},
    store::Store,
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

#[test]
fn a_refusal_that_rests_on_a_change_which_was_undone_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Arc::new(Catalogue::new([]));
    // A clock that stands still, or the time for a batch could be over.
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_225_600_000)));
    let time = Arc::new(Timekeeper::start(clock, None));
    let env = Env { time, entropy: Arc::new(SystemEntropy) };
    let (store, _writer) = Store::open(&dir.path().join("keyward.db"), &env, &catalogue).unwrap();
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
}
