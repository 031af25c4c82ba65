//! A containerd and a running agent for one test.

use imageswap_lab::{
    Containerd, ContainerdOptions, Image, Lab, PodSpec, Process, Registry, wait_until,
};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// Long enough for a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An approved and a refused image under these maps.
pub(crate) const MAPS: &str =
    "default::registry.example.com\nnoswap_wildcards::registry.example.com\n";
pub(crate) const OURS: &str = "registry.example.com/team/app:1";
pub(crate) const EVIL: &str = "evil.example.net/miner:latest";
/// The words about a refused image that a client of containerd started.
pub(crate) const DRIFT: [&str; 3] = ["drift", "containerd", "not-admitted"];

/// Held by each node of this machine; exclusively by one with a kubelet, which changes settings of
/// the whole machine.
static MACHINE: RwLock<()> = RwLock::new(());

/// A node's turn on this machine.
enum Turn {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

/// A running containerd with both images.
pub(crate) struct Node {
    pub(crate) lab: Lab,
    pub(crate) containerd: Containerd,
    pub(crate) pure_v2: bool,
    registry: Registry,
    _turn: Turn,
}

impl Node {
    /// `None` if this machine cannot run it; the skip has been printed then.
    pub(crate) fn for_test(test: &str, pure_v2: bool) -> Option<Self> {
        // A failed test leaves nothing that matters here.
        let turn = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Self::in_turn(test, pure_v2, false, Turn::Shared(turn))
    }

    /// The same, with both images in containerd's namespace `default`.
    pub(crate) fn with_images(test: &str) -> Option<Self> {
        let node = Self::for_test(test, false)?;
        node.images("default");
        Some(node)
    }

    /// Like [`Self::for_test`], but no other node of these tests runs meanwhile.
    pub(crate) fn for_test_alone(test: &str) -> Option<Self> {
        let turn = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::in_turn(test, false, false, Turn::Alone(turn))
    }

    /// With cgroups from systemd, which has to run.
    pub(crate) fn with_systemd(test: &str) -> Option<Self> {
        let turn = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Self::in_turn(test, false, true, Turn::Shared(turn))
    }

    fn in_turn(test: &str, pure_v2: bool, systemd_cgroup: bool, turn: Turn) -> Option<Self> {
        let lab = Lab::for_test(test)?;
        let pure_v2 = pure_v2 && !imageswap_lab::is_pure_v2();
        let registry = Registry::start(&lab).unwrap();
        registry
            .push(&Image::sleeper("ours").unwrap(), "team/app", "1")
            .unwrap();
        registry
            .push(&Image::sleeper("evil").unwrap(), "miner", "latest")
            .unwrap();
        let options = ContainerdOptions {
            mirrors: mirrors_of(&registry),
            pure_cgroup_v2: pure_v2,
            cri: true,
            systemd_cgroup,
        };
        let containerd = Containerd::start(&lab, options).unwrap();
        Some(Self {
            lab,
            containerd,
            pure_v2,
            registry,
            _turn: turn,
        })
    }

    /// Pushes one more image to the registry that serves all hosts.
    pub(crate) fn push_as(&self, image: &Image, repository: &str, tag: &str) {
        self.registry.push(image, repository, tag).unwrap();
    }

    /// Where the registry is.
    pub(crate) fn registry(&self) -> SocketAddr {
        self.registry.addr()
    }

    /// The hosts that the local registry serves.
    pub(crate) fn mirrors(&self) -> Vec<(String, SocketAddr)> {
        mirrors_of(&self.registry)
    }

    /// Pulls both images into a containerd namespace.
    pub(crate) fn images(&self, namespace: &str) {
        self.containerd.pull(namespace, OURS).unwrap();
        self.containerd.pull(namespace, EVIL).unwrap();
    }

    /// Runs a container in containerd's namespace `default`; the image's own program stays.
    pub(crate) fn run(&self, image: &str, id: &str) {
        self.containerd.run("default", image, id, &[]).unwrap();
    }

    /// Ends and removes a container of the namespace `default`.
    pub(crate) fn remove(&self, id: &str) {
        self.containerd.remove("default", id).unwrap();
    }

    /// The same with so long an interval between its walks that none finds a start.
    pub(crate) fn agent_without_walks(&self) -> Agent {
        let (usual, admin) = Agent::command(&self.lab, Some(self.containerd.socket()));
        let mut command = Command::new(usual.get_program());
        let args = usual.get_args();
        command.args(args.map(|arg| if arg == "2" { OsStr::new("600") } else { arg }));
        Agent::start(&self.lab, (command, admin))
    }

    /// An agent that uses this node's containerd.
    pub(crate) fn agent(&self) -> Agent {
        let socket = self.containerd.socket();
        Agent::start(&self.lab, Agent::command(&self.lab, Some(socket)))
    }
}

fn mirrors_of(registry: &Registry) -> Vec<(String, SocketAddr)> {
    let hosts = ["registry.example.com", "evil.example.net"];
    hosts.map(|host| (host.to_owned(), registry.addr())).into()
}

/// A running agent and its findings so far.
pub(crate) struct Agent {
    process: Process,
    admin: SocketAddr,
    findings: Arc<Mutex<Vec<Value>>>,
    pub(crate) maps: PathBuf,
}

impl Agent {
    /// The command that runs an agent on the maps of the tests.
    pub(crate) fn command(lab: &Lab, socket: Option<PathBuf>) -> (Command, SocketAddr) {
        let (mut command, admin) = Self::command_without_sockets(lab);
        let socket = socket.unwrap_or_else(|| lab.path().join("no-such.sock"));
        command
            .arg("--containerd")
            .arg(&socket)
            .arg("--cri")
            .arg(&socket);
        (command, admin)
    }

    /// The same, but the agent looks for sockets itself.
    pub(crate) fn command_without_sockets(lab: &Lab) -> (Command, SocketAddr) {
        let maps = lab.path().join("maps.conf");
        std::fs::write(&maps, MAPS).unwrap();
        let (mut command, admin) = Self::command_without_policy();
        command.arg("--maps").arg(maps);
        (command, admin)
    }

    /// The same without a policy.
    pub(crate) fn command_without_policy() -> (Command, SocketAddr) {
        let admin = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap-agent"));
        command.args([
            "run",
            "--log-level",
            "info,imageswap_agent=debug",
            "--reconcile-interval",
            "2",
            "--pin",
            "off",
            "--admin",
            &admin.to_string(),
        ]);
        (command, admin)
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(lab: &Lab, (command, admin): (Command, SocketAddr)) -> Self {
        let name = format!("agent-{}", admin.port());
        let mut process = Process::start_piped(lab, &name, command).unwrap();
        let findings = Arc::new(Mutex::new(Vec::new()));
        let stdout = BufReader::new(process.take_stdout().expect("it was asked for"));
        let sink = Arc::clone(&findings);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let finding = serde_json::from_str(&line).expect("a finding is JSON");
                sink.lock().unwrap().push(finding);
            }
        });
        let ready = process.wait_ready(PATIENCE, || {
            get(admin, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        if let Err(error) = ready {
            panic!("{error}\n{}", process.log());
        }
        let maps = lab.path().join("maps.conf");
        Self {
            process,
            admin,
            findings,
            maps,
        }
    }

    /// The URL of its admin port.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.pid().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The status of the answer at a path of its admin port.
    pub(crate) fn status(&self, path: &str) -> Option<u16> {
        get(self.admin, path).map(|(status, _)| status)
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// Its findings about a container so far, in order.
    pub(crate) fn said_of(&self, id: &str) -> Vec<Value> {
        let findings = self.findings.lock().unwrap();
        findings
            .iter()
            .filter(|finding| finding["container"]["id"] == id)
            .cloned()
            .collect()
    }

    /// Its findings about starts of a container so far.
    pub(crate) fn starts_of(&self, id: &str) -> Vec<Value> {
        let mut said = self.said_of(id);
        said.retain(|finding| finding["event"] == "start");
        said
    }

    /// Waits for a finding with `event` about a container, and returns it.
    pub(crate) fn wait_for(&self, id: &str, event: &str) -> Value {
        let mut found = None;
        wait_until(PATIENCE, || {
            found = self
                .said_of(id)
                .into_iter()
                .find(|finding| finding["event"] == event);
            found.is_some()
        });
        found.unwrap_or_else(|| {
            panic!(
                "no {event} of {id}; it said {:#?}\n{}",
                self.said(),
                self.process.log()
            )
        })
    }

    /// [`Self::wait_for`], and the finding has these [`words`].
    #[track_caller]
    pub(crate) fn expect(&self, id: &str, event: &str, expected: [&str; 3]) -> Value {
        expect(self.wait_for(id, event), expected)
    }

    /// All its findings about containers.
    pub(crate) fn said(&self) -> Vec<Value> {
        self.lines("container")
    }

    /// The events of its records about itself.
    pub(crate) fn said_of_itself(&self) -> Vec<Value> {
        self.lines("agent")
    }

    fn lines(&self, kind: &str) -> Vec<Value> {
        let lines = self.findings.lock().unwrap();
        let lines = lines.iter().filter(|line| line["kind"] == kind);
        lines.cloned().collect()
    }

    /// A sample of its metrics; 0 if the series does not exist.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (_, text) = get(self.admin, "/metrics").expect("the admin port answers");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum of all series of a metric.
    pub(crate) fn sum(&self, metric: &str) -> f64 {
        let (_, text) = get(self.admin, "/metrics").expect("the admin port answers");
        let of_metric = text
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")));
        of_metric
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// A program of another package of this workspace that has a test `it`, built if it is not: in the
/// way of a test of the workspace, which has built it, so that no other test finds it missing.
pub(crate) fn program(name: &str) -> PathBuf {
    let agent = PathBuf::from(env!("CARGO_BIN_EXE_imageswap-agent"));
    let built = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--workspace", "--no-run", "--test", "it"])
        .arg("--target-dir")
        .arg(agent.ancestors().nth(2).unwrap())
        .status();
    assert!(built.unwrap().success());
    agent.with_file_name(name)
}

/// A Pod with one container, which stays.
pub(crate) const fn pod_spec<'a>(name: &'a str, image: &'a str) -> PodSpec<'a> {
    PodSpec {
        namespace: "team-a",
        name,
        container: "app",
        image,
        command: &["sleep", "1000"],
    }
}

/// Verdict, route and reason of a finding.
pub(crate) fn words(finding: &Value) -> [&str; 3] {
    ["verdict", "route", "reason"].map(|field| finding[field].as_str().unwrap_or_default())
}

/// Checks the [`words`] of a finding, and returns it.
#[track_caller]
pub(crate) fn expect(finding: Value, expected: [&str; 3]) -> Value {
    assert_eq!(words(&finding), expected, "{finding:#}");
    finding
}

/// The test's own cgroups in the hierarchy that the agent watches.
pub(crate) fn hierarchy() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = Path::new("/sys/fs/cgroup");
    if unified.is_dir() { unified } else { root }.to_owned()
}

/// The folder there of a cgroup.
pub(crate) fn folder_of(cgroup: &str) -> PathBuf {
    hierarchy().join(cgroup.trim_start_matches('/'))
}

/// Waits until a process in this cgroup has given itself this name.
pub(crate) fn wait_called(cgroup: &str, name: &str) {
    let procs = folder_of(cgroup).join("cgroup.procs");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let comm = |pid: &str| read(&Path::new("/proc").join(pid).join("comm"));
    let is_called = || read(&procs).lines().any(|pid| comm(pid).trim_end() == name);
    assert!(wait_until(PATIENCE, is_called), "{cgroup}: no {name}");
}

/// Runs so many containers that no source knows, one after the other, each in a cgroup of its own
/// below `/<parent>` that is gone at once.
pub(crate) fn brief_containers(parent: &str, count: usize) -> Command {
    let script = r#"
        i=0
        while [ $i -lt "$2" ]; do
            mkdir "$1/$i" || exit 1
            sh -c 'echo $$ > "$1/cgroup.procs" && exec unshare --pid --fork -- unshare --mount -- true' sh "$1/$i" || exit 1
            rmdir "$1/$i" || exit 1
            i=$((i + 1))
        done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]);
    command.arg(hierarchy().join(parent)).arg(count.to_string());
    command
}

/// Waits until the agent has finished so many more walks.
pub(crate) fn walks(agent: &Agent, count: usize) {
    let finished =
        || agent.metric("imageswap_agent_activity_finished_timestamp_seconds{activity=\"walk\"}");
    for _ in 0..count {
        let before = finished();
        assert!(wait_until(PATIENCE, || finished() > before), "no walk");
    }
}

/// Peak resident memory of a process, in KiB.
pub(crate) fn peak(pid: u32) -> usize {
    memory(pid, "VmHWM:")
}

/// Memory of a process, by its name in `/proc/PID/status`, in KiB.
pub(crate) fn memory(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

pub(crate) fn free_address() -> SocketAddr {
    imageswap_lab::free_address(Ipv4Addr::LOCALHOST).unwrap()
}

fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let answer = imageswap_lab::HttpClient::new(admin).ok()?.get(path).ok()?;
    Some((answer.status.as_u16(), answer.text()))
}
