//! `keyward import`: imports the keys of another system from a file, by their digests.

pub(crate) mod rows;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64ct::{Base64, Encoding};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use self::rows::{fault, from_columns, from_line, names_of, take_key, without_mark};
use crate::{
    cli::{
        api::machine::Machine,
        error::Error,
        exit_code,
        output::{self, Format, Output},
        settings::{self, Location},
    },
    domain::{event::ChainHash, imported_key::decoded},
    http::control::import::{ImportAnswer, ImportRequest, ImportSummary, RowFault},
};

/// Rows in one transaction.
const BATCH: usize = 100;
/// The longest line that is read, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The file, or `-` for standard input
    file: PathBuf,
    /// The form of the file. Without it, the end of its name decides; JSON Lines otherwise
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// The account of rows that name no account: its identifier or your own external identifier
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Report what would be refused, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    location: Location,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    /// A JSON object on each line
    Jsonl,
    /// Columns under their names, with commas between them
    Csv,
}

/// The line of a row, and its members or its fault.
type Row = (u64, Result<Map<String, Value>, RowFault>);

/// A row that was refused.
struct Refusal {
    line: u64,
    fault: RowFault,
}

impl Options {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let client = Machine::open(&settings::load_here(&self.location)?)?;
        let (source, length) = open(&self.file)?;
        let bar = progress(length);
        let source = Hashing { inner: bar.wrap_read(source), hash: Sha256::new() };
        let mut run = Run {
            options: self,
            client: &client,
            accepted: Vec::new(),
            refusals: Vec::new(),
            seen: HashSet::new(),
            has_key_text: false,
            dry_run_counts: HashMap::new(),
        };
        let outcome = run.read(source);
        bar.finish_and_clear();
        let Run { accepted, refusals, has_key_text, .. } = run;
        let lines: HashSet<_> = refusals.iter().map(|it| it.line).collect();
        let (count, refused) = (accepted.len() as u64, lines.len() as u64);
        // Imported keys stay, even if the rest of the file could not be read, so the report comes first.
        let reported = self.report(&accepted, refused, &refusals);
        if !self.dry_run && 0 < count + refused {
            // The digest of a file with one key would let readers of the log test guesses.
            let source = outcome.as_ref().ok().filter(|_| !has_key_text);
            let sha256 = source.map(|it| ChainHash(it.hash.clone().finalize().into()).to_string());
            let complete = outcome.is_ok();
            let summary = ImportSummary { accepted: count, refused, complete, sha256 };
            let recorded = client.control::<()>("/imports/finish", &summary);
            outcome.and(recorded)?;
        } else {
            outcome?;
        }
        client.close()?;
        reported?;
        Ok(exit_code::answer(refused == 0))
    }

    fn report(
        &self,
        accepted: &[Accepted],
        refused: u64,
        refusals: &[Refusal],
    ) -> Result<(), Error> {
        let count = accepted.len();
        if self.output.output == Format::Json {
            let list = refusals.iter().map(|it| {
                let RowFault { field, code, detail } = &it.fault;
                json!({ "line": it.line, "field": field, "code": code, "detail": detail })
            });
            let list: Vec<_> = list.collect();
            let mut report = json!({
                "dryRun": self.dry_run, "accepted": count, "refused": refused, "refusals": list,
            });
            // The identifiers of a dry run belong to no key.
            if !self.dry_run {
                let keys = accepted.iter().map(|it| json!({ "line": it.line, "keyId": it.key_id }));
                report["keys"] = keys.collect();
            }
            return Ok(output::json(&report)?);
        }
        if !refusals.is_empty() {
            let rows = refusals.iter().map(|it| {
                let RowFault { field, code, detail } = &it.fault;
                [it.line.to_string(), field.clone(), code.clone(), detail.clone()]
            });
            output::table(["LINE", "FIELD", "CODE", "DETAIL"], &rows.collect::<Vec<_>>())?;
        }
        let would = if self.dry_run { "would be " } else { "" };
        Ok(writeln!(io::stdout(), "{count} {would}imported, {refused} {would}refused")?)
    }
}

/// A row that was imported.
struct Accepted {
    line: u64,
    key_id: String,
}

struct Run<'a> {
    options: &'a Options,
    client: &'a Machine,
    accepted: Vec<Accepted>,
    refusals: Vec<Refusal>,
    /// Digests of the keys in the rows so far.
    seen: HashSet<Vec<u8>>,
    /// Whether any row held the text of a key.
    has_key_text: bool,
    /// How many keys each account got, because the server forgets it after each batch of a dry run.
    dry_run_counts: HashMap<String, u32>,
}

impl Run<'_> {
    fn read<R: Read>(&mut self, source: Hashing<R>) -> Result<Hashing<R>, Error> {
        let named_csv =
            self.options.file.extension().is_some_and(|it| it.eq_ignore_ascii_case("csv"));
        let form = self.options.format.unwrap_or(if named_csv { Form::Csv } else { Form::Jsonl });
        match form {
            Form::Jsonl => self.read_lines(source),
            Form::Csv => self.read_table(source),
        }
    }

    fn read_lines<R: Read>(&mut self, source: Hashing<R>) -> Result<Hashing<R>, Error> {
        let mut source = BufReader::new(source);
        let (mut batch, mut number) = (Vec::new(), 0);
        loop {
            let mut line = Zeroizing::new(Vec::new());
            let read = source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|err| self.unreadable(err))? == 0 {
                break;
            }
            number += 1;
            let whole = line.ends_with(b"\n") || (line.len() as u64) < LONGEST_LINE;
            if !whole {
                source.skip_until(b'\n').map_err(|err| self.unreadable(err))?;
                batch.push((number, Err(fault("", "too_long", "the line is too long"))));
            } else if let text = without_mark(number, &line)
                && !text.trim_ascii().is_empty()
            {
                batch.push((number, from_line(text)));
            }
            self.give(&mut batch, BATCH)?;
        }
        self.give(&mut batch, 1)?;
        Ok(source.into_inner())
    }

    fn read_table<R: Read>(&mut self, source: Hashing<R>) -> Result<Hashing<R>, Error> {
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(source);
        let names = names_of(&mut table)?;
        let mut batch = Vec::new();
        let mut record = csv::StringRecord::new();
        loop {
            let line = table.position().line();
            match table.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    let line = record.position().map_or(line, csv::Position::line);
                    batch.push((line, from_columns(&names, &record)));
                }
                Err(err) if err.is_io_error() => {
                    return Err(self.unreadable(io::Error::other("it cannot be read")));
                }
                Err(_) => batch.push((line, Err(fault("", "invalid_csv", "the line is not CSV")))),
            }
            self.give(&mut batch, BATCH)?;
        }
        self.give(&mut batch, 1)?;
        Ok(table.into_inner())
    }

    /// Sends the batch to the server if it holds at least so many rows.
    fn give(&mut self, batch: &mut Vec<Row>, least: usize) -> Result<(), Error> {
        if batch.len() < least {
            return Ok(());
        }
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        for (line, row) in batch.drain(..) {
            match row.and_then(|row| self.with_digest(row)) {
                Ok(mut row) => {
                    if let Some(account) = &self.options.account
                        && !row.contains_key("account")
                    {
                        row.insert("account".to_owned(), json!(account));
                    }
                    lines.push(line);
                    rows.push(row);
                }
                Err(fault) => self.refusals.push(Refusal { line, fault }),
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let dry_run_counts = self.options.dry_run.then(|| self.dry_run_counts.clone());
        let answer: ImportAnswer =
            self.client.control("/imports", &ImportRequest { dry_run_counts, rows })?;
        for (line, outcome) in lines.into_iter().zip(answer.outcomes) {
            if let Some(key_id) = outcome.key_id {
                self.accepted.push(Accepted { line, key_id });
            }
            if let Some(account) = outcome.account_id {
                *self.dry_run_counts.entry(account).or_default() += 1;
            }
            self.refusals.extend(outcome.faults.into_iter().map(|fault| Refusal { line, fault }));
        }
        self.refusals.sort_by_key(|it| it.line);
        Ok(())
    }

    /// Replaces the text of a key by its SHA-256, so that the text never leaves this process. Refuses a
    /// key that an earlier line has in any form: the server would find it only after an import.
    fn with_digest(&mut self, mut row: Map<String, Value>) -> Result<Map<String, Value>, RowFault> {
        self.has_key_text |= row.contains_key("key");
        let mut digests = Vec::new();
        if let Some(key) = take_key(&mut row)? {
            let sha256 = key.sha256();
            row.insert("sha256".to_owned(), json!(Base64::encode_string(&sha256)));
            digests.push(("key", sha256.to_vec()));
            digests.push(("key", key.sha512().to_vec()));
        } else {
            let text = |name| row.get(name).and_then(Value::as_str);
            digests.extend(text("sha256").and_then(decoded::<32>).map(|it| ("sha256", it.into())));
            digests.extend(text("sha512").and_then(decoded::<64>).map(|it| ("sha512", it.into())));
        }
        if let Some((name, _)) = digests.iter().find(|(_, digest)| self.seen.contains(digest)) {
            return Err(fault(name, "duplicate", "an earlier line has the same key"));
        }
        self.seen.extend(digests.into_iter().map(|(_, digest)| digest));
        Ok(row)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::File { path: self.options.file.clone(), source }
    }
}

/// Opens the file. Returns its length too; standard input has none.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Error> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let unusable = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unusable)?;
    let length = file.metadata().map_err(unusable)?.len();
    Ok((Box::new(file), Some(length)))
}

fn progress(length: Option<u64>) -> ProgressBar {
    let Some(length) = length.filter(|_| io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
    let bar = ProgressBar::new(length);
    style.map_or(bar.clone(), |it| bar.with_style(it))
}

/// A reader that keeps the digest of all that was read.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
