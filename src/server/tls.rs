//! The certificate, which may change while the server runs.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::TlsConfig;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS needs both `tls.certificate` and `tls.key`, or neither")]
    Half,
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} can be read by other users; allow its owner, or its group, only (chmod 640)")]
    Exposed { path: PathBuf },
    #[error("{path} holds nothing of use: {source}")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("the certificate {certificate} and the key {key} do not work together: {source}")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The certificate that new connections get.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// What the configuration names; `None` without TLS.
    pub fn load(config: &TlsConfig) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
        };
        refuse_exposed(key)?;
        let wrong = |path: &Path, source| {
            let path = path.to_owned();
            if let pem::Error::Io(source) = source {
                return TlsError::File { path, source };
            }
            TlsError::Pem { path, source }
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|it| wrong(certificate, it))?;
        if chain.is_empty() {
            return Err(wrong(certificate, pem::Error::NoItemsFound));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|it| wrong(key, it))?;
        let pair = CertifiedKey::from_der(chain, private, &ring::default_provider());
        let (certificate, key) = (certificate.clone(), key.clone());
        let pair = pair.map_err(|source| TlsError::Pair { certificate, key, source })?;
        Ok(Some(Arc::new(pair)))
    }

    pub fn new(pair: Arc<CertifiedKey>) -> Self {
        Self(ArcSwap::new(pair))
    }

    /// For connections from now on; those that stand keep theirs.
    pub fn replace(&self, pair: Arc<CertifiedKey>) {
        self.0.store(pair);
    }

    /// TLS 1.2 and 1.3, with no certificate asked of clients.
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

fn refuse_exposed(key: &Path) -> Result<(), TlsError> {
    let found = fs::metadata(key);
    let found = found.map_err(|source| TlsError::File { path: key.to_owned(), source })?;
    if found.permissions().mode() & 0o007 != 0 {
        return Err(TlsError::Exposed { path: key.to_owned() });
    }
    Ok(())
}
