//! Verification, which happens for every request.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome, baseline,
    client::{self, Pace, Random, Request},
    process::Process,
    report::{Sample, Samples, Table, Target, Verdict, micros},
    site::{self, Key, Site},
};

pub(super) const ROUND: Duration = Duration::from_millis(1_200);
const MIB: f64 = 1024.0 * 1024.0;
pub(super) const WARM_UP: Duration = Duration::from_millis(300);

/// Measures one round on one server.
pub(super) fn round(
    process: &Process,
    requests: &[Request],
    connections: usize,
) -> Outcome<Sample> {
    client::run(process.address, requests, Pace::full(connections, WARM_UP), || Ok(()))?;
    let pace = Pace::full(connections, ROUND);
    let (answers, before, after) = client::run(process.address, requests, pace, || process.cpu())?;
    Ok(Sample::of(&answers, before, after))
}

/// Verify with 10,000 keys at random, beside the smallest server and beside SQLite.
pub fn against_the_floor(bench: &mut Bench) -> Outcome<()> {
    let scratch = bench.scratch("baselines")?;
    let (site, keyward) = bench.serve(Bench::MIDDLE)?;
    let questions = site.questions();
    // This also verifies every secret, so that no KDF runs during the measurement.
    let (_, answers) = client::each(keyward.address, &questions, 16)?;
    let sample = answers.first().ok_or("no answers")?;
    std::fs::write(scratch.join("answer"), sample)?;
    let texts = site.keys.iter().map(|it| it.text.clone());
    baseline::fill(&scratch.join("keys.db"), texts.zip(answers.iter().cloned()))?;
    let same: Vec<_> =
        questions.iter().map(|it| it.clone().expecting(200, sample.as_slice())).collect();
    let floor = Process::baseline(baseline::FLOOR, &scratch.join("answer"))?;
    let sqlite = Process::baseline(baseline::SQLITE, &scratch.join("keys.db"))?;

    let table = Table::begin(
        "verify, 10,000 keys at random, warm",
        &[
            "connections",
            "server",
            "CPU µs an answer",
            "× floor",
            "answers/s",
            "p50 µs",
            "p99 µs",
            "target",
            "met",
        ],
    );
    for connections in [1, 16, 64] {
        let [mut ours, mut least, mut obvious] = [const { Samples(Vec::new()) }; 3];
        for _ in 0..ROUNDS {
            ours.0.push(round(&keyward, &questions, connections)?);
            least.0.push(round(&floor, &same, connections)?);
            obvious.0.push(round(&sqlite, &questions, connections)?);
        }
        for (name, samples) in [("keyward", &ours), ("floor", &least), ("sqlite", &obvious)] {
            let ratio = samples.ratio(&least, |it| it.cpu);
            let target = if name == "keyward" { Target::AtMost(1.25) } else { Target::None };
            let [_, _, _, _, target, met] = Verdict {
                what: String::new(),
                figure: String::new(),
                baseline: String::new(),
                value: ratio,
                target,
            }
            .cells();
            table.row(&[
                connections.to_string(),
                name.to_owned(),
                format!("{:.1}", samples.median(|it| it.cpu)),
                format!("{ratio:.2}"),
                thousands(samples.median(|it| it.per_second) as usize),
                format!("{:.0}", samples.median(|it| it.p50)),
                format!("{:.0}", samples.median(|it| it.p99)),
                target,
                met,
            ]);
        }
    }
    keyward.stop()
}

/// The same requests to servers with more and more keys.
pub fn growth(bench: &mut Bench) -> Outcome<()> {
    let mut servers = Vec::new();
    let mut sizes = vec![Bench::SMALL, Bench::MIDDLE, 100_000];
    if bench.full {
        sizes.push(bench.large());
    }
    for size in &sizes {
        let (site, keyward) = bench.serve(*size)?;
        let questions = site.questions();
        client::each(keyward.address, &questions, 16)?;
        servers.push((size, questions, keyward, Samples::default()));
    }
    for _ in 0..ROUNDS {
        for (_, questions, keyward, samples) in &mut servers {
            samples.0.push(round(keyward, questions, 16)?);
        }
    }
    let table =
        Table::begin("growth: verify at 16 connections, CPU µs an answer", &Verdict::COLUMNS);
    let (_, _, _, first) = servers.first().ok_or("no servers")?;
    for (size, _, _, samples) in &servers {
        let verdict = Verdict {
            what: format!(
                "{} keys, {} of them asked for",
                thousands(**size),
                thousands(size.saturating_sub(2).min(site::Site::SAMPLE))
            ),
            figure: format!("{:.1}", samples.median(|it| it.cpu)),
            baseline: format!("{:.1} with 1,000", first.median(|it| it.cpu)),
            value: samples.ratio(first, |it| it.cpu),
            target: Target::AtMost(1.1),
        };
        table.row(&verdict.cells());
    }
    servers.into_iter().try_for_each(|(_, _, keyward, _)| keyward.stop())
}

/// The cost of storing the use of keys. That happens every five seconds, so hardly ever within a
/// round.
pub fn usage(bench: &mut Bench) -> Outcome<()> {
    const FLUSHED: Duration = Duration::from_millis(5_500);
    let (site, keyward) = bench.serve(Bench::MIDDLE)?;
    let questions = site.questions();
    client::each(keyward.address, &questions, 16)?;
    thread::sleep(FLUSHED);
    let idle = keyward.cpu()?;
    thread::sleep(FLUSHED);
    let idle = keyward.cpu()?.saturating_sub(idle);
    client::each(keyward.address, &questions, 16)?;
    let before = keyward.cpu()?;
    thread::sleep(FLUSHED);
    let busy = keyward.cpu()?.saturating_sub(before);
    let table = Table::begin("usage: the flush after 10,000 keys were used", &Verdict::COLUMNS);
    let flush = busy.saturating_sub(idle);
    let verdict = Verdict {
        what: "CPU of a flush, as a share of one core over its 5 s".to_owned(),
        figure: format!("{} ms", flush.as_millis()),
        baseline: format!("5 s; idle for as long: {} ms", idle.as_millis()),
        value: flush.as_secs_f64() / 5.0,
        target: Target::None,
    };
    table.row(&verdict.cells());
    keyward.stop()
}

/// A client with valid keys among wrong keys.
pub fn flood(bench: &mut Bench) -> Outcome<()> {
    const CALM: Duration = Duration::from_secs(3);
    if !bench.full {
        return Ok(());
    }
    let (site, keyward) = bench.serve(Bench::MIDDLE)?;
    // A wrong secret for a key of the other half runs the KDF.
    let mut proved = site.questions();
    proved.truncate(site.keys.len() / 2);
    client::each(keyward.address, &proved, 16)?;
    let wrong = wrong_keys(site);
    let paced = Pace { connections: 4, time: CALM, every: Duration::from_millis(1) };
    let table = Table::begin(
        "flood: wrong keys in thirds (malformed, unknown, wrong secret) at 16 connections",
        &Verdict::COLUMNS,
    );
    let (mut calm, mut flooded, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    let rss_before = keyward.rss()?;
    let mut flood_rate = Vec::new();
    for _ in 0..ROUNDS {
        let (answers, (), ()) = client::run(keyward.address, &proved, paced, || Ok(()))?;
        calm.push(micros(answers.quantile(0.99)));
        let mut rates = Vec::new();
        for (requests, p99s) in [(&wrong, &mut flooded), (&proved, &mut busy)] {
            let over = AtomicBool::new(false);
            let (valid, flood) = thread::scope(|scope| {
                let pace = Pace::full(16, CALM * 4).until(&over);
                let flood = scope.spawn(|| client::run(keyward.address, requests, pace, || Ok(())));
                let valid = client::run(keyward.address, &proved, paced, || Ok(()));
                over.store(true, Ordering::Relaxed);
                (valid, flood.join())
            });
            p99s.push(micros(valid?.0.quantile(0.99)));
            rates.push(flood.map_err(|_| "the flood panicked")??.0.per_second());
        }
        flood_rate.extend(rates.first());
    }
    let (calm, flooded) = (crate::report::median(calm), crate::report::median(flooded));
    let busy = crate::report::median(busy);
    let beside = |what: String, p99: f64, target: Target| Verdict {
        what,
        figure: format!("{p99:.0} µs"),
        baseline: format!("{calm:.0} µs calm"),
        value: p99 / calm,
        target,
    };
    let rate = thousands(crate::report::median(flood_rate) as usize);
    let what =
        format!("p99 of a valid client, 4 × 1,000 a second, beside {rate} wrong keys a second");
    table.row(&beside(what, flooded, Target::AtMost(3.0)).cells());
    let what = "the same beside as many connections with right keys".to_owned();
    table.row(&beside(what, busy, Target::None).cells());
    let (before, after) = (rss_before as f64 / MIB, keyward.rss()? as f64 / MIB);
    let memory = Verdict {
        what: "memory after the floods".to_owned(),
        figure: format!("{after:.1} MiB"),
        baseline: format!("{before:.1} MiB before"),
        value: after / before,
        target: Target::AtMost(1.1),
    };
    table.row(&memory.cells());
    keyward.stop()
}

/// Requests in thirds: malformed keys, unknown keys, wrong secrets.
fn wrong_keys(site: &Site) -> Vec<Request> {
    let question = |(i, key): (usize, &Key)| {
        let (key, expected) = match i % 3 {
            0 => (mistyped(&key.text), "MALFORMED"),
            1 => (invented(i as u64), "NOT_FOUND"),
            _ => (with_other_secret(key, i as u64), "NOT_FOUND"),
        };
        let begins = format!("{{\"valid\":false,\"code\":\"{expected}\"");
        site::ask(&site.gateway, &key).expecting(200, begins)
    };
    site.keys.iter().enumerate().map(question).collect()
}

fn mistyped(text: &str) -> String {
    let (rest, last) = text.split_at(text.len() - 1);
    format!("{rest}{}", if last == "0" { '1' } else { '0' })
}

fn invented(seed: u64) -> String {
    checked("rg_", seed)
}

fn with_other_secret(key: &Key, seed: u64) -> String {
    checked(key.text.get(..12).unwrap_or_default(), seed)
}

/// Returns a well-formed key with this beginning and a correct checksum.
fn checked(begins: &str, seed: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = Random::new(seed);
    let mut text = begins.to_owned();
    while text.len() < 44 {
        text.push(char::from(*random.pick(DIGITS)));
    }
    let mut sum = crc32fast::hash(text.as_bytes()) as usize;
    let mut checksum = [0; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = DIGITS[sum % 62];
        sum /= 62;
    }
    text.extend(checksum.map(char::from));
    text
}
