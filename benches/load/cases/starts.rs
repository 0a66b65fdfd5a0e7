//! Starts: their duration, their memory, and the cost of the first use of every key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome,
    client::{self, Pace},
    process::{KEYWARD, Process},
    report::{Table, Target, Verdict, median, micros},
};

/// Until then, the memory of a start has settled and its jobs have run once.
const IDLE: Duration = Duration::from_millis(1_500);
const MIB: f64 = 1024.0 * 1024.0;
/// Names the static binary, if it is not where packaging/build-static.sh puts it.
const STATIC_BINARY: &str = "STATIC_BINARY";

pub fn start_and_memory(bench: &mut Bench) -> Outcome<()> {
    let mut sizes = vec![Bench::SMALL, 100_000];
    if bench.full {
        sizes.push(bench.large());
    }
    let mut all = Vec::new();
    for size in &sizes {
        let (start, memory) = started(KEYWARD.as_ref(), &bench.site(*size)?.dir)?;
        all.push((*size, start, memory));
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
    table.row(&memory_of("memory", least).cells());
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
    table.row(&size_of("binary, stripped", KEYWARD.as_ref())?.cells());
    let binary = static_binary()?;
    if !binary.is_file() {
        let absent = format!("there is no {}: run packaging/build-static.sh", binary.display());
        table.row(&["static binary", "not measured", &absent, "", "", ""]);
        return Ok(());
    }
    // The benchmark does not build it, so the table names its commit.
    let version = Command::new(&binary).arg("--version").output()?.stdout;
    let version = String::from_utf8(version)?.trim().to_owned();
    let (_, memory) = started(&binary, &bench.site(small)?.dir)?;
    for verdict in
        [memory_of("static: memory", memory), size_of("static binary, stripped", &binary)?]
    {
        table.row(&Verdict { baseline: version.clone(), ..verdict }.cells());
    }
    Ok(())
}

/// Returns the time of a start in milliseconds and the idle memory in bytes, each a median.
fn started(binary: &Path, dir: &Path) -> Outcome<(f64, f64)> {
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let keyward = Process::serve(binary, dir, &[])?;
        starts.push(keyward.start.as_secs_f64() * 1e3);
        thread::sleep(IDLE);
        memory.push(keyward.rss()? as f64);
        keyward.stop()?;
    }
    Ok((median(starts), median(memory)))
}

fn static_binary() -> Outcome<PathBuf> {
    if let Some(given) = std::env::var_os(STATIC_BINARY) {
        return Ok(given.into());
    }
    let (version, architecture) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let target = Path::new(KEYWARD).ancestors().nth(2).ok_or("no directory of the build")?;
    Ok(target.join(format!("static/keyward-{version}-{architecture}-linux")))
}

fn memory_of(what: &str, bytes: f64) -> Verdict {
    Verdict {
        what: format!("{what} with {} keys, MiB", thousands(Bench::SMALL)),
        figure: format!("{:.1} MiB", bytes / MIB),
        baseline: "absolute".to_owned(),
        value: bytes / MIB,
        target: Target::AtMost(20.0),
    }
}

fn size_of(what: &str, binary: &Path) -> Outcome<Verdict> {
    let size = fs::metadata(binary)?.len() as f64 / MIB;
    Ok(Verdict {
        what: format!("{what}, MiB"),
        figure: format!("{size:.1} MiB"),
        baseline: "absolute".to_owned(),
        value: size,
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
