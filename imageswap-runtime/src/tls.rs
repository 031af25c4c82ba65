//! TLS: the only module that names rustls.
//!
//! The serving certificate comes from files, which are read again when they change, is made here
//! for use without a PKI, or is handed over by a keeper ([`Tls::unset`], [`Tls::install`]). One
//! server configuration lives as long as the process; a new certificate only swaps a pointer, so
//! sessions and open connections survive.

mod authority;
mod certificate;
mod client;
mod pair;
mod self_signed;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::admin::Condition;
use crate::drain::Drain;
use crate::metrics::Exporter;
use crate::settle::Settle;

pub use authority::{Authority, AuthorityError, VerifyError, verify};
pub use certificate::{Certificate, CertificateError, Validity, server_name};
pub use client::{ClientStream, ConnectError, Connector};
pub use pair::{Pair, PairError};
pub use self_signed::SelfSignedError;

use pair::PairFiles;
use self_signed::SelfSigned;

/// A handshake is a round trip or two; a slower client holds a connection for nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Given files: a change is in force after at most three of these.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// How often to check whether the certificate has expired.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// Self-signed: how often to check the certificate's age.
const RENEWAL_INTERVAL: Duration = Duration::from_hours(1);

/// Where the serving certificate comes from; flatten it into a command's arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
#[group(skip)]
#[command(group = clap::ArgGroup::new("certificate").args(["tls_cert", "tls_self_signed"]).required(true))]
pub struct TlsArgs {
    /// Certificate chain in PEM, leaf first; read again whenever it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Make a certificate authority and a certificate in this folder; clients verify with its ca.crt
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tls_cert", "tls_key"])]
    pub tls_self_signed: Option<PathBuf>,
    /// Further DNS name or IP address for a certificate that is made here (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert")]
    pub tls_san: Vec<String>,
}

/// The serving certificate and its source.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    served: Arc<Served>,
    origin: Arc<Origin>,
}

/// Whether the client presented a certificate that an authority of [`Tls::with_client_authorities`]
/// signed.
pub fn is_identified(stream: &ServerStream) -> bool {
    stream.get_ref().1.peer_certificates().is_some()
}

/// Answers TLS handshakes with the certificate in force.
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
}

/// A connection from a client, decrypted.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No flag names a certificate.
    #[error(
        "no certificate: --tls-cert FILE with --tls-key FILE, or --tls-self-signed DIR is needed"
    )]
    Missing,
    /// The given files cannot be used.
    #[error(transparent)]
    Files(#[from] PairError),
    /// No certificate could be made.
    #[error(transparent)]
    SelfSigned(#[from] SelfSignedError),
    /// The client authorities cannot be used.
    #[error("cannot use the client authorities in {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        source: AuthoritiesError,
    },
    /// The provider lacks the required protocol versions; a defect of the build.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Why a file of client authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not PEM, or a certificate in it is damaged.
    #[error("not certificates in PEM: {0}")]
    Pem(#[from] pem::Error),
    /// A certificate in it cannot be an authority.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// The file contains none.
    #[error("no certificate in it, expected -----BEGIN CERTIFICATE-----")]
    Empty,
    /// They cannot verify anything.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
}

/// Why a client's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client took too long.
    #[error("handshake not done after {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The handshake failed.
    #[error("handshake failed: {0}")]
    Failed(#[from] io::Error),
}

#[derive(Debug)]
enum Origin {
    Files(PairFiles),
    SelfSigned(SelfSigned),
    Installed,
}

/// The pair in force, once there is one.
#[derive(Debug)]
struct Served {
    pair: ArcSwapOption<Pair>,
}

impl TlsArgs {
    /// Reads or makes the certificate. A self-signed one gets `listen` as a name, unless it is a
    /// wildcard address.
    pub fn load(self, listen: SocketAddr) -> Result<Tls, TlsError> {
        let Self {
            tls_cert,
            tls_key,
            tls_self_signed,
            tls_san,
        } = self;
        if let Some(dir) = tls_self_signed {
            let origin = SelfSigned::new(dir, listen.ip(), tls_san)?;
            let pair = origin.obtain(SystemTime::now())?;
            return Tls::new(Origin::SelfSigned(origin), Some(pair));
        }
        let (cert, key) = tls_cert.zip(tls_key).ok_or(TlsError::Missing)?;
        let origin = PairFiles { cert, key };
        let pair = origin.parse(&origin.read()?)?;
        Tls::new(Origin::Files(origin), Some(pair))
    }
}

impl Tls {
    /// Serves nothing until [`install`](Self::install) is called; handshakes fail until then.
    pub fn unset() -> Result<Self, TlsError> {
        Self::new(Origin::Installed, None)
    }

    /// Serves `pair` from the next handshake on.
    pub fn install(&self, pair: Pair, metrics: &Exporter) {
        self.served.pair.store(Some(Arc::new(pair)));
        self.show(metrics);
    }

    fn new(origin: Origin, pair: Option<Pair>) -> Result<Self, TlsError> {
        if let Some(pair) = &pair
            && pair
                .not_after()
                .is_some_and(|not_after| not_after < SystemTime::now())
        {
            tracing::warn!("the certificate has expired, clients will refuse it");
        }
        let served = Arc::new(Served {
            pair: ArcSwapOption::from_pointee(pair),
        });
        Ok(Self {
            config: config(&served, Arc::new(NoClientAuth))?,
            served,
            origin: Arc::new(origin),
        })
    }

    /// Asks clients for a certificate signed by an authority in the PEM file at `path`. A client
    /// may connect without a certificate ([`is_identified`]), but not with any other. The file is
    /// read once.
    pub fn with_client_authorities(self, path: &Path) -> Result<Self, TlsError> {
        let verifier = client_verifier(path).map_err(|source| TlsError::Authorities {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            config: config(&self.served, verifier)?,
            ..self
        })
    }

    /// Answers handshakes; certificates from a later [`watch`](Self::watch) are served, too.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor {
            acceptor: TlsAcceptor::from(Arc::clone(&self.config)),
        }
    }

    /// When the certificate expires; `None` without a certificate, or if its validity cannot be
    /// read.
    pub fn not_after(&self) -> Option<SystemTime> {
        let pair = self.served.pair.load();
        pair.as_ref().and_then(|pair| pair.not_after())
    }

    /// Keeps the certificate fresh until the drain begins: given files are read again when they
    /// change, and a self-signed certificate is renewed in time. Files that cannot be used are
    /// logged, and the certificate in force stays. `ready` is true while that one has not expired.
    /// An installed certificate, and its `ready`, are up to its keeper.
    pub async fn watch(self, drain: Drain, metrics: Exporter, ready: Condition) {
        let refresh = async {
            match &*self.origin {
                Origin::Files(files) => self.watch_files(files, &metrics).await,
                Origin::SelfSigned(origin) => self.watch_age(origin, &metrics).await,
                Origin::Installed => std::future::pending().await,
            }
        };
        self.show(&metrics);
        tokio::select! {
            () = refresh => {}
            () = self.watch_expiry(&ready) => {}
            () = drain.signaled() => {}
        }
    }

    async fn watch_expiry(&self, ready: &Condition) {
        if matches!(*self.origin, Origin::Installed) {
            return std::future::pending().await;
        }
        loop {
            let now = SystemTime::now();
            let fresh = self.not_after().is_none_or(|not_after| not_after > now);
            if ready.holds() && !fresh {
                tracing::error!("the certificate has expired: clients refuse it");
            }
            ready.set(fresh);
            tokio::time::sleep(EXPIRY_INTERVAL).await;
        }
    }

    async fn watch_files(&self, files: &PairFiles, metrics: &Exporter) {
        let Some(served) = self.served.pair.load_full() else {
            return;
        };
        let mut content = Settle::new(Ok(served.source().clone()));
        loop {
            tokio::time::sleep(FILES_INTERVAL).await;
            let reading = files.clone();
            // Only a runtime that shuts down cancels a blocking task.
            let Ok(look) = tokio::task::spawn_blocking(move || reading.read()).await else {
                continue;
            };
            let pair = match content.look(look.map_err(|error| error.to_string())) {
                None => continue,
                Some(Ok(pem)) => files.parse(pem).map_err(|error| error.to_string()),
                Some(Err(message)) => Err(message.clone()),
            };
            self.reload(pair, metrics);
        }
    }

    async fn watch_age(&self, origin: &SelfSigned, metrics: &Exporter) {
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            let now = SystemTime::now();
            if self
                .not_after()
                .is_none_or(|not_after| !self_signed::is_fresh(not_after, now))
            {
                self.reload(
                    origin.obtain(now).map_err(|error| error.to_string()),
                    metrics,
                );
            }
        }
    }

    fn reload(&self, pair: Result<Pair, String>, metrics: &Exporter) {
        match pair {
            Ok(pair) => {
                self.install(pair, metrics);
                tracing::info!("certificate reloaded");
            }
            Err(error) => {
                tracing::error!("certificate not reloaded, the one in force stays: {error}");
            }
        }
    }

    fn show(&self, metrics: &Exporter) {
        let pair = self.served.pair.load();
        if let Some(validity) = pair.as_ref().and_then(|pair| pair.validity()) {
            metrics.set_tls_validity(validity.not_before, validity.not_after);
        }
    }
}

impl Acceptor {
    /// Does the handshake on a connection.
    pub async fn accept(&self, stream: TcpStream) -> Result<ServerStream, HandshakeError> {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream));
        Ok(handshake
            .await
            .map_err(|_elapsed| HandshakeError::Timeout)??)
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.pair.load();
        pair.as_ref().map(|pair| Arc::clone(pair.key()))
    }
}

/// A server's configuration, which lives as long as the process.
fn config(
    served: &Arc<Served>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Served>::clone(served);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, AuthoritiesError> {
    let text = std::fs::read(path)?;
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        authorities.add(certificate?)?;
    }
    if authorities.is_empty() {
        return Err(AuthoritiesError::Empty);
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider());
    Ok(verifier.allow_unauthenticated().build()?)
}

/// Passed explicitly to rustls, so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
