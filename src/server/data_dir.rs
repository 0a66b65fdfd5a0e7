//! The directory that one process owns: the database, the lock, the control socket.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{data_files, user_name};
use crate::{
    domain::checkpoint::{CheckpointError, CheckpointKey, CheckpointSigner},
    env::Env,
    http::control::SOCKET,
    service::Checkpointer,
};

/// The room for a path in an address, less the byte that ends it (unix(7)).
const LONGEST_SOCKET: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by process {holder}, which is another keyward")]
    InUse { path: PathBuf, holder: String },
    #[error("{path} cannot be used")]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not there, which signed the checkpoints. If it is a credential of the service, \
         start keyward by its unit; if it is gone, put it back, or, to go on with a new key, remove \
         {public} too and tell the auditors"
    )]
    NoCheckpointKey { path: PathBuf, public: PathBuf },
    #[error("{path}, the key that signs checkpoints, cannot be read")]
    KeyFile { path: PathBuf, source: io::Error },
    #[error("{path} holds no key for checkpoints: {source}")]
    CheckpointKey { path: PathBuf, source: CheckpointError },
    #[error("{path} can be read by other users; allow its owner, or its group, only (chmod 640)")]
    Exposed { path: PathBuf },
    #[error(
        "the data directory {path} belongs to the user {owner}; the server could not read what this \
         user writes there"
    )]
    NotOwner { path: PathBuf, owner: String },
    #[error(
        "the path of the data directory is too long: the control socket {socket} would have {} \
         bytes, and a Unix socket has at most {LONGEST_SOCKET}",
        socket.as_os_str().len()
    )]
    TooLong { socket: PathBuf },
    #[error(
        "{path} belongs to {owner}, and the data directory {dir} to {wanted}: `chown {wanted} {path}`"
    )]
    WrongOwner { path: PathBuf, owner: String, dir: PathBuf, wanted: String },
    #[error("{path} cannot be read and written by its owner: `chmod 600 {path}`")]
    Closed { path: PathBuf },
    #[error("{path} is not a file")]
    NoFile { path: PathBuf },
    #[error(
        "other users may write to the data directory {path}: `chmod 700 {path}`, and look for files \
         that are not yours"
    )]
    OpenToOthers { path: PathBuf },
    #[error("the configured key prefix cannot be used")]
    KeyPrefix,
}

pub(super) const LOCK: &str = "keyward.lock";

impl DataDirError {
    /// Whether a key is not there for this user to see, which does not mean that it is bad.
    pub fn is_out_of_sight(&self) -> bool {
        let Self::KeyFile { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }
}

/// A data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock goes with the file, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Whether a directory of this name can be one, before anything is made.
    pub fn check(path: &Path) -> Result<(), DataDirError> {
        let socket = path.join(SOCKET);
        let fits = SocketAddr::from_pathname(&socket).is_ok();
        if fits { Ok(()) } else { Err(DataDirError::TooLong { socket }) }
    }

    /// Makes the directory if there is none, and takes it for this process alone.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        Self::check(path)?;
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let owner = fs::metadata(path).map_err(unusable)?.uid();
        let stranger = owner != rustix::process::geteuid().as_raw();
        let not_owner =
            || DataDirError::NotOwner { path: path.to_owned(), owner: user_name(owner) };
        if stranger && !path.join(LOCK).exists() {
            return Err(not_owner());
        }
        if let Some(fault) = data_files::faults(path).into_iter().find(|_| !stranger) {
            return Err(fault);
        }
        let mut lock = open_lock(&path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) if stranger => return Err(not_owner()),
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(unusable)?;
                let holder = holder.trim().to_owned();
                return Err(DataDirError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut note = || {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", process::id())
        };
        if let Err(err) = note() {
            // It is locked all the same; on a full disk there may be no room for the number.
            let error = &err as &dyn std::error::Error;
            tracing::warn!(error, "the lock of the data directory cannot say who holds it");
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// As [`DataDir::take`], but in turn: while somebody holds it who answers nothing, a command or a
    /// server that starts or stops, tries again for as long as `wait` says, which takes its time.
    pub fn take_in_turn(path: &Path, wait: &mut dyn FnMut() -> bool) -> Result<Self, DataDirError> {
        loop {
            match Self::take(path) {
                Err(DataDirError::InUse { .. }) if !Self::answers(path) && wait() => (),
                outcome => return outcome,
            }
        }
    }

    /// Whether a server can be asked that has the directory at `path`.
    pub fn answers(path: &Path) -> bool {
        UnixStream::connect(Self::socket_in(path)).is_ok()
    }

    /// The process that has the directory at `path` and answers nothing, if there is one.
    pub fn silent_holder(path: &Path) -> Option<DataDirError> {
        let mut lock = open_to_ask(&path.join(LOCK)).ok()?;
        // Given back at once: a start that comes in between waits for it.
        if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) || Self::answers(path) {
            return None;
        }
        let mut holder = String::new();
        lock.read_to_string(&mut holder).ok()?;
        Some(DataDirError::InUse { path: path.to_owned(), holder: holder.trim().to_owned() })
    }

    /// The control socket of the server that has the directory at `path`.
    pub fn socket_in(path: &Path) -> PathBuf {
        path.join(SOCKET)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("keyward.db")
    }

    /// Where the first root key waits for its first use, if nobody could be shown it.
    pub fn initial_key(&self) -> PathBuf {
        self.path.join("initial-root-key")
    }

    /// The newest checkpoint, for whoever copies it to somewhere else.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// Who signs checkpoints, by the key in `file`, or else in this directory, where it is made if
    /// there never was one. What is needed to check signatures is left beside it.
    pub fn checkpointer(
        &self,
        file: Option<&Path>,
        env: &Env,
    ) -> Result<Checkpointer, DataDirError> {
        let public = self.public_key();
        let signer = match find_signer(&self.path, file) {
            Err(DataDirError::KeyFile { path, source })
                if source.kind() == io::ErrorKind::NotFound && file.is_none() =>
            {
                if public.exists() {
                    return Err(DataDirError::NoCheckpointKey { path, public });
                }
                let signer = CheckpointSigner::generate(&log_name(env), &*env.entropy);
                let unusable = |source| DataDirError::Unusable { path: path.clone(), source };
                write_new(&path, 0o600, &signer.expose()).map_err(unusable)?;
                signer
            }
            outcome => outcome?,
        };
        let text = format!("{}\n", signer.public());
        if fs::read_to_string(&public).ok().as_deref() != Some(&text) {
            let unusable = |source| DataDirError::Unusable { path: public.clone(), source };
            fs::write(&public, &text).map_err(unusable)?;
        }
        Ok(Checkpointer::new(signer, self.checkpoint()))
    }

    /// As [`DataDir::checkpointer`], for somebody who may not see the key, or sees one that is not
    /// the server's: signing can wait for the server, and `checkpoint.pub` is the server's to write.
    pub fn checkpointer_at_hand(
        &self,
        file: Option<&Path>,
        env: &Env,
    ) -> Result<Checkpointer, DataDirError> {
        let public = fs::read_to_string(self.public_key()).ok();
        let Some(public) = public.and_then(|it| CheckpointKey::parse(&it).ok()) else {
            return self.checkpointer(file, env);
        };
        match find_signer(&self.path, file) {
            Ok(signer) if *signer.public() == public => {
                Ok(Checkpointer::new(signer, self.checkpoint()))
            }
            Err(err) if !err.is_out_of_sight() => Err(err),
            Ok(_) | Err(_) => Ok(Checkpointer::without_signer(public, self.checkpoint())),
        }
    }

    fn public_key(&self) -> PathBuf {
        self.path.join("checkpoint.pub")
    }

    pub fn control_socket(&self) -> PathBuf {
        Self::socket_in(&self.path)
    }

    /// Where a command answers itself. Under a name of its own: nobody shall take it for a server,
    /// which goes on answering.
    pub fn command_socket(&self) -> PathBuf {
        self.path.join("command.sock")
    }

    /// Binds one of the two sockets for the owner alone. One that was left behind is nobody's: the
    /// lock is ours.
    pub fn listen_at(&self, path: &Path) -> Result<UnixListener, io::Error> {
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => (),
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// Reads the key that signs checkpoints, from `file` or else from the data directory `dir`.
pub fn find_signer(dir: &Path, file: Option<&Path>) -> Result<CheckpointSigner, DataDirError> {
    let own = dir.join("checkpoint.key");
    let path = file.unwrap_or(&own);
    let unreadable = |source| DataDirError::KeyFile { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)?;
    if fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o007 != 0 {
        return Err(DataDirError::Exposed { path: path.to_owned() });
    }
    let wrong = |source| DataDirError::CheckpointKey { path: path.to_owned(), source };
    CheckpointSigner::parse(&text).map_err(wrong)
}

/// A name that no other log has.
fn log_name(env: &Env) -> String {
    let mut random = [0; 8];
    env.entropy.fill(&mut random);
    format!("keyward-{:016x}", u64::from_be_bytes(random))
}

/// On a read-only file system a lock that is there already will do.
fn open_lock(path: &Path) -> Result<File, DataDirError> {
    let mut writing = OpenOptions::new();
    writing.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = match writing.custom_flags(no_link()).open(path) {
        Err(err) if err.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            open_to_ask(path).map_err(|_| err)
        }
        opened => opened,
    };
    lock.map_err(|source| DataDirError::Unusable { path: path.to_owned(), source })
}

fn open_to_ask(path: &Path) -> Result<File, io::Error> {
    OpenOptions::new().read(true).custom_flags(no_link()).open(path)
}

fn no_link() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), io::Error> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for socket in [self.control_socket(), self.command_socket()] {
            // Nobody listens any more; the next owner would remove it as well.
            let _ = fs::remove_file(socket);
        }
    }
}
