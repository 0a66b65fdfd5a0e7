//! A TOML text whose faults have lines.

use toml::{Spanned, de::DeTable};

use super::{ConfigFile, Fault, SettingSource};

/// A file and the faults that were found in it.
pub(super) struct TomlText<'a> {
    file: ConfigFile<'a>,
    /// The offsets of the line breaks.
    breaks: Vec<usize>,
    /// Each with the offset of the byte that it is about.
    faults: Vec<(usize, String)>,
}

impl<'a> TomlText<'a> {
    pub fn new(file: ConfigFile<'a>) -> Self {
        let breaks = file.text.match_indices('\n').map(|(at, _)| at).collect();
        Self { file, breaks, faults: Vec::new() }
    }

    /// Parses the text. Returns `None`, and adds the fault, if it is not TOML.
    pub fn parse(&mut self) -> Option<Spanned<DeTable<'a>>> {
        match DeTable::parse(self.file.text) {
            Ok(root) => Some(root),
            Err(err) => {
                let at = err.span().map_or(self.file.text.len(), |it| it.start);
                // The further lines may repeat the text of the file.
                let what = err.message().lines().next().unwrap_or_default();
                self.fault(at, format!("not TOML: {what}"));
                None
            }
        }
    }

    /// Adds a fault of the byte at offset `at`.
    pub fn fault(&mut self, at: usize, message: String) {
        self.faults.push((at, message));
    }

    /// Returns the line, counted from one, of the byte at offset `at`.
    pub fn line(&self, at: usize) -> usize {
        1 + self.breaks.partition_point(|it| *it < at)
    }

    /// Returns whether only blank lines and comments follow the line of the byte at offset `at`.
    pub fn is_last_header(&self, at: usize) -> bool {
        let below = self.breaks.get(self.line(at) - 1);
        let below = below.and_then(|it| self.file.text.get(*it..)).unwrap_or_default();
        below.lines().map(str::trim).all(|it| it.is_empty() || it.starts_with('#'))
    }

    /// Returns the faults from top to bottom.
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|(at, _)| *at);
        let place = |(at, message): &(usize, String)| Fault {
            origin: SettingSource::File { path: self.file.path.to_owned(), line: self.line(*at) },
            message: message.clone(),
        };
        self.faults.iter().map(place).collect()
    }
}
