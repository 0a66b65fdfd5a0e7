//! Purging keys that expired long ago, during verification.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Bench, thousands};
use crate::{
    Outcome,
    client::{self, Pace, Request},
    process::Process,
    report::{Table, Target, Verdict, micros},
    site::{KEYS, Site, create},
};

const EXPIRED: usize = 100_000;
const CALM: Duration = Duration::from_secs(4);

/// Purges 100,000 expired keys while other keys are verified and changed.
pub fn beside_verify(bench: &mut Bench) -> Outcome<()> {
    if !bench.full {
        return Ok(());
    }
    let dir = bench.scratch("purge")?;
    let (site, mut keyward) = Site::fill_on(Process::aged(&dir)?, &dir, Bench::MIDDLE)?;
    let body =
        "{\"name\":\"x\",\"scopes\":[\"orders:read\"],\"expiresAt\":\"2030-03-18T00:00:00Z\"}";
    let expiring = Request::new("POST", KEYS, Some(&site.root), Some(body)).expecting(201, "{");
    client::each(keyward.address, &vec![expiring; EXPIRED], 64)?;
    let questions = site.questions();
    client::each(keyward.address, &questions, 16)?;
    // First a day after their end, and then long after it.
    keyward.put_forward(Duration::from_hours(24))?;
    thread::sleep(Duration::from_millis(100));
    run_job(&dir, "expire_keys")?;
    keyward.put_forward(Duration::from_hours(24 * 31))?;
    thread::sleep(Duration::from_millis(100));

    let paced = Pace { connections: 4, time: CALM, every: Duration::from_millis(1) };
    let (calm, (), ()) = client::run(keyward.address, &questions, paced, || Ok(()))?;
    let over = AtomicBool::new(false);
    let writes = [create(&site.root, "Beside the purge", "orders:read")];
    let long = Pace { time: CALM * 30, ..paced };
    let slow = Pace { connections: 1, every: Duration::from_millis(10), ..long };
    let (purged, valid, written) = thread::scope(|scope| {
        let valid =
            scope.spawn(|| client::run(keyward.address, &questions, long.until(&over), || Ok(())));
        let written =
            scope.spawn(|| client::run(keyward.address, &writes, slow.until(&over), || Ok(())));
        let purged = run_job(&dir, "purge");
        over.store(true, Ordering::Relaxed);
        (purged, valid.join(), written.join())
    });
    let purged = purged?;
    let (valid, (), ()) = valid.map_err(|_| "a client panicked")??;
    let (written, (), ()) = written.map_err(|_| "a client panicked")??;
    let p99 = [&valid, &calm].map(|it| micros(it.quantile(0.99)));
    let table = Table::begin(
        &format!("purge of {} expired keys ({purged})", thousands(EXPIRED)),
        &Verdict::COLUMNS,
    );
    let rows = [
        Verdict {
            what: "p99 of verify meanwhile, 4 × 1,000 a second".to_owned(),
            figure: format!("{:.0} µs", p99[0]),
            baseline: format!("{:.0} µs calm", p99[1]),
            value: p99[0] / p99[1],
            target: Target::AtMost(3.0),
        },
        Verdict {
            what: format!("longest wait of {} writes, ms", thousands(written.count())),
            figure: format!("{:.1} ms", micros(written.quantile(1.0)) / 1e3),
            baseline: "absolute".to_owned(),
            value: micros(written.quantile(1.0)) / 1e3,
            target: Target::AtMost(50.0),
        },
    ];
    for row in &rows {
        table.row(&row.cells());
    }
    Ok(())
}

/// Returns the output of the command.
fn run_job(dir: &std::path::Path, job: &str) -> Outcome<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    let output = command.args(["run-job", job, "--data-dir"]).arg(dir).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
