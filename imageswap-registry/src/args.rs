//! The flags of programs that ask registries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imageswap_runtime::cluster::Complaint;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::tls::{ConnectError, Connector};

use crate::client::Client;
use crate::credentials::{Credentials, CredentialsError};
use crate::mirrors::Mirrors;

/// How often the credentials are read again; a kubelet renews mounted Secrets once a minute.
const INTERVAL: Duration = Duration::from_secs(10);
/// The file of `docker login`, in the home folder.
const DOCKER: &str = ".docker/config.json";

/// How to ask registries; flatten it into a command's arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
#[group(skip)]
pub struct RegistryArgs {
    /// Credentials of registries: a file as `docker login` writes it, or a folder of them
    #[arg(long, value_name = "FILE or DIR")]
    pub registry_credentials: Option<PathBuf>,
    /// Authorities in PEM that registries are verified with, beside those of the system
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
    /// Registry that is asked without TLS, and so without credentials (repeatable)
    #[arg(long, value_name = "HOST")]
    pub registry_plain_http: Vec<String>,
}

/// Why registries cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryArgsError {
    /// The credentials cannot be used.
    #[error("--registry-credentials: {0}")]
    Credentials(#[from] CredentialsError),
    /// The authorities cannot be read.
    #[error("--registry-ca: {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The authorities cannot be used.
    #[error("--registry-ca: {0}")]
    Authorities(#[from] ConnectError),
}

impl RegistryArgs {
    /// A client for a service. Credentials that cannot be used are logged, and read again by [`Self::follow`]: the edit
    /// of a Secret must not keep a webhook from starting.
    pub fn client_of_service(&self) -> Result<Client, RegistryArgsError> {
        let client = self.without_credentials()?;
        if let Some(path) = &self.registry_credentials {
            match Credentials::read(path) {
                Ok(found) => client.set_credentials(found),
                Err(error) => tracing::warn!(%error, "registries are asked without credentials"),
            }
        }
        Ok(client)
    }

    /// A client with the authorities that the flags name.
    fn without_credentials(&self) -> Result<Client, RegistryArgsError> {
        let ca = self.registry_ca.as_ref().map(|path| {
            let wrong = |source| RegistryArgsError::Read {
                path: path.clone(),
                source,
            };
            std::fs::read(path).map_err(wrong)
        });
        let ca = ca.transpose()?.unwrap_or_default();
        let plain: BTreeSet<_> = self.registry_plain_http.iter().cloned().collect();
        Ok(Client::new(Connector::of_system(&ca)?, plain))
    }

    /// A client for a command. Without a flag, the credentials are those of `docker login` in `home`, if there are any.
    pub fn client_of_user(&self, home: Option<&Path>) -> Result<Client, RegistryArgsError> {
        let file = home.map(|it| it.join(DOCKER)).filter(|it| it.is_file());
        let client = self.without_credentials()?;
        if let Some(path) = self.registry_credentials.clone().or(file) {
            client.set_credentials(Credentials::read(&path)?);
        }
        Ok(client)
    }

    /// Reads the credentials again when they change, until the drain begins. Credentials that cannot be used are
    /// logged, and change nothing.
    pub async fn follow(self, mirrors: Mirrors, drain: Drain) {
        let Some(path) = self.registry_credentials else {
            return;
        };
        let mut known = Credentials::read(&path).unwrap_or_default();
        let mut complaint = Complaint::new("reading the credentials of registries");
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = drain.signaled() => return,
            }
            match Credentials::read(&path) {
                Ok(found) => {
                    complaint.over();
                    if found != known {
                        tracing::info!(hosts = ?found, "credentials of registries changed");
                        mirrors.set_credentials(found.clone());
                        known = found;
                    }
                }
                Err(error) => complaint.about(&error),
            }
        }
    }
}
