//! One attack on one webhook.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::api_server::{self, Reviews, Seen};
use super::attack::Attack;
use super::client::Target;
use super::container::{Container, Listening};
use super::kubelet::{Probes, probe};
use crate::cgroup::{MemoryCgroup, MemoryUse};
use crate::error::{Error, Result};
use crate::http::{HttpClient, runtime};
use crate::process::wait_until;
use crate::workspace::Lab;

/// As many rules as a large company's policy has.
const RULES: usize = 50;
const START: Duration = Duration::from_secs(30);
/// What is left of the beginning is over by then: connections, first answers.
const WARM_UP: Duration = Duration::from_secs(1);
/// Reviews and probes go on after an attack for so long, and have to succeed again.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// The log's end is kept for whoever asks why the webhook ended.
const LOG_KEPT: usize = 4 << 10;

/// How a webhook is attacked.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The webhook's program.
    pub program: PathBuf,
    /// The limits that it has.
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

/// What a trial showed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Reviews before the attack.
    pub calm: Reviews,
    /// Reviews during the attack, over connections that are kept open.
    pub reviews: Reviews,
    /// Reviews during the attack, each over a new connection.
    pub fresh: Reviews,
    /// Reviews of large objects during the attack.
    pub large: Reviews,
    /// `/livez`, by the kubelet's settings.
    pub liveness: Probes,
    /// `/readyz`, by the kubelet's settings.
    pub readiness: Probes,
    /// What the webhook used.
    pub memory: MemoryUse,
    /// Bytes that it logged.
    pub logged: u64,
    /// How the webhook ended, and the end of its log; `None` where it did not.
    pub ended: Option<String>,
}

/// A running webhook. Fields are in the order in which they end.
struct Webhook {
    child: Child,
    log: Log,
    listening: Listening,
    target: Target,
    ca: PathBuf,
    cgroup: MemoryCgroup,
    _lab: Lab,
}

/// What the webhook logs, read as fast as it comes, as a container runtime does.
struct Log {
    reader: Option<JoinHandle<()>>,
    read: Arc<Mutex<(u64, Vec<u8>)>>,
}

impl Trial {
    /// Starts a webhook, and attacks it.
    pub fn run(&self, attack: &Attack) -> Result<Outcome> {
        let mut webhook = Webhook::start(&self.program, &self.container)?;
        let target = webhook.target.clone();
        let runtime = runtime()?;
        let ask = |duration| api_server::ask(&target, duration, self.timeout, || false);
        runtime.block_on(ask(WARM_UP));
        let calm = runtime.block_on(ask(self.calm));
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
            let child = std::cell::RefCell::new(&mut webhook.child);
            let ended = || !matches!(child.borrow_mut().try_wait(), Ok(None));
            runtime.block_on(async {
                let (livez, readyz) = (tokio::spawn(livez), tokio::spawn(readyz));
                let seen = api_server::ask(&target, whole, self.timeout, ended).await;
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
        let memory = webhook.cgroup.used()?;
        let ended = webhook.ended();
        Ok(Outcome {
            calm: calm.usual,
            reviews: usual,
            fresh,
            large,
            liveness,
            readiness,
            memory,
            logged: webhook.log.bytes(),
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

impl Webhook {
    fn start(program: &Path, container: &Container) -> Result<Self> {
        let lab = Lab::new("hostile")?;
        let (policy, certificates) = (lab.path().join("policy.yaml"), lab.path().join("tls"));
        fs::write(&policy, self::policy()).map_err(Error::io(policy.display().to_string()))?;
        let cgroup = MemoryCgroup::make(&lab, container.memory)?;
        let listening = container.listen()?;
        let mut command = cgroup.command(program);
        command
            .arg("serve")
            .args(&listening.arguments)
            .arg("--policy")
            .arg(&policy)
            .arg("--tls-self-signed")
            .arg(&certificates)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A file would be memory of the webhook's cgroup until it is written.
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(Error::io(program.display().to_string()))?;
        let log = Log::read(child.stderr.take());
        let ready = HttpClient::new(listening.admin())?.with_limit(Duration::from_secs(1));
        let came = wait_until(START, || {
            let ended = !matches!(child.try_wait(), Ok(None));
            ended
                || ready
                    .get("/readyz")
                    .is_ok_and(|answer| answer.status.is_success())
        });
        let ca = certificates.join("ca.crt");
        let started = came && matches!(child.try_wait(), Ok(None));
        let read = fs::read(&ca).map_err(Error::io(ca.display().to_string()));
        let target = read.and_then(|pem| Target::new(listening.https(), listening.admin(), &pem));
        match target {
            Ok(target) if started => Ok(Self {
                child,
                log,
                listening,
                target,
                ca,
                cgroup,
                _lab: lab,
            }),
            _ => {
                end(&mut child);
                Err(Error::Timeout {
                    what: "start of the webhook".to_owned(),
                    seconds: START.as_secs(),
                    log: format!("\n{}", log.end()),
                })
            }
        }
    }

    fn ended(&mut self) -> Option<String> {
        let status: ExitStatus = self.child.try_wait().ok()??;
        Some(format!("{status}\n{}", self.log.end()))
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        end(&mut self.child);
        self.log.join();
    }
}

fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        eprintln!("the webhook: {error}");
    }
}

impl Log {
    fn read(stream: Option<impl Read + Send + 'static>) -> Self {
        let read = Arc::new(Mutex::new((0, Vec::new())));
        let kept = Arc::clone(&read);
        let reader = stream.map(|mut stream| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.0 += count as u64;
                    kept.1.extend_from_slice(&buffer[..count]);
                    let start = kept.1.len().saturating_sub(LOG_KEPT);
                    kept.1.drain(..start);
                }
            })
        });
        Self { reader, read }
    }

    fn bytes(&self) -> u64 {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self) -> String {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&read.1).into_owned()
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// Rules of every kind, most of which the reviews do not match.
fn policy() -> String {
    let mut text = "apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: tried}
spec:
  enforcement: warn
  rules:
"
    .to_owned();
    for at in 0..RULES {
        let rule = match at % 3 {
            0 => format!(
                "{{name: r{at}, from: 'registry{at}.example.net/**', to: m.example.com/{at}}}"
            ),
            1 => format!("{{name: r{at}, from: '*.r{at}.example.net/**', to: m.example.com/{at}}}"),
            _ => format!(
                r"{{name: r{at}, regex: '^r[0-9]+\.example\.org/(a/)*b{at}/([a-z0-9]{{1,40}})$', to: 'm.example.com/$2'}}"
            ),
        };
        writeln!(text, "  - {rule}").expect("a string takes anything");
    }
    text.push_str("  - {name: hub, from: 'docker.io/**', to: registry.example.com/hub}\n");
    text.push_str("  - {name: quay, from: 'quay.io/**', to: registry.example.com/quay}\n");
    text
}
