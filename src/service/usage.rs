//! The usage of keys: gathered in memory, stored every few seconds and at shutdown.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use crate::{
    domain::{
        id::{AccountId, KeyId},
        scope::ScopeBits,
        verdict::Verdict,
    },
    env::Timestamp,
    service::{
        Error, KeyAccess, Keyward, Principal, client_addresses::store_addresses,
        limits::store_windows,
    },
    store::{CredentialUses, Day, DayOfUse, IndexedCredential, ReadTx},
};

/// The credentials that were used since the last flush, each once.
#[derive(Debug, Default)]
pub(super) struct UsageRecorder {
    used: Mutex<Vec<Arc<IndexedCredential>>>,
    /// Held from taking uses until they are in the file or back in memory. A second flush waits, because
    /// its caller reads the file afterwards.
    flushing: Mutex<()>,
    /// Not set without a scheduler.
    flush_request: OnceLock<FlushRequest>,
}

/// Asks for a flush at once, without waiting for it.
struct FlushRequest(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for FlushRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlushRequest")
    }
}

impl UsageRecorder {
    /// Counts a verdict. Costs a few atomics, and a lock only for the first use since the last flush.
    ///
    /// The first use of a credential decides whether an older one may still rotate the key. A crash
    /// must not lose it, so it does not wait for the next flush.
    pub fn count(&self, entry: &Arc<IndexedCredential>, verdict: Verdict, now: Timestamp) {
        let Some(live) = entry.live() else { return };
        let is_first = live.count(verdict, now);
        if live.is_to_be_queued() {
            self.queue(entry);
        }
        if is_first
            && entry.key.in_rotation
            && let Some(FlushRequest(ask)) = self.flush_request.get()
        {
            ask();
        }
    }

    /// Records scopes that an operation used after its caller was counted.
    pub fn use_scopes(&self, entry: &Arc<IndexedCredential>, used: ScopeBits, now: Timestamp) {
        let Some(live) = entry.live() else { return };
        if live.use_scopes(used, now) && live.is_to_be_queued() {
            self.queue(entry);
        }
    }

    fn queue(&self, entry: &Arc<IndexedCredential>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(entry));
    }

    fn take(&self) -> Vec<Arc<IndexedCredential>> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, entries: Vec<Arc<IndexedCredential>>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
    }
}

impl Keyward {
    /// How long daily counts are kept.
    pub const USAGE_KEPT: Duration = Duration::from_hours(400 * 24);
    /// The most days that a caller can ask for at once.
    pub const MOST_DAYS: u32 = 366;

    /// Sets what is called when uses must be stored at once. The request is in the middle of a
    /// verification, so `ask` must not wait.
    pub fn on_flush_request(&self, ask: impl Fn() + Send + Sync + 'static) {
        // A process has one scheduler.
        let _ = self.usage.flush_request.set(FlushRequest(Box::new(ask)));
    }

    /// Stores the gathered uses. Returns how many credentials were used since the last time. Uses that
    /// cannot be stored are kept for the next time.
    pub fn flush_usage(&self) -> Result<u64, Error> {
        self.flush_usage_while(|| true)
    }

    /// As [`Keyward::flush_usage`], and asks `continues` between two batches, so that other writes
    /// never wait long. The uses that are left when it returns `false` are kept.
    pub(super) fn flush_usage_while(
        &self,
        mut continues: impl FnMut() -> bool,
    ) -> Result<u64, Error> {
        let _alone = self.usage.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.usage.take();
        // In the order of their rows in the file: neighbours share a page, and a page is written once.
        left.sort_unstable_by_key(|it| it.key.id);
        let mut stored = 0;
        while !left.is_empty() && (stored == 0 || continues()) {
            let batch_len = left.len().min(self.settings.batch as usize);
            let batch: Vec<_> = left.drain(..batch_len).collect();
            let uses = self.taken(&batch);
            let written = self.system_change({
                let index = Arc::clone(self.store.index());
                let (uses, batch) = (uses.clone(), batch.clone());
                let (authorizer, settings) =
                    (Arc::clone(&self.authorizer), Arc::clone(&self.settings));
                move |tx| {
                    tx.add_usage(&uses)?;
                    tx.add_scope_usage(&authorizer.catalogue, &uses)?;
                    store_addresses(tx, &uses, settings.client_addresses)?;
                    store_windows(tx, &index, &batch)
                }
            });
            if let Err(err) = written {
                for (entry, it) in batch.iter().zip(&uses) {
                    entry.live().into_iter().for_each(|live| live.give_back(&it.uses));
                }
                self.usage.put_back(batch);
                self.usage.put_back(left);
                return Err(err);
            }
            stored += batch_len as u64;
        }
        self.usage.put_back(left);
        self.announce_new_addresses(continues)?;
        Ok(stored)
    }

    /// Takes what has to be stored of these credentials.
    fn taken(&self, used: &[Arc<IndexedCredential>]) -> Vec<CredentialUses> {
        let now = self.env.time.now();
        let taken = |it: &Arc<IndexedCredential>| CredentialUses {
            key: it.key.id,
            prefix: it.prefix,
            uses: it.live().map(|live| live.take(now)).unwrap_or_default(),
        };
        used.iter().map(taken).collect()
    }

    /// Returns the outcomes of verification on each of the last `days` days, the last one today.
    /// Days without use have zeros.
    pub fn usage_of(
        &self,
        caller: &Principal,
        id: KeyId,
        days: u32,
    ) -> Result<Vec<DayOfUse>, Error> {
        self.usage_from(days, |tx, first| {
            self.authorizer.accessible_key(tx, caller, id, KeyAccess::Read)?;
            Ok(tx.usage_of(id, first)?)
        })
    }

    /// Returns the sums of the same over the stored keys of an account, revoked ones included. Does
    /// not check what the caller may do.
    pub fn usage_of_account(&self, id: AccountId, days: u32) -> Result<Vec<DayOfUse>, Error> {
        self.usage_from(days, |tx, first| Ok(tx.usage_of_account(id, first)?))
    }

    /// Returns the days that `read` finds, and those without use between them.
    fn usage_from(
        &self,
        days: u32,
        read: impl Fn(&ReadTx<'_>, Day) -> Result<Vec<DayOfUse>, Error>,
    ) -> Result<Vec<DayOfUse>, Error> {
        self.flush_usage()?; // The file must know what memory knows.
        let today = Day::of(self.env.time.now());
        let first = today.before(days.clamp(1, Self::MOST_DAYS) - 1);
        let found = self.store.read(|tx| read(tx, first))?;
        let mut all = Vec::new();
        let mut day = first;
        while day <= today {
            let counted = found.iter().find(|it| it.day == day).copied();
            all.push(counted.unwrap_or(DayOfUse { day, counts: Default::default() }));
            day = day.next();
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
        thread,
    };

    use crate::{
        domain::{event::Subject, policy::RequiredScopes, rate_limit::RateLimit, verdict::Verdict},
        service::{
            Error, KeyPatch,
            tests::{Bench, change},
        },
        store::WindowUse,
    };

    /// Other first uses wait for the schedule: after a start there may be a million.
    #[test]
    fn only_the_first_use_of_a_credential_in_a_rotation_asks_for_a_flush() {
        let bench = Bench::new();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        bench.app.on_flush_request(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let key = bench.create();
        bench.use_once(&key);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "it has no older credential");
        let fresh = bench.rotate(&key, 3600);
        bench.use_once(&fresh);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let identity = bench.app.identify(fresh.plaintext.expose().as_bytes());
        bench.app.judge(&identity, RequiredScopes::default());
        assert_eq!(asked.load(Ordering::Relaxed), 1, "it was used before");
        bench.use_once(&bench.rotate(&fresh, 0));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "no older credential is valid");
    }

    /// The second of two flushes must not store an older use than the first.
    #[test]
    fn what_is_stored_of_a_rate_limit_is_the_use_at_the_write() {
        let bench = Bench::new();
        let (app, key) = (&*bench.app, bench.create());
        let rate = RateLimit::new(5, 86_400).unwrap();
        let patch = KeyPatch { rate_limit: Some(Some(rate)), ..KeyPatch::default() };
        app.update_key(&bench.operator, change(&key), patch).unwrap();
        bench.use_once(&key);
        let (held, writer_is_held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                app.system_change(move |_| {
                    held.send(()).unwrap();
                    released.recv().unwrap();
                    Ok::<_, Error>(())
                })
            });
            writer_is_held.recv().unwrap();
            let (tell, told) = mpsc::channel();
            let flush = scope.spawn(move || {
                tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
                app.flush_usage().unwrap()
            });
            let state = Path::new("/proc").join(told.recv().unwrap()).join("stat");
            let sleeps = || fs::read_to_string(&state).unwrap().contains(") S ");
            while !app.usage.used.lock().unwrap().is_empty() || !sleeps() {
                thread::yield_now();
            }
            // The flush waits for the writer thread.
            let identity = app.identify(key.plaintext.expose().as_bytes());
            for _ in 0..3 {
                let found = app.judge(&identity, RequiredScopes::default());
                assert_eq!(found.verdict, Verdict::Valid);
            }
            release.send(()).unwrap();
            flush.join().unwrap();
        });
        let (subject, now) = (Subject::Key(key.view.key.id), app.env.time.now());
        let window = WindowUse { start: rate.window_start(now), used: 0 };
        let told = app.store.read::<_, Error>(|tx| Ok(tx.told_of_window(subject, window, rate)?));
        assert_eq!(told.unwrap(), 80, "4 of 5 are stored, not 1");
    }
}
