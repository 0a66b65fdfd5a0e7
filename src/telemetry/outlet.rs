//! Writing text that another program reads: standard error, the journal, the supervisor's socket.
//!
//! Such a reader may pause for any time. Therefore one thread writes, and no other thread waits for
//! it. Text that does not fit into the queue is dropped and counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

/// The memory of a message besides its text, so that many short messages are bounded too.
const OVERHEAD: usize = 64;

enum Message {
    Text(Vec<u8>),
    /// Asks for an answer once everything before it is written.
    Flush(Sender<()>),
}

/// A bounded queue to a thread that writes. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Outlet {
    queue: Sender<Message>,
    counts: Arc<Counts>,
    /// The most bytes that may wait.
    limit: usize,
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Outlet {
    /// Starts the thread. At most `limit` bytes wait in memory.
    ///
    /// `write` may block. It runs on the thread and gets each text with the number of texts that
    /// were dropped since its last call. The thread ends when the last clone of the outlet is gone.
    ///
    /// # Errors
    ///
    /// The operating system refuses a new thread.
    pub fn start(
        name: &str,
        limit: usize,
        write: impl FnMut(&[u8], u64) + Send + 'static,
    ) -> Result<Self, io::Error> {
        let (queue, messages) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_all(&messages, &shared, write))?;
        Ok(Self { queue, counts, limit })
    }

    /// Queues the text, or drops it if too much waits already. Never blocks.
    pub fn offer(&self, text: Vec<u8>) {
        let size = text.len() + OVERHEAD;
        let before = self.counts.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before + size <= self.limit;
        // The thread ends only when the process ends.
        if !fits || self.queue.send(Message::Text(text)).is_err() {
            self.counts.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of texts that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything that was offered before is written, but not longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, wait) = mpsc::channel();
        if self.queue.send(Message::Flush(done)).is_ok() {
            // The timeout is for a reader that has paused.
            let _ = wait.recv_timeout(patience);
        }
    }
}

fn write_all(messages: &Receiver<Message>, counts: &Counts, mut write: impl FnMut(&[u8], u64)) {
    let mut reported = 0;
    for message in messages {
        match message {
            Message::Text(text) => {
                let dropped = counts.dropped.load(Ordering::Relaxed);
                write(&text, dropped - reported);
                reported = dropped;
                counts.waiting_bytes.fetch_sub(text.len() + OVERHEAD, Ordering::Relaxed);
            }
            Message::Flush(done) => {
                // An error means that the caller waits no longer.
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn texts_arrive_in_order() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&written);
        let write =
            move |text: &[u8], dropped| shared.lock().unwrap().push((text.to_vec(), dropped));
        let outlet = Outlet::start("test", 4096, write).unwrap();
        outlet.offer(b"one".to_vec());
        outlet.offer(b"two".to_vec());
        outlet.flush(PATIENCE);
        assert_eq!(*written.lock().unwrap(), [(b"one".to_vec(), 0), (b"two".to_vec(), 0)]);
    }

    #[test]
    fn a_reader_that_pauses_delays_no_caller_and_learns_what_it_missed() {
        let (release, gate) = mpsc::channel::<()>();
        let (seen, losses) = mpsc::channel();
        let write = move |_: &[u8], dropped| {
            let _ = gate.recv();
            let _ = seen.send(dropped);
        };
        let outlet = Outlet::start("test", 10 * (OVERHEAD + 1), write).unwrap();
        for _ in 0..1_000 {
            outlet.offer(b"x".to_vec());
        }
        // Ten fit; the one that is being written still counts as waiting.
        assert_eq!(outlet.dropped(), 990);
        outlet.flush(MOMENT);
        for _ in 0..11 {
            release.send(()).unwrap();
        }
        outlet.flush(PATIENCE);
        outlet.offer(b"y".to_vec());
        outlet.flush(PATIENCE);
        assert_eq!(losses.iter().take(11).sum::<u64>(), 990);
        assert_eq!(outlet.dropped(), 990, "there is room again");
    }
}
