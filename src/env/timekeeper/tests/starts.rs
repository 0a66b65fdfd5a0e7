//! A start: where it begins, and when it is trusted.

use super::*;

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
fn accepting_the_wall_does_not_cut_the_wait_after_a_start_short() {
    let bench = Bench::started(0, Some(10 * HOUR));
    bench.pass_minutes(20);
    bench.keeper.accept_wall();
    assert!(!bench.keeper.is_settled_since_start());
    bench.pass_minutes(10);
    assert!(bench.keeper.is_settled_since_start());
}
