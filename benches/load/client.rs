//! A small HTTP/1.1 client that sends requests as fast as it can and checks every answer.
//!
//! It uses one blocking thread for each connection, and requests that are built beforehand. Its own
//! cost is small and the same for every server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::Outcome;

/// No request takes longer, unless the server hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request as it goes over the wire, and its expected answer.
#[derive(Clone)]
pub struct Request {
    pub bytes: Vec<u8>,
    pub status: u16,
    /// The required beginning of the body.
    pub begins: Vec<u8>,
    /// A text that the headers must contain.
    pub holds: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str, key: Option<&str>, body: Option<&str>) -> Self {
        let key = key.map(|it| format!("X-API-Key: {it}\r\n")).unwrap_or_default();
        let about = body.map(|it| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", it.len())
        });
        let (about, body) = (about.unwrap_or_default(), body.unwrap_or_default());
        let text =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{key}{about}\r\n{body}");
        Self { bytes: text.into_bytes(), status: 200, begins: Vec::new(), holds: Vec::new() }
    }

    pub fn expecting(self, status: u16, begins: impl Into<Vec<u8>>) -> Self {
        Self { status, begins: begins.into(), ..self }
    }

    pub fn holding(self, header: impl Into<Vec<u8>>) -> Self {
        Self { holds: header.into(), ..self }
    }

    /// Adds a header line before the others.
    pub fn with(mut self, header: &str) -> Self {
        let line = self.bytes.iter().position(|it| *it == b'\n').map_or(0, |it| it + 1);
        self.bytes.splice(line..line, format!("{header}\r\n").into_bytes());
        self
    }
}

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 1024 * 1024], filled: 0 })
    }

    /// Sends the request and returns the body of its answer, after checking it.
    pub fn ask(&mut self, request: &Request) -> Outcome<&[u8]> {
        self.stream.write_all(&request.bytes)?;
        let (status, body) = self.answer()?;
        let head = &self.buffer[..body.start];
        let body = &self.buffer[body];
        let has_header = request.holds.is_empty()
            || head.windows(request.holds.len()).any(|it| it == request.holds);
        if status != request.status || !has_header || !body.starts_with(&request.begins) {
            let (asked, body) =
                (String::from_utf8_lossy(&request.bytes), String::from_utf8_lossy(body));
            let asked = asked.lines().next().unwrap_or_default();
            return Err(format!("{asked}: not {} but {status}: {body}", request.status).into());
        }
        Ok(body)
    }

    fn answer(&mut self) -> Outcome<(u16, std::ops::Range<usize>)> {
        self.filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            let from = self.filled.saturating_sub(3);
            self.filled += read;
            let end = self.buffer[from..self.filled].windows(4).position(|it| it == b"\r\n\r\n");
            if let Some(at) = end {
                break from + at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.get(9..12).ok_or("no status")?.parse()?;
        let mut lines = text.split("\r\n").filter_map(|it| it.split_once(": "));
        let length = lines
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |(_, length)| length.parse::<usize>())?;
        let end = head + length;
        if self.buffer.len() < end {
            return Err("an answer larger than a megabyte".into());
        }
        while self.filled < end {
            let read = self.stream.read(&mut self.buffer[self.filled..end])?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            self.filled += read;
        }
        Ok((status, head..end))
    }
}

/// How often requests are sent, and for how long.
#[derive(Clone, Copy)]
pub struct Pace {
    pub connections: usize,
    pub time: Duration,
    /// The time between the starts of two requests on one connection. Zero: the next request
    /// follows each answer at once.
    pub every: Duration,
}

impl Pace {
    pub fn full(connections: usize, time: Duration) -> Self {
        Self { connections, time, every: Duration::ZERO }
    }

    /// Adds a signal that ends the load early.
    pub fn until(self, stop: &AtomicBool) -> Load<'_> {
        Load { pace: self, stop: Some(stop) }
    }
}

pub struct Load<'a> {
    pace: Pace,
    stop: Option<&'a AtomicBool>,
}

impl From<Pace> for Load<'_> {
    fn from(pace: Pace) -> Self {
        Self { pace, stop: None }
    }
}

/// The answers to a load. Each one was checked.
#[derive(Default)]
pub struct Answers {
    pub elapsed: Duration,
    /// Sorted, in nanoseconds.
    pub latencies: Vec<u32>,
}

impl Answers {
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the latency that this share of the answers did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let at = (self.count() as f64 * share) as usize;
        let nanos = self.latencies.get(at.min(self.count().saturating_sub(1)));
        Duration::from_nanos(nanos.copied().unwrap_or_default().into())
    }
}

/// Sends random requests until the time is over. `begun` runs when all connections are open, and
/// `ended` after the last answer.
pub fn run<'a, T>(
    address: SocketAddr,
    requests: &[Request],
    load: impl Into<Load<'a>>,
    mut read_out: impl FnMut() -> Outcome<T>,
) -> Outcome<(Answers, T, T)> {
    let Load { pace, stop } = load.into();
    let mut connections = Vec::new();
    for _ in 0..pace.connections {
        connections.push(Connection::open(address)?);
    }
    let ready = Barrier::new(pace.connections + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(i, connection)| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    ask_until(connection, requests, pace, stop, i as u64)
                })
            })
            .collect();
        let before = read_out();
        let started = Instant::now();
        ready.wait();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.join().map_err(|_| "a client panicked")??);
        }
        let elapsed = started.elapsed();
        let after = read_out()?;
        latencies.sort_unstable();
        Ok((Answers { elapsed, latencies }, before?, after))
    })
}

fn ask_until(
    mut connection: Connection,
    requests: &[Request],
    pace: Pace,
    stop: Option<&AtomicBool>,
    seed: u64,
) -> Outcome<Vec<u32>> {
    let mut random = Random::new(seed);
    let mut latencies = Vec::new();
    let started = Instant::now();
    let mut now = started;
    let mut due = started;
    while now.duration_since(started) < pace.time
        && !stop.is_some_and(|it| it.load(Ordering::Relaxed))
    {
        connection.ask(random.pick(requests))?;
        let answered = Instant::now();
        latencies.push(nanos(answered.duration_since(now)));
        now = answered;
        if !pace.every.is_zero() {
            due += pace.every;
            thread::sleep(due.saturating_duration_since(now));
            now = Instant::now();
            due = due.max(now.checked_sub(pace.every).unwrap_or(now));
        }
    }
    Ok(latencies)
}

/// Sends each request once, over this many connections. Returns the answers in the order of
/// requests.
pub fn each(
    address: SocketAddr,
    requests: &[Request],
    connections: usize,
) -> Outcome<(Duration, Vec<Vec<u8>>)> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let parts = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                let next = &next;
                scope.spawn(move || -> Outcome<Vec<(usize, Vec<u8>)>> {
                    let mut connection = Connection::open(address)?;
                    let mut answers = Vec::new();
                    while let at = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(request) = requests.get(at)
                    {
                        answers.push((at, connection.ask(request)?.to_vec()));
                    }
                    Ok(answers)
                })
            })
            .collect();
        let parts = workers.into_iter().map(|it| it.join().map_err(|_| "a client panicked")?);
        parts.collect::<Outcome<Vec<_>>>()
    })?;
    let elapsed = started.elapsed();
    let mut answers: Vec<_> = parts.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(at, _)| *at);
    Ok((elapsed, answers.into_iter().map(|(_, answer)| answer).collect()))
}

pub fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// xorshift64*, which is good enough to choose keys. The same seed gives the same numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[((self.next() >> 32) as usize) % from.len()]
    }
}
