//! The program's now, computed from two clocks.
//!
//! The wall clock knows the date but may step. The monotonic clock never steps but knows no date. The
//! *line* is where the wall clock would be without a step since the two last agreed. The *floor* is
//! the latest confirmed now. One promise decides all cases: a step of the wall clock may end a key
//! early, but never makes one valid again.
//!
//! Jobs store the floor and record the steps.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use super::time::{Clock, Monotonic, Timestamp};

/// The time of the whole program.
///
/// It never goes back, across threads as well, with two exceptions: an unconfirmed leap that is taken
/// back, and [`Timekeeper::accept_wall`].
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    /// The line, as wall minus monotonic milliseconds.
    offset: AtomicI64,
    /// The floor.
    highest: AtomicI64,
    /// Whether the state is [`Standing::Agreed`], for readers that do not wait for the lock.
    agreed: AtomicBool,
    state: Mutex<State>,
}

/// A step of the wall clock, to be recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockStep {
    pub kind: StepKind,
    /// The wall clock when the step was noticed.
    pub wall: Timestamp,
    /// Where the wall clock would have been without the step.
    pub expected: Timestamp,
}

/// The direction of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepKind {
    Back,
    Ahead,
}

impl Timekeeper {
    /// How far the clocks may drift apart, either way, before it counts as a step.
    pub const TOLERANCE: Duration = Duration::from_secs(1);
    /// How far the wall clock may step ahead and be believed at once: a machine that slept, or that
    /// reached its time server late.
    pub const FURTHEST_CORRECTION: Duration = Duration::from_hours(1);
    /// How long the clocks must agree before a leap is confirmed, or a start is trusted.
    pub const PROOF: Duration = Duration::from_mins(10);
    /// How many steps are kept until they are recorded; a clock that flaps must not fill the memory.
    pub const MAX_STEPS: usize = 8;

    /// Starts at the wall clock, or at `floor`, which an earlier run stored, if that is later.
    ///
    /// A wall clock more than an hour past the floor is not confirmed yet. It is no step either, because
    /// the program may have been down for that long.
    pub fn start(clock: Arc<dyn Clock>, floor: Option<Timestamp>) -> Self {
        let Reading { wall, monotonic } = Reading::take(&*clock);
        let floor = floor.unwrap_or(wall);
        let keeper = Self {
            clock,
            offset: AtomicI64::new(offset_of(floor, monotonic)),
            highest: AtomicI64::new(floor.as_millis()),
            agreed: AtomicBool::new(true),
            state: Mutex::new(State {
                standing: Standing::Agreed,
                steady_since: monotonic,
                is_proven: false,
                steps: Vec::new(),
            }),
        };
        keeper.tick();
        keeper.state().steps.retain(|it| it.kind == StepKind::Back);
        keeper
    }

    /// Returns the time that all decisions use: the wall clock, but never behind the floor.
    pub fn now(&self) -> Timestamp {
        self.now_if_agreed().unwrap_or_else(|| self.judge(&mut self.state()).now)
    }

    /// Returns the monotonic clock, which means nothing outside this process.
    pub fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Returns the latest confirmed now, which a job stores for the next start.
    pub fn floor(&self) -> Timestamp {
        self.now();
        Timestamp::from_millis(self.highest.load(Ordering::Relaxed))
    }

    /// Returns whether no leap awaits confirmation. During a leap, no end may be recorded.
    pub fn is_settled(&self) -> bool {
        if self.now_if_agreed().is_some() {
            return true;
        }
        let mut state = self.state();
        self.judge(&mut state);
        match state.standing {
            Standing::Agreed | Standing::Back => true,
            Standing::Leap(_) => false,
        }
    }

    /// Returns whether the time is settled, and wall clock and line have agreed for ten minutes without
    /// a break since the start.
    ///
    /// Changes that cannot be undone wait for this. A wall clock that starts behind the floor must catch
    /// up first, because the floor itself may be wrong.
    pub fn is_settled_since_start(&self) -> bool {
        let mut state = self.state();
        self.judge(&mut state);
        match state.standing {
            Standing::Agreed | Standing::Back => state.is_proven,
            Standing::Leap(_) => false,
        }
    }

    /// Returns for how long time has gone on without a step, at most since the start. A correction that is
    /// believed at once is a step, too. After a step back, time follows the monotonic clock alone.
    pub fn steady_for(&self) -> Duration {
        let mut state = self.state();
        let Judgement { reading, .. } = self.judge(&mut state);
        match state.standing {
            Standing::Agreed | Standing::Back => reading.monotonic.since(state.steady_since),
            Standing::Leap(_) => Duration::ZERO,
        }
    }

    /// Lets the line follow the wall clock while they agree. A job calls this about once a minute.
    ///
    /// Otherwise a wall clock that is slewed for days would add up to a step. Now does not go back,
    /// because the floor stays.
    pub fn tick(&self) {
        let mut state = self.state();
        let Judgement { reading, .. } = self.judge(&mut state);
        if matches!(state.standing, Standing::Agreed) {
            self.move_line_to(reading);
        }
    }

    /// Believes the wall clock, even if that takes now back, because the operator says that it is right.
    ///
    /// Returns now before and after.
    pub fn accept_wall(&self) -> (Timestamp, Timestamp) {
        let mut state = self.state();
        let Judgement { now, reading } = self.judge(&mut state);
        self.highest.store(reading.wall.as_millis(), Ordering::Relaxed);
        self.agree(&mut state, reading, reading.monotonic);
        (now, reading.wall)
    }

    /// Takes the steps noticed since the last call, oldest first, at most [`Timekeeper::MAX_STEPS`].
    pub fn take_steps(&self) -> Vec<ClockStep> {
        std::mem::take(&mut self.state().steps)
    }

    /// Returns now if the clocks agree and only the floor has to be written. Takes no lock.
    fn now_if_agreed(&self) -> Option<Timestamp> {
        if !self.agreed.load(Ordering::Acquire) {
            return None;
        }
        // Read before the clocks, so that the exchange below fails if the operator has lowered the
        // floor meanwhile. A plain maximum would raise it again.
        let floor = self.highest.load(Ordering::Relaxed);
        let monotonic = self.clock.monotonic();
        let wall = self.clock.wall();
        if !is_tolerable(millis_between(self.line_at(monotonic), wall)) {
            return None;
        }
        let wall = wall.as_millis();
        let now = if wall <= floor {
            floor
        } else {
            match self.highest.compare_exchange(floor, wall, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => wall,
                Err(raised) if wall <= raised => raised,
                Err(_) => return None,
            }
        };
        Some(Timestamp::from_millis(now))
    }

    /// Reads both clocks and computes now.
    fn judge(&self, state: &mut State) -> Judgement {
        let reading = Reading::take(&*self.clock);
        let line = self.line_at(reading.monotonic);
        let drift = millis_between(line, reading.wall);

        let now = if drift <= -millis(Self::TOLERANCE) {
            self.go_on_along(line, state, reading)
        } else if drift <= millis(Self::FURTHEST_CORRECTION) {
            self.follow_wall(drift, state, reading)
        } else {
            self.leap_ahead_of(line, state, reading)
        };

        state.is_proven |= matches!(state.standing, Standing::Agreed)
            && Self::PROOF <= reading.monotonic.since(state.steady_since);
        Judgement { now, reading }
    }

    /// The wall clock is behind the line: time follows the monotonic clock until it has caught up.
    fn go_on_along(&self, line: Timestamp, state: &mut State, reading: Reading) -> Timestamp {
        match state.standing {
            Standing::Back => {}
            Standing::Agreed => state.notice(StepKind::Back, reading, line),
            Standing::Leap(leap) => state.notice(StepKind::Back, reading, leap.wall_at(reading)),
        }
        state.standing = Standing::Back;
        self.agreed.store(false, Ordering::Release);
        self.raise_floor(line)
    }

    /// The wall clock is at the line, or ahead of it by at most an ordinary correction.
    fn follow_wall(&self, drift: i64, state: &mut State, reading: Reading) -> Timestamp {
        if let Standing::Leap(leap) = state.standing {
            let expected = leap.wall_at(reading);
            if millis_between(expected, reading.wall) <= -millis(Self::TOLERANCE) {
                state.notice(StepKind::Back, reading, expected);
            }
        }
        // The line also moves when a step back is over. Otherwise a wall clock just behind it would
        // fall back and catch up with each jitter.
        if !matches!(state.standing, Standing::Agreed) || !is_tolerable(drift) {
            self.agree(state, reading, reading.monotonic);
        }
        self.raise_floor(reading.wall)
    }

    /// The wall clock is too far ahead to be believed. It still counts, so that a key may end early
    /// but not late.
    fn leap_ahead_of(&self, line: Timestamp, state: &mut State, reading: Reading) -> Timestamp {
        let mut leap = Leap {
            offset: offset_of(reading.wall, reading.monotonic),
            since: reading.monotonic,
            latest: reading.wall,
        };
        match state.standing {
            Standing::Agreed | Standing::Back => state.notice(StepKind::Ahead, reading, line),
            Standing::Leap(earlier) => {
                let expected = earlier.wall_at(reading);
                let change = millis_between(expected, reading.wall);
                if is_tolerable(change) {
                    leap = earlier;
                } else if change <= 0 {
                    state.notice(StepKind::Back, reading, expected);
                } else if millis(Self::FURTHEST_CORRECTION) < change {
                    state.notice(StepKind::Ahead, reading, expected);
                }
            }
        }

        let now = reading.wall.max(leap.latest);
        if Self::PROOF <= reading.monotonic.since(leap.since) {
            self.agree(state, reading, leap.since);
            return self.raise_floor(now);
        }
        state.standing = Standing::Leap(Leap { latest: now, ..leap });
        self.agreed.store(false, Ordering::Release);
        now
    }

    /// Sets the line to the wall clock, which has agreed with the monotonic clock since `since`.
    fn agree(&self, state: &mut State, reading: Reading, since: Monotonic) {
        state.standing = Standing::Agreed;
        state.steady_since = since;
        self.move_line_to(reading);
        self.agreed.store(true, Ordering::Release);
    }

    fn move_line_to(&self, reading: Reading) {
        self.offset.store(offset_of(reading.wall, reading.monotonic), Ordering::Relaxed);
    }

    /// Raises the floor to at least `at`, and returns the floor.
    fn raise_floor(&self, at: Timestamp) -> Timestamp {
        let before = self.highest.fetch_max(at.as_millis(), Ordering::Relaxed);
        at.max(Timestamp::from_millis(before))
    }

    fn line_at(&self, monotonic: Monotonic) -> Timestamp {
        wall_of(self.offset.load(Ordering::Relaxed), monotonic)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    standing: Standing,
    /// When [`Standing::Agreed`] or [`Standing::Back`] began.
    steady_since: Monotonic,
    /// Whether an agreement since the start has lasted long enough.
    is_proven: bool,
    steps: Vec<ClockStep>,
}

/// The relation of the wall clock to the line.
#[derive(Clone, Copy)]
enum Standing {
    Agreed,
    /// The wall clock has stepped back and not caught up yet.
    Back,
    /// The wall clock is far ahead, and this is not confirmed yet.
    Leap(Leap),
}

/// A leap that is not confirmed.
#[derive(Clone, Copy)]
struct Leap {
    /// Wall minus monotonic milliseconds when the leap was first seen.
    offset: i64,
    since: Monotonic,
    /// The latest now during this leap, so that jitter of the wall clock does not take it back.
    latest: Timestamp,
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    monotonic: Monotonic,
}

struct Judgement {
    now: Timestamp,
    reading: Reading,
}

impl State {
    /// Keeps the step until it is recorded. Of many, the earliest are kept.
    fn notice(&mut self, kind: StepKind, reading: Reading, expected: Timestamp) {
        self.steady_since = reading.monotonic;
        if self.steps.len() < Timekeeper::MAX_STEPS {
            self.steps.push(ClockStep { kind, wall: reading.wall, expected });
        }
    }
}

impl Leap {
    fn wall_at(self, reading: Reading) -> Timestamp {
        wall_of(self.offset, reading.monotonic)
    }
}

impl Reading {
    const ATTEMPTS: usize = 5;
    const AT_ONCE: Duration = Duration::from_millis(100);

    /// Reads both clocks at one moment. A thread that is paused between the two would see a false step.
    fn take(clock: &dyn Clock) -> Self {
        let mut monotonic = clock.monotonic();
        let mut wall = clock.wall();
        for _ in 1..Self::ATTEMPTS {
            let after = clock.monotonic();
            if after.since(monotonic) <= Self::AT_ONCE {
                break;
            }
            monotonic = after;
            wall = clock.wall();
        }
        Self { wall, monotonic }
    }
}

/// Returns whether a drift is too small for a step: less than a second behind, or at most one ahead.
fn is_tolerable(drift: i64) -> bool {
    let tolerance = millis(Timekeeper::TOLERANCE);
    -tolerance < drift && drift <= tolerance
}

fn offset_of(wall: Timestamp, monotonic: Monotonic) -> i64 {
    wall.as_millis().saturating_sub(monotonic.as_millis())
}

fn wall_of(offset: i64, monotonic: Monotonic) -> Timestamp {
    Timestamp::from_millis(monotonic.as_millis().saturating_add(offset))
}

fn millis_between(expected: Timestamp, wall: Timestamp) -> i64 {
    wall.as_millis().saturating_sub(expected.as_millis())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
