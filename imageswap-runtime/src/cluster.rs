//! The Kubernetes API server: how to reach it, and names of its objects.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_all};
use kube::{Api, Client, Resource};

/// An API server that does not accept a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The file with a Pod's own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The namespace that the manifests install into.
pub(crate) const DEFAULT_NAMESPACE: &str = "imageswap-system";

/// How to reach the API server; flatten it into a command's arguments. Without flags it works as
/// for other tools: `KUBECONFIG`, `~/.kube/config`, or the service account of the Pod.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
#[group(skip)]
pub struct ClusterArgs {
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in that file [default: its current context]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Why there is no client. Whether the API server answers shows only with the first request.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The file cannot be read, or is not usable. The text names the file.
    #[error("{0}")]
    Kubeconfig(String),
    /// Neither a kubeconfig file nor a service account.
    #[error(
        "found no cluster: {0}, and no service account of a Pod; name a file with --kubeconfig or KUBECONFIG"
    )]
    Infer(String),
    /// The configuration does not give a client.
    #[error("cannot set up a client of the API server: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// Namespace and name of an object, as `NS/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The argument is not `NS/NAME`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected NAMESPACE/NAME")]
pub struct NoObjectName;

impl ClusterArgs {
    /// A client; it has not connected yet.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Ok(Client::try_from(config).map_err(Box::new)?)
    }

    async fn config(&self) -> Result<Config, ClusterError> {
        if self.kubeconfig.is_none() && self.context.is_none() {
            return Config::infer().await.map_err(|error| {
                let reason = error.source().and_then(|it| it.downcast_ref());
                ClusterError::Infer(match reason {
                    Some(reason) => describe(reason, None),
                    None => error.to_string(),
                })
            });
        }
        let wrong = |error| ClusterError::Kubeconfig(describe(&error, self.kubeconfig.as_deref()));
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        match &self.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(wrong)?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(wrong)
            }
            None => Config::from_kubeconfig(&options).await.map_err(wrong),
        }
    }
}

/// The namespace of this process: `POD_NAMESPACE`, otherwise the service account's, otherwise the
/// manifests' default.
pub fn own_namespace() -> String {
    std::env::var("POD_NAMESPACE")
        .ok()
        .or_else(|| std::fs::read_to_string(NAMESPACE_FILE).ok())
        .map(|it| it.trim().to_owned())
        .filter(|it| !it.is_empty())
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// A repeating problem that is logged once.
#[derive(Debug)]
pub struct Complaint {
    what: &'static str,
    said: Option<String>,
}

impl Complaint {
    /// No problem so far with `what`, such as `the watch of namespaces`.
    pub fn new(what: &'static str) -> Self {
        Self { what, said: None }
    }

    /// Logs a problem, unless it is the same as the last one.
    pub fn about(&mut self, error: &dyn std::error::Error) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Some errors repeat their cause.
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        if self.said.as_ref() == Some(&text) {
            tracing::debug!("{} still fails: {text}", self.what);
        } else {
            tracing::warn!("{} failed; retrying: {text}", self.what);
            self.said = Some(text);
        }
    }

    /// Logs a problem with a watch, unless the watch only has to restart: an API server keeps its
    /// history for a few minutes.
    fn about_watch(&mut self, error: &watcher::Error) {
        if is_expired(error) {
            tracing::debug!("{} begins anew: {error}", self.what);
        } else {
            self.about(error);
        }
    }

    /// Records that it works; logs this if it did not before.
    pub fn over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("{} works again", self.what);
        }
    }
}

/// Watches objects, without an end: a watch that breaks is begun anew after a growing pause.
/// Problems with `what`, such as `the watch of namespaces`, are logged once and also returned.
pub fn follow<W>(
    api: Api<W>,
    config: watcher::Config,
    what: &'static str,
) -> impl Stream<Item = watcher::Result<Event<W>>> + Send + use<W>
where
    W: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    // The start of a list is reported before the API server has answered.
    let works = |event: &Event<W>| !matches!(event, Event::Init);
    logged(watch_all(api, config), what, works)
}

/// Watches one object: it, or `None` while there is none. Otherwise as [`follow`].
pub fn follow_one<W>(
    api: Api<W>,
    name: &str,
    what: &'static str,
) -> impl Stream<Item = watcher::Result<Option<W>>> + Send + use<W>
where
    W: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    logged(watcher::watch_object(api, name), what, |_| true)
}

fn logged<T>(
    events: impl Stream<Item = watcher::Result<T>> + Send,
    what: &'static str,
    works: impl Fn(&T) -> bool + Send,
) -> impl Stream<Item = watcher::Result<T>> + Send {
    let mut complaint = Complaint::new(what);
    events.default_backoff().inspect(move |event| match event {
        Ok(event) if works(event) => complaint.over(),
        Ok(_) => {}
        Err(error) => complaint.about_watch(error),
    })
}

/// Whether a watch ended because its position in the history has expired: 410 Gone.
fn is_expired(error: &watcher::Error) -> bool {
    const GONE: u16 = 410;
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == GONE,
        _ => false,
    }
}

impl FromStr for ObjectName {
    type Err = NoObjectName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(NoObjectName),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The file, if it is known, and why it cannot be used. The errors of kube repeat their causes.
fn describe(error: &KubeconfigError, file: Option<&Path>) -> String {
    if let KubeconfigError::ReadConfig(error, path) = error {
        return format!("{}: {error}", path.display());
    }
    let file = file.map_or_else(|| "kubeconfig".to_owned(), |it| it.display().to_string());
    match error {
        KubeconfigError::CurrentContextNotSet => {
            format!("{file}: it has no current context, and --context is not given")
        }
        KubeconfigError::LoadContext(name) => format!("{file}: it has no context `{name}`"),
        other => format!("{file}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_namespace() {
        let name: ObjectName = "ns/name".parse().unwrap();
        assert_eq!(
            (name.namespace.as_str(), name.name.as_str()),
            ("ns", "name")
        );
        assert_eq!(name.to_string(), "ns/name");
        for wrong in ["", "name", "/name", "ns/", "a/b/c"] {
            assert_eq!(wrong.parse::<ObjectName>(), Err(NoObjectName), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_file_of_no_use_is_named() {
        let args = ClusterArgs {
            kubeconfig: Some(PathBuf::from("/no/such/file")),
            context: None,
        };
        let error = args.client().await.err().unwrap().to_string();
        assert!(error.starts_with("/no/such/file: "), "{error}");
    }
}
