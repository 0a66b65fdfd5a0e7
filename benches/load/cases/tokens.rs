//! Tokens: what an exchange costs, what a gateway saves, and the status list of many credentials.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use rusqlite::Connection as Database;

use super::{
    Bench, ROUNDS, thousands,
    verify::{ROUND, round},
};
use crate::{
    Outcome,
    client::{self, Connection, Request},
    process::{KEYWARD, Process},
    report::{Sample, Samples, Table, Target, Verdict, median, micros},
    site::create,
};

const ISSUER: [(&str, &str); 1] = [("KEYWARD_PUBLIC_URL", "https://keys.example.com")];
/// A list is at least this old when it is made again.
const LIST_AGE: Duration = Duration::from_millis(1_100);
const GRANT: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";

fn exchange(key: &str) -> Request {
    let head = format!(
        "POST /api/v1/token HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{GRANT}",
        GRANT.len()
    );
    let request = Request::new("POST", "/api/v1/token", None, None);
    Request { bytes: head.into_bytes(), ..request }.expecting(200, "{\"access_token\":\"")
}

fn key_pair() -> Outcome<Ed25519KeyPair> {
    let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    let pair =
        secret.ok().and_then(|it| Ed25519KeyPair::from_pkcs8_maybe_unchecked(it.as_ref()).ok());
    pair.ok_or_else(|| "no key pair".into())
}

/// Runs this for a round. Returns the microseconds of one run.
fn alone(mut run: impl FnMut()) -> f64 {
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < ROUND / 4 {
        for _ in 0..100 {
            run();
        }
        count += 100;
    }
    micros(begin.elapsed()) / f64::from(count)
}

/// The four figures of `docs/tokens.md`. With `--full`, the list is that of a million credentials.
pub fn tokens(bench: &mut Bench) -> Outcome<()> {
    let table = Table::begin("tokens", &Verdict::COLUMNS);
    let (issued, verified) = exchanges(bench, &table)?;
    let signed = median(issued.1.iter().copied());
    offline(&issued.0, &verified, &table)?;
    list(bench, signed, &table)
}

/// Exchanges of 1,000 keys, beside the signature alone. Returns a token with the times of signatures, and
/// the samples of verify over HTTP in the same rounds.
fn exchanges(bench: &mut Bench, table: &Table) -> Outcome<((String, Vec<f64>), Samples)> {
    let site = bench.site(Bench::SMALL)?;
    let process = Process::serve(KEYWARD.as_ref(), &site.dir, &ISSUER)?;
    let mut connection = Connection::open(process.address)?;
    let own = Request::new("GET", "/api/v1/accounts/self", Some(&site.root), None);
    let own: serde_json::Value = serde_json::from_slice(connection.ask(&own)?)?;
    let id = own.get("id").and_then(|it| it.as_str()).ok_or("no account")?;
    let path = format!("/api/v1/accounts/{id}");
    let allow = Request::new("PUT", &path, Some(&site.root), Some("{\"tokenExchange\":true}"));
    connection.ask(&allow)?;
    let requests: Vec<_> = site.keys.iter().map(|it| exchange(&it.text)).collect();
    let questions = site.questions();
    // This gives every credential its place, and verifies every secret.
    let (_, answers) = client::each(process.address, &requests, 16)?;
    let answer: serde_json::Value = serde_json::from_slice(answers.first().ok_or("no answer")?)?;
    let token = answer.get("access_token").and_then(|it| it.as_str()).ok_or("no token")?.to_owned();
    client::each(process.address, &questions, 16)?;
    let pair = key_pair()?;
    let (signed, _) = token.rsplit_once('.').ok_or("no signature")?;
    let [mut issued, mut verified] = [const { Samples(Vec::new()) }; 2];
    let mut signatures = Vec::new();
    for _ in 0..ROUNDS {
        issued.0.push(round(&process, &requests, 16)?);
        verified.0.push(round(&process, &questions, 16)?);
        signatures.push(alone(|| _ = black_box(pair.sign(black_box(signed.as_bytes())))));
    }
    let signature = median(signatures.iter().copied());
    let per_second = issued.median(|it| it.per_second);
    let rows = [
        (
            format!("issue, CPU µs a token ({per_second:.0} tokens/s at 16 connections)"),
            issued.median(|it| it.cpu),
            format!("{signature:.1} µs: one Ed25519 signature alone"),
            median(issued.0.iter().zip(&signatures).map(|(it, alone)| it.cpu / alone)),
        ),
        (
            "issue, CPU µs a token".to_owned(),
            issued.median(|it| it.cpu),
            format!("{:.1} µs: one verify over HTTP", verified.median(|it| it.cpu)),
            issued.ratio(&verified, |it| it.cpu),
        ),
    ];
    for (what, figure, baseline, value) in rows {
        let figure = format!("{figure:.1}");
        table.row(&Verdict { what, figure, baseline, value, target: Target::None }.cells());
    }
    process.stop()?;
    Ok(((token, signatures), verified))
}

/// A gateway checks the signature of a token, in place of a question.
fn offline(token: &str, verified: &Samples, table: &Table) -> Outcome<()> {
    let pair = key_pair()?;
    let (text, _) = token.rsplit_once('.').ok_or("no signature")?;
    let signature = Base64UrlUnpadded::encode_string(pair.sign(text.as_bytes()).as_ref());
    let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec());
    let check = || {
        let signature = Base64UrlUnpadded::decode_vec(black_box(&signature)).unwrap_or_default();
        assert!(public.verify(black_box(text.as_bytes()), &signature).is_ok(), "a good signature");
    };
    let figures: Vec<_> = (0..ROUNDS).map(|_| alone(check)).collect();
    let asked = |it: &Sample| it.cpu;
    let verdict = Verdict {
        what: "verify a token offline, µs of the gateway".to_owned(),
        figure: format!("{:.1}", median(figures.iter().copied())),
        baseline: format!("{:.1} µs of keyward: one verify over HTTP", verified.median(asked)),
        value: median(figures.iter().zip(&verified.0).map(|(own, it)| own / asked(it))),
        target: Target::None,
    };
    table.row(&verdict.cells());
    Ok(())
}

/// The list of a place for each key, of which each 1,000th is refused: its size, and the time to make it.
fn list(bench: &mut Bench, signed: f64, table: &Table) -> Outcome<()> {
    let count = bench.large();
    let site = bench.site(count)?;
    // As the exchange of each key would leave it. The exchanges themselves would take an hour.
    let database = Database::open(site.dir.join("keyward.db"))?;
    database.execute_batch(
        "DELETE FROM token_status;
         INSERT INTO token_status (idx, prefix)
         SELECT row_number() OVER (ORDER BY prefix) - 1, prefix FROM credentials;
         UPDATE token_status SET prefix = NULL, retired_ms = unixepoch() * 1000 WHERE idx % 1000 = 0;",
    )?;
    drop(database);
    let process = Process::serve(KEYWARD.as_ref(), &site.dir, &ISSUER)?;
    let mut connection = Connection::open(process.address)?;
    let request = Request::new("GET", "/token-status/1", None, None);
    let change = create(&site.root, "Changes the index", "orders:read");
    let (mut made, mut kept, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        connection.ask(&change)?;
        thread::sleep(LIST_AGE);
        for times in [&mut made, &mut kept] {
            let begin = Instant::now();
            bytes = connection.ask(&request)?.len();
            times.push(micros(begin.elapsed()));
        }
    }
    let places = thousands(count);
    let [made, kept] = [made, kept].map(|it| median(it) / 1_000.0);
    let rows = [
        (
            format!("list of {places} credentials, bytes"),
            thousands(bytes),
            format!("{} bytes: a bit for each", thousands(count / 8)),
            bytes as f64 / (count as f64 / 8.0),
        ),
        (
            format!("list of {places} credentials, ms until it is made"),
            format!("{made:.1}"),
            format!("{:.3} ms: one Ed25519 signature alone", signed / 1_000.0),
            made * 1_000.0 / signed,
        ),
        (
            "the same list from memory, ms".to_owned(),
            format!("{kept:.2}"),
            format!("{made:.1} ms: made"),
            kept / made,
        ),
    ];
    for (what, figure, baseline, value) in rows {
        table.row(&Verdict { what, figure, baseline, value, target: Target::None }.cells());
    }
    // The other tables measure the same directory.
    process.stop()?;
    Database::open(site.dir.join("keyward.db"))?.execute_batch("DELETE FROM token_status;")?;
    Ok(())
}
