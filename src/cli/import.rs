//! `keyward import`: the keys of another system, from a file, without reissuing them.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use pbkdf2::sha2::{Digest, Sha256};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    cli::{
        Error, NO, Settings,
        client::Client,
        config,
        output::{self, Output},
    },
    domain::event::ChainHash,
    http::import::{ImportAnswer, ImportRequest, ImportSummary, RowFault},
};

/// Rows in one transaction.
const BATCH: usize = 100;
/// Longer than any row that could be taken.
const LONGEST_LINE: u64 = 64 * 1024;

#[derive(Args, Debug)]
pub(super) struct Import {
    /// The file, or `-` for standard input
    file: PathBuf,
    /// The form of the file; without it, by its name, and JSON Lines for what has none
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// The account of rows that name none, by its identifier or by your own for it
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Say what would be refused, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    /// A JSON object on each line
    Jsonl,
    /// Columns under their names, with commas between them
    Csv,
}

/// Where a row was found, and what it says or why it says nothing.
type Row = (u64, Result<Map<String, Value>, RowFault>);

/// A row that was refused.
struct Refusal {
    line: u64,
    fault: RowFault,
}

pub(super) fn import(it: &Import) -> Result<ExitCode, Error> {
    let config = config::load_here(&it.settings)?;
    let client = Client::on_this_machine(&config)?;
    let (source, length) = open(&it.file)?;
    let bar = progress(length);
    let source = Hashing { inner: bar.wrap_read(source), hash: Sha256::new() };
    let mut run =
        Run { it, client: &client, accepted: 0, refusals: Vec::new(), seen: HashSet::new() };
    let source = run.read(source)?;
    bar.finish_and_clear();
    let Run { accepted, refusals, .. } = run;
    let refused: HashSet<_> = refusals.iter().map(|it| it.line).collect();
    let refused = refused.len() as u64;
    if !it.dry_run && 0 < accepted + refused {
        let sha256 = ChainHash(source.hash.finalize().into()).to_string();
        client.control::<()>("/imports/finish", &ImportSummary { accepted, refused, sha256 })?;
    }
    client.close()?;
    report(it, accepted, refused, &refusals)?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn report(it: &Import, accepted: u64, refused: u64, refusals: &[Refusal]) -> Result<(), Error> {
    if it.output.output == output::Format::Json {
        let list = refusals.iter().map(|it| {
            let RowFault { field, code, detail } = &it.fault;
            json!({ "line": it.line, "field": field, "code": code, "detail": detail })
        });
        let list: Vec<_> = list.collect();
        let report = json!({
            "dryRun": it.dry_run, "accepted": accepted, "refused": refused, "refusals": list,
        });
        return Ok(writeln!(io::stdout(), "{report}")?);
    }
    if !refusals.is_empty() {
        let rows = refusals.iter().map(|it| {
            let RowFault { field, code, detail } = &it.fault;
            [it.line.to_string(), field.clone(), code.clone(), detail.clone()]
        });
        output::table(["LINE", "FIELD", "CODE", "DETAIL"], &rows.collect::<Vec<_>>())?;
    }
    let would = if it.dry_run { "would be " } else { "" };
    Ok(writeln!(io::stdout(), "{accepted} {would}imported, {refused} {would}refused")?)
}

struct Run<'a> {
    it: &'a Import,
    client: &'a Client,
    accepted: u64,
    refusals: Vec<Refusal>,
    /// Digests of what stood in the rows so far.
    seen: HashSet<[u8; 32]>,
}

impl Run<'_> {
    fn read<R: Read>(&mut self, source: Hashing<R>) -> Result<Hashing<R>, Error> {
        let named_csv = self.it.file.extension().is_some_and(|it| it.eq_ignore_ascii_case("csv"));
        let form = self.it.format.unwrap_or(if named_csv { Form::Csv } else { Form::Jsonl });
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
            } else if !line.trim_ascii().is_empty() {
                let row = serde_json::from_slice::<Map<String, Value>>(&line);
                // What the parser says may repeat what it read.
                let broken = |_| fault("", "invalid_json", "this is no JSON object");
                batch.push((number, row.map_err(broken)));
            }
            self.give(&mut batch, BATCH)?;
        }
        self.give(&mut batch, 1)?;
        Ok(source.into_inner())
    }

    fn read_table<R: Read>(&mut self, source: Hashing<R>) -> Result<Hashing<R>, Error> {
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(source);
        let unusable =
            |_| Error::Usage("the file has no line of names that could be read".to_owned());
        let names = table.headers().map_err(unusable)?.clone();
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
                Err(_) => batch.push((line, Err(fault("", "invalid_csv", "this is no CSV")))),
            }
            self.give(&mut batch, BATCH)?;
        }
        self.give(&mut batch, 1)?;
        Ok(table.into_inner())
    }

    /// Gives the batch to the server once it holds so many.
    fn give(&mut self, batch: &mut Vec<Row>, least: usize) -> Result<(), Error> {
        if batch.len() < least {
            return Ok(());
        }
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        for (line, row) in batch.drain(..) {
            match row.and_then(|row| self.first_of_its_kind(row)) {
                Ok(mut row) => {
                    if let Some(account) = &self.it.account
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
        let request = ImportRequest { rehearsal: self.it.dry_run, rows };
        let answer: ImportAnswer = self.client.control("/imports", &request)?;
        for (line, outcome) in lines.into_iter().zip(answer.outcomes) {
            if outcome.key_id.is_some() {
                self.accepted += 1;
            }
            self.refusals.extend(outcome.faults.into_iter().map(|fault| Refusal { line, fault }));
        }
        self.refusals.sort_by_key(|it| it.line);
        Ok(())
    }

    /// What stands in the file twice would otherwise be found only once it is there.
    fn first_of_its_kind(
        &mut self,
        row: Map<String, Value>,
    ) -> Result<Map<String, Value>, RowFault> {
        for name in ["key", "sha256", "sha512"] {
            let Some(text) = row.get(name).and_then(Value::as_str) else { continue };
            if !self.seen.insert(Sha256::digest(format!("{name}\0{text}")).into()) {
                return Err(fault(name, "duplicate", "it stands in an earlier line, too"));
            }
        }
        Ok(row)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::File { path: self.it.file.clone(), source }
    }
}

/// A row of JSON from one of text: blanks between scopes, JSON for metadata, nothing for nothing.
fn from_columns(
    names: &csv::StringRecord,
    record: &csv::StringRecord,
) -> Result<Map<String, Value>, RowFault> {
    if record.len() != names.len() {
        let says = format!("it has {} columns, and the first line {}", record.len(), names.len());
        return Err(fault("", "invalid_csv", &says));
    }
    let mut row = Map::new();
    for (name, text) in names.iter().map(str::trim).zip(record.iter().map(str::trim)) {
        let value = match name {
            _ if text.is_empty() => continue,
            "scopes" => json!(text.split_whitespace().collect::<Vec<_>>()),
            "metadata" => serde_json::from_str(text)
                .map_err(|_| fault(name, "invalid_json", "this is no JSON object"))?,
            "enabled" => match text {
                "true" => json!(true),
                "false" => json!(false),
                _ => return Err(fault(name, "invalid_type", "must be true or false")),
            },
            _ => json!(text),
        };
        row.insert(name.to_owned(), value);
    }
    Ok(row)
}

fn fault(field: &str, code: &str, detail: &str) -> RowFault {
    RowFault { field: field.to_owned(), code: code.to_owned(), detail: detail.to_owned() }
}

/// The file and its length, if it has one.
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

/// Reads, and keeps the digest of what was read.
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
