//! Forward auth: the authorization request alone, and its cost for a request through nginx.

use std::time::Duration;

use super::{
    Bench, ROUNDS, thousands,
    verify::{ROUND, WARM_UP, round},
};
use crate::{
    Outcome, baseline,
    client::{self, Pace, Request},
    nginx::{self, Guard},
    process::Process,
    report::{Sample, Samples, Table, Target, met},
    site::{self, Key},
};

/// A GET with 10,000 keys at random, beside a handler that looks nothing up.
pub fn against_the_floor(bench: &mut Bench) -> Outcome<()> {
    let scratch = bench.scratch("baselines")?;
    let (site, keyward) = bench.serve(Bench::MIDDLE)?;
    let questions: Vec<_> = site.keys.iter().map(site::may_pass).collect();
    // This also verifies every secret, so that no KDF runs during the measurement.
    client::each(keyward.address, &questions, 16)?;
    let told = format!("x-keyward-key-id: {}\r\n", baseline::KEY_ID);
    let same: Vec<_> = questions.iter().map(|it| it.clone().holding(told.as_str())).collect();
    let floor = Process::baseline(baseline::AUTHZ, &scratch)?;

    let table = Table::begin(
        "forward auth, 10,000 keys at random, warm",
        &[
            "connections",
            "server",
            "CPU µs an answer",
            "× floor",
            "answers/s",
            "× floor",
            "p50 µs",
            "p99 µs",
            "× floor",
            "met: CPU ≤ 1.15, answers/s ≥ 0.9, p99 ≤ 1.25",
        ],
    );
    for connections in [1, 16, 64] {
        let [mut ours, mut least] = [const { Samples(Vec::new()) }; 2];
        for _ in 0..ROUNDS {
            ours.0.push(round(&keyward, &questions, connections)?);
            least.0.push(round(&floor, &same, connections)?);
        }
        for (name, samples) in [("keyward", &ours), ("floor", &least)] {
            let [cpu, rate, p99] = [
                samples.ratio(&least, |it| it.cpu),
                samples.ratio(&least, |it| it.per_second),
                samples.ratio(&least, |it| it.p99),
            ];
            let targets = [
                (Target::AtMost(1.15), cpu),
                (Target::AtLeast(0.9), rate),
                (Target::AtMost(1.25), p99),
            ];
            let verdicts = targets.map(|(target, value)| met(target, value));
            table.row(&[
                connections.to_string(),
                name.to_owned(),
                format!("{:.1}", samples.median(|it| it.cpu)),
                format!("{cpu:.2}"),
                thousands(samples.median(|it| it.per_second) as usize),
                format!("{rate:.2}"),
                format!("{:.0}", samples.median(|it| it.p50)),
                format!("{:.0}", samples.median(|it| it.p99)),
                format!("{p99:.2}"),
                if name == "keyward" { verdicts.join(", ") } else { String::new() },
            ]);
        }
    }
    keyward.stop()
}

/// Requests to an API through nginx, for each way in which nginx decides.
pub fn behind_nginx(bench: &mut Bench) -> Outcome<()> {
    if !nginx::is_there() {
        println!("\nnginx is not installed, so nothing is measured behind it.");
        return Ok(());
    }
    let dirs = ["alone", "map", "bare", "keyward"].map(|it| bench.scratch(it));
    let [alone, map, bare, ours] = dirs;
    let scratch = bench.scratch("baselines")?;
    let (site, keyward) = bench.serve(Bench::MIDDLE)?;
    let floor = Process::baseline(baseline::AUTHZ, &scratch)?;
    let requests = |told: &dyn Fn(&Key) -> String| -> Vec<Request> {
        let request = |key: &Key| {
            Request::new("GET", "/orders/4711?expand=items", Some(&key.text), None)
                .expecting(200, format!("{};", told(key)))
        };
        site.keys.iter().map(request).collect()
    };
    let own = requests(&|key| key.id.clone());
    let setups = [
        ("nginx alone", nginx::start(&alone?, Guard::None)?, None, requests(&|_| String::new())),
        (
            "nginx, static map of the keys",
            nginx::start(&map?, Guard::Map(&site.keys))?,
            None,
            own.clone(),
        ),
        (
            "nginx, auth_request, bare actix handler",
            nginx::start(&bare?, Guard::Ask(floor.address))?,
            Some(&floor),
            requests(&|_| baseline::KEY_ID.to_owned()),
        ),
        (
            "nginx, auth_request, keyward",
            nginx::start(&ours?, Guard::Ask(keyward.address))?,
            Some(&keyward),
            own,
        ),
    ];
    let (_, proxy, _, requests) = setups.last().ok_or("no setups")?;
    client::each(proxy.address, requests, 16)?; // This runs the KDF for every key.

    measure(&setups)?;
    drop(setups);
    keyward.stop()
}

/// The name of the setup, nginx, the server that nginx asks, and the requests.
type Setup<'a> = (&'static str, Process, Option<&'a Process>, Vec<Request>);

/// Measures the setups in turns and prints the table. The third one is the bare handler.
fn measure(setups: &[Setup<'_>; 4]) -> Outcome<()> {
    let mut samples = [const { (Samples(Vec::new()), Samples(Vec::new())) }; 4];
    for _ in 0..ROUNDS {
        for ((_, proxy, behind, requests), (proxied, asked)) in setups.iter().zip(&mut samples) {
            client::run(proxy.address, requests, Pace::full(16, WARM_UP), || Ok(()))?;
            let cpu = || Ok((proxy.cpu()?, behind.map_or(Ok(Duration::ZERO), Process::cpu)?));
            let (answers, before, after) =
                client::run(proxy.address, requests, Pace::full(16, ROUND), cpu)?;
            proxied.0.push(Sample::of(&answers, before.0, after.0));
            asked.0.push(Sample::of(&answers, before.1, after.1));
        }
    }
    let table = Table::begin(
        "an API behind nginx, 16 connections, 10,000 keys at random",
        &[
            "setup",
            "CPU µs of nginx",
            "CPU µs of the server that nginx asks",
            "requests/s",
            "× bare handler",
            "p50 µs",
            "p99 µs",
        ],
    );
    let (bare, _) = &samples[2];
    for ((name, ..), (proxied, asked)) in setups.iter().zip(&samples) {
        table.row(&[
            (*name).to_owned(),
            format!("{:.1}", proxied.median(|it| it.cpu)),
            format!("{:.1}", asked.median(|it| it.cpu)),
            thousands(proxied.median(|it| it.per_second) as usize),
            format!("{:.2}", proxied.ratio(bare, |it| it.per_second)),
            format!("{:.0}", proxied.median(|it| it.p50)),
            format!("{:.0}", proxied.median(|it| it.p99)),
        ]);
    }
    Ok(())
}
