//! Whether a history of several threads is linearizable: whether its operations, each at one instant between its
//! invocation and its answer, make a sequential history.
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017): a set of operations that led to a state
//! is tried once.

use std::{collections::HashSet, fmt::Debug, hash::Hash};

/// An operation of a history, with its answer. The stamps come from one counter.
#[derive(Clone, Debug)]
pub struct Operation<C, A> {
    pub call: C,
    pub answer: A,
    pub invoked: u64,
    pub answered: u64,
}

/// A sequential object.
pub trait Sequential {
    type State: Clone + Debug + Eq + Hash;
    type Call: Debug;
    type Answer: Debug;

    /// Returns the state after a call with this answer; `None` if the object would answer something else.
    fn after(state: &Self::State, call: &Self::Call, answer: &Self::Answer) -> Option<Self::State>;
}

pub type History<S> = [Operation<<S as Sequential>::Call, <S as Sequential>::Answer>];

/// Returns an order of the operations that explains the history; else the longest beginning of one.
pub fn linearize<S: Sequential>(
    history: &History<S>,
    start: &S::State,
) -> Result<Vec<usize>, Vec<usize>> {
    assert!(history.len() <= 64, "a set of operations is one number");
    let mut search =
        Search::<S> { history, seen: HashSet::new(), order: Vec::new(), longest: Vec::new() };
    if search.run(0, start) { Ok(search.order) } else { Err(search.longest) }
}

struct Search<'a, S: Sequential> {
    history: &'a History<S>,
    /// The sets of operations that were tried, each with the state after them.
    seen: HashSet<(u64, S::State)>,
    order: Vec<usize>,
    longest: Vec<usize>,
}

impl<S: Sequential> Search<'_, S> {
    /// Returns whether the operations that are not in `done` can follow from this state.
    fn run(&mut self, done: u64, state: &S::State) -> bool {
        if self.longest.len() < self.order.len() {
            self.longest.clone_from(&self.order);
        }
        if self.order.len() == self.history.len() {
            return true;
        }
        if !self.seen.insert((done, state.clone())) {
            return false;
        }
        let history = self.history;
        let open = |at: &usize| done >> at & 1 == 0;
        // An operation that was answered before another was invoked comes first.
        let first_answer = (0..history.len()).filter(open).map(|at| history[at].answered).min();
        for at in (0..history.len()).filter(open) {
            let Operation { call, answer, invoked, .. } = &history[at];
            if first_answer.is_some_and(|first| first < *invoked) {
                continue;
            }
            let Some(next) = S::after(state, call, answer) else { continue };
            self.order.push(at);
            if self.run(done | 1 << at, &next) {
                return true;
            }
            self.order.pop();
        }
        false
    }
}

/// A number that is written and read.
struct Register;

impl Sequential for Register {
    type State = u8;
    type Call = Option<u8>;
    type Answer = u8;

    fn after(state: &u8, call: &Option<u8>, answer: &u8) -> Option<u8> {
        let next = call.unwrap_or(*state);
        (next == *answer).then_some(next)
    }
}

fn write(value: u8, invoked: u64, answered: u64) -> Operation<Option<u8>, u8> {
    Operation { call: Some(value), answer: value, invoked, answered }
}

fn read(answer: u8, invoked: u64, answered: u64) -> Operation<Option<u8>, u8> {
    Operation { call: None, answer, invoked, answered }
}

#[test]
fn a_history_that_no_order_explains_is_refused() {
    // The second read begins after the first one was answered with the new value, and still returns the old one.
    let stale = [write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)];
    assert_eq!(linearize::<Register>(&stale, &0), Err(vec![0, 1]));
    // A write was answered, and a later read does not see it.
    assert!(linearize::<Register>(&[write(1, 0, 1), read(0, 2, 3)], &0).is_err());
    // Two reads saw two writes in opposite orders.
    let split = [write(1, 0, 9), write(2, 0, 9), read(1, 1, 2), read(2, 3, 4), read(1, 5, 6)];
    assert!(linearize::<Register>(&split, &0).is_err());
}

#[test]
fn a_history_that_only_one_odd_order_explains_is_accepted() {
    // The order of the invocations and that of the answers are both wrong: the last write comes before the first.
    let odd = [
        write(1, 0, 7),
        write(2, 1, 8),
        write(3, 2, 9),
        read(3, 3, 4),
        read(1, 5, 6),
        read(2, 10, 11),
    ];
    assert_eq!(linearize::<Register>(&odd, &0), Ok(vec![2, 3, 0, 4, 1, 5]));
    // Without overlap, only the order in time is left.
    let plain = [read(2, 6, 7), write(2, 4, 5), read(1, 2, 3), write(1, 0, 1)];
    assert_eq!(linearize::<Register>(&plain, &0), Ok(vec![3, 2, 1, 0]));
}
