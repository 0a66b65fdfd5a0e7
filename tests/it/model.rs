//! Random histories of every change, against a model of docs/api.md; and histories of several threads, which must be
//! those of one after the other.
//!
//! `KEYWARD_MODEL_CASES` sets how many histories a test runs, and `KEYWARD_MODEL_SEED` repeats those of a failure.

mod concurrent;
mod history;
mod linearizable;
mod look;
mod rules;
mod steps;

use std::str::FromStr;

use proptest::{
    collection::vec,
    test_runner::{Config, RngSeed, TestError, TestRunner},
};

use self::{history::History, steps::step};

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let Ok(number) = text.parse() else { panic!("{name} is not a number: {text}") };
    Some(number)
}

/// Returns how many histories a test runs, and the seed of their random numbers. The seed differs from run to run.
fn cases_and_seed(usual: u32) -> (u32, u64) {
    let fresh = || {
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |it| it.as_secs() << 20 | u64::from(it.subsec_micros()))
    };
    let (cases, seed) = (variable("KEYWARD_MODEL_CASES"), variable("KEYWARD_MODEL_SEED"));
    (cases.unwrap_or(usual), seed.unwrap_or_else(fresh))
}

#[test]
fn every_history_of_changes_agrees_with_the_model() {
    let (cases, seed) = cases_and_seed(60);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 1_000,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(step(), 1..60), |steps| {
        let mut history = History::new();
        for step in &steps {
            history.take(step)?;
        }
        history.look()?;
        history.use_all()?;
        history.check_events()
    });
    match outcome {
        Ok(()) => (),
        Err(TestError::Fail(why, steps)) => {
            let steps: String = steps.iter().map(|it| format!("  {it:?}\n")).collect();
            panic!("{why}\nafter these steps:\n{steps}KEYWARD_MODEL_SEED={seed} repeats it");
        }
        Err(err) => panic!("{err}"),
    }
}
