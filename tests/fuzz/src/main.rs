//! Fuzz targets: `keyward-fuzz TARGET SECONDS SEED FINDINGS CORPUS…` runs one, and `keyward-fuzz` lists them.
//!
//! A target takes any bytes and panics if an invariant does not hold. run.sh builds and runs all of them.

mod engine;
mod mutate;
mod targets;

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use engine::Fuzzer;
use targets::TARGETS;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, seconds, seed, findings, corpus @ ..] = &arguments[..] else {
        for target in TARGETS {
            println!("{}", target.name);
        }
        return ExitCode::SUCCESS;
    };
    let target = TARGETS.iter().find(|it| it.name == name).expect("no such target");
    let number = |it: &String| it.parse().expect("not a number");
    let mut fuzzer = Fuzzer::new(target, number(seed), PathBuf::from(findings));
    let corpus: Vec<_> = corpus.iter().map(PathBuf::from).collect();
    if fuzzer.run(&corpus, Duration::from_secs(number(seconds))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
