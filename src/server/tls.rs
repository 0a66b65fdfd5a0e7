//! The TLS certificate, which may change while the server runs.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use super::secret_file::SecretFile;
use crate::{config::TlsConfig, env::Timestamp};

/// A certificate with less time left than this is reported.
const RENEWAL_DUE: Duration = Duration::from_hours(14 * 24);

/// Longer than a chain of many certificates, in bytes.
const LONGEST: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS needs both `tls.certificate` and `tls.key`, or neither")]
    Half,
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} can be read by other users; allow its owner, or its group, only (chmod 640)")]
    Exposed { path: PathBuf },
    #[error("{path}: {}", in_words(source))]
    Pem { path: PathBuf, source: pem::Error },
    #[error(
        "the key {path} is protected by a pass phrase, which a service cannot enter; write it \
         without one: `openssl pkey -in OLD -out NEW`"
    )]
    PassPhrase { path: PathBuf },
    #[error("{path} holds no X.509 certificate")]
    X509 { path: PathBuf },
    #[error("the certificate {certificate} and the key {key} do not work together: {source}")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

fn in_words(err: &pem::Error) -> String {
    if matches!(err, pem::Error::NoItemsFound) {
        return "there is no PEM section of the expected kind in it".to_owned();
    }
    if matches!(err, pem::Error::MissingSectionEnd { .. }) {
        return "it is cut off: its last PEM section has no end".to_owned();
    }
    err.to_string()
}

/// A certificate chain with its private key.
#[derive(Clone, Debug)]
pub struct KeyPair {
    certified: Arc<CertifiedKey>,
    /// The earliest end of validity in the chain.
    pub not_after: Timestamp,
}

impl KeyPair {
    /// Loads the pair that the configuration names. Returns `None` without TLS.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
        };
        let key_file = open(key)?;
        refuse_exposed(key, &key_file)?;
        let chain = read_chain(certificate)?;
        let private = read_key(key, key_file)?;
        let not_after =
            earliest_end(&chain).ok_or_else(|| TlsError::X509 { path: certificate.clone() })?;
        let pair = CertifiedKey::from_der(chain, private, &ring::default_provider());
        let (certificate, key) = (certificate.clone(), key.clone());
        let pair = pair.map_err(|source| TlsError::Pair { certificate, key, source })?;
        Ok(Some(Self { certified: Arc::new(pair), not_after }))
    }

    /// Returns a warning if the certificate has expired, or expires within 14 days.
    pub fn expiry_warning(&self, now: Timestamp) -> Option<String> {
        let end = self.not_after;
        if end <= now {
            Some(format!("the TLS certificate expired at {end}: clients refuse it"))
        } else if end < now.after(RENEWAL_DUE) {
            Some(format!("the TLS certificate expires at {end}: renew it"))
        } else {
            None
        }
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path, open(path)?)?)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(TlsError::Pem { path: path.to_owned(), source: pem::Error::NoItemsFound });
    }
    Ok(chain)
}

fn read_key(path: &Path, file: SecretFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| {
        let path = path.to_owned();
        // PKCS #8 has this word in the label (RFC 5958), the older form in a header (RFC 1421).
        if String::from_utf8_lossy(&text).contains("ENCRYPTED") {
            return TlsError::PassPhrase { path };
        }
        TlsError::Pem { path, source }
    })
}

fn open(path: &Path) -> Result<SecretFile, TlsError> {
    SecretFile::open(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Reads a file without the byte order mark that some editors write.
fn read(path: &Path, file: SecretFile) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |source| TlsError::File { path: path.to_owned(), source };
    let mut text = file.read(LONGEST).map_err(unreadable)?;
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    Ok(text)
}

/// Returns the earliest end of validity. Returns `None` if one of them is not a certificate.
fn earliest_end(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let mut earliest = None;
    for certificate in chain {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let end = certificate.validity().not_after.timestamp().checked_mul(1_000)?;
        let end = Timestamp::from_millis(end);
        earliest = Some(earliest.map_or(end, |it: Timestamp| it.min(end)));
    }
    earliest
}

/// The certificate of new connections.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    pub fn new(pair: KeyPair) -> Self {
        Self(ArcSwap::new(pair.certified))
    }

    /// Replaces the certificate of new connections. Open connections keep theirs.
    pub fn replace(&self, pair: KeyPair) {
        self.0.store(pair.certified);
    }

    /// Returns a configuration for TLS 1.2 and 1.3 without client certificates.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as _))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn refuse_exposed(key: &Path, file: &SecretFile) -> Result<(), TlsError> {
    let exposed =
        file.is_exposed().map_err(|source| TlsError::File { path: key.to_owned(), source })?;
    if exposed { Err(TlsError::Exposed { path: key.to_owned() }) } else { Ok(()) }
}
