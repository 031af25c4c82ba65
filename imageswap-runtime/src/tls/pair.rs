//! A certificate chain with its private key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;

/// A pair that is known to match.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// When the leaf expires; `None` when its validity cannot be read.
    pub(super) not_after: Option<SystemTime>,
    /// What it was parsed from.
    pub(super) source: PairPem,
}

/// Where a pair lies.
#[derive(Debug, Clone)]
pub(super) struct PairFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// The text of both files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PairPem {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Why a certificate and its key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file is no PEM, or holds something else.
    #[error("{}: no usable {expected} in PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{}: no certificate in it, expected -----BEGIN CERTIFICATE-----", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The two do not belong together, or cannot be used.
    #[error("certificate {} and key {} cannot be used together: {source}", cert.display(), key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl PairFiles {
    /// Reads both files.
    pub(super) fn read(&self) -> Result<PairPem, PairError> {
        Ok(PairPem {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }
}

impl PairPem {
    /// Parses both texts and checks that they belong together; `files` names them in errors.
    pub(super) fn parse(&self, files: &PairFiles) -> Result<Pair, PairError> {
        let cert_error = |source| PairError::Pem {
            path: files.cert.clone(),
            expected: "certificate",
            source,
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(cert_error)?;
        let leaf = chain.first().ok_or_else(|| PairError::Empty {
            path: files.cert.clone(),
        })?;
        let not_after = not_after(leaf);
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| PairError::Pem {
            path: files.key.clone(),
            expected: "private key",
            source,
        })?;
        let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|source| {
            PairError::Unusable {
                cert: files.cert.clone(),
                key: files.key.clone(),
                source,
            }
        })?;
        Ok(Pair {
            key: Arc::new(key),
            not_after,
            source: self.clone(),
        })
    }
}

impl std::fmt::Debug for PairPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key is not for logs.
        f.debug_struct("PairPem").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|source| PairError::Read {
        path: path.to_owned(),
        source,
    })
}

/// When a certificate expires; `None` when its validity cannot be read.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(
        certificate
            .tbs_certificate
            .validity
            .not_after
            .to_system_time(),
    )
}
