//! `keyward events tail`: the newest events, and those to come.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    cli::{Error, EventFormat, Settings, config, control, socket},
    config::Config,
    http::{control::SOCKET, wire::EventBody},
    server::{self, Reached},
    service::{self, EventFilter, Keyward, Viewer},
};

/// Between two attempts to reach a server that has gone.
const RETRY: Duration = Duration::from_secs(1);
/// Events that are read from the file at a time.
const PAGE: u32 = 500;
/// What is shown of longer data, in characters; as JSON it is shown whole.
const DATA: usize = 160;

pub(super) fn tail(
    settings: &Settings,
    lines: u32,
    follow: bool,
    format: EventFormat,
) -> Result<(), Error> {
    let config = config::load(settings)?;
    let database = config.data_dir.join("keyward.db");
    if !database.exists() {
        return Err(Error::NoDatabase { path: database });
    }
    let socket = config.data_dir.join(SOCKET);
    let mut tail = Tail { config, socket, lines, follow, format, seen: None };
    match tail.run() {
        // Whoever reads this has seen enough.
        Err(Error::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

struct Tail {
    config: Config,
    socket: PathBuf,
    lines: u32,
    follow: bool,
    format: EventFormat,
    /// Where the server is to go on if the connection breaks.
    seen: Option<i64>,
}

/// What asking the server came to.
enum Outcome {
    Complete,
    Broken,
    NoServer,
}

impl Tail {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Outcome::Complete => return Ok(()),
                Outcome::Broken if self.follow => {
                    say("the connection to the server broke; waiting for it");
                }
                Outcome::Broken => return Err(Error::Control(io::ErrorKind::UnexpectedEof.into())),
                Outcome::NoServer if !self.follow => {
                    if self.print_file()? {
                        return Ok(());
                    }
                }
                Outcome::NoServer if self.seen.is_none() => {
                    return Err(Error::NothingToFollow { dir: self.config.data_dir.clone() });
                }
                Outcome::NoServer => (),
            }
            thread::sleep(RETRY);
        }
    }

    /// Prints what the running server tells, until it has no more or goes away.
    fn receive(&mut self) -> Result<Outcome, Error> {
        let target = match self.seen {
            None => format!("/events/stream?last={}&follow={}", self.lines, self.follow),
            Some(seen) => format!("/events/stream?after={seen}"),
        };
        let Ok((status, mut answer)) = socket::get(&self.socket, &target) else {
            return Ok(Outcome::NoServer);
        };
        match (status, self.seen) {
            (200, None) => (),
            (200, Some(seen)) => say(&format!("connected again, after event {seen}")),
            (422, Some(seen)) => {
                let why = format!("its log ends before event {seen}; is it an older copy?");
                return Err(Error::Refused(why));
            }
            (status, _) => return Err(Error::Refused(format!("status {status}"))),
        }
        let mut message = Message::default();
        let mut line = String::new();
        // What is cut short belongs to no whole message, and is told again.
        while answer.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            if let Some(whole) = message.add(line.trim_end_matches('\n')) {
                self.seen = whole.id.or(self.seen);
                match (&*whole.event, whole.data) {
                    ("end", _) => return Ok(Outcome::Complete),
                    (_, Some(data)) => self.print(&data)?,
                    (_, None) => (),
                }
            }
            line.clear();
        }
        Ok(Outcome::Broken)
    }

    /// Prints the newest events of the file, under the lock of the data directory. Whether it did:
    /// a server may have come meanwhile.
    fn print_file(&self) -> Result<bool, Error> {
        let Reached::Database(site) = control::reach(&self.config)? else { return Ok(false) };
        let printed = self.print_newest(&site.app);
        site.close()?;
        printed.map(|()| true)
    }

    fn print_newest(&self, app: &Keyward) -> Result<(), Error> {
        let failed = |err: service::Error| Error::from(server::Error::Service(err));
        let newest = app.newest_event().map_err(failed)?;
        let after = newest.saturating_sub(self.lines.into()).max(0);
        let mut filter = EventFilter { after, limit: PAGE, ..EventFilter::default() };
        while filter.after < newest {
            let page = app.event_page(Viewer::Operator, filter.clone()).map_err(failed)?;
            for view in page.views {
                let json =
                    serde_json::to_string(&EventBody::from(view)).map_err(io::Error::from)?;
                self.print(&json)?;
            }
            filter.after = page.reached;
        }
        Ok(())
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

/// One message of an event stream (WHATWG HTML, 9.2.6), as far as ours go.
#[derive(Default)]
struct Message {
    id: Option<i64>,
    event: String,
    data: Option<String>,
}

impl Message {
    /// Takes the next line. The whole message, if it ends here.
    fn add(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            return Some(std::mem::take(self));
        }
        match line.split_once(": ") {
            Some(("id", id)) => self.id = id.parse().ok(),
            Some(("event", event)) => event.clone_into(&mut self.event),
            Some(("data", data)) => self.data = Some(data.to_owned()),
            _ => (), // Comments, and what is for browsers.
        }
        None
    }
}

/// An event in one line, for people.
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
    printable(line.trim_end())
}

/// Whatever a customer wrote into a name, it does not steer the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

fn say(what: &str) {
    // Nobody is left to tell if this fails.
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
