//! A whole cluster on this machine: control plane, a node with a real kubelet and containerd, a registry.
//!
//! All of it lives in a network namespace of its own, the node in a further one, so that any
//! address is free: the API server listens on the address of its own Service, where Pods look for
//! it. So no kube-proxy is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use imageswap_lab::{
    Containerd, ContainerdOptions, ControlPlane, ControlPlaneOptions, Image, Lab, Machine,
    NodeNetwork, Registry, missing_for_tests,
};
use serde_json::{Value, json};

use crate::deploy::{self, Cluster};
use crate::image::{self, What};
use crate::isolation::{self, CONTROL_PLANE};
use crate::process::Workspace;
use crate::ui;
use crate::{helm, kubernetes, toolchain};

/// The namespace that the chart is installed into.
pub(crate) const NAMESPACE: &str = "imageswap-system";
/// Services get their addresses from this range; the first is the API server's own.
const SERVICES: &str = "10.89.0.0/29";
const NODE: &str = "node-1";
/// The context of the lab's kubeconfig files.
const CONTEXT: &str = "lab";
/// Hosts that the registry serves.
const HOSTS: [&str; 3] = ["docker.io", "registry.example.com", "evil.example.net"];
/// Images that Pods of the steps run.
const IMAGES: [&str; 5] = [
    "devopstales/testimage:unsigned",
    "library/nginx:latest",
    "library/redis:7",
    "library/busybox:latest",
    "library/web:1",
];
/// An image that no policy of the steps approves, as the node pulls it.
pub(crate) const EVIL: &str = "evil.example.net/miner:latest";

/// Runs this command again in namespaces of its own, and returns its exit code; `None` if this
/// process is that second run.
pub(crate) fn isolate(workspace: &Workspace, what: &What) -> Result<Option<ExitCode>> {
    if !isolation::is_isolated() {
        prepare(workspace, what)?;
    }
    isolation::isolate()
}

/// Does everything that needs the network: the cluster's namespace has no access to it.
fn prepare(workspace: &Workspace, what: &What) -> Result<()> {
    ui::heading("What it takes");
    toolchain::provide(&missing_for_tests(), "a cluster on this machine")?;
    kubernetes::find_or_build()?;
    helm::provide()?;
    image::provide()?;
    image::build(workspace, what)?;
    Ok(())
}

/// The cluster. Fields are dropped in order.
pub(crate) struct Site {
    machine: Machine,
    pub(crate) plane: ControlPlane,
    pub(crate) containerd: Containerd,
    registry: Registry,
    _network: NodeNetwork,
    pub(crate) lab: Lab,
}

impl Site {
    /// Starts the cluster and waits until the node is ready; prints each part.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let step = |what: &str| ui::good(what);
        let lab = Lab::new_with_own_groups(name)?;
        let registry = Registry::start(&lab)?;
        for image in IMAGES {
            let (repository, tag) = image.split_once(':').context("an image without a tag")?;
            registry.push(&Image::sleeper(image)?, repository, tag)?;
        }
        registry.push(&Image::sleeper("miner")?, "miner", "latest")?;
        step(&format!("a registry at {}", registry.addr()));
        let containerd = Containerd::start(
            &lab,
            ContainerdOptions {
                mirrors: HOSTS.map(|host| (host.to_owned(), registry.addr())).into(),
                cri: true,
                ..ContainerdOptions::default()
            },
        )?;
        let network = NodeNetwork::new()?;
        let plane = ControlPlane::start_with(
            &lab,
            ControlPlaneOptions {
                address: CONTROL_PLANE,
                port: Some(443),
                services: SERVICES,
                controllers: true,
                scheduler: true,
                ..ControlPlaneOptions::default()
            },
        )?;
        let minor = plane.assets().minor_version()?;
        step(&format!(
            "Kubernetes 1.{minor}: etcd, API server, controllers, scheduler"
        ));
        let machine = Machine::start(&plane, &network, &containerd, NODE)?;
        step("a node: kubelet and containerd");
        // From 1.21 on the API server labels namespaces itself; the configurations select by this
        // label.
        let label = "kubernetes.io/metadata.name";
        plane.kubectl(["create", "namespace", NAMESPACE])?;
        for namespace in ["kube-system", NAMESPACE] {
            let label = format!("{label}={namespace}");
            plane.kubectl(["label", "--overwrite", "namespace", namespace, &label])?;
        }
        Ok(Self {
            machine,
            plane,
            containerd,
            registry,
            _network: network,
            lab,
        })
    }

    /// The cluster as its administrator reaches it.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        Ok(Cluster::of_programs(
            // kubectl of the cluster's own version: a newer one validates with requests that an old
            // API server does not know.
            self.plane.assets().program("kubectl"),
            helm::helm()?,
            CONTEXT,
            Some(self.plane.kubeconfig()),
        ))
    }

    /// The options that a user would give `cargo xtask deploy`.
    pub(crate) fn deployment(
        &self,
        values: Vec<PathBuf>,
        set: &[&str],
        build: Option<What>,
    ) -> deploy::Options {
        let registry = format!("{}/imageswap", self.registry.addr());
        deploy::Options::local(CONTEXT, &registry, values, set, build)
    }

    /// Values of the chart that this machine needs: containerd's socket is elsewhere, and mounts
    /// are private.
    pub(crate) fn values(&self) -> Result<PathBuf> {
        let socket = self.containerd.socket();
        let beside = socket.parent().unwrap_or(Path::new("/run"));
        let values = json!({
            "agent": {
                "mountPropagation": "None",
                "runtimeDirectories": ["/run", beside],
                "containerdSockets": [socket],
                "criSockets": [socket],
                "reconcileInterval": 5,
            },
        });
        self.values_file("values", &values)
    }

    /// Writes a file with values of the chart.
    pub(crate) fn values_file(&self, name: &str, values: &Value) -> Result<PathBuf> {
        let path = self.lab.path().join(format!("{name}.json"));
        fs::write(&path, values.to_string()).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Writes a manifest to the kubelet's folder of static Pods.
    pub(crate) fn static_pod(&self, name: &str, manifest: &str) -> Result<PathBuf> {
        let path = self.machine.manifests().join(format!("{name}.json"));
        fs::write(&path, manifest).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Prints the logs of our Pods, to explain a failure.
    pub(crate) fn show_logs(&self) {
        for pod in fs::read_dir("/var/log/pods")
            .into_iter()
            .flatten()
            .flatten()
        {
            if !pod.file_name().to_string_lossy().starts_with("imageswap-") {
                continue;
            }
            let containers = fs::read_dir(pod.path()).into_iter().flatten().flatten();
            let logs = containers.flat_map(|it| fs::read_dir(it.path()).into_iter().flatten());
            for log in logs.flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = lines.len().saturating_sub(8);
                eprintln!("{}:\n{}", log.path().display(), lines[last..].join("\n"));
            }
        }
        let log = self.machine.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!(
            "kubelet:\n{}",
            lines[lines.len().saturating_sub(15)..].join("\n")
        );
    }
}
