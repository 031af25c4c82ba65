//! A Kubernetes control plane: etcd, kube-apiserver and, if asked for, kube-controller-manager and
//! kube-scheduler.
//!
//! The binaries are taken from the folder that `KUBEBUILDER_ASSETS` names (the convention of
//! controller-runtime's envtest), otherwise from `imageswap/kube-*` in the user's cache folder. Any
//! version from 1.20 on works.
//!
//! ```no_run
//! # fn main() -> imageswap_lab::Result<()> {
//! use imageswap_lab::{ControlPlane, Lab};
//! let lab = Lab::new("doc")?;
//! let cluster = ControlPlane::start(&lab)?;
//! cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")?;
//! println!("{}", cluster.kubectl(["get", "namespaces"])?);
//! # Ok(()) }
//! ```

mod assets;
mod machine;
mod network;
mod pki;

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::kube::Client;
use ::kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::error::{Error, Result};
use crate::port::free_address;
use crate::process::{Process, run, run_with_input};
use crate::shipped::{RIGHTS, shipped};
use crate::workspace::Lab;
pub use assets::Assets;
use assets::{CONTROLLERS, NODE};
pub use machine::Machine;
pub use network::NodeNetwork;
use pki::Pki;

/// Time until the first answer; a busy machine is slow.
const START: Duration = Duration::from_mins(2);
/// A local API server that does not answer within this time is down.
const API_TIMEOUT: Duration = Duration::from_secs(30);

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds");
const ACCOUNT: &str = "system:serviceaccount:imageswap-system:imageswap-webhook";

/// Options of a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// Address that everything listens on.
    pub address: Ipv4Addr,
    /// Port of the API server; `None` means a free one. If its address is the first of `services`
    /// and its port is 443, Pods find it under the address of its Service.
    pub port: Option<u16>,
    /// Services get their addresses from this range.
    pub services: &'static str,
    /// Whether to run the controllers: Deployments, Jobs and the like work, and namespaces get
    /// their service accounts.
    pub controllers: bool,
    /// Whether to run the scheduler: Pods are put on nodes, and nodes without a living kubelet are
    /// given up. Includes the controllers.
    pub scheduler: bool,
    /// Whether to run an API server of a current version (see [`Assets::find_current`]). It may
    /// have no RBAC, and it has no controllers and no scheduler.
    pub current: bool,
}

/// A running control plane; dropping it ends its processes.
#[derive(Debug)]
pub struct ControlPlane {
    lab: Lab,
    assets: Assets,
    pki: Pki,
    options: ControlPlaneOptions,
    server: SocketAddr,
    etcd_url: String,
    kubeconfig: PathBuf,
    // In the order in which they end.
    scheduler: Option<Process>,
    controllers: Option<Process>,
    apiserver: Process,
    _etcd: Process,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            port: None,
            services: "10.96.0.0/16",
            controllers: false,
            scheduler: false,
            current: false,
        }
    }
}

impl ControlPlaneOptions {
    /// The binaries that it needs.
    fn assets(&self) -> Result<Assets> {
        if self.current {
            return Assets::find_current();
        }
        let controllers = self.controllers.then_some(CONTROLLERS);
        let node = NODE.into_iter().filter(|_| self.scheduler);
        let programs: Vec<_> = controllers.into_iter().chain(node).collect();
        Assets::find_with(&programs)
    }
}

impl ControlPlane {
    /// Starts etcd and an API server on 127.0.0.1, and waits until it is ready.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_with(lab, ControlPlaneOptions::default())
    }

    /// A control plane for `test`, or `None` after printing that the test is skipped because the
    /// binaries are missing.
    ///
    /// # Panics
    ///
    /// If it does not start, and if skipping is a failure (see [`skip`](crate::skip)).
    pub fn for_test(test: &str, options: ControlPlaneOptions) -> Option<Self> {
        if let Err(error) = options.assets() {
            crate::skip(test, &error.to_string());
            return None;
        }
        let started = Lab::new(test).and_then(|lab| Self::start_with(&lab, options));
        Some(started.unwrap_or_else(|error| panic!("{test}: {error}")))
    }

    /// Starts what `options` ask for, and waits until it is ready.
    pub fn start_with(lab: &Lab, options: ControlPlaneOptions) -> Result<Self> {
        let assets = options.assets()?;
        let pki = Pki::new(lab, options.address)?;
        let (etcd, etcd_url) = etcd(lab, &assets, options.address)?;
        let server = match options.port {
            Some(port) => SocketAddr::new(options.address.into(), port),
            None => free_address(options.address)?,
        };
        let kubeconfig = pki.kubeconfig(server, "admin", Some("system:masters"))?;
        let mut cluster = Self {
            apiserver: apiserver(lab, &assets, &pki, &options, server, &etcd_url)?,
            lab: lab.clone(),
            assets,
            pki,
            options,
            server,
            etcd_url,
            kubeconfig,
            scheduler: None,
            controllers: None,
            _etcd: etcd,
        };
        cluster.wait_ready()?;
        if cluster.options.controllers {
            cluster.controllers = Some(cluster.start_controllers()?);
        }
        if cluster.options.scheduler {
            cluster.scheduler = Some(cluster.start_scheduler()?);
        }
        Ok(cluster)
    }

    /// Where the API server listens.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The binaries that it runs.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig file for another user, with a client certificate. A service account is the user
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        self.pki.kubeconfig(self.server, user, group)
    }

    /// Installs the definition of ImageSwapPolicies, and waits until it is served.
    pub fn install_definition(&self) -> Result<()> {
        self.kubectl(["apply", "--server-side", "-f", DEFINITION])?;
        self.kubectl(["wait", "--for=condition=Established", "crd", "--all"])?;
        Ok(())
    }

    /// Installs the rights of the manifests; returns a kubeconfig file of the webhook's account.
    pub fn install_rights(&self) -> Result<PathBuf> {
        for object in shipped(&RIGHTS)? {
            self.apply(&object.to_string())?;
        }
        self.kubeconfig_for(ACCOUNT, None)
    }

    /// The administrator's client, for use within the current runtime.
    pub async fn client(&self) -> Result<Client> {
        let unusable = |error: &dyn std::error::Error| {
            Error::Unusable(format!("{}: {error}", self.kubeconfig.display()))
        };
        let file = Kubeconfig::read_from(&self.kubeconfig).map_err(|error| unusable(&error))?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(&error))?;
        config.connect_timeout = Some(API_TIMEOUT);
        config.read_timeout = Some(API_TIMEOUT);
        Client::try_from(config).map_err(Error::api("a client of the API server"))
    }

    /// Runs kubectl as the administrator; returns its standard output.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl_with(["apply", "-f", "-"], manifests)
    }

    /// Runs kubectl with `input` as its standard input; returns its standard output.
    pub fn kubectl_with<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(args);
        let output = run_with_input(command, input)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command of kubectl as the administrator, for callers that need its process.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.assets.program("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.lab.path().join("kubectl-cache"));
        command
    }

    /// Kills the API server.
    pub fn stop_apiserver(&mut self) {
        self.apiserver.kill();
    }

    /// Starts the API server again after [`stop_apiserver`](Self::stop_apiserver), on the same port and data.
    pub fn start_apiserver(&mut self) -> Result<()> {
        self.apiserver = apiserver(
            &self.lab,
            &self.assets,
            &self.pki,
            &self.options,
            self.server,
            &self.etcd_url,
        )?;
        self.wait_ready()
    }

    /// The API server's log.
    pub fn apiserver_log(&self) -> String {
        self.apiserver.log()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (program, kubeconfig) = (self.assets.program("kubectl"), self.kubeconfig.clone());
        self.apiserver.wait_ready(START, || {
            let mut command = Command::new(&program);
            command.arg("--kubeconfig").arg(&kubeconfig);
            command.args(["--request-timeout=5s", "get", "--raw", "/readyz"]);
            run(command).is_ok_and(|it| it.stdout == b"ok")
        })
    }

    fn start_controllers(&self) -> Result<Process> {
        let mut command = self.component(CONTROLLERS)?;
        command
            .arg(format!("--root-ca-file={}", self.pki.ca().display()))
            .arg(format!(
                "--service-account-private-key-file={}",
                self.pki.service_account_key().display()
            ))
            .arg("--use-service-account-credentials=true");
        if !self.options.scheduler {
            // Nodes have no kubelet that reports as alive, and no Pod may be evicted for that.
            command.arg("--controllers=*,-nodelifecycle,-podgc");
        }
        let mut process = Process::start(&self.lab, CONTROLLERS, command)?;
        process.wait_ready(START, || {
            self.kubectl(["get", "serviceaccount", "default"]).is_ok()
        })?;
        Ok(process)
    }

    fn start_scheduler(&self) -> Result<Process> {
        let command = self.component("kube-scheduler")?;
        Process::start(&self.lab, "kube-scheduler", command)
    }

    /// A command for one of the controllers.
    fn component(&self, name: &str) -> Result<Command> {
        let kubeconfig = self.kubeconfig_for(&format!("system:{name}"), None)?;
        let mut command = Command::new(self.assets.program(name));
        for flag in [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ] {
            command.arg(format!("--{flag}={}", kubeconfig.display()));
        }
        let port = free_address(self.options.address)?.port();
        command
            .arg(format!("--bind-address={}", self.options.address))
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", self.lab.make_dir(name)?.display()))
            .arg("--leader-elect=false");
        if self.assets.minor_version()? < 24 {
            // Its second port has a fixed number; later versions do not have it.
            command.arg("--port=0");
        }
        Ok(command)
    }
}

fn etcd(lab: &Lab, assets: &Assets, address: Ipv4Addr) -> Result<(Process, String)> {
    let url = format!("http://{}", free_address(address)?);
    let peer = format!("http://{}", free_address(address)?);
    let mut command = Command::new(assets.program("etcd"));
    command
        .arg(format!("--data-dir={}", lab.make_dir("etcd")?.display()))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // Losing the data with the machine is fine.
        .arg("--unsafe-no-fsync");
    Ok((Process::start(lab, "etcd", command)?, url))
}

fn apiserver(
    lab: &Lab,
    assets: &Assets,
    pki: &Pki,
    options: &ControlPlaneOptions,
    server: SocketAddr,
    etcd_url: &str,
) -> Result<Process> {
    let mut command = Command::new(assets.program("kube-apiserver"));
    let advertised = match server.ip() {
        // Endpoints may not be loopback addresses, and nobody connects to this one.
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::new(192, 0, 2, 1).into(),
        address => address,
    };
    let file = |path: &Path| path.display().to_string();
    for (flag, value) in [
        ("etcd-servers", etcd_url.to_owned()),
        ("bind-address", server.ip().to_string()),
        ("advertise-address", advertised.to_string()),
        ("secure-port", server.port().to_string()),
        ("cert-dir", file(&lab.make_dir("apiserver")?)),
        ("client-ca-file", file(pki.ca())),
        ("tls-cert-file", file(pki.server_certificate())),
        ("tls-private-key-file", file(pki.server_key())),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc".to_owned(),
        ),
        (
            "service-account-key-file",
            file(pki.service_account_public_key()),
        ),
        (
            "service-account-signing-key-file",
            file(pki.service_account_key()),
        ),
        ("service-cluster-ip-range", options.services.to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("allow-privileged", "true".to_owned()),
        // Without kube-proxy the API server has to find a Service's endpoints itself.
        ("enable-aggregator-routing", "true".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("profiling", "false".to_owned()),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    if !options.controllers {
        // Without controllers, nothing makes the service accounts that every Pod would need.
        command.arg("--disable-admission-plugins=ServiceAccount");
    }
    if assets.minor_version()? < 23 {
        command.arg("--feature-gates=EphemeralContainers=true");
    }
    Process::start(lab, "kube-apiserver", command)
}

impl Error {
    /// The standard error of a failed kubectl; empty for any other error.
    pub fn stderr(&self) -> &str {
        match self {
            Self::Command { stderr, .. } => stderr,
            _ => "",
        }
    }
}

/// Writes a file in the lab.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(path.display().to_string()))
}
