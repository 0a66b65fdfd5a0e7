//! Sound data directories, and what damages them.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    os::unix::fs::{FileExt, FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Binary, Request, keyward_in};

pub const KEYS: &str = "/api/v1/api-keys";
const PAGE: u64 = 4096;

/// Sound data directories, and the keys that were created in them.
pub struct Sound {
    pub dir: tempfile::TempDir,
    pub root: String,
    pub keys: Vec<String>,
}

/// The data directory that a case starts from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Base {
    /// The server was stopped, so the database is one file.
    Stopped,
    /// The server was killed, so its last changes are in the write-ahead log.
    Killed,
}

impl Sound {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("killed");
        let variables =
            [("KEYWARD_PUBLIC_URL", "http://127.0.0.1:1"), ("KEYWARD_LOG_LEVEL", "warn")];
        let mut server = Binary::serve_with(&data, &variables);
        let root = server.root_key();
        let ask = |method: &str, path: &str, body: &Value| {
            Request::new(method, path).key(&root).json(body).send(server.address)
        };
        let mut keys = Vec::new();
        for number in 0..12 {
            let metadata = json!({ "filler": "x".repeat(900) });
            let body = json!({ "name": "a", "scopes": ["orders:read"], "metadata": metadata });
            let made = ask("POST", KEYS, &body).expect(201).json();
            keys.push(made["key"].as_str().unwrap().to_owned());
            if number == 5 {
                for job in ["tokens", "checkpoint", "upkeep"] {
                    assert!(keyward_in(&data, &["run-job", job]).status.success(), "{job}");
                }
            }
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let stopped = dir.path().join("stopped");
        copy(&data, &stopped);
        assert!(Binary::serve_with(&stopped, &variables).terminate().status.success());
        Self { dir, root, keys }
    }

    /// Returns a fresh copy of the directory.
    pub fn copy(&self, base: Base) -> PathBuf {
        let data = self.dir.path().join("data");
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        let base = if base == Base::Stopped { "stopped" } else { "killed" };
        copy(&self.dir.path().join(base), &data);
        data
    }
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Returns the content of every file. The lock holds the number of the last process, and the shared memory
/// is made anew at each start.
pub fn contents(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if ["keyward.lock", "keyward.db-shm"].contains(&&*name) {
            continue;
        }
        // A log without content is no change.
        if kind.is_file() && !(name == "keyward.db-wal" && fs::metadata(&path).unwrap().len() == 0)
        {
            found.insert(path.clone(), fs::read(path).unwrap());
        } else if kind.is_dir() || kind.is_fifo() || kind.is_symlink() {
            found.insert(path, Vec::new());
        }
    }
    found
}

/// A change that damages a data directory.
pub type Harm = Box<dyn Fn(&Path)>;

pub fn overwrite(file: &'static str, at: u64, bytes: Vec<u8>) -> Harm {
    Box::new(move |data| {
        let file = OpenOptions::new().write(true).open(data.join(file)).unwrap();
        file.write_all_at(&bytes, at).unwrap();
    })
}

/// Cuts a file to a part of its size, in percent, and then by so many bytes.
pub fn cut(file: &'static str, percent: u64, less: u64) -> Harm {
    Box::new(move |data| {
        let file = OpenOptions::new().write(true).open(data.join(file)).unwrap();
        file.set_len((file.metadata().unwrap().len() * percent / 100).saturating_sub(less))
            .unwrap();
    })
}

/// Puts something else in the place of a file.
pub fn put(file: &'static str, make: fn(&Path)) -> Harm {
    Box::new(move |data| {
        let path = data.join(file);
        // It may be absent.
        let _ = fs::remove_file(&path);
        make(&path);
    })
}

pub fn directory(path: &Path) {
    fs::create_dir(path).unwrap();
}

pub fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

pub fn lost_link(path: &Path) {
    symlink("/no/such/file", path).unwrap();
}

pub fn nothing(_: &Path) {}

pub fn garbage(path: &Path) {
    let bytes: Vec<u8> = (0..3000_u32).map(|it| (it * 167 % 251).to_le_bytes()[0]).collect();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

pub fn text(path: &Path) {
    fs::write(path, "This is another file.\n".repeat(500)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// SQLite takes a file of one byte for an empty one.
pub fn one_byte(path: &Path) {
    fs::write(path, "S").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

pub fn empty(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Damages the leftmost leaf of a table or an index.
pub fn leaf_of(name: &'static str) -> Harm {
    Box::new(move |data| {
        let path = data.join("keyward.db");
        let conn = Connection::open(&path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: u32 = conn.query_row(sql, [name], |row| row.get(0)).unwrap();
        let mut page = u64::from(page);
        conn.close().unwrap();
        let bytes = fs::read(&path).unwrap();
        // https://sqlite.org/fileformat2.html: interior pages have the types 2 and 5, and the number of
        // their rightmost child at offset 8.
        let at = |page: u64| usize::try_from((page - 1) * PAGE).unwrap();
        while [2, 5].contains(&bytes[at(page)]) {
            page = u32::from_be_bytes(bytes[at(page) + 8..][..4].try_into().unwrap()).into();
        }
        overwrite("keyward.db", (page - 1) * PAGE, vec![0xa5; 4096])(data);
    })
}
