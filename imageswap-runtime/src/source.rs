//! Where the policy comes from, and how a change comes into force.
//!
//! A policy in a file is loaded before anything else happens, so that a bad one stops the process
//! early. After that its source is watched: a good change replaces the policy in force, a bad one
//! is reported and changes nothing. The cluster is asked only when the process runs, because it may
//! be down.

mod cluster;
mod file;
mod namespaces;
mod pull_secrets;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imageswap_policy::{Date, Diagnostics, Policies, document, maps};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinError;

use crate::admin::Condition;
use crate::cluster::{ObjectName, own_namespace};
use crate::drain::Drain;
use crate::metrics::PolicyMetrics;

pub use cluster::{InForce, MAPS_KEY, OnceError, Wanted};
pub use file::ReadError;
pub use namespaces::Namespaces;
pub use pull_secrets::PullSecrets;

use cluster::{ClusterOrigin, LAST_GOOD, News, State, Verdict};

/// One policy is compiled at a time in this process, because a compilation takes much temporary
/// memory.
static COMPILING: Mutex<()> = Mutex::const_new(());
/// Pause of a thread that waits for another compilation.
const COMPILING_PAUSE: Duration = Duration::from_millis(5);
/// The path of the maps file in ImageSwap's own image.
const IMAGESWAP_MAPS_FILE: &str = "/app/maps/imageswap-maps.conf";

/// Where the policy comes from; flatten it into a command's arguments. One of the flags is given,
/// or both that ask the cluster. Without any, the Python ImageSwap's environment variables are used:
/// `IMAGESWAP_MODE`, `IMAGESWAP_MAPS_FILE`, `IMAGE_PREFIX`.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// ImageSwapPolicies: a file, or a folder of *.yaml, *.yml and *.json; read again whenever they
    /// change
    #[arg(long, value_name = "FILE or DIR", conflicts_with_all = ["maps", "image_prefix", "policy_from_cluster", "maps_configmap"])]
    pub policy: Option<PathBuf>,
    /// Maps file of the Python ImageSwap; read again whenever it changes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image_prefix", "policy_from_cluster", "maps_configmap"])]
    pub maps: Option<PathBuf>,
    /// Prefix for every image, as in the Python ImageSwap's legacy mode
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["policy_from_cluster", "maps_configmap"])]
    pub image_prefix: Option<String>,
    /// ImageSwapPolicy objects of the cluster, by watch
    #[arg(long)]
    pub policy_from_cluster: bool,
    /// ConfigMap whose key `maps` is a maps file, by watch; ImageSwapPolicies take
    /// precedence
    #[arg(long, value_name = "NS/NAME")]
    pub maps_configmap: Option<ObjectName>,
    /// ConfigMap that keeps the last good policies of the cluster [default: imageswap-last-good in
    /// the own namespace]
    #[arg(long, value_name = "NS/NAME")]
    pub last_good_configmap: Option<ObjectName>,
    /// Label that takes an object out of a maps file's scope when it is `disabled`
    /// [default: k8s.twr.io/imageswap]
    #[arg(long, value_name = "LABEL", env = "IMAGESWAP_DISABLE_LABEL")]
    pub disable_label: Option<String>,
    /// Whether the cluster is only read: neither status nor last good texts are written, because
    /// another process does that.
    #[arg(skip)]
    pub only_follow: bool,
}

/// Holds the policy in force. Clones share it.
#[derive(Debug, Clone)]
pub struct PolicySource {
    origin: Arc<Origin>,
    policy: watch::Sender<Arc<Policies>>,
}

/// Why there is no policy at start-up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read, or is not text.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The text does not load; rendered with source, line and column of every mistake.
    #[error("{0}")]
    Policy(Diagnostics),
    /// No flag names a policy.
    #[error(
        "no policy: one of --policy FILE, --maps FILE, --image-prefix PREFIX, --policy-from-cluster and \
         --maps-configmap NS/NAME is needed"
    )]
    Missing,
    /// The policy is in the cluster, but there is no client.
    #[error("--policy-from-cluster and --maps-configmap need a cluster")]
    NoCluster,
    /// The policies select by namespace labels, but there is no client.
    #[error(
        "{0}: `namespaceSelector` needs the labels of namespaces, and there is no cluster to ask: give --kubeconfig FILE, \
         or select by name with `match.namespaces`"
    )]
    NoLabels(String),
}

/// The requested source.
#[derive(Debug)]
enum Origin {
    /// Files, and their content when they were first read.
    Files {
        format: Format,
        /// Whether labels of namespaces are known.
        labels: bool,
        files: file::PolicyFiles,
        first: Vec<file::Text>,
    },
    /// Something that cannot change.
    Fixed(&'static str),
    /// The cluster's objects.
    Cluster(ClusterOrigin),
}

/// The content of the files.
#[derive(Debug, Clone)]
enum Format {
    Documents,
    Maps(maps::Options),
}

impl PolicyArgs {
    /// Whether the policy comes from the cluster.
    pub fn needs_cluster(&self) -> bool {
        self.policy_from_cluster || self.maps_configmap.is_some()
    }

    /// Loads the policy for the first time and logs the warnings about its text. A policy from the
    /// cluster is not in force yet.
    pub fn load(self, cluster: Option<&kube::Client>) -> Result<PolicySource, SourceError> {
        let Self {
            policy,
            maps,
            image_prefix,
            policy_from_cluster,
            maps_configmap,
            last_good_configmap,
            disable_label,
            only_follow,
        } = self.or_environment(|name| std::env::var(name).ok());
        let options = maps::Options {
            disable_label: disable_label.unwrap_or_else(|| maps::LABEL.to_owned()),
            ..maps::Options::default()
        };
        if policy_from_cluster || maps_configmap.is_some() {
            let own = || ObjectName {
                namespace: own_namespace(),
                name: LAST_GOOD.to_owned(),
            };
            let origin = Origin::Cluster(ClusterOrigin {
                client: cluster.ok_or(SourceError::NoCluster)?.clone(),
                documents: policy_from_cluster,
                maps: maps_configmap,
                last_good: last_good_configmap.unwrap_or_else(own),
                options,
                writes: !only_follow,
            });
            return Ok(PolicySource::new(origin, Policies::none()));
        }
        let files = match (policy, maps) {
            (Some(path), _) => Some((Format::Documents, path)),
            (None, Some(path)) => Some((Format::Maps(options.clone()), path)),
            (None, None) => None,
        };
        if let Some((format, path)) = files {
            let files = file::PolicyFiles::new(path);
            let first = files.read()?;
            let labels = cluster.is_some();
            let policies = format.load(&first, labels)?;
            let origin = Origin::Files {
                format,
                labels,
                files,
                first,
            };
            return Ok(PolicySource::new(origin, policies));
        }
        let prefix = image_prefix.ok_or(SourceError::Missing)?;
        let loaded = maps::load_prefix_with("--image-prefix", &prefix, &options)
            .map_err(SourceError::Policy)?;
        warn(&loaded.warnings);
        Ok(PolicySource::new(
            Origin::Fixed("image-prefix"),
            Policies::one(loaded.policy),
        ))
    }

    /// Without a flag for the policy, uses the Python ImageSwap's environment variables. The mode is legacy
    /// unless it is `maps`, in any case.
    fn or_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = self.policy.is_some()
            || self.maps.is_some()
            || self.image_prefix.is_some()
            || self.needs_cluster();
        let mode = variable("IMAGESWAP_MODE");
        if given {
            return self;
        }
        let (file, prefix) = (variable("IMAGESWAP_MAPS_FILE"), variable("IMAGE_PREFIX"));
        match mode {
            Some(mode) if mode.eq_ignore_ascii_case("maps") => {
                let file = file.unwrap_or_else(|| IMAGESWAP_MAPS_FILE.to_owned());
                self.maps = Some(PathBuf::from(file));
            }
            Some(_) => self.image_prefix = Some(prefix.unwrap_or_default()),
            None => match (file, prefix) {
                (Some(file), None) => self.maps = Some(PathBuf::from(file)),
                (None, Some(prefix)) => self.image_prefix = Some(prefix),
                _ => {}
            },
        }
        self
    }
}

impl Format {
    /// `labels`: whether labels of namespaces are known.
    fn load(&self, texts: &[file::Text], labels: bool) -> Result<Policies, SourceError> {
        let mut texts = texts.iter().map(|it| (it.name.as_str(), it.text.as_str()));
        let (policies, warnings) = match self {
            Self::Documents => {
                let loaded = document::load_all(texts).map_err(SourceError::Policy)?;
                (Policies::new(loaded.policies), loaded.warnings)
            }
            Self::Maps(options) => {
                let (name, text) = texts.next_back().unwrap_or_default();
                let loaded = maps::load_with(name, text, options).map_err(SourceError::Policy)?;
                (Policies::one(loaded.policy), loaded.warnings)
            }
        };
        let without: Vec<_> = policies.need_namespace_labels().collect();
        if !labels && !without.is_empty() {
            let names = if without.len() == 1 {
                "policy"
            } else {
                "policies"
            };
            return Err(SourceError::NoLabels(format!(
                "{names} {}",
                without.join(", ")
            )));
        }
        warn(&warnings);
        Ok(policies)
    }
}

/// The day by which exceptions end, in UTC.
pub fn today() -> Date {
    time::OffsetDateTime::now_utc().date()
}

impl PolicySource {
    /// A source that never changes, for tests and tools.
    pub fn fixed(policies: Policies) -> Self {
        Self::new(Origin::Fixed("fixed"), policies)
    }

    /// The policies in force.
    pub fn current(&self) -> Arc<Policies> {
        Arc::clone(&self.policy.borrow())
    }

    /// Whether an ImageSwapPolicy object would load: the warnings about it, or the reasons why not.
    /// Blocks while another policy is compiled.
    pub fn check_document(
        &self,
        name: &str,
        object: &serde_json::Value,
    ) -> Result<Vec<String>, Vec<String>> {
        let _one = one_compilation();
        let text = cluster::document_text(name, object);
        lines(State::default().document(name, text))
    }

    /// Whether the text of a maps ConfigMap would load: the warnings about it, or the reasons why
    /// not. Blocks while another policy is compiled.
    pub fn check_maps(&self, text: &str) -> Result<Vec<String>, Vec<String>> {
        let options = match &*self.origin {
            Origin::Cluster(origin) => origin.options.clone(),
            _ => maps::Options::default(),
        };
        let _one = one_compilation();
        lines(State::new(options).maps(text))
    }

    /// Whether the maps file comes from this ConfigMap.
    pub fn is_maps_configmap(&self, namespace: &str, name: &str) -> bool {
        let Origin::Cluster(origin) = &*self.origin else {
            return false;
        };
        origin
            .maps
            .as_ref()
            .is_some_and(|it| it.namespace == namespace && it.name == name)
    }

    /// Notified of every set of policies that comes into force from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policies>> {
        self.policy.subscribe()
    }

    /// The kind of source, as metrics name it: `policy`, `maps`, `image-prefix`, `cluster`,
    /// `maps-configmap` or `fixed`.
    pub fn kind(&self) -> &'static str {
        match &*self.origin {
            Origin::Files { format, .. } => match format {
                Format::Documents => "policy",
                Format::Maps(_) => "maps",
            },
            Origin::Fixed(kind) => kind,
            Origin::Cluster(origin) if origin.documents => "cluster",
            Origin::Cluster(_) => "maps-configmap",
        }
    }

    /// Puts changes of the source into force until the drain begins. `ready` is set once there is a
    /// policy, or the cluster is known to have no policies.
    ///
    /// A text that does not load, or can no longer be read, is logged once and leaves the policy in
    /// force unchanged.
    pub async fn watch(self, drain: Drain, metrics: PolicyMetrics, ready: Condition) {
        let following = async {
            match &*self.origin {
                Origin::Fixed(_) => self.in_force(&metrics, &ready),
                Origin::Files {
                    format,
                    labels,
                    files,
                    first,
                } => {
                    self.in_force(&metrics, &ready);
                    let changes = file::Changes::new(files, first.clone());
                    self.watch_files(format, *labels, changes, &metrics).await;
                }
                Origin::Cluster(origin) => {
                    origin
                        .follow(|news| self.hear(news, &metrics, &ready))
                        .await;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = drain.signaled() => {}
        }
    }

    fn in_force(&self, metrics: &PolicyMetrics, ready: &Condition) {
        metrics.loaded(&self.current(), self.kind());
        ready.set(true);
    }

    async fn watch_files(
        &self,
        format: &Format,
        labels: bool,
        mut changes: file::Changes<'_>,
        metrics: &PolicyMetrics,
    ) {
        loop {
            let loaded = match changes.next().await {
                Ok(texts) => {
                    let format = format.clone();
                    compile(move || format.load(&texts, labels)).await
                }
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(policies) => {
                    self.publish(policies, metrics);
                    metrics.set_refused(0);
                }
                Err(error) => {
                    self.refuse(&error.to_string(), metrics);
                    metrics.set_refused(1);
                }
            }
        }
    }

    fn hear(&self, news: News, metrics: &PolicyMetrics, ready: &Condition) {
        match news {
            News::InForce { policies, refused } => {
                metrics.set_refused(refused);
                if policies.set_revision() != self.current().set_revision() {
                    self.publish(policies, metrics);
                }
            }
            News::Refused(reasons) => self.refuse(&reasons, metrics),
            News::Synced => {
                if !ready.holds() {
                    if self.current().is_empty() {
                        tracing::warn!("the cluster has no policy: every image stays unchanged");
                    }
                    self.in_force(metrics, ready);
                }
            }
        }
    }

    fn publish(&self, policies: Policies, metrics: &PolicyMetrics) {
        let names: Vec<_> = policies
            .iter()
            .map(|it| format!("{}@{}", it.name(), it.revision()))
            .collect();
        tracing::info!(
            source = self.kind(),
            set_revision = policies.set_revision(),
            policies = names.join(" "),
            "policy in force"
        );
        metrics.loaded(&policies, self.kind());
        self.policy.send_replace(Arc::new(policies));
    }

    fn refuse(&self, reasons: &str, metrics: &PolicyMetrics) {
        tracing::error!(
            set_revision = self.current().set_revision(),
            "policy not reloaded, the last good one stays in force: {reasons}"
        );
        // When the counter rises, the log has the reason.
        metrics.reload_failed();
    }

    fn new(origin: Origin, policies: Policies) -> Self {
        Self {
            origin: Arc::new(origin),
            policy: watch::Sender::new(Arc::new(policies)),
        }
    }
}

/// Compiles on a thread that may block, so that nobody else on an async worker waits for a large
/// policy.
async fn compile<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let one = COMPILING.lock().await;
    let working = tokio::task::spawn_blocking(move || {
        let _one = one;
        work()
    });
    match working.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime shuts down.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// Waits on a thread that may block. Callers that wait without blocking go first.
fn one_compilation() -> MutexGuard<'static, ()> {
    loop {
        match COMPILING.try_lock() {
            Ok(one) => return one,
            Err(_taken) => std::thread::sleep(COMPILING_PAUSE),
        }
    }
}

fn lines(verdict: Verdict) -> Result<Vec<String>, Vec<String>> {
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    match verdict {
        Verdict::Accepted { warnings, .. } => Ok(lines(warnings)),
        Verdict::Refused { reasons } => Err(lines(reasons)),
    }
}

fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        tracing::warn!("the policy loads, with warnings: {warnings}");
    }
}
