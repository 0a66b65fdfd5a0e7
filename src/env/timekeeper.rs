//! The program's now, made of two clocks neither of which is enough.
//!
//! The wall clock knows the date but may step; the monotonic clock never steps but knows no
//! date. The *line* is where the wall would stand had it never stepped since the two last
//! agreed; the *floor* is the latest confirmed now. Everything here follows from one promise:
//! a step of the wall clock may end a key early, but never revives one.
//!
//! Persisting the floor and recording the steps is left to jobs; this is logic over two clocks.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use super::time::{Clock, Monotonic, Timestamp};

/// Tells the time to the whole program.
///
/// Never goes backwards, across threads as well, but for two cases: an unconfirmed leap that is
/// taken back, and [`Timekeeper::accept_wall`].
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    /// The line, as wall minus monotonic milliseconds.
    offset: AtomicI64,
    /// The floor.
    highest: AtomicI64,
    /// Whether the state is [`Standing::Agreed`], for those who would not wait for the lock.
    agreed: AtomicBool,
    state: Mutex<State>,
}

/// A step of the wall clock, to be recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockStep {
    pub kind: StepKind,
    /// What the wall clock said when the step was noticed.
    pub wall: Timestamp,
    /// What it would have said without the step.
    pub expected: Timestamp,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepKind {
    Back,
    Ahead,
}

impl Timekeeper {
    /// How far the clocks may drift apart, either way, before it counts as a step.
    pub const TOLERANCE: Duration = Duration::from_secs(1);
    /// The furthest the wall may jump ahead and be believed without proof: a machine that slept,
    /// or that heard from its time server late.
    pub const FURTHEST_CORRECTION: Duration = Duration::from_hours(1);
    /// How long the clocks must agree before a leap is confirmed, or a start trusted.
    pub const PROOF: Duration = Duration::from_mins(10);
    /// How many steps are kept for the record; a clock that flaps must not fill the memory.
    pub const MAX_STEPS: usize = 8;

    /// Begins at the wall clock, or at `floor`, which an earlier run persisted, if that is later.
    ///
    /// A wall more than an hour past the floor is not confirmed yet, but it is no step either:
    /// the program may well have been down for that long.
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
                agreed_since: monotonic,
                is_proven: false,
                steps: Vec::new(),
            }),
        };
        keeper.tick();
        keeper.state().steps.retain(|it| it.kind == StepKind::Back);
        keeper
    }

    /// The time to judge by: the wall clock, but never behind the floor.
    pub fn now(&self) -> Timestamp {
        self.now_if_agreed().unwrap_or_else(|| self.judge(&mut self.state()).now)
    }

    /// The clock that never steps; worth nothing outside this process.
    pub fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// The latest confirmed now, to be persisted and given to the next start.
    pub fn floor(&self) -> Timestamp {
        self.now();
        Timestamp::from_millis(self.highest.load(Ordering::Relaxed))
    }

    /// Whether no leap awaits confirmation. Until then nothing may be recorded as having ended.
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

    /// Whether it is settled, and wall and line have agreed for ten minutes on end since the start.
    ///
    /// What cannot be undone waits for this. A wall that starts out behind the floor proves
    /// nothing until it has caught up, because then the floor itself may be what is wrong.
    pub fn is_settled_since_start(&self) -> bool {
        let mut state = self.state();
        self.judge(&mut state);
        match state.standing {
            Standing::Agreed | Standing::Back => state.is_proven,
            Standing::Leap(_) => false,
        }
    }

    /// Lets the line follow the wall while they agree; to be called about once a minute.
    ///
    /// Otherwise a wall that is slewed for days would add up to a step. Now does not go back:
    /// the floor is not touched.
    pub fn tick(&self) {
        let mut state = self.state();
        let Judgement { reading, .. } = self.judge(&mut state);
        if matches!(state.standing, Standing::Agreed) {
            self.move_line_to(reading);
        }
    }

    /// Takes the wall clock's word for it, even back in time, as an operator has told us to.
    ///
    /// Returns now as it was and as it is.
    pub fn accept_wall(&self) -> (Timestamp, Timestamp) {
        let mut state = self.state();
        let Judgement { now, reading } = self.judge(&mut state);
        self.highest.store(reading.wall.as_millis(), Ordering::Relaxed);
        self.agree(&mut state, reading, reading.monotonic);
        (now, reading.wall)
    }

    /// The steps noticed since the last call, oldest first, at most [`Timekeeper::MAX_STEPS`].
    pub fn take_steps(&self) -> Vec<ClockStep> {
        std::mem::take(&mut self.state().steps)
    }

    /// Now, when the clocks agree and nothing but the floor has to be written; never waits.
    fn now_if_agreed(&self) -> Option<Timestamp> {
        if !self.agreed.load(Ordering::Acquire) {
            return None;
        }
        // Read before the clocks, so that the exchange below fails if the floor has been lowered
        // meanwhile; a plain maximum would put back what the operator has just taken away.
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

    /// Reads both clocks, and decides what they mean.
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
            && Self::PROOF <= reading.monotonic.since(state.agreed_since);
        Judgement { now, reading }
    }

    /// The wall is behind the line: time goes on by the monotonic clock until it has caught up.
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

    /// The wall is at the line, or ahead of it by no more than an ordinary correction.
    fn follow_wall(&self, drift: i64, state: &mut State, reading: Reading) -> Timestamp {
        if let Standing::Leap(leap) = state.standing {
            let expected = leap.wall_at(reading);
            if millis_between(expected, reading.wall) <= -millis(Self::TOLERANCE) {
                state.notice(StepKind::Back, reading, expected);
            }
        }
        // The line moves when a step back is over, too: a wall that stays just short of it would
        // otherwise fall back and catch up again with each jitter of the clocks.
        if !matches!(state.standing, Standing::Agreed) || !is_tolerable(drift) {
            self.agree(state, reading, reading.monotonic);
        }
        self.raise_floor(reading.wall)
    }

    /// The wall is too far ahead to be taken at its word, but too dangerous not to be heeded.
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

    /// Puts the line to the wall, which has agreed with the monotonic clock since `since`.
    fn agree(&self, state: &mut State, reading: Reading, since: Monotonic) {
        state.standing = Standing::Agreed;
        state.agreed_since = since;
        self.move_line_to(reading);
        self.agreed.store(true, Ordering::Release);
    }

    fn move_line_to(&self, reading: Reading) {
        self.offset.store(offset_of(reading.wall, reading.monotonic), Ordering::Relaxed);
    }

    /// Raises the floor to `at` unless it is there already, and returns it.
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
    /// When the agreement began that lasts for as long as the standing is `Agreed`.
    agreed_since: Monotonic,
    /// Whether there has been one long enough since the start.
    is_proven: bool,
    steps: Vec<ClockStep>,
}

/// How the wall stands to the line.
#[derive(Clone, Copy)]
enum Standing {
    Agreed,
    /// The wall has stepped back and not caught up yet.
    Back,
    /// The wall is far ahead, and nothing confirms it yet.
    Leap(Leap),
}

#[derive(Clone, Copy)]
struct Leap {
    /// Wall minus monotonic milliseconds when the leap was first seen.
    offset: i64,
    since: Monotonic,
    /// The latest now told on its account, so that the wall's jitter does not take it back.
    latest: Timestamp,
}

/// What both clocks said at one moment.
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
    /// Keeps the step for the record. The earliest are kept: they tell how it began.
    fn notice(&mut self, kind: StepKind, reading: Reading, expected: Timestamp) {
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

    /// Reads both clocks as one: a thread held up between the two would see a step that never was.
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

/// Whether a drift is too small to be a step: less than a second behind, or at most one ahead.
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
