//! A node of a cluster: a real kubelet, with a containerd that runs already.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{ControlPlane, NodeNetwork};
use crate::cgroup::Cgroup;
use crate::containerd::Containerd;
use crate::cri::Cri;
use crate::error::{Error, Result};
use crate::needs::{POD_NETWORK, require};
use crate::process::Process;

/// Plugins that give a Pod its addresses; Debian's place for them.
const PLUGINS: &str = "/usr/lib/cni";

/// Settings of the whole machine that a kubelet and the plugins change.
const SETTINGS: [&str; 4] = [
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
];

/// How long a node may take to become ready.
const READY: Duration = Duration::from_mins(2);

/// A node; dropping it ends its Pods and its kubelet, and restores the machine's settings.
///
/// Its Pods' cgroups are below a cgroup of its own: a kubelet ends Pods that it does not know.
/// Because it changes settings of the whole machine, there can be one such node at a time.
#[derive(Debug)]
pub struct Machine {
    name: String,
    manifests: PathBuf,
    settings: Vec<(PathBuf, String)>,
    containerd: Cri,
    kubelet: Process,
    _cgroup: Cgroup,
}

impl Machine {
    /// Registers the node `name` and waits until it is ready. `cluster` listens on this machine's end of `network`.
    pub fn start(
        cluster: &ControlPlane,
        network: &NodeNetwork,
        containerd: &Containerd,
        name: &str,
    ) -> Result<Self> {
        require(&POD_NETWORK)?;
        let settings = SETTINGS.map(|name| Path::new("/proc/sys").join(name));
        let settings = settings.into_iter().filter_map(|path| {
            let value = fs::read_to_string(&path).ok()?;
            Some((path, value))
        });
        let settings = settings.collect();
        write_network(&containerd.network_dir(), network)?;
        let folder = cluster.lab.make_dir("kubelet")?;
        let manifests = cluster.lab.make_dir("kubelet/manifests")?;
        let minor = cluster.assets.minor_version()?;
        let endpoint = format!("unix://{}", containerd.socket().display());
        let cgroup = format!("/{}", cluster.lab.name());
        let own = Cgroup::make(&cluster.lab, &cgroup)?;
        let mut configuration = configuration(cluster, network, &manifests, &endpoint, minor);
        configuration["cgroupRoot"] = json!(cgroup);
        let config = folder.join("config.json");
        fs::write(&config, configuration.to_string()).map_err(Error::io(path(&config)))?;

        let user = format!("system:node:{name}");
        let kubeconfig = cluster.kubeconfig_for(&user, Some("system:nodes"))?;
        let mut command = network.command(&cluster.assets.program("kubelet"));
        command
            .arg(format!("--config={}", path(&config)))
            .arg(format!("--kubeconfig={}", path(&kubeconfig)))
            .arg(format!("--root-dir={}", path(&folder)))
            .arg(format!("--cert-dir={}", path(&folder.join("pki"))))
            .arg(format!("--hostname-override={name}"))
            .arg(format!("--node-ip={}", network.there()));
        if minor < 24 {
            command.args(["--container-runtime=remote", "--network-plugin=cni"]);
        }
        if minor < 27 {
            command.arg(format!("--container-runtime-endpoint={endpoint}"));
        }
        if minor < 23 {
            command.arg("--feature-gates=EphemeralContainers=true");
        }
        let mut machine = Self {
            name: name.to_owned(),
            manifests,
            settings,
            containerd: containerd.cri()?,
            kubelet: Process::start(&cluster.lab, "kubelet", command)?,
            _cgroup: own,
        };
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        machine.kubelet.wait_ready(READY, || {
            let status = cluster.kubectl(["get", "node", &machine.name, "-o", ready]);
            status.is_ok_and(|status| status == "True")
        })?;
        Ok(machine)
    }

    /// The folder whose manifests are static Pods of this node.
    pub fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// The kubelet's log.
    pub fn log(&self) -> String {
        self.kubelet.log()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kubelet.stop();
        // Removing Pods through the runtime also removes their network.
        let removed = self.containerd.remove_all();
        if let Err(error) = removed {
            eprintln!("Pods of the node {}: {error}", self.name);
        }
        for (path, value) in &self.settings {
            if let Err(error) = fs::write(path, value) {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}

/// The kubelet's configuration file.
fn configuration(
    cluster: &ControlPlane,
    network: &NodeNetwork,
    manifests: &Path,
    endpoint: &str,
    minor: u32,
) -> serde_json::Value {
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.there().to_string(),
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": path(cluster.pki.ca())},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "staticPodPath": path(manifests),
        "resolvConf": "",
        "makeIPTablesUtilChains": false,
        // Without CAP_SYS_RESOURCE it cannot be lowered.
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": ["pods"],
        // A machine whose disk is nearly full will do.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0.1%", "imagefs.available": "0.1%",
            "nodefs.inodesFree": "0.1%"},
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": path(&manifests.with_file_name("plugins")),
        "fileCheckFrequency": "1s",
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "1s",
    });
    if minor >= 27 {
        configuration["containerRuntimeEndpoint"] = endpoint.into();
    }
    if minor >= 31 {
        // It would not start where cgroup v1 is mounted beside v2.
        configuration["failCgroupV1"] = false.into();
    }
    configuration
}

/// Writes containerd's configuration of the Pods' network.
fn write_network(folder: &Path, network: &NodeNetwork) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(path(folder)))?;
    for plugin in ["ptp", "host-local", "loopback"] {
        let link = folder.join(plugin);
        symlink(Path::new(PLUGINS).join(plugin), &link).map_err(Error::io(path(&link)))?;
    }
    let configuration = json!({
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": path(&folder.join("addresses")),
                "ranges": [[{"subnet": network.pods()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    // Written under another name and renamed, because containerd reads it as soon as it exists.
    let (new, file) = (folder.join("lab.new"), folder.join("10-lab.conflist"));
    fs::write(&new, configuration.to_string()).map_err(Error::io(path(&new)))?;
    fs::rename(&new, &file).map_err(Error::io(path(&file)))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
