//! The output of commands: tables for people, JSON for programs, questions on a terminal.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::{
    cli::error::Error,
    config::ConfigErrors,
    domain::{
        json::{INEXACT, is_inexact},
        lifetime::LONGEST_SECONDS,
        visible::escaped,
    },
    env::{Clock, SystemClock, Timestamp},
};

const DAY: Duration = Duration::from_hours(24);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// A table for people
    #[default]
    Table,
    /// The body of the API's answer, or an object that the command defines
    Json,
}

#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

/// The option of commands that print a list.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    /// Print at most this many entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Limit {
    fn most(self) -> usize {
        self.limit.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX)
    }

    /// Returns how many to ask for: one more, which tells whether the list goes on.
    pub(super) fn and_one_more(self) -> usize {
        self.most().saturating_add(1)
    }

    /// Shortens the list to the limit, with a notice on standard error.
    pub(super) fn cut(self, list: &mut Vec<Value>) {
        let most = self.most();
        if most < list.len() {
            list.truncate(most);
            // The list itself is for standard output.
            let _ = writeln!(io::stderr(), "keyward: there are more than these {most}");
        }
    }
}

/// The option of commands that cannot be undone.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Confirmation {
    /// Do not ask; required without a terminal
    #[arg(short, long)]
    yes: bool,
}

impl Confirmation {
    /// Asks on the terminal. Without a terminal, `--yes` is required.
    pub(super) fn ask(self, question: &str) -> Result<(), Error> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Error::Usage(format!("{question} Confirm with --yes")));
        }
        write!(io::stderr(), "{} [y/N] ", escaped(question))?;
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        if agreed { Ok(()) } else { Err(Error::NotConfirmed) }
    }
}

/// The colours of a terminal, by meaning.
#[derive(Clone, Copy)]
enum Tone {
    Heading,
    Good,
    Warning,
    Bad,
}

impl Tone {
    fn of(cell: &str) -> Option<Self> {
        match cell {
            "active" | "ok" | "VALID" => Some(Self::Good),
            "expiring" | "warning" | "suspended" | "disabled" => Some(Self::Warning),
            "expired" | "failed" => Some(Self::Bad),
            _ => None,
        }
    }

    /// Returns the escape sequence (ECMA-48, 8.3.117). The stream removes it where colours are off.
    fn escape(self) -> &'static str {
        match self {
            Self::Heading => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Prints rows under their headings, each cell [`escaped`]. There are no colours if `NO_COLOR` is set or
/// standard output is not a terminal.
pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
) -> Result<(), io::Error> {
    let safe = |row: &[String; N]| row.each_ref().map(|cell| escaped(cell).into_owned());
    let rows: Vec<_> = rows.iter().map(safe).collect();
    let mut widths = headings.map(UnicodeWidthStr::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = anstream::stdout().lock();
    line(&mut out, &headings.map(str::to_owned), &widths, |_| Some(Tone::Heading))?;
    for row in &rows {
        line(&mut out, row, &widths, Tone::of)?;
    }
    out.flush()
}

fn line(
    out: &mut impl Write,
    cells: &[String],
    widths: &[usize],
    tone: impl Fn(&str) -> Option<Tone>,
) -> Result<(), io::Error> {
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        match tone(cell) {
            Some(tone) => write!(out, "{}{cell}\x1b[0m", tone.escape())?,
            None => write!(out, "{cell}")?,
        }
        if index + 1 < cells.len() {
            let gap = width.saturating_sub(cell.width()) + 2;
            write!(out, "{:gap$}", "")?;
        }
    }
    writeln!(out)
}

/// Prints names and values, one pair per line, each value [`escaped`]. Omits names without a value.
pub(super) fn facts(pairs: &[(&str, Option<String>)]) -> Result<(), io::Error> {
    let width = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or_default();
    let mut out = anstream::stdout().lock();
    for (name, value) in pairs {
        if let Some(value) = value {
            let (gap, tone) = (width - name.width(), Tone::of(value));
            let value = escaped(value);
            let (start, end) = tone.map_or(("", ""), |it| (it.escape(), "\x1b[0m"));
            writeln!(out, "{name}{:gap$}  {start}{value}{end}", "")?;
        }
    }
    out.flush()
}

/// Returns a number and what it counts.
pub(super) fn count(number: i64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Describes the contents of a database.
pub(super) fn holds(events: i64, accounts: i64, keys: i64) -> String {
    format!("{}, {}, {}", count(events, "event"), count(accounts, "account"), count(keys, "key"))
}

/// Prints an answer of the API unchanged.
pub(super) fn raw(body: &[u8]) -> Result<(), io::Error> {
    let mut out = io::stdout().lock();
    out.write_all(body.trim_ascii_end())?;
    writeln!(out)
}

/// Prints an object that the command defines.
pub(super) fn json(value: &Value) -> Result<(), io::Error> {
    writeln!(io::stdout(), "{value}")
}

/// Returns the faults of a file as JSON.
pub(super) fn faults(found: &ConfigErrors) -> Vec<Value> {
    let found = found.0.iter();
    found.map(|it| json!({ "place": it.origin.to_string(), "detail": it.message })).collect()
}

/// Prints a list as the API would without pages.
pub(super) fn list(data: &[Value]) -> Result<(), io::Error> {
    writeln!(io::stdout(), "{}", json!({ "data": data, "nextCursor": null }))
}

/// Returns the text of a member, or `otherwise`.
pub(super) fn text(of: &Value, member: &str, otherwise: &str) -> String {
    of[member].as_str().unwrap_or(otherwise).to_owned()
}

/// Returns the elements of a member, separated by blanks.
pub(super) fn words(of: &Value, member: &str) -> String {
    let words = of[member].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}

/// Returns a date and its distance from now, or `otherwise` if the member is null.
pub(super) fn moment(of: &Value, member: &str, otherwise: &str) -> String {
    let Some(at) = of[member].as_str() else { return otherwise.to_owned() };
    let Ok(instant) = Timestamp::parse(at) else { return at.to_owned() };
    format!("{} ({})", at.get(..10).unwrap_or(at), distance(instant, SystemClock::new().wall()))
}

fn distance(instant: Timestamp, now: Timestamp) -> String {
    let (apart, past) =
        if instant <= now { (now.since(instant), true) } else { (instant.since(now), false) };
    let seconds = apart.as_secs();
    let (count, unit) = match seconds {
        0 => return "now".to_owned(),
        1..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / DAY.as_secs(), "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if past { format!("{count} {unit}{plural} ago") } else { format!("in {count} {unit}{plural}") }
}

/// Parses an instant: RFC 3339, a date (its first moment, UTC), or a duration from now such as `90d`.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let date = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    if let Ok(instant) = Timestamp::parse(text).or_else(|_| date()) {
        return Ok(instant);
    }
    let ahead = humantime::parse_duration(text)
        .map_err(|_| "must be like 90d, 2027-01-20 or 2027-01-20T12:00:00Z".to_owned())?;
    if let Some(unit) = text.split(|it: char| !it.is_alphabetic()).find(|it| is_doubtful(it)) {
        return Err(format!(
            "`{unit}` can be read in more than one way; write 10min, 30d or 365d, or a date"
        ));
    }
    let now = SystemClock::new().wall();
    let instant = now.after(ahead);
    // A later instant was moved to the last one, which is not what was asked for.
    if instant == Timestamp::MAX {
        return Err("must be before the year 10000".to_owned());
    }
    Ok(instant)
}

/// Tells whether a unit of time is ambiguous: minutes or months, or a month or year of unknown length.
fn is_doubtful(unit: &str) -> bool {
    unit == "m" || unit == "M" || unit.starts_with("month") || unit.starts_with('y')
}

/// Parses a duration in whole seconds, as the API takes it.
pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|err| err.to_string())?;
    if span.subsec_nanos() == 0 { Ok(span) } else { Err("must be whole seconds".to_owned()) }
}

/// Returns the instant before now by this duration.
pub(super) fn ago(by: Duration) -> String {
    SystemClock::new().wall().before(by).to_string()
}

/// Parses an expiry: an [`instant`], or `never`. Returns it as a member of a request. For a duration, the
/// clock of the server counts.
pub(super) fn expiry(text: &str) -> Result<(&'static str, Value), String> {
    if text == "never" {
        return Ok(("expiresAt", Value::Null));
    }
    let at = instant(text).map_err(|err| format!("{err}, or never"))?;
    let span = whole_seconds(text).ok().map(|it| it.as_secs());
    let span = span.filter(|it| (1..=LONGEST_SECONDS.into()).contains(it));
    Ok(span.map_or_else(|| ("expiresAt", at.to_string().into()), |it| ("expiresIn", it.into())))
}

/// Parses a lifetime of keys: a duration in whole seconds, or `server` for the server's own.
pub(super) fn lifetime(text: &str) -> Result<Value, String> {
    if text == "server" {
        return Ok(Value::Null);
    }
    let refused = |err| format!("{err}; give a duration such as 90d, or server");
    whole_seconds(text).map(|it| it.as_secs().into()).map_err(refused)
}

/// Returns an [`expiry`] as a member of a request.
pub(super) fn expiry_member(
    given: Option<&(&'static str, Value)>,
) -> (&'static str, Option<Value>) {
    given.map_or(("expiresAt", None), |(name, value)| (name, Some(value.clone())))
}

/// Returns `on` or `off` as a member of a request.
pub(super) fn switch(given: Option<&str>) -> Option<Value> {
    given.map(|it| Value::Bool(it == "on"))
}

/// Returns how the output shows a switch.
pub(super) fn on_or_off(switch: &Value) -> Option<String> {
    switch.as_bool().map(|it| if it { "on" } else { "off" }.to_owned())
}

/// Parses a JSON object.
pub(super) fn object(text: &str) -> Result<Value, String> {
    if is_inexact(text) {
        return Err(INEXACT.to_owned());
    }
    let parsed: Value = serde_json::from_str(text).map_err(|err| format!("not JSON: {err}"))?;
    if parsed.is_object() { Ok(parsed) } else { Err("must be a JSON object".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_in_the_largest_unit_that_fits() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        let at = |seconds: i64| Timestamp::from_millis(1_000_000_000_000 + seconds * 1_000);
        for (seconds, expected) in [
            (0, "now"),
            (-1, "1 second ago"),
            (-119, "1 minute ago"),
            (7_200, "in 2 hours"),
            (-86_400 * 3, "3 days ago"),
            (86_400, "in 1 day"),
        ] {
            assert_eq!(distance(at(seconds), now), expected);
        }
    }

    #[test]
    fn instants_are_read_as_people_write_them() {
        let same = instant("2099-01-20T00:00:00Z").unwrap();
        assert_eq!(instant("2099-01-20").unwrap(), same);
        assert!(SystemClock::new().wall() < instant("90d").unwrap());
        assert!(instant("soon").is_err());
        assert!(instant("9999999d").is_err(), "not the last instant that there is");
        for doubtful in ["1m", "1M", "1y", "2years", "3months", "1month", "1d 5m", "1h30m"] {
            let says = instant(doubtful).unwrap_err();
            assert!(says.contains("more than one way"), "{doubtful}: {says}");
        }
        for sure in ["10min", "1 minute", "90d", "12weeks", "2w", "1h 30min", "90s", "5msec"] {
            assert!(instant(sure).is_ok(), "{sure}");
        }
        assert!(whole_seconds("1500ms").is_err());
        assert_eq!(whole_seconds("2s 1000ms").unwrap(), Duration::from_secs(3));
        assert_eq!(expiry("never").unwrap(), ("expiresAt", Value::Null));
        assert_eq!(expiry("90d").unwrap(), ("expiresIn", 7_776_000.into()));
        let at = "2099-01-20T00:00:00.000Z";
        assert_eq!(expiry("2099-01-20").unwrap(), ("expiresAt", at.into()));
        assert_eq!(expiry("40000d").unwrap().0, "expiresAt", "more than the server counts");
        assert_eq!(lifetime("90d").unwrap(), 7_776_000);
        assert_eq!(lifetime("server").unwrap(), Value::Null);
        assert!(lifetime("never").is_err());
    }
}
