//! The journal of systemd in its native form: a datagram with fields for each event
//! (systemd, "Native Journal Protocol").

use std::{
    fmt,
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::outlet::Outlet;
use crate::domain::text::masked;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal's socket. Sending to it blocks while the journal is busy.
#[derive(Debug)]
pub struct Journal {
    sender: UnixDatagram,
    socket: PathBuf,
}

impl Journal {
    pub fn at(socket: &Path) -> Result<Self, io::Error> {
        let sender = UnixDatagram::unbound()?;
        sender.connect(socket)?;
        Ok(Self { sender, socket: socket.to_owned() })
    }

    /// Sends an entry. An entry that the journal does not accept goes to standard error.
    pub fn write(&self, entry: &[u8]) {
        let sent = self.sender.send(entry);
        // A journal that was restarted needs the address again.
        let sent = sent.or_else(|_| self.sender.send_to(entry, &self.socket));
        if sent.is_err() {
            // This error has no further place to go.
            let _ = io::stderr().write_all(entry);
        }
    }
}

/// Turns events into entries for the journal.
#[derive(Debug)]
pub struct JournalLayer(pub Outlet);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        entry.add("PRIORITY", priority(*event.metadata().level()));
        entry.add("SYSLOG_IDENTIFIER", "keyward");
        event.record(&mut entry);
        let text = std::mem::take(&mut entry.text);
        entry.add("MESSAGE", &text);
        self.0.offer(entry.bytes);
    }
}

/// Returns the severity as a number (RFC 5424, 6.2.1).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// An entry in the form of the journal. Text with the shape of a key is cut short.
#[derive(Default)]
struct Entry {
    bytes: Vec<u8>,
    /// The message and the fields, for people.
    text: String,
}

impl Entry {
    fn add(&mut self, name: &str, value: &str) {
        let value = masked(value);
        self.bytes.extend(name.bytes());
        if value.contains('\n') {
            // The length is a 64-bit little-endian number.
            self.bytes.push(b'\n');
            self.bytes.extend((value.len() as u64).to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend(value.bytes());
        self.bytes.push(b'\n');
    }

    /// Adds a field: `http.status` becomes `KEYWARD_HTTP_STATUS`.
    fn add_field(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.text.insert_str(0, value);
            return;
        }
        self.text.extend([" ", field.name(), "=", value]);
        let upper =
            |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
        let name: String = field.name().chars().map(upper).collect();
        self.add(&format!("KEYWARD_{name}"), value);
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_field(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add_field(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_field(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn an_event_arrives_with_its_fields_and_without_keys() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        let sender = Journal::at(&socket).unwrap();
        let outlet = Outlet::start("test", 4096, move |entry, _| sender.write(entry)).unwrap();
        let layer = JournalLayer(outlet);
        let key = "rg_8fK2mQ9zTabcdefghijklmnopqrstuvwxyz0123453bAXzK";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(http.status = 200, text = "two\nlines", %key, "answered");
        });
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        let entry = &buffer[..length];
        let has = |part: &[u8]| entry.windows(part.len()).any(|it| it == part);
        assert!(has(b"PRIORITY=4\n"));
        assert!(has(b"MESSAGE\n"), "it has two lines, as its field has");
        assert!(has(b"answered http.status=200 text=two\nlines key="));
        assert!(has(b"KEYWARD_HTTP_STATUS=200\n"));
        assert!(has(b"KEYWARD_TEXT\n\x09\0\0\0\0\0\0\0two\nlines\n"));
        assert!(has("KEYWARD_KEY=rg_8fK2mQ9zT…\n".as_bytes()), "{entry:?}");
        assert!(!has(&key.as_bytes()[12..]));
    }

    #[test]
    fn a_journal_that_is_not_read_delays_no_event() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _journal = UnixDatagram::bind(&socket).unwrap();
        let sender = Journal::at(&socket).unwrap();
        let outlet = Outlet::start("test", 65_536, move |entry, _| sender.write(entry)).unwrap();
        let layer = JournalLayer(outlet.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            // Far more than the queues of the kernel and of the outlet hold.
            for number in 0..10_000 {
                tracing::info!(number, "answered");
            }
        });
        assert!(outlet.dropped() > 0);
    }
}
