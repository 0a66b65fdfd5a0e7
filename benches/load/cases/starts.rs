//! Starts: their duration, their memory, and the cost of the first use of every key.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome,
    client::{self, Pace},
    process::Process,
    report::{Table, Target, Verdict, median, micros},
};

/// Until then, the memory of a start has settled and its jobs have run once.
const IDLE: Duration = Duration::from_millis(1_500);
const MIB: f64 = 1024.0 * 1024.0;

pub fn start_and_memory(bench: &mut Bench) -> Outcome<()> {
    let mut sizes = vec![Bench::SMALL, 100_000];
    if bench.full {
        sizes.push(bench.large());
    }
    let mut all = Vec::new();
    for size in &sizes {
        let dir = bench.site(*size)?.dir.clone();
        let (mut starts, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let keyward = Process::keyward(&dir)?;
            starts.push(keyward.start.as_secs_f64() * 1e3);
            thread::sleep(IDLE);
            memory.push(keyward.rss()? as f64);
            keyward.stop()?;
        }
        all.push((*size, median(starts), median(memory)));
    }
    let table = Table::begin(
        "start, from exec to the first 200 of /livez, and memory once idle",
        &Verdict::COLUMNS,
    );
    for (size, start, _) in &all {
        let most = if *size <= Bench::SMALL { 50.0 } else { 2_000.0 };
        let verdict = Verdict {
            what: format!("start with {} keys, ms", thousands(*size)),
            figure: format!("{start:.0} ms"),
            baseline: "absolute".to_owned(),
            value: *start,
            target: Target::AtMost(most),
        };
        table.row(&verdict.cells());
    }
    let (small, _, least) = *all.first().ok_or("nothing was started")?;
    let verdict = Verdict {
        what: format!("memory with {} keys, MiB", thousands(small)),
        figure: format!("{:.1} MiB", least / MIB),
        baseline: "absolute".to_owned(),
        value: least / MIB,
        target: Target::AtMost(20.0),
    };
    table.row(&verdict.cells());
    for (size, _, memory) in all.iter().skip(1) {
        let a_key = (memory - least) / (size - small) as f64;
        let verdict = Verdict {
            what: format!("bytes a key, at {} keys", thousands(*size)),
            figure: format!("{a_key:.0} B ({:.0} MiB in all)", memory / MIB),
            baseline: format!("over {:.1} MiB with {}", least / MIB, thousands(small)),
            value: a_key,
            target: Target::AtMost(300.0),
        };
        table.row(&verdict.cells());
    }
    table.row(&size_of_binary()?.cells());
    Ok(())
}

fn size_of_binary() -> Outcome<Verdict> {
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_keyward"))?.len() as f64 / MIB;
    Ok(Verdict {
        what: "binary, stripped, MiB".to_owned(),
        figure: format!("{binary:.1} MiB"),
        baseline: "absolute".to_owned(),
        value: binary,
        target: Target::AtMost(15.0),
    })
}

/// Ten thousand keys at once, each for the first time since the start.
pub fn restart(bench: &mut Bench) -> Outcome<()> {
    const CALM: Duration = Duration::from_secs(2);
    const PROVED: usize = 500;
    let paced = Pace { connections: 4, time: CALM, every: Duration::from_millis(1) };
    let dir = bench.site(Bench::MIDDLE)?.dir.clone();
    let (mut times, mut calm, mut meanwhile, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let keyward = Process::keyward(&dir)?;
        let questions = bench.site(Bench::MIDDLE)?.questions();
        let (proved, fresh) = questions.split_at(PROVED);
        client::each(keyward.address, proved, 16)?;
        let (answers, (), ()) = client::run(keyward.address, proved, paced, || Ok(()))?;
        let quiet = micros(answers.quantile(0.99));
        let over = AtomicBool::new(false);
        let (storm, valid) = thread::scope(|scope| {
            let load = Pace { time: CALM * 10, ..paced }.until(&over);
            let valid = scope.spawn(|| client::run(keyward.address, proved, load, || Ok(())));
            thread::sleep(Duration::from_millis(100));
            let storm = client::each(keyward.address, fresh, 64);
            over.store(true, Ordering::Relaxed);
            (storm, valid.join())
        });
        times.push(storm?.0.as_secs_f64());
        let (answers, (), ()) = valid.map_err(|_| "a client panicked")??;
        let busy = micros(answers.quantile(0.99));
        calm.push(quiet);
        meanwhile.push(busy);
        ratios.push(busy / quiet);
        keyward.stop()?;
    }
    let table =
        Table::begin("restart: every key for the first time, 64 connections", &Verdict::COLUMNS);
    let time = median(times);
    let verdict = Verdict {
        what: format!("{} keys proved and answered, s", thousands(Bench::MIDDLE - PROVED - 2)),
        figure: format!("{time:.2} s"),
        baseline: "absolute".to_owned(),
        value: time,
        target: Target::AtMost(2.0),
    };
    table.row(&verdict.cells());
    let verdict = Verdict {
        what: "p99 of proved keys meanwhile, 4 × 1,000 a second".to_owned(),
        figure: format!("{:.0} µs", median(meanwhile)),
        baseline: format!("{:.0} µs calm", median(calm)),
        value: median(ratios),
        target: Target::AtMost(2.0),
    };
    table.row(&verdict.cells());
    Ok(())
}
