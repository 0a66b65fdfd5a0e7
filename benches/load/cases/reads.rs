//! Reads from the disk.

use std::time::Duration;

use super::{Bench, ROUNDS, thousands};
use crate::{
    Outcome,
    client::{self, Connection, Pace},
    report::{Sample, Samples, Table, Target, Verdict},
};

const ROUND: Duration = Duration::from_millis(600);

/// A page of a hundred keys: the first and a late page, of few and of many keys.
pub fn list(bench: &mut Bench) -> Outcome<()> {
    let (small, large) = (Bench::SMALL, bench.large());
    let (site, few) = bench.serve(small)?;
    let few_first = [site.page(100, None)];
    let (site, many) = bench.serve(large)?;
    let many_first = [site.page(100, None)];
    let mut connection = Connection::open(many.address)?;
    let mut late = None;
    for _ in 0..(large / 1_000 - 1) {
        let page = connection.ask(&site.page(1_000, late.as_deref()))?;
        late = Some(next_cursor(page).ok_or("the list ended early")?);
    }
    let many_late = [site.page(100, late.as_deref())];

    let mut rows = [
        (format!("first page of {}", thousands(small)), &few, &few_first, Samples::default()),
        (format!("first page of {}", thousands(large)), &many, &many_first, Samples::default()),
        (
            format!("a page near the end of {}", thousands(large)),
            &many,
            &many_late,
            Samples::default(),
        ),
    ];
    for _ in 0..ROUNDS {
        for (_, process, requests, samples) in &mut rows {
            let pace = Pace::full(1, ROUND);
            let (answers, before, after) =
                client::run(process.address, &requests[..], pace, || process.cpu())?;
            samples.0.push(Sample::of(&answers, before, after));
        }
    }
    let table =
        Table::begin("list: 100 keys a page, CPU µs a call (target: 1,000)", &Verdict::COLUMNS);
    let [(_, _, _, first), ..] = &rows;
    for (what, _, _, samples) in &rows {
        let verdict = Verdict {
            what: what.clone(),
            figure: format!("{:.0}", samples.median(|it| it.cpu)),
            baseline: format!(
                "{:.0} for the first of {}",
                first.median(|it| it.cpu),
                thousands(small)
            ),
            value: samples.ratio(first, |it| it.cpu),
            target: Target::AtMost(1.1),
        };
        table.row(&verdict.cells());
    }
    few.stop()?;
    many.stop()
}

fn next_cursor(page: &[u8]) -> Option<String> {
    let page: serde_json::Value = serde_json::from_slice(page).ok()?;
    page.get("nextCursor")?.as_str().map(str::to_owned)
}
