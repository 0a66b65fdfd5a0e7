//! Changes that are on the disk before they are answered.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome,
    baseline::RawWriter,
    client::{self, Connection, Pace, Request},
    process::cpu_of,
    report::{Sample, Samples, Table, Target, Verdict, median, micros},
    site::{self, KEYS, Site},
};

const ROUND: Duration = Duration::from_secs(1);

/// Creating keys, beside SQLite without a server on the same disk.
pub fn create(bench: &mut Bench) -> Outcome<()> {
    let mut raw = RawWriter::open(&bench.scratch("raw-create")?)?;
    let (site, keyward) = Site::fill(&bench.scratch("create")?, Bench::SMALL)?;
    let requests = [site::create(&site.root, "Production Integration", "orders:read")];
    let [mut bare, mut one, mut many] = [const { Samples(Vec::new()) }; 3];
    for _ in 0..ROUNDS {
        let before = cpu_of("self")?;
        let answers = raw.run(ROUND)?;
        bare.0.push(Sample::of(&answers, before, cpu_of("self")?));
        for (connections, samples) in [(1, &mut one), (64, &mut many)] {
            let pace = Pace::full(connections, ROUND);
            let (answers, before, after) =
                client::run(keyward.address, &requests, pace, || keyward.cpu())?;
            samples.0.push(Sample::of(&answers, before, after));
        }
    }
    let table = Table::begin(
        "create: a key and its event, synchronous=FULL; raw is SQLite in one process, one connection",
        &["what", "a second", "p50 µs", "p99 µs", "CPU µs each", "× raw", "target", "met"],
    );
    let rows = [
        ("raw", &bare, Target::None),
        ("keyward, 1 connection", &one, Target::AtLeast(0.5)),
        ("keyward, 64 connections", &many, Target::AtLeast(10.0)),
    ];
    for (what, samples, target) in rows {
        let value = samples.ratio(&bare, |it| it.per_second);
        let verdict = Verdict {
            what: what.to_owned(),
            figure: thousands(samples.median(|it| it.per_second) as usize),
            baseline: String::new(),
            value,
            target,
        };
        let [what, figure, _, ratio, target, met] = verdict.cells();
        let cpu = samples.median(|it| it.cpu);
        table.row(&[
            what,
            figure,
            format!("{:.0}", samples.median(|it| it.p50)),
            format!("{:.0}", samples.median(|it| it.p99)),
            format!("{cpu:.0}"),
            ratio,
            target,
            met,
        ]);
    }
    keyward.stop()
}

/// The duration of a revocation while the server answers as fast as it can.
pub fn revoke(bench: &mut Bench) -> Outcome<()> {
    const REVOKED: usize = 150;
    let mut raw = RawWriter::open(&bench.scratch("raw-revoke")?)?;
    let count = bench.large();
    let (site, keyward) = bench.serve(count)?;
    let questions = site.questions();
    client::each(keyward.address, &questions, 16)?;
    let requests = vec![site::create(&site.root, "To be revoked", "orders:read"); REVOKED];
    let (_, answers) = client::each(keyward.address, &requests, 16)?;
    let victims = answers.iter().map(|it| site::issued(it)).collect::<Outcome<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    let (timed, load) = thread::scope(|scope| {
        let pace = Pace::full(16, Duration::from_mins(1)).until(&over);
        let load = scope.spawn(|| client::run(keyward.address, &questions, pace, || Ok(())));
        let timed = (|| -> Outcome<_> {
            let mut connection = Connection::open(keyward.address)?;
            let (mut commits, mut revocations) = (Vec::new(), Vec::new());
            for key in &victims {
                commits.push(micros(raw.write()?));
                let target = format!("{KEYS}/{}", key.id);
                let revoke = Request::new("DELETE", &target, Some(&site.root), None);
                let started = Instant::now();
                connection.ask(&revoke.expecting(204, ""))?;
                revocations.push(micros(started.elapsed()));
                // The revocation must have effect at once.
                let refused = site::ask(&site.gateway, &key.text)
                    .expecting(200, "{\"valid\":false,\"code\":\"REVOKED\"");
                connection.ask(&refused)?;
            }
            Ok((commits, revocations))
        })();
        over.store(true, Ordering::Relaxed);
        (timed, load.join())
    });
    let (commits, revocations) = timed?;
    let (load, (), ()) = load.map_err(|_| "a client panicked")??;
    let table = Table::begin(
        &format!(
            "revoke: DELETE with {} keys, beside {} verifications a second",
            thousands(count),
            thousands(load.per_second() as usize)
        ),
        &Verdict::COLUMNS,
    );
    let (commit, revocation) = (median(commits), median(revocations));
    let verdict = Verdict {
        what: "DELETE, in commits of raw SQLite (medians, in turns, under the same load)"
            .to_owned(),
        figure: format!("{revocation:.0} µs"),
        baseline: format!("{commit:.0} µs"),
        value: revocation / commit,
        target: Target::AtMost(2.0),
    };
    table.row(&verdict.cells());
    keyward.stop()
}
