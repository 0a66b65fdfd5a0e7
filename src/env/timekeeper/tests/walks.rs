//! Long random walks of the clocks, many threads, and the clocks of the machine.

use std::thread;

use super::{
    super::super::{Entropy, SeededEntropy, SystemClock},
    *,
};

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
