//! A webhook to attack.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Target;
use super::container::{Container, Listening};
use crate::cgroup::{MemoryCgroup, MemoryUse};
use crate::error::{Error, Result};
use crate::http::HttpClient;
use crate::wait::wait_until;
use crate::workspace::Lab;

/// As many rules as a large company's policy has.
const RULES: usize = 50;
const START: Duration = Duration::from_secs(30);
/// The end of the log is kept to explain why the webhook ended.
const LOG_KEPT: usize = 4 << 10;

/// A running webhook under its container's memory limit; dropping it ends it. Fields are dropped in
/// order.
pub struct Webhook {
    child: Child,
    log: Log,
    pub(super) listening: Listening,
    pub(super) target: Target,
    pub(super) ca: PathBuf,
    cgroup: MemoryCgroup,
    _lab: Lab,
}

/// The webhook's log, read at once, as a container runtime does.
struct Log {
    reader: Option<JoinHandle<()>>,
    read: Arc<Mutex<(u64, Vec<u8>)>>,
}

impl Webhook {
    /// Starts the program with the limits of its container, and waits until it is ready.
    pub fn start(program: &Path, container: &Container) -> Result<Self> {
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
            // A file's pages would count as memory of the webhook's cgroup until they are written.
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

    /// Where it accepts reviews.
    pub fn https(&self) -> SocketAddr {
        self.target.https
    }

    /// The CA certificates that verify its certificate, in PEM.
    pub fn ca(&self) -> Result<Vec<u8>> {
        fs::read(&self.ca).map_err(Error::io(self.ca.display().to_string()))
    }

    /// What it used so far.
    pub fn memory(&self) -> Result<MemoryUse> {
        self.cgroup.used()
    }

    /// Bytes that it logged.
    pub(super) fn logged(&self) -> u64 {
        self.log.bytes()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, and the end of its log; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
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
