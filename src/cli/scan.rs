//! `keyward scan`: finds keys in files, without a server.

mod patterns;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

pub(super) use self::patterns::Patterns;
use crate::{
    cli::{
        error::Error,
        exit_code,
        output::{self, Format, Output},
        report::report,
        settings::{self, Location},
    },
    domain::{
        key_scan::keys_in,
        plaintext_key::{KeyPrefix, PlaintextKey, PrefixLabel},
        visible::escaped,
    },
};

/// The least part of a file that is read at once.
const CHUNK: usize = 64 * 1024;
/// The end of each part that is kept, because a key may begin in it.
const OVERLAP: usize = PlaintextKey::LEN - 1;
/// The directory of a Git repository. Git compresses nearly all of it, so a scan would find little there.
const GIT_DIR: &str = ".git";

#[derive(Args, Debug)]
pub(super) struct Options {
    /// A file or directory; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    prefixes: Prefixes,
    #[command(flatten)]
    output: Output,
}

/// The prefixes of the keys to find.
#[derive(Args, Debug)]
pub(super) struct Prefixes {
    /// A prefix of keys, such as rg; repeatable. Without it, the configured one
    #[arg(long = "prefix", value_name = "PREFIX", value_parser = label)]
    labels: Vec<PrefixLabel>,
    #[command(flatten)]
    location: Location,
}

fn label(text: &str) -> Result<PrefixLabel, String> {
    PrefixLabel::parse(text).map_err(|err| err.to_string())
}

impl Prefixes {
    fn labels(&self) -> Result<Vec<PrefixLabel>, Error> {
        if self.labels.is_empty() {
            return Ok(vec![settings::load(&self.location)?.keys.prefix]);
        }
        let mut labels = Vec::new();
        for label in &self.labels {
            if !labels.contains(label) {
                labels.push(*label);
            }
        }
        Ok(labels)
    }
}

/// A key in a file.
struct Hit {
    path: PathBuf,
    /// The number of its line, from 1.
    line: u64,
    prefix: KeyPrefix,
}

/// What a scan found, and whether it read everything.
struct Scan {
    labels: Vec<PrefixLabel>,
    hits: Vec<Hit>,
    complete: bool,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let mut scan = Scan { labels: self.prefixes.labels()?, hits: Vec::new(), complete: true };
        for path in &self.paths {
            if path.as_os_str() == "-" {
                scan.read(Path::new("-"), Ok(io::stdin().lock()));
            } else {
                scan.named(path);
            }
        }
        scan.print(self.output.output)?;
        Ok(exit_code::health(scan.complete && scan.hits.is_empty()))
    }
}

impl Scan {
    /// Scans a path that the command line names. Follows a symbolic link, unlike in directories.
    fn named(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(it) if it.is_dir() => self.directory(path),
            Ok(_) => self.read(path, File::open(path)),
            Err(err) => self.unreadable(path, err),
        }
    }

    /// Scans the regular files in a directory and below it, in the order of their names.
    fn directory(&mut self, top: &Path) {
        let mut waiting = vec![top.to_owned()];
        while let Some(dir) = waiting.pop() {
            let entries = fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut entries = match entries {
                Ok(entries) => entries,
                Err(err) => {
                    self.unreadable(&dir, err);
                    continue;
                }
            };
            entries.sort_by_key(fs::DirEntry::file_name);
            let mut below = Vec::new();
            for entry in entries {
                let path = entry.path();
                // The type of a symbolic link is not that of its target.
                match entry.file_type() {
                    Ok(it) if it.is_file() => self.read(&path, File::open(&path)),
                    Ok(it) if it.is_dir() && entry.file_name() != GIT_DIR => below.push(path),
                    Ok(_) => (),
                    Err(err) => self.unreadable(&path, err),
                }
            }
            waiting.extend(below.into_iter().rev());
        }
    }

    fn read(&mut self, path: &Path, file: io::Result<impl Read>) {
        let labels = self.labels.clone();
        let hits = &mut self.hits;
        let found = |line, prefix| hits.push(Hit { path: path.to_owned(), line, prefix });
        if let Err(err) = file.and_then(|it| scan_stream(it, &labels, found)) {
            self.unreadable(path, err);
        }
    }

    fn unreadable(&mut self, path: &Path, source: io::Error) {
        self.complete = false;
        report(&Error::File { path: path.to_owned(), source });
    }

    fn print(&self, format: Format) -> Result<(), Error> {
        if format == Format::Json {
            let found = self.hits.iter().map(|it| {
                json!({ "path": it.path.to_string_lossy(), "line": it.line, "keyPrefix": it.prefix.as_str() })
            });
            let found: Vec<_> = found.collect();
            return Ok(output::json(&json!({ "complete": self.complete, "found": found }))?);
        }
        let mut out = io::stdout().lock();
        for Hit { path, line, prefix } in &self.hits {
            let path = path.to_string_lossy();
            writeln!(out, "{}:{line}: {}…", escaped(&path), prefix.as_str())?;
        }
        Ok(out.flush()?)
    }
}

/// Calls `found` with the line and the prefix of each key in the stream.
fn scan_stream(
    mut stream: impl Read,
    labels: &[PrefixLabel],
    mut found: impl FnMut(u64, KeyPrefix),
) -> io::Result<()> {
    let mut window = zeroize::Zeroizing::new(vec![0; OVERLAP + CHUNK]);
    let (mut kept, mut line) = (0, 1);
    loop {
        let read = match stream.read(&mut window[kept..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        let filled = kept + read;
        let (mut counted, text) = (0, &window[..filled]);
        for (start, prefix) in keys_in(text, labels) {
            line += newlines(&text[counted..start.max(counted)]);
            counted = start.max(counted);
            found(line, prefix);
        }
        let next = filled.saturating_sub(OVERLAP);
        // A key of the loop may begin before `next` or, never, behind it.
        line += newlines(&text[counted..next.max(counted)]);
        window.copy_within(next..filled, 0);
        kept = filled - next;
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|it| u64::from(*it == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEntropy;

    /// A stream that gives at most `step` bytes at once.
    struct Slow<'a> {
        rest: &'a [u8],
        step: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let len = self.step.min(to.len()).min(self.rest.len());
            let (part, rest) = self.rest.split_at(len);
            to[..len].copy_from_slice(part);
            self.rest = rest;
            Ok(len)
        }
    }

    #[test]
    fn each_key_is_found_once_and_with_its_line_however_the_stream_is_cut() {
        let label = PrefixLabel::DEFAULT;
        let key = PlaintextKey::generate(label, &SeededEntropy::new(7));
        let key = key.expose();
        for before in [0, 1, CHUNK - 50, CHUNK - 25, CHUNK, CHUNK + OVERLAP - 1, 3 * CHUNK + 7] {
            let text = format!("{}\n{key}{key}\n\n{key}", "\n".repeat(before));
            let line = before as u64 + 2;
            for step in [1, 49, 50, 4_096, usize::MAX] {
                let mut lines = Vec::new();
                let stream = Slow { rest: text.as_bytes(), step };
                scan_stream(stream, &[label], |line, _| lines.push(line)).unwrap();
                assert_eq!(lines, [line, line, line + 2], "{before} {step}");
            }
        }
    }
}
