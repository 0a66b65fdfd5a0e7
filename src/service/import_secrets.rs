//! What imported keys are found by: a secret in the database, and one in a file beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::{
    domain::imported_key::{self, Tagger},
    service::{Error, Keyward},
    store::{LogFile, ReadTx, StoreError},
};

/// Why keys that were imported as they are could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ImportSecretError {
    #[error(
        "{path} is gone, and without it no key can be found that was imported as it is. Put it back \
         from where you keep a copy; or, to give these keys up, put an empty file in its place. An old \
         file that is imported after that could bring a revoked key back"
    )]
    Gone { path: PathBuf },
    #[error("{path} is not the file under which the keys in this database were imported")]
    Other { path: PathBuf },
    #[error("{path} can be read by other users; allow its owner only (chmod 600)")]
    Exposed { path: PathBuf },
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Secret = Zeroizing<[u8; 32]>;

impl Keyward {
    /// To be called once, before anything is verified.
    pub fn load_import_secrets(&self) -> Result<(), ImportSecretError> {
        let path = &self.settings.import_key_file;
        let tagger = self.store.read(|tx| find_tagger(path, tx))?;
        self.tagger.store(tagger.map(Arc::new));
        Ok(())
    }

    /// What finds the keys that are about to be imported; made if it is missing. A rehearsal makes
    /// secrets that nobody keeps.
    pub(super) fn tagger(&self, for_texts: bool, rehearsal: bool) -> Result<Arc<Tagger>, Error> {
        let _turn = self.import_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.tagger.load_full();
        if let Some(known) = &known
            && (!for_texts || known.knows_texts())
        {
            return Ok(Arc::clone(known));
        }
        let mut tagger = match known {
            Some(known) => (*known).clone(),
            None if rehearsal => Tagger::new(*self.fresh_secret()),
            None => {
                let fresh = *self.fresh_secret();
                let secret =
                    self.system_change::<_, Error>(move |tx| Ok(tx.import_secret(fresh)?))?;
                Tagger::new(secret)
            }
        };
        if for_texts {
            let secret =
                if rehearsal { self.fresh_secret() } else { self.make_secret_for_texts()? };
            tagger = tagger.with_texts(*secret);
        }
        let tagger = Arc::new(tagger);
        if !rehearsal {
            self.tagger.store(Some(Arc::clone(&tagger)));
        }
        Ok(tagger)
    }

    /// The file is on the disk before the database says that there is one.
    fn make_secret_for_texts(&self) -> Result<Secret, Error> {
        let path = &self.settings.import_key_file;
        let unusable = |err| Error::Internal(StoreError::File(err));
        let found = read(path).map_err(|err| unusable(io::Error::other(err.to_string())))?;
        let secret = match found {
            // An earlier import made it, and was interrupted.
            Content::Secret(it) => it,
            Content::Garbage | Content::Absent | Content::Empty => {
                let fresh = self.fresh_secret();
                write(path, &fresh).map_err(unusable)?;
                fresh
            }
        };
        let check = imported_key::check_of(&secret);
        self.system_change::<_, Error>(move |tx| Ok(tx.keep_import_check(check)?))?;
        tracing::warn!(
            path = %path.display(),
            "made, to find imported keys by; no backup holds it, so keep a copy elsewhere"
        );
        Ok(secret)
    }

    fn fresh_secret(&self) -> Secret {
        let mut secret = Secret::default();
        self.env.entropy.fill(&mut *secret);
        secret
    }
}

/// Whether a start would find what it needs in the file at `path`, beside this database; `false` if
/// it needs nothing.
pub fn check_import_key(path: &Path, database: &Path) -> Result<bool, ImportSecretError> {
    let mut file = LogFile::open(database)?;
    if file.outdated()?.is_some() {
        return Ok(false); // It is from before anything could be imported.
    }
    let tagger = file.read(|tx| find_tagger(path, tx))?;
    Ok(tagger.is_some_and(|it| it.knows_texts()))
}

fn find_tagger(path: &Path, tx: &ReadTx<'_>) -> Result<Option<Tagger>, ImportSecretError> {
    let Some(stored) = tx.import_secrets()? else { return Ok(None) };
    let tagger = Tagger::new(stored.digests);
    let Some(check) = stored.texts else { return Ok(Some(tagger)) };
    match read(path)? {
        Content::Secret(it) if imported_key::check_of(&it) == check => {
            Ok(Some(tagger.with_texts(*it)))
        }
        Content::Secret(_) | Content::Garbage => {
            Err(ImportSecretError::Other { path: path.to_owned() })
        }
        Content::Absent if tx.has_imported_texts()? => {
            Err(ImportSecretError::Gone { path: path.to_owned() })
        }
        Content::Absent => Ok(Some(tagger)),
        Content::Empty => {
            tracing::warn!(
                path = %path.display(),
                "keys that were imported as they are have been given up"
            );
            Ok(Some(tagger))
        }
    }
}

enum Content {
    Absent,
    /// Somebody gave it up.
    Empty,
    Garbage,
    Secret(Secret),
}

fn read(path: &Path) -> Result<Content, ImportSecretError> {
    const OTHERS: u32 = 0o077;
    let unusable = |source| ImportSecretError::File { path: path.to_owned(), source };
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Content::Absent),
        Err(err) => return Err(unusable(err)),
    };
    if fs::metadata(path).map_err(unusable)?.permissions().mode() & OTHERS != 0 {
        return Err(ImportSecretError::Exposed { path: path.to_owned() });
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(Content::Empty);
    }
    let mut secret = Secret::default();
    let wanted = secret.len();
    let whole = Base64::decode(text, &mut *secret).is_ok_and(|it| it.len() == wanted);
    Ok(if whole { Content::Secret(secret) } else { Content::Garbage })
}

/// Whole or not at all.
fn write(path: &Path, secret: &Secret) -> Result<(), io::Error> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    let text = Zeroizing::new(format!("{}\n", Base64::encode_string(&**secret)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    // The name, too, before anything depends on it.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
