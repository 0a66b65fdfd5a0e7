//! `keyward events tail`: prints the newest events, and follows the log.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    cli::{
        api::{
            answer::{Lines, refusal},
            client::{Client, Target},
            machine::Machine,
        },
        error::Error,
        output::Format,
    },
    domain::visible::escaped,
};

/// The time between two attempts to reach a server that has gone.
const RETRY: Duration = Duration::from_secs(1);
/// The factor by which the next attempt looks further back for enough events.
const FURTHER: i64 = 8;
/// The most characters of an event's data that are shown. JSON shows all of them.
const DATA: usize = 160;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The number of events
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u32,
    /// Keep printing new events as they are recorded; needs a running server
    #[arg(short, long)]
    follow: bool,
    /// Print one line of text, or one JSON object, for each event
    #[arg(long, value_enum, default_value_t = EventFormat::Text)]
    format: EventFormat,
    /// The form, as for other commands: table means `--format text`, json means `--format jsonl`
    #[arg(short, long, value_enum, conflicts_with = "format")]
    output: Option<Format>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EventFormat {
    Text,
    Jsonl,
}

impl Options {
    pub(super) fn run(&self) -> Result<(), Error> {
        let source = match self.target.url() {
            Some(_) => Source::Network(self.target.open()?),
            None => Source::Machine(self.machine()?),
        };
        let format = self.output.map_or(self.format, |it| match it {
            Format::Table => EventFormat::Text,
            Format::Json => EventFormat::Jsonl,
        });
        Follower { source, lines: self.lines, follow: self.follow, format, seen: None }.run()
    }

    /// Without a running server, nothing adds events to follow.
    fn machine(&self) -> Result<Machine, Error> {
        let config = self.target.config()?;
        if self.follow { Machine::server_of(&config) } else { Machine::open(&config) }
    }
}

/// Where the events come from.
enum Source {
    Machine(Machine),
    Network(Client),
}

struct Follower {
    source: Source,
    lines: u32,
    follow: bool,
    format: EventFormat,
    /// The event after which the server goes on if the connection breaks.
    seen: Option<i64>,
}

/// The result of one connection to the server.
enum Outcome {
    Complete,
    Broken,
    NoServer(Error),
}

impl Follower {
    fn run(mut self) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Outcome::Complete => {
                    return match self.source {
                        Source::Machine(machine) => machine.close(),
                        Source::Network(client) => client.close(),
                    };
                }
                Outcome::Broken if self.follow => {
                    say("the connection to the server broke; waiting for it");
                }
                Outcome::Broken => return Err(Error::Control(io::ErrorKind::UnexpectedEof.into())),
                Outcome::NoServer(_) if self.follow && self.seen.is_some() => (),
                Outcome::NoServer(err) => return Err(err),
            }
            thread::sleep(RETRY);
        }
    }

    /// Opens the stream after the event that was printed last.
    fn connect(&self) -> Result<(u16, Lines), Error> {
        let after = self.seen.map(|it| format!("?after={it}"));
        match &self.source {
            Source::Machine(machine) => {
                let newest = || format!("?last={}&follow={}", self.lines, self.follow);
                machine.stream(&format!("/events/stream{}", after.unwrap_or_else(newest)))
            }
            Source::Network(client) => {
                client.stream(&format!("/events/stream{}", after.unwrap_or_default()))
            }
        }
    }

    /// Prints the events that the server sends, until it has no more or goes away.
    fn receive(&mut self) -> Result<Outcome, Error> {
        let (status, lines) = match self.connect() {
            Ok(answer) => answer,
            Err(err) => return Ok(Outcome::NoServer(err)),
        };
        match (status, self.seen) {
            (200, None) => (),
            (200, Some(seen)) => say(&format!("connected again, after event {seen}")),
            (422, Some(seen)) => {
                let why = format!(
                    "the log of the server ends before event {seen}; it may be an older copy"
                );
                return Err(Error::Refused(why));
            }
            (status, _) => {
                let refused = refusal(status, lines.collect::<String>().as_bytes());
                // The server, or a proxy before it, is starting or stopping.
                let passing = matches!(status, 502..=504);
                return if passing { Ok(Outcome::NoServer(refused)) } else { Err(refused) };
            }
        }
        let mut message = Message::default();
        // An incomplete message is dropped: the server sends it again.
        for line in lines {
            let Some(whole) = message.add(&line) else { continue };
            match (&*whole.event, &whole.data) {
                ("end", Some(data)) => return ended(data),
                (_, Some(data)) => self.print(data)?,
                // The first message only tells where the stream begins.
                (_, None) => {
                    if let (Source::Network(client), None, Some(begin)) =
                        (&self.source, self.seen, whole.id)
                    {
                        self.print_until(client, begin)?;
                        if !self.follow {
                            return Ok(Outcome::Complete);
                        }
                    }
                }
            }
            self.seen = whole.id.or(self.seen);
        }
        Ok(Outcome::Broken)
    }

    /// Prints the newest events up to this one. An account sees only some of the numbers, so this looks
    /// further and further back.
    fn print_until(&self, client: &Client, newest: i64) -> Result<(), Error> {
        let wanted = usize::try_from(self.lines).unwrap_or(usize::MAX);
        let mut span = i64::from(self.lines);
        if wanted == 0 {
            return Ok(());
        }
        loop {
            let after = newest.saturating_sub(span).max(0);
            let mut found = client.list(&format!("/events?after={after}"))?;
            found.retain(|it| it["seq"].as_i64().is_some_and(|it| it <= newest));
            if wanted <= found.len() || after == 0 {
                let surplus = found.len().saturating_sub(wanted);
                return found.iter().skip(surplus).try_for_each(|it| self.print(&it.to_string()));
            }
            span = span.saturating_mul(FURTHER);
        }
    }

    fn print(&self, json: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        match self.format {
            EventFormat::Jsonl => writeln!(out, "{json}")?,
            EventFormat::Text => writeln!(out, "{}", line_of(json))?,
        }
        Ok(())
    }
}

/// One message of an event stream (WHATWG HTML, 9.2.6), with the fields that keyward sends.
#[derive(Default)]
struct Message {
    id: Option<i64>,
    event: String,
    data: Option<String>,
}

impl Message {
    /// Takes the next line. Returns the message if this line ends it.
    fn add(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            return Some(std::mem::take(self));
        }
        match line.split_once(": ") {
            Some(("id", id)) => self.id = id.parse().ok(),
            Some(("event", event)) => event.clone_into(&mut self.event),
            Some(("data", data)) => self.data = Some(data.to_owned()),
            _ => (), // Comments, and fields for browsers.
        }
        None
    }
}

/// Returns an event as one line of text.
fn line_of(json: &str) -> String {
    let event: Value = serde_json::from_str(json).unwrap_or_default();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let actor = &event["actor"];
    let actor = actor["keyId"].as_str().map_or_else(|| text(&actor["type"]), str::to_owned);
    let (time, event_type, subject) =
        (text(&event["time"]), text(&event["type"]), text(&event["subject"]));
    let all = event["data"].to_string();
    let mut data: String = all.chars().take(DATA).collect();
    if data.len() < all.len() {
        data.push('…');
    } else if data == "{}" {
        data.clear();
    }
    let seq = event["seq"].to_string();
    let line = format!("{time} {seq:>6} {event_type:<24} {actor:<26} {subject:<27} {data}");
    escaped(line.trim_end()).into_owned()
}

/// Reads the last message: the stream is complete, or the server ended it for a reason.
fn ended(data: &str) -> Result<Outcome, Error> {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    match data["reason"].as_str() {
        Some("complete") => Ok(Outcome::Complete),
        reason => Err(Error::Denied(format!(
            "the server sends this key nothing more: {}",
            reason.unwrap_or("it gave no reason")
        ))),
    }
}

fn say(what: &str) {
    // There is no further place to report to.
    let _ = writeln!(io::stderr(), "keyward: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_steers_no_terminal() {
        let data = format!("{{\"name\":\"a\u{9b}31m\u{202e}\\u001b\\n{}\"}}", "ü".repeat(500));
        let json = format!(
            "{{\"seq\":7,\"time\":\"T\",\"type\":\"api_key.created\",\"subject\":\"key_1\",\
             \"actor\":{{\"type\":\"cli\",\"keyId\":null}},\"data\":{data}}}"
        );
        let line = line_of(&json);
        assert!(line.starts_with("T      7 api_key.created"), "{line}");
        assert!(line.contains(" cli ") && line.ends_with("ü…"), "{line}");
        assert!(!line.chars().any(|it| it.is_control() || it == '\u{202e}'), "{line}");
        assert!(line.chars().count() < 300, "{line}");
    }

    #[test]
    fn a_message_is_whole_at_its_blank_line() {
        let mut message = Message::default();
        for line in [":", "retry: 2000", "id: 7", "event: x", "data: {\"a\": \"b: c\"}"] {
            assert!(message.add(line).is_none());
        }
        let whole = message.add("").expect("whole");
        assert_eq!((whole.id, &*whole.event), (Some(7), "x"));
        assert_eq!(whole.data.as_deref(), Some("{\"a\": \"b: c\"}"));
        assert_eq!(message.id, None);
    }
}
