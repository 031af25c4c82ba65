//! The client's side, for callers that act as the API server.

use std::io;
use std::sync::Arc;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Pair;

/// Opens verified connections.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
}

/// A connection to a server, decrypted.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Why there is no verified connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The CA bundle is not PEM.
    #[error("the CA bundle is not a certificate in PEM: {0}")]
    Pem(#[from] pem::Error),
    /// A certificate of the bundle cannot be used, or TLS cannot be set up.
    #[error("cannot verify with this CA bundle: {0}")]
    Bundle(#[from] rustls::Error),
    /// The server's name is not a valid name.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String, #[source] InvalidDnsNameError),
    /// The connection or its verification failed.
    #[error("handshake failed: {0}")]
    Handshake(#[from] io::Error),
}

impl Connector {
    /// Trusts the certificates in `ca_pem` and nothing else.
    pub fn new(ca_pem: &[u8]) -> Result<Self, ConnectError> {
        Self::with_certificate(ca_pem, None)
    }

    /// Trusts the system's authorities, and those in `ca_pem`. A system without any is not an error: the Pod of a
    /// service has none.
    pub fn of_system(ca_pem: &[u8]) -> Result<Self, ConnectError> {
        let mut roots = roots(ca_pem)?;
        let system = rustls_native_certs::load_native_certs();
        for error in system.errors {
            tracing::debug!(%error, "an authority of the system is left out");
        }
        roots.add_parsable_certificates(system.certs);
        Self::with_roots(roots, None)
    }

    /// [`Self::new`], and presents a certificate to servers that ask for one.
    pub fn with_certificate(ca_pem: &[u8], own: Option<&Pair>) -> Result<Self, ConnectError> {
        Self::with_roots(roots(ca_pem)?, own)
    }

    fn with_roots(roots: RootCertStore, own: Option<&Pair>) -> Result<Self, ConnectError> {
        let config = ClientConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => config
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own.key())))),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Does the handshake on `stream` and verifies the server's name.
    pub async fn connect(
        &self,
        name: &str,
        stream: TcpStream,
    ) -> Result<ClientStream, ConnectError> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|source| ConnectError::Name(name.to_owned(), source))?;
        Ok(self.connector.connect(server, stream).await?)
    }
}

fn roots(ca_pem: &[u8]) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
