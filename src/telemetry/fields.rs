//! The fields of a line of the text log, in which no text can write to the terminal or begin a line.

use std::{error::Error, fmt};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

use crate::domain::visible::escaped;

/// Formats fields as the library does, but escapes each character that is invisible, steers a terminal
/// or ends a line. Only the colours of names are written as they are.
#[derive(Clone, Copy, Debug)]
pub struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn add(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let (italic, dimmed, normal) = if self.writer.has_ansi_escapes() {
                ("\x1b[3m", "\x1b[2m", "\x1b[0m")
            } else {
                ("", "", "")
            };
            write!(self.writer, "{italic}{name}{normal}{dimmed}={normal}")?;
        }
        self.writer.write_str(&escaped(value))
    }
}

impl Visit for FieldWriter<'_> {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
        let (mut sources, mut next) = (Vec::new(), value.source());
        while let Some(source) = next {
            sources.push(source.to_string());
            next = source.source();
        }
        if !sources.is_empty() {
            let name = format!("{}.sources", field.name());
            let sources = format!("[{}]", sources.join(", "));
            self.result = self.result.and_then(|()| self.add(&name, &sources));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.result = self.result.and_then(|()| self.add(field.name(), &value));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::prelude::*;

    use super::*;
    use crate::domain::visible::is_hidden;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colours: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = super::super::text_lines(move || writer.clone(), colours);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str =
        "a\x1b[31mb\n2026-11-30T00:00:00Z  INFO forged\r\u{9b}31m\u{7f}\u{2028}\u{202e}\u{2066}c";

    #[test]
    fn a_field_neither_steers_the_terminal_nor_begins_a_line() {
        let cause = io::Error::other(HOSTILE);
        let error = io::Error::other(crate::service::Error::ProxyMistake(HOSTILE.to_owned()));
        for colours in [false, true] {
            let line = logged(colours, || {
                tracing::warn!(
                    reason = %HOSTILE,
                    text = HOSTILE,
                    debug = ?HOSTILE,
                    error = &error as &dyn Error,
                    cause = &cause as &dyn Error,
                    "{HOSTILE}"
                );
            });
            let line = line.strip_suffix('\n').unwrap();
            let mut plain = line.to_owned();
            for own in ["\x1b[0m", "\x1b[2m", "\x1b[3m", "\x1b[33m"] {
                assert_eq!(plain.contains(own), colours, "{own:?} {line:?}");
                plain = plain.replace(own, "");
            }
            assert!(!plain.chars().any(is_hidden), "{plain:?}");
            assert_eq!(plain.matches("forged").count(), 6, "{plain}");
            let shown = r"a\u{1b}[31mb\n2026-11-30T00:00:00Z  INFO forged\r\u{9b}31m\u{7f}\u{2028}\u{202e}\u{2066}c";
            assert_eq!(plain.matches(shown).count(), 6, "{plain}");
        }
    }

    #[test]
    fn a_line_looks_as_the_library_writes_it() {
        let line = logged(
            false,
            || tracing::info!(http.status = 200, text = "x y", id = %"z", "answered"),
        );
        assert!(line.ends_with("  INFO answered http.status=200 text=\"x y\" id=z\n"), "{line:?}");
        let error = crate::service::TokenRefusal::NoKeys(io::Error::other("disk"));
        let line = logged(false, || tracing::error!(error = &error as &dyn Error, "failed"));
        assert!(line.contains("ERROR failed error=the keys"), "{line:?}");
        assert!(line.ends_with(" error.sources=[disk]\n"), "{line:?}");
    }
}
