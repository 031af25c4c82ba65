//! `imageswap-webhook serve`: reads and checks everything before a port is bound.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crate::metrics::WebhookMetrics;
use imageswap_registry::{Mirrors, RegistryArgsError};
use imageswap_runtime::admin::{Admin, Readiness};
use imageswap_runtime::cluster::{ClusterArgs, ClusterError};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::log::{self, LogError};
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::net;
use imageswap_runtime::source::{Namespaces, PolicyArgs, PolicySource, PullSecrets, SourceError};
use imageswap_runtime::telemetry::{TelemetryError, Traces};
use imageswap_runtime::tls::{Tls, TlsError};
use kube::Client;

use crate::admit::Admission;
use crate::certificates::CertificateArgsError;
use crate::cli::ServeArgs;
use crate::http::Handler;
use crate::registration::{Known, Registration};
use crate::server::{self, DrainTimes};

/// Why the webhook does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Logging cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Nothing can be sent to the collector.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The cluster cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no policy.
    #[error(transparent)]
    Policy(#[from] SourceError),
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A certificate cannot be kept with these flags.
    #[error(transparent)]
    Certificates(#[from] CertificateArgsError),
    /// Registries cannot be asked with these flags.
    #[error(transparent)]
    Registries(#[from] RegistryArgsError),
    /// A port cannot be bound.
    #[error("cannot bind {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Signal handlers cannot be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

impl ServeError {
    /// The message for standard error. Diagnostics of a policy print their own severity.
    pub fn report(&self) -> String {
        match self {
            Self::Policy(SourceError::Policy(diagnostics)) => diagnostics.to_string(),
            other => format!("error: {other}"),
        }
    }

    /// 2 for wrong arguments or configuration, 1 for failures.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Log(_)
            | Self::Telemetry(_)
            | Self::Policy(_)
            | Self::Certificates(_)
            | Self::Registries(_) => ExitCode::from(2),
            Self::Cluster(_) | Self::Tls(_) | Self::Bind { .. } | Self::Signals(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

/// Serves until SIGTERM or SIGINT, and then until connections are drained.
pub async fn run(args: ServeArgs) -> Result<(), ServeError> {
    let ServeArgs {
        listen,
        admin,
        drain_delay,
        drain_timeout,
        policy,
        cluster,
        tls,
        client_ca,
        certificates,
        register_mutating,
        register_validating,
        registries,
        limits,
        log: log_args,
        otlp,
    } = args;
    let log_level = log::init(&log_args)?;
    let otlp = otlp.load("imageswap-webhook")?;
    let mut limits = limits.load();
    let (policy, client) = load(policy, &cluster).await?;
    let (tls, secret) = match certificates.load(&tls.tls_san)? {
        Some(secret) => {
            let client = match &client {
                Some(client) => client.clone(),
                None => cluster.client().await?,
            };
            (Tls::unset()?, Some((secret, client)))
        }
        None => (tls.load(listen)?, None),
    };
    let tls = match &client_ca {
        Some(path) => tls.with_client_authorities(path)?,
        None => tls,
    };
    limits.asks_certificates = client_ca.is_some();
    let registration = Registration {
        mutating: register_mutating,
        validating: register_validating,
    };
    let registration = match &client {
        Some(client) if registration.is_wanted() => Some((registration, client.clone())),
        None if registration.is_wanted() => Some((registration, cluster.client().await?)),
        _ => None,
    };
    let mirrors = Mirrors::new(registries.client_of_service()?);
    let times = DrainTimes {
        delay: Duration::from_secs(drain_delay.into()),
        timeout: Duration::from_secs(drain_timeout.max(drain_delay).into()),
    };

    let bind_error = |addr| move |source| ServeError::Bind { addr, source };
    let admin = Admin::bind(admin)
        .map_err(bind_error(admin))?
        .with_log_level(log_level);
    let listener = net::listen(listen).map_err(bind_error(listen))?;
    let drain = Drain::on_signals().map_err(ServeError::Signals)?;

    let exporter = Exporter::new();
    let metrics = WebhookMetrics::new(&exporter);
    let traces = match otlp {
        Some(otlp) => otlp.traces(&exporter)?,
        None => Traces::off(),
    };
    let readiness = Readiness::new();
    let serving = readiness.condition("serving");
    let certificate = readiness.condition("certificate");
    tracing::info!(
        webhook = %listener.local_addr().map_or(listen, |bound| bound),
        admin = %admin.local_addr(),
        policies = policy.current().iter().count(),
        set_revision = policy.current().set_revision(),
        "serving"
    );
    let policy_ready = readiness.condition("policy");
    let namespaces = client
        .clone()
        .map_or_else(Namespaces::unknown, Namespaces::of_cluster);
    let pull_secrets = PullSecrets::unknown();
    if let Some(client) = &client {
        let synced = readiness.condition("namespaces");
        tokio::spawn(
            namespaces
                .clone()
                .watch(client.clone(), synced, drain.clone()),
        );
        tokio::spawn(
            pull_secrets
                .clone()
                .watch(client.clone(), policy.clone(), drain.clone()),
        );
    }
    tokio::spawn(admin.serve(readiness, exporter.clone(), drain.clone()));
    tokio::spawn(policy.clone().watch(
        drain.clone(),
        exporter.policy_metrics(),
        policy_ready.clone(),
    ));
    if let Some((registration, client)) = registration {
        let known = Known {
            policies: policy.clone(),
            synced: policy_ready,
        };
        tokio::spawn(registration.keep(client, known, metrics.clone(), drain.clone()));
    }
    tokio::spawn(name_registries(policy.clone(), metrics.clone()));
    if let Some((secret, client)) = secret {
        let ready = certificate.clone();
        tokio::spawn(secret.keep(client, tls.clone(), exporter.clone(), ready));
    }
    tokio::spawn(
        tls.clone()
            .watch(drain.clone(), exporter.clone(), certificate),
    );

    tokio::spawn(registries.follow(mirrors.clone(), drain.clone()));
    let admission = Admission::new(policy, metrics.clone())
        .with_cluster(namespaces, pull_secrets)
        .with_mirrors(mirrors);
    let handler = Handler::new(admission, metrics, drain.clone())
        .with_limits(limits)
        .with_traces(traces.clone());
    serving.set(true);
    server::serve(listener, tls.acceptor(), handler, drain, times).await;
    traces.shutdown().await;
    Ok(())
}

/// Loads the policy, and a client if the cluster has to be asked: for the policy, or for labels of
/// namespaces that a policy in a file selects by.
async fn load(
    policy: PolicyArgs,
    cluster: &ClusterArgs,
) -> Result<(PolicySource, Option<Client>), ServeError> {
    if policy.needs_cluster() {
        let client = cluster.client().await?;
        return Ok((policy.load(Some(&client))?, Some(client)));
    }
    match policy.clone().load(None) {
        Err(unknown @ SourceError::NoLabels(_)) => {
            let Ok(client) = cluster.client().await else {
                return Err(unknown.into());
            };
            Ok((policy.load(Some(&client))?, Some(client)))
        }
        loaded => Ok((loaded?, None)),
    }
}

/// Updates the registries that are label values with the policy in force.
async fn name_registries(policy: PolicySource, metrics: WebhookMetrics) {
    let mut changes = policy.subscribe();
    loop {
        metrics.set_registries(policy.current().registries().into_iter());
        if changes.changed().await.is_err() {
            return;
        }
    }
}
