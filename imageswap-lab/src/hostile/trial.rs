//! One attack on one webhook.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::api_server::{ApiServer, Reviews, Seen};
use super::attack::Attack;
use super::container::Container;
use super::kubelet::{Probes, probe};
use super::webhook::Webhook;
use crate::cgroup::MemoryUse;
use crate::error::{Error, Result};
use crate::http::runtime;

/// Connections and first answers are not measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long reviews and probes continue after an attack; they have to succeed again.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// The settings of a trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The webhook's program.
    pub program: PathBuf,
    /// Its limits.
    pub container: Container,
    /// Where the attackers run.
    pub attackers: Attackers,
    /// How long the API server waits for an answer.
    pub timeout: Duration,
    /// How long reviews are measured before the attack.
    pub calm: Duration,
    /// How long the attack lasts.
    pub attack: Duration,
}

/// Where the attackers run.
#[derive(Debug, Clone)]
pub enum Attackers {
    /// In a thread of this process, where times are not measured.
    Thread,
    /// In this program, which is started as `PROGRAM attack NAME HTTPS ADMIN CA SECONDS`.
    Program(PathBuf),
}

/// The results of a trial.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Reviews before the attack.
    pub calm: Reviews,
    /// Reviews during the attack, over open connections.
    pub reviews: Reviews,
    /// Reviews during the attack, each over a new connection.
    pub fresh: Reviews,
    /// Reviews of large objects during the attack.
    pub large: Reviews,
    /// `/livez`, by the kubelet's settings.
    pub liveness: Probes,
    /// `/readyz`, by the kubelet's settings.
    pub readiness: Probes,
    /// Memory that the webhook used.
    pub memory: MemoryUse,
    /// Bytes that it logged.
    pub logged: u64,
    /// How the webhook ended, and the end of its log; `None` if it still ran.
    pub ended: Option<String>,
}

impl Trial {
    /// Starts a webhook, and attacks it.
    pub fn run(&self, attack: &Attack) -> Result<Outcome> {
        let mut webhook = Webhook::start(&self.program, &self.container)?;
        let runtime = runtime()?;
        let mut api_server = ApiServer::new(webhook.target.clone(), self.timeout);
        runtime.block_on(api_server.ask(WARM_UP, || false));
        let calm = runtime.block_on(api_server.ask(self.calm, || false));
        let attackers = self.attack(attack, &webhook)?;
        let whole = self.attack + AFTERWARDS;
        let seen = {
            let webhook = &mut webhook;
            let (liveness, readiness) = (&self.container.liveness, &self.container.readiness);
            let livez = probe(webhook.listening.probed(liveness)?, liveness.clone(), whole);
            let readyz = probe(
                webhook.listening.probed(readiness)?,
                readiness.clone(),
                whole,
            );
            let running = std::cell::RefCell::new(webhook);
            let ended = || !running.borrow_mut().is_running();
            runtime.block_on(async {
                let (livez, readyz) = (tokio::spawn(livez), tokio::spawn(readyz));
                let seen = api_server.ask(whole, ended).await;
                let failed = |error: tokio::task::JoinError| Error::Unusable(error.to_string());
                Ok::<_, Error>((
                    seen,
                    livez.await.map_err(failed)?,
                    readyz.await.map_err(failed)?,
                ))
            })
        };
        attackers.end()?;
        let (
            Seen {
                usual,
                fresh,
                large,
            },
            liveness,
            readiness,
        ) = seen?;
        let memory = webhook.memory()?;
        let ended = webhook.ended();
        Ok(Outcome {
            calm: calm.usual,
            reviews: usual,
            fresh,
            large,
            liveness,
            readiness,
            memory,
            logged: webhook.logged(),
            ended,
        })
    }

    fn attack(&self, attack: &Attack, webhook: &Webhook) -> Result<Running> {
        let (attack, target, duration) = (*attack, webhook.target.clone(), self.attack);
        match &self.attackers {
            Attackers::Thread => Ok(Running::Thread(std::thread::spawn(move || {
                attack.run(&target, duration)
            }))),
            Attackers::Program(program) => {
                let mut command = Command::new(program);
                command
                    .args(["attack", attack.name])
                    .arg(target.https.to_string())
                    .arg(target.admin.to_string())
                    .arg(&webhook.ca)
                    .arg(duration.as_secs().to_string())
                    .stdin(Stdio::null());
                let child = command.spawn();
                Ok(Running::Program(
                    child.map_err(Error::io(program.display().to_string()))?,
                ))
            }
        }
    }
}

/// Attackers at work.
enum Running {
    Thread(JoinHandle<Result<()>>),
    Program(Child),
}

impl Running {
    fn end(self) -> Result<()> {
        let failed = || Error::Unusable("the attackers failed".to_owned());
        match self {
            Self::Thread(thread) => thread.join().map_err(|_panic| failed())?,
            Self::Program(mut child) => {
                let status = child.wait().map_err(Error::io("the attackers"))?;
                if status.success() {
                    Ok(())
                } else {
                    Err(failed())
                }
            }
        }
    }
}
