//! Clocks that step, leap and drift, and what the timekeeper makes of them.

use std::thread;

use super::{
    super::{Entropy, ManualClock, SeededEntropy, SystemClock},
    *,
};

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
fn a_step_back_reaches_over_a_restart() {
    let before = Bench::new();
    before.pass(10 * HOUR);
    before.keeper.tick();
    let floor = before.floor();
    assert_eq!(floor, 10 * HOUR);

    let after = Bench::started(8 * HOUR, Some(floor));
    assert_eq!(after.now(), floor);
    assert_eq!(after.steps(), [(StepKind::Back, 8 * HOUR, floor)]);
    after.pass(MINUTE);
    assert_eq!(after.now(), floor + MINUTE);
    assert_eq!(after.floor(), floor + MINUTE);
    assert!(after.keeper.is_settled());

    after.pass_minutes(20);
    assert!(!after.keeper.is_settled_since_start(), "the floor may be what is wrong");
    after.step(2 * HOUR);
    after.pass_minutes(10);
    assert!(!after.keeper.is_settled_since_start());
    after.pass_minutes(1);
    assert!(after.keeper.is_settled_since_start());
    assert_eq!(after.steps(), []);
}

#[test]
fn a_start_is_judged_by_the_floor() {
    // Wall and floor, then now, the floor after, settledness, and whether a step is recorded.
    let cases = [
        (0, None, 0, 0, true, false),
        (0, Some(0), 0, 0, true, false),
        (0, Some(1), 1, 1, true, false),
        (0, Some(999), 999, 999, true, false),
        (0, Some(SECOND), SECOND, SECOND, true, true),
        (0, Some(HOUR), HOUR, HOUR, true, true),
        (1, Some(0), 1, 1, true, false),
        (MINUTE, Some(0), MINUTE, MINUTE, true, false),
        (HOUR, Some(0), HOUR, HOUR, true, false),
        (HOUR + 1, Some(0), HOUR + 1, 0, false, false),
        (1_000 * HOUR, Some(0), 1_000 * HOUR, 0, false, false),
    ];
    for (wall, floor, now, floor_after, settled, is_step) in cases {
        let bench = Bench::started(wall, floor);
        assert_eq!(bench.now(), now, "{wall} {floor:?}");
        assert_eq!(bench.floor(), floor_after, "{wall} {floor:?}");
        assert_eq!(bench.keeper.is_settled(), settled, "{wall} {floor:?}");
        assert_eq!(!bench.steps().is_empty(), is_step, "{wall} {floor:?}");
        assert!(!bench.keeper.is_settled_since_start(), "{wall} {floor:?}");
    }
}

#[test]
fn a_start_is_trusted_after_ten_minutes_of_agreement() {
    for (wall, floor) in [(0, None), (HOUR, Some(0)), (50 * HOUR, Some(0))] {
        let bench = Bench::started(wall, floor);
        bench.pass_minutes(9);
        bench.pass(MINUTE - 1);
        assert!(!bench.keeper.is_settled_since_start(), "{wall}");
        bench.pass(1);
        assert!(bench.keeper.is_settled_since_start(), "{wall}");
        assert!(bench.keeper.is_settled(), "{wall}");
        assert_eq!(bench.floor(), wall + 10 * MINUTE);
        assert_eq!(bench.steps(), [], "{wall}: having been down is no step");
    }
}

#[test]
fn a_correction_soon_after_the_start_begins_the_wait_anew() {
    let bench = Bench::new();
    bench.pass_minutes(9);
    bench.step(MINUTE);
    bench.pass_minutes(9);
    assert!(!bench.keeper.is_settled_since_start());
    bench.pass_minutes(2);
    assert!(bench.keeper.is_settled_since_start());
}

#[test]
fn once_trusted_the_start_stays_so_but_a_leap_interrupts_it() {
    let bench = Bench::new();
    bench.pass_minutes(10);
    assert!(bench.keeper.is_settled_since_start());
    bench.step(-HOUR);
    assert!(bench.keeper.is_settled_since_start(), "time goes on from a floor we know");
    bench.step(3 * HOUR);
    assert!(!bench.keeper.is_settled_since_start());
    bench.step(-2 * HOUR);
    assert!(bench.keeper.is_settled_since_start());
}

#[test]
fn a_leap_counts_at_once_and_is_confirmed_after_ten_minutes() {
    let bench = Bench::new();
    bench.step(5 * HOUR);
    assert_eq!(bench.now(), 5 * HOUR);
    bench.pass(10 * MINUTE - 1);
    assert_eq!(bench.now(), 5 * HOUR + 10 * MINUTE - 1);
    assert_eq!(bench.floor(), 0);
    assert!(!bench.keeper.is_settled());
    bench.pass(1);
    assert!(bench.keeper.is_settled());
    assert_eq!(bench.floor(), 5 * HOUR + 10 * MINUTE);
    assert_eq!(bench.now(), 5 * HOUR + 10 * MINUTE);
    assert_eq!(bench.steps(), [(StepKind::Ahead, 5 * HOUR, 0)]);

    bench.step(-5 * HOUR);
    assert_eq!(bench.now(), 5 * HOUR + 10 * MINUTE, "a confirmed leap is not taken back");
}

#[test]
fn a_leap_taken_back_in_time_is_forgotten() {
    let bench = Bench::new();
    bench.step(5 * HOUR);
    bench.now();
    bench.pass(5 * MINUTE);
    bench.now();
    bench.step(-5 * HOUR);
    assert_eq!(bench.now(), 5 * MINUTE);
    assert_eq!(bench.floor(), 5 * MINUTE);
    assert!(bench.keeper.is_settled());
    let back = (StepKind::Back, 5 * MINUTE, 5 * HOUR + 5 * MINUTE);
    assert_eq!(bench.steps(), [(StepKind::Ahead, 5 * HOUR, 0), back]);

    bench.step(5 * HOUR);
    bench.pass(6 * MINUTE);
    assert!(!bench.keeper.is_settled(), "the minutes of the first leap do not count");
}

#[test]
fn a_leap_taken_back_too_far_is_a_step_back() {
    let bench = Bench::new();
    bench.step(5 * HOUR);
    bench.now();
    bench.step(-7 * HOUR);
    bench.pass(MINUTE);
    assert_eq!(bench.now(), MINUTE);
    assert!(bench.keeper.is_settled());
    let back = (StepKind::Back, -2 * HOUR + MINUTE, 5 * HOUR + MINUTE);
    assert_eq!(bench.steps(), [(StepKind::Ahead, 5 * HOUR, 0), back]);
}

#[test]
fn another_leap_restarts_the_wait() {
    use StepKind::{Ahead, Back};
    // The second leap, and what is recorded of it besides the first.
    let cases = [
        (2 * HOUR, Some(Ahead)),
        (HOUR, None),
        (SECOND + 1, None),
        (-SECOND, Some(Back)),
        (-2 * HOUR, Some(Back)),
    ];
    for (second, recorded) in cases {
        let bench = Bench::new();
        bench.step(5 * HOUR);
        bench.now();
        bench.pass(9 * MINUTE);
        bench.step(second);
        assert_eq!(bench.now(), 5 * HOUR + 9 * MINUTE + second, "{second}");
        bench.pass(10 * MINUTE - 1);
        assert!(!bench.keeper.is_settled(), "{second}");
        bench.pass(1);
        assert!(bench.keeper.is_settled(), "{second}");
        assert_eq!(bench.floor(), 5 * HOUR + 19 * MINUTE + second, "{second}");
        let kinds: Vec<_> = bench.steps().into_iter().map(|(kind, ..)| kind).collect();
        let expected: Vec<_> = [Some(Ahead), recorded].into_iter().flatten().collect();
        assert_eq!(kinds, expected, "{second}");
    }
}

#[test]
fn a_leap_that_is_slewed_meanwhile_is_still_the_same_and_does_not_flicker() {
    let bench = Bench::new();
    bench.step(5 * HOUR);
    let mut before = bench.now();
    for _ in 0..10 {
        bench.pass(MINUTE);
        bench.step(-30);
        assert!(before < bench.now());
        before = bench.now();
        bench.step(-5);
        assert_eq!(bench.now(), before);
    }
    assert!(bench.keeper.is_settled());
    assert_eq!(bench.steps().len(), 1);
}

#[test]
fn a_crash_during_a_leap_confirms_nothing() {
    let before = Bench::new();
    before.step(5 * HOUR);
    before.pass_minutes(5);
    let after = Bench::started(5 * HOUR + 6 * MINUTE, Some(before.floor()));
    assert!(!after.keeper.is_settled());
    assert_eq!(after.floor(), 0);
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
fn accepting_the_wall_does_not_cut_the_wait_after_a_start_short() {
    let bench = Bench::started(0, Some(10 * HOUR));
    bench.pass_minutes(20);
    bench.keeper.accept_wall();
    assert!(!bench.keeper.is_settled_since_start());
    bench.pass_minutes(10);
    assert!(bench.keeper.is_settled_since_start());
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

#[test]
fn no_walk_of_steps_below_a_leap_takes_now_back() {
    for seed in 0..50 {
        let (bench, dice) = (Bench::new(), SeededEntropy::new(seed));
        let mut before = (bench.now(), 0);
        for _ in 0..2_000 {
            let mut roll = [0; 4];
            dice.fill(&mut roll);
            let size = i64::from(roll[1]) * i64::from(roll[2]) * i64::from(roll[3] % 32);
            match roll[0] % 8 {
                0 => bench.step(-size * 4),
                // At most to an hour ahead of the line, wherever the wall is by now.
                1 => bench.step(size),
                2 => bench.keeper.tick(),
                3 => bench.step(i64::from(roll[1]) - 128),
                _ => bench.pass(size / 16),
            }
            let elapsed = bench.keeper.monotonic().as_millis();
            let now = bench.now();
            assert!(before.0 <= now, "seed {seed}: {} then {now}", before.0);
            assert_eq!(bench.floor(), now, "seed {seed}");
            // What may be lost to the tolerance is a second; the rest the monotonic clock saw.
            assert!(before.0 + (elapsed - before.1) - 2 * SECOND <= now, "seed {seed}");
            before = (now, elapsed);
        }
    }
}

#[test]
fn now_is_monotone_across_threads_while_the_wall_wanders() {
    let bench = Bench::new();
    let told = AtomicI64::new(i64::MIN);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let before = told.load(Ordering::SeqCst);
                    let now = bench.now();
                    assert!(before <= now, "{before} was told, then {now}");
                    told.fetch_max(now, Ordering::SeqCst);
                }
            });
        }
        for step in [3, -2, 700, -950, 2_000, -HOUR, HOUR, 0].repeat(500) {
            bench.step(step);
            bench.pass(7);
            bench.keeper.tick();
            bench.pass(1_500);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(bench.keeper.is_settled(), "no thread has seen a leap");
}

#[test]
fn threads_that_read_while_days_pass_see_no_step() {
    let bench = Bench::new();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    bench.now();
                }
            });
        }
        for _ in 0..1_000 {
            bench.pass(24 * HOUR);
            thread::yield_now();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(bench.steps(), []);
    assert!(bench.keeper.is_settled());
}

#[test]
fn the_machines_own_clocks_agree() {
    let keeper = Timekeeper::start(Arc::new(SystemClock::new()), None);
    let mut before = keeper.now();
    for _ in 0..10_000 {
        let now = keeper.now();
        assert!(before <= now);
        before = now;
    }
    assert!(keeper.is_settled());
    assert_eq!(keeper.take_steps(), []);
}
