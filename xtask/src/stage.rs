//! A cluster to try the webhook in: a control plane, the shipped manifests, and the webhook's
//! Deployment, whose Pods are processes of this machine.
//!
//! The API server reaches the webhook by its Service, as in any cluster. Endpoints may not be
//! loopback addresses, so everything runs in a network namespace of its own, where any address is
//! free.

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use imageswap_lab::{ControlPlane, ControlPlaneOptions, Kubelet, KubeletOptions, Lab, is_root};

use crate::manifests;
use crate::process::{Workspace, find, output};
use crate::toolchain;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "IMAGESWAP_NETWORK_NAMESPACE";
/// Where the control plane listens.
pub(crate) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The first address for Pods, and their number: two replicas, and two more during a rollout.
pub(crate) const FIRST_POD: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 11);
const PODS: u8 = 8;
/// The namespace that the manifests install into.
pub(crate) const NAMESPACE: &str = "imageswap-system";
const ACCOUNT: &str = "system:serviceaccount:imageswap-system:imageswap-webhook";

/// The cluster. Fields are dropped in order.
pub(crate) struct Stage {
    pub(crate) kubelet: Kubelet,
    pub(crate) cluster: ControlPlane,
    _lab: Lab,
}

/// Whether this process runs in the network namespace without downloads already.
pub(crate) fn is_isolated() -> bool {
    env::var_os(INSIDE).is_some()
}

/// This program, also after a build has replaced its file.
pub(crate) fn own_program() -> String {
    format!("/proc/{}/exe", std::process::id())
}

/// Runs this command again in network and mount namespaces of its own and returns its exit code;
/// `None` if this process is that second run.
pub(crate) fn isolate() -> Result<Option<ExitCode>> {
    if is_isolated() {
        addresses()?;
        return Ok(None);
    }
    ensure!(is_root(), "a network namespace needs root");
    if find("ip").is_none() {
        toolchain::install(&["iproute2"], "a network namespace")?;
    }
    let program = own_program();
    // A node has a BPF file system, which its init mounts.
    let enter = r#"mount -t bpf bpf /sys/fs/bpf; exec "$0" "$@""#;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .args(["sh", "-c", enter])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .context("cannot run unshare")?;
    let code = status.code().and_then(|it| u8::try_from(it).ok());
    Ok(Some(ExitCode::from(code.unwrap_or(1))))
}

impl Stage {
    /// Starts everything and waits until the Deployment is rolled out. `arguments` are added to the
    /// webhook's own.
    pub(crate) fn start(
        workspace: &Workspace,
        program: &Path,
        arguments: &[&str],
        mut step: impl FnMut(&str),
    ) -> Result<Self> {
        let lab = Lab::new_with_own_groups("stage")?;
        let options = ControlPlaneOptions {
            address: CONTROL_PLANE,
            controllers: true,
            ..ControlPlaneOptions::default()
        };
        let cluster = ControlPlane::start_with(&lab, options)?;
        let minor = cluster.assets().minor_version()?;
        step(&format!(
            "Kubernetes 1.{minor}: etcd, API server, controllers"
        ));
        // From 1.21 on the API server labels namespaces itself; the configurations select by this
        // label.
        let label = "kubernetes.io/metadata.name=kube-system";
        cluster.kubectl(["label", "--overwrite", "namespace", "kube-system", label])?;
        cluster
            .apply(&manifests::webhook(workspace, minor)?)
            .context("what the chart consists of")?;
        step("the chart's objects applied");
        let kubelet = Kubelet::start(&cluster, pods(&cluster, program, arguments)?)?;
        let rollout = [
            "rollout",
            "status",
            "deployment/imageswap-webhook",
            "--timeout=60s",
        ];
        cluster.kubectl([&["-n", NAMESPACE][..], &rollout].concat())?;
        step("two replicas of the webhook ready, behind their Service");
        Ok(Self {
            kubelet,
            cluster,
            _lab: lab,
        })
    }
}

/// Turns a Pod of the Deployment into a process: its arguments, with an address of its own and the
/// access to the API server that the container would have.
fn pods(cluster: &ControlPlane, program: &Path, arguments: &[&str]) -> Result<KubeletOptions> {
    let kubeconfig = cluster.kubeconfig_for(ACCOUNT, Some("system:serviceaccounts"))?;
    let program: PathBuf = program.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    let first = u32::from(FIRST_POD);
    Ok(KubeletOptions {
        namespace: NAMESPACE.to_owned(),
        addresses: (0..PODS)
            .map(|at| Ipv4Addr::from(first + u32::from(at)))
            .collect(),
        command: Box::new(move |pod| {
            let mut command = Command::new(&program);
            // A Pod listens on all of its addresses; here they belong to one machine.
            let own = |arg: &&String| !arg.starts_with("--listen=") && !arg.starts_with("--admin=");
            command
                .args(pod.args.iter().filter(own))
                .args(&arguments)
                .arg(format!("--listen={}:8443", pod.address))
                .arg(format!("--admin={}:8080", pod.address))
                .arg(format!("--kubeconfig={}", kubeconfig.display()))
                .envs(pod.env.iter().map(|(name, value)| (name, value)));
            command
        }),
    })
}

fn addresses() -> Result<()> {
    let ip = |args: &str| output(Command::new("ip").args(args.split(' ')));
    ip("link set lo up")?;
    let first = u32::from(FIRST_POD);
    let pods = (0..PODS).map(|at| Ipv4Addr::from(first + u32::from(at)));
    for address in std::iter::once(CONTROL_PLANE).chain(pods) {
        ip(&format!("address add {address}/32 dev lo"))?;
    }
    Ok(())
}
