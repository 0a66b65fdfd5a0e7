//! The order in which the index takes over places, keys and accounts of one commit.

use std::{net::SocketAddr, sync::Arc};

use super::*;
use crate::{
    config::Config,
    domain::{
        address_list::AddressList,
        event::{EventSource, EventType, NewEvent},
        id::KeyId,
        scope::Catalogue,
    },
    env::{Env, ManualClock, SeededEntropy, Timekeeper},
    server::{Instance, Sources},
    store::{Store, StoreWriter, WriteTx},
};

/// A database with one key. The file is gone with the directory.
struct Bench {
    store: Store,
    writer: StoreWriter,
    key: KeyId,
    prefix: KeyPrefix,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
        let config = Config { listen, data_dir: data_dir.clone(), ..Config::default() };
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_767_225_600_000)));
        let entropy = Arc::new(SeededEntropy::new(1));
        let time = Arc::new(Timekeeper::start(Arc::clone(&clock) as _, None));
        let env = Env { time, entropy: Arc::clone(&entropy) as _ };
        let instance = Instance::open(&config, Sources { clock, entropy }).unwrap();
        let root = instance.first_start(|_| Ok(())).unwrap().unwrap();
        let (key, prefix) = (root.id, root.plaintext.prefix());
        instance.close().unwrap();
        drop(instance);
        let catalogue = Arc::new(Catalogue::new([]));
        let file = data_dir.join("keyward.db");
        let (store, writer) = Store::open(&file, &env, &catalogue).unwrap();
        Self { store, writer, key, prefix, _dir: dir }
    }

    /// Makes this change in one commit. Returns what the index takes over, in its order.
    fn commit(
        &self,
        change: impl FnOnce(&WriteTx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Vec<String> {
        let index = Arc::clone(self.store.index());
        let read = move |tx: &WriteTx<'_>| {
            change(tx)?;
            let images = index.images(tx, &mut tx.touched.borrow_mut())?;
            Ok::<_, StoreError>(images.iter().map(label).collect())
        };
        self.writer.write(read).unwrap()
    }

    /// Lets the key be used from this address only.
    fn narrow(key: KeyId, tx: &WriteTx<'_>, address: &str) -> Result<(), StoreError> {
        let mut record = tx.key(key)?.unwrap();
        record.key.allowed_ips = AddressList::from_stored(address);
        assert!(record.key.allowed_ips.is_some());
        let data = serde_json::json!({});
        let event = NewEvent::about_key(EventType::ApiKeyUpdated, &record.key, data);
        tx.update_key(&record.key, &tx.record(&EventSource::CLI, &event)?)
    }
}

fn label(image: &Image) -> String {
    match image {
        Image::Credential(_) => "key".to_owned(),
        Image::StatusPlace(place, StatusPlace::Given(_)) => format!("given {place}"),
        Image::StatusPlace(place, StatusPlace::Retired(_)) => format!("retired {place}"),
        Image::StatusPlace(place, StatusPlace::Free) => format!("free {place}"),
        Image::NoCredential(_) | Image::Account(_) | Image::NoAccount(_) => "other".to_owned(),
    }
}

/// A hash set has another order each time.
const ROUNDS: usize = 20;

#[test]
fn a_place_that_begins_comes_after_what_its_key_lost_in_the_same_commit() {
    for _ in 0..ROUNDS {
        let bench = Bench::new();
        let (key, prefix) = (bench.key, bench.prefix);
        let order = bench.commit(move |tx| {
            tx.give_status_place(prefix)?;
            Bench::narrow(key, tx, "203.0.113.0/24")
        });
        assert_eq!(order, ["key", "given 0"]);
        // Later, the place ends before the key shows what it lost.
        let order = bench.commit(move |tx| Bench::narrow(key, tx, "203.0.113.7/32"));
        assert_eq!(order, ["retired 0", "key"]);
        assert_eq!(bench.store.index().status_place_of(prefix), None);
    }
}

#[test]
fn a_place_that_is_given_and_taken_in_one_commit_is_retired() {
    for _ in 0..ROUNDS {
        let bench = Bench::new();
        let (key, prefix) = (bench.key, bench.prefix);
        bench.commit(move |tx| tx.give_status_place(prefix).map(drop));
        let mut order = bench.commit(move |tx| {
            tx.retire_status_places(&[prefix])?;
            tx.give_status_place(prefix)?;
            Bench::narrow(key, tx, "203.0.113.0/24")
        });
        order[..2].sort();
        assert_eq!(order, ["retired 0", "retired 1", "key"]);
        let index = bench.store.index();
        assert_eq!(index.status_place_of(prefix), None, "as the file says");
        bench.commit(move |tx| tx.give_status_place(prefix).map(drop));
        assert_eq!(index.status_place_of(prefix), Some(2));
    }
}
