//! The cost of a change if its key or its account has a long history.

use std::time::Duration;

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome,
    client::{self, Connection, Pace, Request},
    process::Process,
    report::{Sample, Samples, Table, Target, Verdict},
    site::{self, KEYS, Site},
};

const ROUND: Duration = Duration::from_secs(1);
const HISTORY: usize = 10_000;
const SOME: usize = 100;
const MOST_KEYS: usize = 100_000;

/// A key that was rotated often and an account that revoked many keys, each beside a new one.
pub fn of_keys_and_accounts(bench: &mut Bench) -> Outcome<()> {
    let (site, keyward) = Site::fill(&bench.scratch("history")?, Bench::SMALL)?;
    let table = Table::begin("history: what a change costs, p50", &Verdict::COLUMNS);

    let [old, new] = [account(&keyward, &site.root)?, account(&keyward, &site.root)?];
    let [rotated, fresh] = [key(&keyward, &site.root, &old)?, key(&keyward, &site.root, &new)?];
    let target = format!("{KEYS}/{}/rotate", rotated.id);
    let body = "{\"gracePeriodSeconds\":0}";
    let rotate = Request::new("POST", &target, Some(&site.root), Some(body)).expecting(200, "{");
    client::each(keyward.address, &vec![rotate; HISTORY], 64)?;
    // Two names in turn; otherwise nothing would change.
    let rename = |key: &site::Key| -> Vec<Request> {
        let target = format!("{KEYS}/{}", key.id);
        ["one", "two"]
            .map(|name| {
                let body = format!("{{\"name\":\"{name}\"}}");
                Request::new("PUT", &target, Some(&site.root), Some(&body)).expecting(200, "{")
            })
            .into()
    };
    let what = format!("write on a key with {} retired credentials", thousands(HISTORY));
    table.row(&beside(&keyward, what, &rename(&rotated), &rename(&fresh))?.cells());

    let before = keyward.anonymous()?;
    let metadata = format!("{{\"x\":\"{}\"}}", "x".repeat(4_000));
    // A part at a time, so that the memory of many live keys at once does not count.
    let create = vec![create_in(&site.root, &old, &metadata); SOME];
    for _ in 0..HISTORY / SOME {
        let (_, answers) = client::each(keyward.address, &create, 64)?;
        let revoke = answers.iter().map(|it| {
            let target = format!("{KEYS}/{}", site::issued(it)?.id);
            Ok(Request::new("DELETE", &target, Some(&site.root), None).expecting(204, ""))
        });
        client::each(keyward.address, &revoke.collect::<Outcome<Vec<_>>>()?, 64)?;
    }
    let grown = keyward.anonymous()?.saturating_sub(before) as f64 / HISTORY as f64;
    let creates = |account: &str| vec![create_in(&site.root, account, "{}")];
    let what = format!("create in an account with {} revoked keys", thousands(HISTORY));
    table.row(&beside(&keyward, what, &creates(&old), &creates(&new))?.cells());
    let memory = Verdict {
        what: "memory that a created and revoked key with 4 KB of metadata leaves, kB".to_owned(),
        figure: format!("{grown:.0} bytes"),
        baseline: "absolute".to_owned(),
        value: grown / 1e3,
        target: Target::AtMost(2.0),
    };
    table.row(&memory.cells());
    keyward.stop()
}

/// Prints the median times of the old and the new object, measured in turns.
fn beside(
    keyward: &Process,
    what: String,
    long: &[Request],
    short: &[Request],
) -> Outcome<Verdict> {
    let [mut slow, mut quick] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..ROUNDS {
        for (requests, samples) in [(long, &mut slow), (short, &mut quick)] {
            let pace = Pace::full(1, ROUND);
            let (answers, before, after) =
                client::run(keyward.address, requests, pace, || keyward.cpu())?;
            samples.0.push(Sample::of(&answers, before, after));
        }
    }
    Ok(Verdict {
        what,
        figure: format!("{:.0} µs", slow.median(|it| it.p50)),
        baseline: format!("{:.0} µs with none", quick.median(|it| it.p50)),
        value: slow.ratio(&quick, |it| it.p50),
        target: Target::AtMost(2.0),
    })
}

/// Makes a customer's account; returns its id.
fn account(keyward: &Process, root: &str) -> Outcome<String> {
    let body = format!("{{\"name\":\"Customer\",\"maxKeys\":{MOST_KEYS}}}");
    let request = Request::new("POST", "/api/v1/accounts", Some(root), Some(&body));
    let mut connection = Connection::open(keyward.address)?;
    let answer = connection.ask(&request.expecting(201, "{"))?;
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let id = answer.get("id").and_then(|it| it.as_str());
    id.map(str::to_owned).ok_or_else(|| "no account".into())
}

fn create_in(root: &str, account: &str, metadata: &str) -> Request {
    let body = format!("{{\"name\":\"x\",\"scopes\":[\"orders:read\"],\"metadata\":{metadata}}}");
    let target = format!("/api/v1/accounts/{account}/api-keys");
    Request::new("POST", &target, Some(root), Some(&body)).expecting(201, "{")
}

fn key(keyward: &Process, root: &str, account: &str) -> Outcome<site::Key> {
    let mut connection = Connection::open(keyward.address)?;
    site::issued(connection.ask(&create_in(root, account, "{}"))?)
}
