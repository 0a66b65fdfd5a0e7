//! The connections of one worker, and which of them ends when there are too many.
//!
//! Further connections wait to be accepted while a worker has all that it may have. Then one client that opens
//! connections and asks nothing would keep out all others. Therefore a worker with few free slots ends a
//! connection: one whose client has stopped reading its answer, or else the one that has waited longest for a
//! request, as nginx does. A request that was read runs, and an answer that its client reads is never cut off.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

/// The most slots of a worker that are kept free for new connections.
const SPARE: usize = 32;

thread_local! {
    /// The slots of the worker that runs on this thread. All its sockets share them.
    static WORKER: RefCell<Slots> = RefCell::default();
}

#[derive(Debug, Default)]
struct Slots {
    open: usize,
    /// Those of them that were told to end and have not ended yet.
    ending: usize,
    newest: u64,
    /// The connections that may end for a new one, the first one first.
    standby: BTreeMap<(Standby, u64), Rc<Signal>>,
}

/// Why a connection may end for a new one. The order is that in which they end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Standby {
    /// Its client has read nothing of an answer for some time.
    Unread,
    /// It waits for a request.
    Idle,
}

/// Tells a connection to end.
#[derive(Debug, Default)]
struct Signal {
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The slot of one connection, from the moment that it is accepted.
#[derive(Debug)]
pub(super) struct Slot {
    /// The most connections that the worker has without ending one.
    most: usize,
    /// The place of this slot in the list, and since when it has it.
    standby: Option<((Standby, u64), Instant)>,
    /// Whether no input was looked for yet.
    is_new: bool,
    signal: Rc<Signal>,
}

/// Returns the most connections of a worker before it ends one, if it may have so many.
pub(super) fn most_without_end(connections: usize) -> usize {
    connections.saturating_sub((connections / 16).clamp(1, SPARE)).max(1)
}

/// Uses the slots of this thread. They are gone only at the end of the thread.
fn with_slots<T: Default>(work: impl FnOnce(&mut Slots) -> T) -> T {
    WORKER.try_with(|it| work(&mut it.borrow_mut())).unwrap_or_default()
}

/// Ends the first connection of the list if more than `most` stay open.
fn make_room(most: usize) {
    let first = with_slots(|it| {
        let first = if most + it.ending < it.open { it.standby.pop_first() } else { None };
        it.ending += usize::from(first.is_some());
        first
    });
    if let Some((_, signal)) = first {
        signal.end();
    }
}

impl Signal {
    fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Slot {
    pub fn open(most: usize) -> Self {
        with_slots(|it| it.open += 1);
        // A new connection is not in the list before it was looked for its request: it never ends for itself, nor
        // for one that has had its answer.
        make_room(most);
        Self { most, standby: None, is_new: true, signal: Rc::default() }
    }

    fn enlist(&mut self, why: Standby) {
        let place = with_slots(|it| {
            it.newest += 1;
            it.standby.insert((why, it.newest), Rc::clone(&self.signal));
            it.newest
        });
        self.standby = Some(((why, place), Instant::now()));
    }

    /// Notes that the connection may end for a new one.
    pub fn stand_by(&mut self, why: Standby) {
        if self.standby.is_none_or(|((it, _), _)| it != why) {
            let is_new = self.is_new && why == Standby::Idle;
            self.work();
            // A new connection never ends for itself.
            if is_new {
                make_room(self.most);
                self.enlist(why);
            } else {
                self.enlist(why);
                make_room(self.most);
            }
        }
    }

    /// Notes that a request was read, or that an answer is read, perhaps just before the connection would have
    /// ended. No other one ends in its place: it could be the new one, which has not asked yet.
    pub fn work(&mut self) {
        self.is_new = false;
        if self.signal.ended.replace(false) {
            with_slots(|it| it.ending = it.ending.saturating_sub(1));
        }
        if let Some((place, _)) = self.standby.take() {
            drop(with_slots(|it| it.standby.remove(&place)));
        }
    }

    /// Returns since when the connection waits for a request.
    pub fn idle_since(&self) -> Option<Instant> {
        self.standby.filter(|((why, _), _)| *why == Standby::Idle).map(|(_, since)| since)
    }

    /// Waits until another connection needs this slot.
    pub fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        if self.signal.ended.get() {
            return Poll::Ready(());
        }
        let mut waker = self.signal.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns what `work` returns, or `None` if another connection needs this slot before.
    pub async fn unless_needed<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = poll_fn(|cx| {
                self.stand_by(Standby::Idle);
                self.poll_end(cx)
            }) => None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.work();
        with_slots(|it| it.open = it.open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(slots: &[Slot]) -> Vec<usize> {
        let cx = Context::from_waker(Waker::noop());
        let is_ended = |at: &usize| slots[*at].poll_end(&cx).is_ready();
        (0..slots.len()).filter(is_ended).collect()
    }

    fn waiting(most: usize) -> Slot {
        let mut slot = Slot::open(most);
        slot.stand_by(Standby::Idle);
        slot
    }

    #[test]
    fn a_connection_whose_request_was_not_looked_for_ends_for_no_other() {
        let mut slots: Vec<_> = (0..2).map(|_| Slot::open(2)).collect();
        slots.iter_mut().for_each(Slot::work);
        slots.push(Slot::open(2));
        slots[0].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [0], "it has had its answer");
        slots.push(Slot::open(2));
        slots[2].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [0], "a new one does not end because it begins to wait");
        slots[1].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [0, 2]);
    }

    #[test]
    fn the_connection_that_waits_longest_ends_for_a_new_one() {
        let mut slots: Vec<_> = (0..3).map(|_| waiting(3)).collect();
        assert_eq!(ended(&slots), [0; 0]);
        // The first one works, and then waits behind the others.
        slots[0].work();
        slots[1].work();
        slots[0].stand_by(Standby::Idle);
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [2]);
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [0, 2]);
        // A request that came just before the end is answered.
        slots[2].work();
        assert_eq!(ended(&slots), [0]);
        // A connection with a request never ends for another, and neither does a new one for itself.
        slots[3].work();
        slots[4].work();
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [0]);
        slots.drain(..3);
        assert_eq!(ended(&slots), [0; 0]);
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [2], "one is left that waits");
    }

    #[test]
    fn a_connection_that_waits_again_ends_while_there_are_too_many() {
        let mut slots: Vec<_> = Vec::new();
        for _ in 0..3 {
            slots.push(waiting(1));
            slots.iter_mut().for_each(Slot::work);
        }
        slots[1].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [1]);
        slots[0].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [0, 1]);
        slots[2].stand_by(Standby::Idle);
        assert_eq!(ended(&slots), [0, 1], "the others are about to end, and one may stay");
    }

    #[test]
    fn a_connection_whose_answer_is_unread_ends_first_unless_its_client_reads_again() {
        let mut slots: Vec<_> = (0..3).map(|_| waiting(3)).collect();
        slots[1].work();
        slots[1].stand_by(Standby::Unread);
        assert_eq!((slots[1].idle_since(), ended(&slots)), (None, vec![]));
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [1]);
        slots[1].stand_by(Standby::Unread);
        assert_eq!(ended(&slots), [1], "it is told once");
        slots[1].work();
        assert_eq!(ended(&slots), [0; 0]);
        slots.push(waiting(3));
        assert_eq!(ended(&slots), [0, 2], "the one whose answer is read stays");
    }

    #[test]
    fn a_few_slots_stay_free() {
        for (connections, most) in
            [(1, 1), (2, 1), (16, 15), (64, 60), (512, 480), (20_000, 19_968)]
        {
            assert_eq!(most_without_end(connections), most, "{connections}");
        }
    }
}
