//! A wall clock that leaps far ahead: heeded at once, confirmed after ten minutes.

use super::*;

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
