//! The names of all files in the data directory.

use std::path::{Path, PathBuf};

/// Finds the files of a data directory. It reads and writes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DataLayout {
    root: PathBuf,
}

macro_rules! files {
    ($($(#[$doc:meta])* $file:ident = $name:literal;)*) => {
        impl DataLayout {
            $(
                $(#[$doc])*
                pub fn $file(&self) -> PathBuf {
                    self.root.join($name)
                }
            )*
        }
    };
}

files! {
    database = "keyward.db";
    /// SQLite's write-ahead log.
    wal = "keyward.db-wal";
    /// SQLite's rollback journal, while it makes a new database.
    journal = "keyward.db-journal";
    /// The memory that the connections of SQLite share.
    shm = "keyward.db-shm";
    /// The copy of a backup that is about to replace the database.
    restored_database = "keyward.restored";
    /// Locked by the process that owns the directory. It holds the number of that process.
    lock = "keyward.lock";
    /// The first root key until its first use, if no terminal could show it.
    initial_root_key = "initial-root-key";
    /// The newest checkpoint, to be copied to another place.
    checkpoint = "checkpoint";
    /// The private key that signs checkpoints, unless the configuration names another file.
    checkpoint_key = "checkpoint.key";
    /// The public key that checks the signatures of checkpoints.
    checkpoint_public_key = "checkpoint.pub";
    /// The private keys that sign tokens.
    token_keys = "token.keys";
    /// Where backups go by default.
    backups = "backups";
    /// Where the server answers commands.
    control_socket = "control.sock";
    /// Where a command answers itself if no server runs. It has another name so that no program
    /// takes it for a server, which would go on answering.
    command_socket = "command.sock";
}

impl DataLayout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that keeps the files that a restore replaces. `instant` is its time.
    pub fn replaced(&self, instant: &str) -> PathBuf {
        self.root.join(format!("replaced-{instant}"))
    }
}
