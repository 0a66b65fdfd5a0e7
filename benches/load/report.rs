//! Medians, ratios, and the tables.

use std::time::Duration;

use super::client::Answers;

/// The result of one server in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// CPU time of the server for each answer, in microseconds.
    pub cpu: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Sample {
    pub fn of(answers: &Answers, before: Duration, after: Duration) -> Self {
        Self {
            cpu: micros(after.saturating_sub(before)) / answers.count() as f64,
            per_second: answers.per_second(),
            p50: micros(answers.quantile(0.5)),
            p99: micros(answers.quantile(0.99)),
        }
    }
}

/// The samples of one server, one for each round.
#[derive(Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    pub fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0.iter().map(figure))
    }

    /// Returns the median of the ratios of each round, so that a slow round has no effect.
    pub fn ratio(&self, to: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0.iter().zip(&to.0).map(|(own, other)| figure(own) / figure(other)))
    }
}

pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A table that is printed row by row, so that a failed run shows its results so far.
pub struct Table {
    columns: usize,
}

impl Table {
    pub fn begin(title: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n");
        let table = Self { columns: columns.len() };
        table.row(columns);
        table.row(&vec!["---"; columns.len()]);
        table
    }

    pub fn row(&self, cells: &[impl AsRef<str>]) {
        let cells: Vec<_> = cells.iter().map(AsRef::as_ref).take(self.columns).collect();
        println!("| {} |", cells.join(" | "));
    }
}

/// A figure beside its baseline and its target.
pub struct Verdict {
    pub what: String,
    pub figure: String,
    pub baseline: String,
    /// The ratio to the baseline, or the figure itself if the target is absolute.
    pub value: f64,
    pub target: Target,
}

#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Verdict {
    pub const COLUMNS: [&str; 6] = ["what", "figure", "baseline", "ratio", "target", "met"];

    pub fn cells(&self) -> [String; 6] {
        let target = match self.target {
            Target::AtMost(most) => format!("≤ {most}"),
            Target::AtLeast(least) => format!("≥ {least}"),
            Target::None => String::new(),
        };
        [
            self.what.clone(),
            self.figure.clone(),
            self.baseline.clone(),
            format!("{:.2}", self.value),
            target,
            met(self.target, self.value).to_owned(),
        ]
    }
}

/// Returns whether a figure meets its target; empty without a target.
pub fn met(target: Target, value: f64) -> &'static str {
    let met = match target {
        Target::AtMost(most) => value <= most,
        Target::AtLeast(least) => least <= value,
        Target::None => return "",
    };
    if met { "yes" } else { "**no**" }
}
