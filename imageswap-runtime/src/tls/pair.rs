//! A certificate chain with its private key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, Validity};

/// A certificate chain and a private key that match. Clones are cheap.
#[derive(Clone)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    certificate: Option<Arc<Certificate>>,
    source: Arc<PairPem>,
}

/// The files of a pair.
#[derive(Debug, Clone)]
pub(super) struct PairFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// The text of both.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PairPem {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A text is not PEM, or holds something else.
    #[error("{at}: no usable {expected} in PEM: {source}")]
    Pem {
        /// The origin of the text.
        at: String,
        /// The expected content.
        expected: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// The text contains no certificate.
    #[error("{at}: no certificate in it, expected -----BEGIN CERTIFICATE-----")]
    Empty {
        /// The origin of the text.
        at: String,
    },
    /// The two do not match, or cannot be used.
    #[error("certificate {cert} and key {key} cannot be used together: {source}")]
    Unusable {
        /// The origin of the certificate.
        cert: String,
        /// The origin of the key.
        key: String,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl Pair {
    /// Reads a chain, leaf first, and its key. Messages name them as `tls.crt` and `tls.key` of `place`.
    pub fn from_pem(chain: &[u8], key: &[u8], place: &str) -> Result<Self, PairError> {
        let pem = PairPem {
            cert: chain.to_owned(),
            key: key.to_owned(),
        };
        pem.parse(
            &format!("tls.crt of {place}"),
            &format!("tls.key of {place}"),
        )
    }

    /// The leaf; `None` if it can be served but not parsed here.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// The leaf's validity; `None` if it cannot be read.
    pub fn validity(&self) -> Option<Validity> {
        Some(self.certificate()?.validity())
    }

    /// When the leaf expires; `None` if its validity cannot be read.
    pub fn not_after(&self) -> Option<SystemTime> {
        Some(self.validity()?.not_after)
    }

    /// The chain in PEM, leaf first, unchanged.
    pub fn chain_pem(&self) -> &[u8] {
        &self.source.cert
    }

    /// The private key in PEM, unchanged.
    pub fn key_pem(&self) -> &[u8] {
        &self.source.key
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    pub(super) fn source(&self) -> &PairPem {
        &self.source
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pair {}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys must not get into logs.
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl PairFiles {
    /// Reads both files.
    pub(super) fn read(&self) -> Result<PairPem, PairError> {
        Ok(PairPem {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }

    /// Parses both texts and checks that they match.
    pub(super) fn parse(&self, pem: &PairPem) -> Result<Pair, PairError> {
        pem.parse(
            &self.cert.display().to_string(),
            &self.key.display().to_string(),
        )
    }
}

impl PairPem {
    /// Parses both texts and checks that they match; errors name the origins.
    fn parse(&self, cert_at: &str, key_at: &str) -> Result<Pair, PairError> {
        let pem_error = |at: &str, expected| {
            let at = at.to_owned();
            move |source| PairError::Pem {
                at,
                expected,
                source,
            }
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(pem_error(cert_at, "certificate"))?;
        let leaf = chain.first().ok_or_else(|| PairError::Empty {
            at: cert_at.to_owned(),
        })?;
        let certificate = Certificate::from_der(leaf).ok().map(Arc::new);
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(pem_error(key_at, "private key"))?;
        let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|source| {
            PairError::Unusable {
                cert: cert_at.to_owned(),
                key: key_at.to_owned(),
                source,
            }
        })?;
        Ok(Pair {
            key: Arc::new(key),
            certificate,
            source: Arc::new(self.clone()),
        })
    }
}

impl std::fmt::Debug for PairPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys must not get into logs.
        f.debug_struct("PairPem").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|source| PairError::Read {
        path: path.to_owned(),
        source,
    })
}
