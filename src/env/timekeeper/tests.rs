//! Clocks that step and drift, and what the timekeeper makes of them.

mod leaps;
mod starts;
mod walks;

use super::{super::ManualClock, *};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const START: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// A timekeeper, and hands to move its clocks with. Instants are milliseconds from `START`.
struct Bench {
    clock: Arc<ManualClock>,
    keeper: Timekeeper,
}

impl Bench {
    fn new() -> Self {
        Self::started(0, None)
    }

    fn started(wall: i64, floor: Option<i64>) -> Self {
        let clock = Arc::new(ManualClock::at(at(wall)));
        let keeper = Timekeeper::start(Arc::clone(&clock) as Arc<dyn Clock>, floor.map(at));
        Self { clock, keeper }
    }

    fn pass(&self, millis: i64) {
        self.clock.advance(Duration::from_millis(u64::try_from(millis).unwrap()));
    }

    /// As the job would: a tick with every minute that passes.
    fn pass_minutes(&self, minutes: i64) {
        for _ in 0..minutes {
            self.pass(MINUTE);
            self.keeper.tick();
        }
    }

    fn step(&self, millis: i64) {
        self.clock.step_wall(millis);
    }

    fn now(&self) -> i64 {
        millis_between(START, self.keeper.now())
    }

    fn floor(&self) -> i64 {
        millis_between(START, self.keeper.floor())
    }

    /// Kind, wall, expected.
    fn steps(&self) -> Vec<(StepKind, i64, i64)> {
        let relative = |it: ClockStep| {
            (it.kind, millis_between(START, it.wall), millis_between(START, it.expected))
        };
        self.keeper.take_steps().into_iter().map(relative).collect()
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + millis)
}

#[test]
fn each_drift_is_judged_by_half_open_limits() {
    use StepKind::{Ahead, Back};
    // The step, then now, the floor, settledness, and what is recorded, a minute into the run.
    let cases = [
        (0, MINUTE, MINUTE, true, None),
        (1, MINUTE + 1, MINUTE + 1, true, None),
        (SECOND, MINUTE + SECOND, MINUTE + SECOND, true, None),
        (SECOND + 1, MINUTE + SECOND + 1, MINUTE + SECOND + 1, true, None),
        (HOUR, MINUTE + HOUR, MINUTE + HOUR, true, None),
        (HOUR + 1, MINUTE + HOUR + 1, MINUTE, false, Some(Ahead)),
        (1_000 * HOUR, MINUTE + 1_000 * HOUR, MINUTE, false, Some(Ahead)),
        (-1, MINUTE, MINUTE, true, None),
        (-999, MINUTE, MINUTE, true, None),
        (-SECOND, MINUTE, MINUTE, true, Some(Back)),
        (-HOUR, MINUTE, MINUTE, true, Some(Back)),
    ];
    for (step, now, floor, settled, recorded) in cases {
        let bench = Bench::new();
        bench.pass(MINUTE);
        assert_eq!(bench.now(), MINUTE);
        bench.step(step);
        assert_eq!(bench.now(), now, "{step}");
        assert_eq!(bench.now(), now, "{step}, asked again");
        assert_eq!(bench.floor(), floor, "{step}");
        assert_eq!(bench.keeper.is_settled(), settled, "{step}");
        let expected: Vec<_> =
            recorded.into_iter().map(|kind| (kind, MINUTE + step, MINUTE)).collect();
        assert_eq!(bench.steps(), expected, "{step}");
        assert_eq!(bench.steps(), [], "{step}: each is recorded once");
    }
}

#[test]
fn a_small_step_back_stops_the_time_until_the_wall_has_passed_the_floor() {
    for back in [1, 999] {
        let bench = Bench::new();
        bench.step(-back);
        assert_eq!(bench.now(), 0);
        bench.pass(back);
        assert_eq!(bench.now(), 0);
        bench.pass(1);
        assert_eq!(bench.now(), 1);
        assert_eq!(bench.steps(), []);
    }
}

#[test]
fn after_a_step_back_time_goes_on_by_the_monotonic_clock_until_the_wall_has_caught_up() {
    let bench = Bench::new();
    bench.step(-HOUR);
    assert_eq!(bench.now(), 0);
    bench.pass(30 * MINUTE);
    assert_eq!(bench.now(), 30 * MINUTE);
    assert_eq!(bench.floor(), 30 * MINUTE);
    assert_eq!(bench.steps(), [(StepKind::Back, -HOUR, 0)]);

    bench.step(HOUR - SECOND + 1);
    assert_eq!(bench.now(), 30 * MINUTE, "the floor holds for the last second");
    bench.pass(2 * SECOND);
    assert_eq!(bench.now(), 30 * MINUTE + SECOND + 1, "the wall is believed again");
    assert_eq!(bench.steps(), []);

    bench.step(-HOUR);
    bench.now();
    assert_eq!(bench.steps().len(), 1, "the next step back is another one");
}

#[test]
fn a_wall_that_hovers_at_the_limit_is_one_step_and_not_many() {
    let bench = Bench::new();
    bench.step(-SECOND);
    for jitter in [1, -1, 1, -1, 1, -1] {
        bench.now();
        bench.step(jitter);
    }
    assert_eq!(bench.steps(), [(StepKind::Back, -SECOND, 0)]);
}

#[test]
fn slewing_for_a_day_adds_up_to_nothing() {
    for per_minute in [-24, 24] {
        let bench = Bench::new();
        let mut before = bench.now();
        for _ in 0..24 * 60 {
            bench.pass(MINUTE);
            bench.step(per_minute); // 400 parts in a million.
            bench.keeper.tick();
            assert!(before < bench.now());
            before = bench.now();
        }
        assert_eq!(bench.now(), 24 * HOUR + 24 * 60 * per_minute);
        assert_eq!(bench.steps(), []);
    }
}

#[test]
fn time_is_steady_since_the_last_step_in_either_direction() {
    let bench = Bench::new();
    let steady = || i64::try_from(bench.keeper.steady_for().as_millis()).unwrap();
    bench.pass(HOUR);
    assert_eq!(steady(), HOUR);
    for (step, then) in [(-HOUR, MINUTE), (HOUR - SECOND + 1, MINUTE), (2 * HOUR, 0)] {
        bench.step(step);
        assert_eq!(steady(), 0, "{step}");
        bench.pass(MINUTE);
        assert_eq!(steady(), then, "{step}");
    }
}

#[test]
fn a_tick_never_takes_now_back() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.step(-999);
        bench.keeper.tick();
        assert_eq!(bench.now(), 0);
    }
    assert_eq!(bench.floor(), 0);
}

#[test]
fn the_operator_may_accept_the_wall_either_way() {
    let bench = Bench::new();
    bench.step(-24 * HOUR);
    assert_eq!(bench.keeper.accept_wall(), (at(0), at(-24 * HOUR)));
    assert_eq!(bench.now(), -24 * HOUR);
    assert_eq!(bench.floor(), -24 * HOUR);
    assert_eq!(bench.steps(), [(StepKind::Back, -24 * HOUR, 0)]);
    bench.pass(MINUTE);
    assert_eq!(bench.now(), -24 * HOUR + MINUTE);

    bench.step(30 * HOUR);
    assert!(!bench.keeper.is_settled());
    let leapt = at(6 * HOUR + MINUTE);
    assert_eq!(bench.keeper.accept_wall(), (leapt, leapt));
    assert!(bench.keeper.is_settled());
    assert_eq!(bench.keeper.floor(), leapt);
}

#[test]
fn a_clock_that_flaps_does_not_fill_the_memory() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.step(-HOUR);
        bench.now();
        bench.step(HOUR);
        bench.now();
    }
    assert_eq!(bench.steps().len(), Timekeeper::MAX_STEPS);
}

#[test]
fn a_wall_at_either_end_of_time_is_survived() {
    let bench = Bench::new();
    for end in [Timestamp::MAX, Timestamp::MIN] {
        bench.clock.set_wall(end);
        bench.keeper.tick();
        assert!(START <= bench.keeper.now());
        assert_eq!(bench.floor(), 0);
    }
}
