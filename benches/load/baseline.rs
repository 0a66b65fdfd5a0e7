//! The baselines for keyward: the smallest possible server, and the obvious implementation.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::KeepAlive, web};
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use super::{
    Outcome,
    client::{Answers, nanos},
};

pub const FLOOR: &str = "floor";
pub const SQLITE: &str = "sqlite";
pub const AUTHZ: &str = "authz";
/// The key id in every answer of [`AUTHZ`].
pub const KEY_ID: &str = "key_01KYq8Zt3mV5xW7aBcDeFg";
const TARGET: &str = "/api/v1/api-keys/verify";

/// The body of a verify request, read as cheaply as serde can.
#[derive(Deserialize)]
struct Question<'a> {
    key: &'a str,
    #[serde(borrow)]
    scopes: Vec<&'a str>,
}

/// Serves one of the baselines until the process is killed.
pub fn serve(name: &str, argument: PathBuf) -> Outcome<()> {
    let workers = std::thread::available_parallelism()?.get();
    let sqlite = name == SQLITE;
    let fixed = name == FLOOR;
    let answer = if fixed { std::fs::read(&argument)?.into() } else { web::Bytes::new() };
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let (answer, table) =
                (web::Data::new(answer.clone()), web::Data::new(argument.clone()));
            let handler = if sqlite { web::post().to(look_up) } else { web::post().to(parse_only) };
            App::new()
                .app_data(answer)
                .app_data(table)
                .route("/authz/nginx", web::get().to(authorize_only))
                .route(TARGET, handler)
        });
        let server = server
            .workers(workers)
            .keep_alive(KeepAlive::Timeout(Duration::from_secs(75)))
            .bind("127.0.0.1:0")?;
        println!("http://{}", server.addrs().first().ok_or("no address")?);
        Ok(server.run().await?)
    })
}

async fn parse_only(body: web::Bytes, answer: web::Data<web::Bytes>) -> HttpResponse {
    match serde_json::from_slice::<Question<'_>>(&body) {
        Ok(it) if !it.key.is_empty() && it.scopes.len() == 1 => {
            HttpResponse::Ok().content_type("application/json").body(web::Bytes::clone(&answer))
        }
        Ok(_) | Err(_) => HttpResponse::BadRequest().finish(),
    }
}

async fn look_up(body: web::Bytes, table: web::Data<PathBuf>) -> HttpResponse {
    thread_local!(static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) });
    let Ok(question) = serde_json::from_slice::<Question<'_>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let found = CONNECTION.with_borrow_mut(|held| {
        if held.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let fresh = Connection::open_with_flags(&**table, flags)?;
            fresh.pragma_update(None, "mmap_size", 1024 * 1024 * 1024)?;
            *held = Some(fresh);
        }
        let connection = held.as_ref().ok_or(rusqlite::Error::InvalidQuery)?;
        let mut statement = connection.prepare_cached("SELECT answer FROM keys WHERE key = ?1")?;
        statement.query_row([question.key], |row| row.get::<_, Vec<u8>>(0))
    });
    match found {
        Ok(answer) => HttpResponse::Ok().content_type("application/json").body(answer),
        Err(_) => HttpResponse::NotFound().finish(),
    }
}

/// Reads the header with the key and answers as keyward does, always with the same identity.
async fn authorize_only(req: HttpRequest) -> HttpResponse {
    match req.headers().get("x-api-key") {
        Some(it) if !it.is_empty() => HttpResponse::Ok()
            .insert_header(("x-keyward-key-id", KEY_ID))
            .insert_header(("x-keyward-key-name", "Production%20Integration"))
            .insert_header(("x-keyward-account-id", "acct_01KYq8Zt3mV5xW7aBcDeFg"))
            .insert_header(("x-keyward-external-id", "-"))
            .insert_header(("x-keyward-scopes", "orders:read"))
            .insert_header(("x-keyward-key-expires-at", "-"))
            .insert_header(("cache-control", "no-store"))
            .insert_header(("x-request-id", "req_0123456789abcdef0123"))
            .finish(),
        _ => HttpResponse::Unauthorized().finish(),
    }
}

/// Fills the table of the baseline `sqlite`.
pub fn fill(table: &Path, rows: impl IntoIterator<Item = (String, Vec<u8>)>) -> Outcome<()> {
    let mut connection = Connection::open(table)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(
        "CREATE TABLE keys (key TEXT PRIMARY KEY, answer BLOB NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    let transaction = connection.transaction()?;
    for row in rows {
        transaction.execute("INSERT INTO keys (key, answer) VALUES (?1, ?2)", row)?;
    }
    Ok(transaction.commit()?)
}

/// Durable writes without a server: a row for a key and a row for its event in one transaction,
/// on one connection.
pub struct RawWriter {
    connection: Connection,
    written: u64,
}

impl RawWriter {
    pub fn open(dir: &Path) -> Outcome<Self> {
        let connection = Connection::open(dir.join("raw.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, subject TEXT, data TEXT, hash BLOB) STRICT;
             CREATE INDEX events_by_subject ON events (subject, seq);
             CREATE TABLE keys (prefix TEXT PRIMARY KEY, name TEXT, scopes TEXT, phc TEXT,
                 created_at_ms INTEGER) STRICT, WITHOUT ROWID;",
        )?;
        Ok(Self { connection, written: 0 })
    }

    pub fn write(&mut self) -> Outcome<Duration> {
        self.written += 1;
        // The prefixes come in random order, as keyward's do.
        let prefix = format!("rg_{:016x}", self.written.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (data, phc) = ("x".repeat(300), "y".repeat(100));
        let started = Instant::now();
        let transaction = self.connection.transaction()?;
        transaction
            .prepare_cached("INSERT INTO events (subject, data, hash) VALUES (?1, ?2, ?3)")?
            .execute((&prefix, &data, [7_u8; 32]))?;
        transaction
            .prepare_cached(
                "INSERT INTO keys (prefix, name, scopes, phc, created_at_ms)
                 VALUES (?1, 'Production Integration', 'orders:read', ?2, ?3)",
            )?
            .execute((&prefix, &phc, 1_800_000_000_000_i64))?;
        transaction.commit()?;
        Ok(started.elapsed())
    }

    pub fn run(&mut self, time: Duration) -> Outcome<Answers> {
        let started = Instant::now();
        let mut latencies = Vec::new();
        while started.elapsed() < time {
            latencies.push(nanos(self.write()?));
        }
        let elapsed = started.elapsed();
        latencies.sort_unstable();
        Ok(Answers { elapsed, latencies })
    }
}
