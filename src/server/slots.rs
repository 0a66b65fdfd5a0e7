//! The connections of one worker, and which of them ends when there are too many.
//!
//! Further connections wait to be accepted while a worker has all that it may have. Then one client that opens
//! connections and asks nothing would keep out all others. Therefore a worker with few free slots ends the
//! connection that has waited longest for a request, as nginx does. A request that was read is never cut off.

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
    newest: u64,
    /// The connections that wait for a request, the longest first.
    waiting: BTreeMap<u64, Rc<Signal>>,
}

/// Tells a connection to end.
#[derive(Debug, Default)]
struct Signal {
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The slot of one connection, from the moment that it is accepted. It waits for a request at first.
#[derive(Debug)]
pub(super) struct Slot {
    /// The most connections that the worker has without ending one.
    most: usize,
    /// The number of this slot in the waiting list, and since when it waits.
    waiting: Option<(u64, Instant)>,
    signal: Rc<Signal>,
}

/// Returns the most connections of a worker before it ends one, if it may have so many.
pub(super) fn most_without_end(connections: usize) -> usize {
    connections.saturating_sub((connections / 16).clamp(1, SPARE)).max(1)
}

impl Slots {
    fn make_room(&mut self, most: usize) {
        if most < self.open
            && let Some((_, signal)) = self.waiting.pop_first()
        {
            signal.end();
        }
    }
}

impl Signal {
    fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Slot {
    pub fn open(most: usize) -> Self {
        WORKER.with_borrow_mut(|worker| {
            worker.open += 1;
            // Before this connection waits: a new one is never the one that ends for itself.
            worker.make_room(most);
        });
        let mut slot = Self { most, waiting: None, signal: Rc::default() };
        slot.enlist();
        slot
    }

    fn enlist(&mut self) {
        WORKER.with_borrow_mut(|worker| {
            worker.newest += 1;
            worker.waiting.insert(worker.newest, Rc::clone(&self.signal));
            self.waiting = Some((worker.newest, Instant::now()));
        });
    }

    /// Notes that the connection waits for its next request.
    pub fn wait(&mut self) {
        self.enlist();
        WORKER.with_borrow_mut(|worker| worker.make_room(self.most));
    }

    /// Notes that a request was read.
    pub fn work(&mut self) {
        if let Some((number, _)) = self.waiting.take() {
            // The thread-local value is gone only at the end of the thread.
            let _ = WORKER.try_with(|it| it.borrow_mut().waiting.remove(&number));
        }
    }

    /// Returns since when the connection waits for a request.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waiting.map(|(_, since)| since)
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
    pub async fn unless_needed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = poll_fn(|cx| self.poll_end(cx)) => None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.work();
        let _ = WORKER.try_with(|it| it.borrow_mut().open -= 1);
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

    #[test]
    fn the_connection_that_waits_longest_ends_for_a_new_one() {
        let mut slots: Vec<_> = (0..3).map(|_| Slot::open(3)).collect();
        assert_eq!(ended(&slots), [0; 0]);
        // The first one works, and then waits behind the others.
        slots[0].work();
        slots[1].work();
        slots[0].wait();
        slots.push(Slot::open(3));
        assert_eq!(ended(&slots), [2]);
        slots.push(Slot::open(3));
        assert_eq!(ended(&slots), [0, 2]);
        // A connection with a request never ends for another, and neither does a new one for itself.
        slots[3].work();
        slots[4].work();
        slots.push(Slot::open(3));
        assert_eq!(ended(&slots), [0, 2]);
        slots.drain(..3);
        assert_eq!(ended(&slots), [0; 0]);
        slots.push(Slot::open(3));
        assert_eq!(ended(&slots), [2], "one is left that waits");
    }

    #[test]
    fn a_connection_that_waits_again_ends_while_there_are_too_many() {
        let mut slots: Vec<_> = (0..3).map(|_| Slot::open(2)).collect();
        assert_eq!(ended(&slots), [0]);
        slots[1].work();
        slots[2].work();
        slots[1].wait();
        assert_eq!(ended(&slots), [0, 1]);
        slots.drain(..2);
        slots[0].wait();
        assert_eq!(ended(&slots), [0; 0]);
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
