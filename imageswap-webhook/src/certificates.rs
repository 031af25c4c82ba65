//! Keeps certificates in a Secret, and the caBundle of the webhook configurations that trust them.
//!
//! Every replica does the same: it watches the Secret and serves its leaf. When something is due,
//! it writes the Secret on the condition that it has not changed since it was read. The slower
//! replica reads again and finds nothing left to do; there is no leader. `plan` decides, `state`
//! knows what a Secret means, `configuration` keeps each caBundle.

mod args;
mod configuration;
mod plan;
mod state;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use imageswap_runtime::admin::Condition;
use imageswap_runtime::cluster::{ObjectName, follow_one};
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::tls::{AuthorityError, Pair, Tls};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use args::{CertificateArgs, CertificateArgsError};

use crate::configurations::Configuration;
use args::Configurations;
use configuration::{Bundle, CaBundleTarget};
use plan::{Settings, Step, found, perform, plan};
use state::{Content, State};

use crate::wait::{Backoff, FIELD_MANAGER, RequestError, request, status_code};

/// Longest time without a check if nothing happens, because a watch can die silently.
const LONGEST_REST: Duration = Duration::from_mins(1);
/// Writes in a row before a pause: a rotation takes three, and some are lost to other replicas.
const WRITES: usize = 8;

/// A Secret that keeps certificates; the cluster has not been asked yet.
#[derive(Debug)]
pub struct TlsSecret {
    secret: ObjectName,
    settings: Settings,
    configurations: Configurations,
}

impl CertificateArgs {
    /// Checks the flags; `None` if they do not name a Secret. `san` are names in addition to the
    /// Service's.
    pub fn load(&self, san: &[String]) -> Result<Option<TlsSecret>, CertificateArgsError> {
        let settings = self.settings(san)?;
        Ok(settings.map(|(secret, settings)| TlsSecret {
            secret,
            settings,
            configurations: self.configurations(),
        }))
    }
}

impl TlsSecret {
    /// Serves the Secret's certificate through `tls`, keeps it fresh, and keeps the configurations'
    /// caBundle; never returns. `ready` is true while there is a certificate that has not expired.
    ///
    /// Continues during a drain, which can last longer than a short-lived certificate.
    pub async fn keep(self, client: Client, tls: Tls, exporter: Exporter, ready: Condition) {
        let secrets = Api::<Secret>::namespaced(client.clone(), &self.secret.namespace);
        let (wanted, receiver) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let target = CaBundleTarget {
            secrets: secrets.clone(),
            secret: self.secret.name.clone(),
            wanted: receiver,
            changed: Arc::clone(&changed),
        };
        let Configurations {
            mutating,
            validating,
        } = self.configurations;
        let mut configurations = Held::default();
        for name in mutating {
            configurations.spawn::<MutatingWebhookConfiguration>(&client, name, &target);
        }
        for name in validating {
            configurations.spawn::<ValidatingWebhookConfiguration>(&client, name, &target);
        }
        let mut keeper = Keeper {
            secrets,
            name: self.secret,
            settings: self.settings,
            tls,
            exporter,
            ready,
            wanted,
            held: configurations,
            served: None,
            remembered: None,
            said: None,
        };
        keeper.run(&changed).await;
    }
}

struct Keeper {
    secrets: Api<Secret>,
    name: ObjectName,
    settings: Settings,
    tls: Tls,
    exporter: Exporter,
    ready: Condition,
    wanted: watch::Sender<Option<Bundle>>,
    held: Held,
    served: Option<Pair>,
    /// The last good content, for a Secret that somebody empties.
    remembered: Option<State>,
    /// The last complaint, to avoid repeating it.
    said: Option<String>,
}

/// The action for a Secret.
enum Intent {
    Rest(SystemTime),
    Write(Box<State>, &'static str),
}

impl Keeper {
    async fn run(&mut self, changed: &Notify) {
        let what = "the watch of the certificate's Secret";
        let events = follow_one(self.secrets.clone(), &self.name.name, what);
        let mut events = Box::pin(events);
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.tend().await {
                Ok(until) => {
                    backoff.reset();
                    let rest = until.duration_since(SystemTime::now()).unwrap_or_default();
                    rest.min(LONGEST_REST)
                }
                Err(error) => {
                    self.complain(&format!("{error}; what is served stays"));
                    backoff.next()
                }
            };
            self.check_expiry();
            let alarm = tokio::time::sleep(pause);
            tokio::pin!(alarm);
            loop {
                tokio::select! {
                    Some(event) = events.next() => if let Ok(secret) = event {
                        // Most events come from our own write, or from another replica's, which
                        // leaves nothing to do.
                        match self.consider(secret.as_ref()) {
                            Ok(Intent::Rest(until)) if until > SystemTime::now() => self.check_expiry(),
                            _ => break,
                        }
                    },
                    () = changed.notified() => break,
                    () = &mut alarm => break,
                }
            }
        }
    }

    /// Reads the Secret and writes until nothing is due; returns the time of the next action.
    async fn tend(&mut self) -> Result<SystemTime, KeepError> {
        let mut conflicts = Backoff::default();
        for _ in 0..WRITES {
            let read = request(self.secrets.get_opt(&self.name.name)).await;
            let secret = read.map_err(|source| self.failed("read", source))?;
            let (state, what) = match self.consider(secret.as_ref())? {
                Intent::Rest(until) => return Ok(until),
                Intent::Write(state, what) => (state, what),
            };
            let mut secret = secret.unwrap_or_default();
            state.write(&mut secret);
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let written = request(self.secrets.replace(&self.name.name, &params, &secret)).await;
            match written {
                Ok(_) => tracing::info!(secret = %self.name, "{what}"),
                Err(error) if status_code(&error) == Some(409) => {
                    tokio::time::sleep(conflicts.next()).await;
                }
                Err(source) => return Err(self.failed("write", source)),
            }
        }
        Ok(SystemTime::now() + Backoff::LONGEST)
    }

    /// Applies the content of a Secret, and decides what to do about it.
    fn consider(&mut self, secret: Option<&Secret>) -> Result<Intent, AuthorityError> {
        let now = SystemTime::now();
        let rest = Ok(Intent::Rest(now + Backoff::LONGEST));
        let Some(secret) = secret else {
            self.complain(
                "it does not exist; the manifests ship it empty, and this program creates none",
            );
            return rest;
        };
        let state = match Content::read(secret) {
            Content::Managed(state) => state,
            Content::Empty => return self.fill(now),
            Content::Broken { ours: true, reason } => {
                self.complain(&format!("it was damaged and is replaced: {reason}"));
                return self.fill(now);
            }
            Content::Broken {
                ours: false,
                reason,
            } => {
                self.complain(&format!(
                    "it holds nothing usable and nothing of this program, and is left alone: {reason}"
                ));
                return rest;
            }
            Content::Given(pair) => {
                self.complain(
                    "it holds a certificate of another origin, which is served but not renewed here, \
                     and no caBundle is kept",
                );
                self.wanted.send_replace(None);
                self.serve(&pair);
                return rest;
            }
        };
        if let Some(leaf) = &state.leaf {
            self.said = None;
            self.serve(leaf);
            self.remembered = Some(state.clone());
        }
        self.want(&state);
        let step = plan(&state, self.published(&state), now, &self.settings);
        let what = match step {
            Step::Rest(until) => return Ok(Intent::Rest(until)),
            Step::Renew => "certificate renewed",
            Step::Announce => "another certificate authority made, and added to the bundle",
            Step::Switch => "the other certificate authority signs from now on",
            Step::Retire => "the previous certificate authority has left the bundle",
            Step::Found => "the certificate authority had expired, another one made",
        };
        let after = perform(step, &state, now, &self.settings)?;
        Ok(Intent::Write(Box::new(after), what))
    }

    /// The content for an empty Secret: what it had, so that existing trust continues.
    fn fill(&self, now: SystemTime) -> Result<Intent, AuthorityError> {
        let (state, what) = match &self.remembered {
            Some(state) => (state.clone(), "what the Secret had held was put back"),
            None => (
                found(now, &self.settings)?,
                "certificate authority and certificate made",
            ),
        };
        Ok(Intent::Write(Box::new(state), what))
    }

    fn serve(&mut self, pair: &Pair) {
        if self.served.as_ref() == Some(pair) {
            return;
        }
        self.tls.install(pair.clone(), &self.exporter);
        self.served = Some(pair.clone());
        let not_after = pair.not_after().map(humantime::format_rfc3339_seconds);
        let not_after = not_after.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        tracing::info!(secret = %self.name, not_after, "certificate served");
    }

    fn check_expiry(&self) {
        let Some(served) = &self.served else {
            return;
        };
        let fresh = served.not_after().is_none_or(|it| it > SystemTime::now());
        self.ready.set(fresh);
        if !fresh {
            tracing::error!(secret = %self.name, "the certificate has expired: the API server refuses it, and no review succeeds");
        }
    }

    /// Makes the state's bundle the required one for configurations.
    fn want(&self, state: &State) {
        let pem: Arc<str> = state.bundle().into();
        self.wanted.send_if_modified(|wanted| {
            if wanted.as_ref().is_some_and(|wanted| wanted.pem == pem) {
                return false;
            }
            *wanted = Some(Bundle {
                pem,
                since: Instant::now(),
            });
            true
        });
    }

    /// For how long every configuration has held the state's bundle; `None` if one does not.
    fn published(&self, state: &State) -> Option<Duration> {
        let bundle = state.bundle();
        let since = |held: &Option<Bundle>| {
            let held = held.as_ref().filter(|held| *held.pem == *bundle);
            held.map(|held| held.since)
        };
        // If no configuration is kept here, the user carries the bundle and gets the same time.
        let wanted = since(&self.wanted.borrow())?;
        let held = self.held.configurations.iter();
        held.map(|held| since(&held.borrow()))
            .try_fold(wanted, |latest, since| Some(latest.max(since?)))
            .map(|since| since.elapsed())
    }

    /// Logs once what is wrong with the Secret.
    fn complain(&mut self, message: &str) {
        if self.said.as_deref() != Some(message) {
            tracing::error!("Secret {}: {message}", self.name);
            self.said = Some(message.to_owned());
        }
    }

    fn failed(&self, action: &'static str, source: RequestError) -> KeepError {
        KeepError::Request {
            action,
            name: self.name.clone(),
            source,
        }
    }
}

/// Why the Secret could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("cannot {action} Secret {name}: {source}")]
    Request {
        action: &'static str,
        name: ObjectName,
        source: RequestError,
    },
    #[error("cannot make a certificate: {0}")]
    Authority(#[from] AuthorityError),
}

/// The keepers of configurations, and the bundle that each configuration holds.
#[derive(Default)]
struct Held {
    configurations: Vec<watch::Receiver<Option<Bundle>>>,
    /// Dropping it ends them.
    tasks: JoinSet<()>,
}

impl Held {
    fn spawn<K: Configuration>(&mut self, client: &Client, name: String, target: &CaBundleTarget) {
        let (held, receiver) = watch::channel(None);
        let api = Api::<K>::all(client.clone());
        self.configurations.push(receiver);
        self.tasks
            .spawn(configuration::keep(api, name, target.clone(), held));
    }
}
