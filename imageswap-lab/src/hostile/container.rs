//! The webhook's container, as in the chart.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::error::{Error, Result};
use crate::port::free_address;
use crate::shipped::objects;

/// The parts of the webhook's container that a trial needs.
#[derive(Debug, Clone)]
pub struct Container {
    /// The memory limit in bytes.
    pub memory: u64,
    pub(super) liveness: Probe,
    pub(super) readiness: Probe,
    /// Flags with the program's listen addresses, by the port that they name.
    listeners: BTreeMap<u16, String>,
    /// Flags that set limits, unchanged.
    limits: Vec<String>,
}

/// How a kubelet probes.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) path: String,
    port: u16,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    /// Failures in a row after which the kubelet acts.
    pub(super) threshold: usize,
}

/// Arguments for the program, and the addresses that it listens on with them.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) arguments: Vec<String>,
    addresses: BTreeMap<u16, SocketAddr>,
    https: u16,
    admin: u16,
}

const HTTPS: &str = "https";
const ADMIN: &str = "admin";

impl Container {
    /// Reads the first container of the first Deployment in `path`, a file of YAML documents.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut objects = objects(path)?.into_iter();
        let deployment = objects.find(|it| it["kind"] == "Deployment");
        let deployment: Deployment = serde_json::from_value(deployment.unwrap_or_default())
            .map_err(|error| Error::Unusable(format!("{shown}: {error}")))?;
        let pod = deployment.spec.and_then(|it| it.template.spec);
        let container = pod.and_then(|it| it.containers.into_iter().next());
        let container = container.ok_or_else(|| {
            Error::Unusable(format!("{shown} has no Deployment with a container"))
        })?;
        Self::of(&container).map_err(|what| Error::Unusable(format!("{shown}: {what}")))
    }

    fn of(container: &core::Container) -> std::result::Result<Self, String> {
        let limits = container
            .resources
            .as_ref()
            .and_then(|it| it.limits.as_ref());
        let memory = limits.and_then(|it| it.get("memory"));
        let memory = memory.and_then(|it| bytes(&it.0));
        let ports: Vec<u16> = container
            .ports
            .iter()
            .flatten()
            .filter_map(|port| u16::try_from(port.container_port).ok())
            .collect();
        let arguments = container.args.iter().flatten();
        let listeners = arguments.clone().filter_map(|argument| {
            let (flag, value) = argument.split_once('=')?;
            let port = value.rsplit_once(':')?.1.parse().ok()?;
            ports.contains(&port).then(|| (port, flag.to_owned()))
        });
        Ok(Self {
            memory: memory.ok_or("no memory limit")?,
            liveness: Probe::of(container, container.liveness_probe.as_ref())?,
            readiness: Probe::of(container, container.readiness_probe.as_ref())?,
            listeners: listeners.collect(),
            limits: arguments
                .filter(|argument| argument.starts_with("--max-"))
                .cloned()
                .collect(),
        })
    }

    /// Free ports on the loopback interface for everything that the program listens on.
    pub(super) fn listen(&self) -> Result<Listening> {
        let mut arguments = self.limits.clone();
        let mut addresses = BTreeMap::new();
        let (mut https, mut admin) = (None, None);
        for (port, flag) in &self.listeners {
            let free = free_address(Ipv4Addr::LOCALHOST)?;
            arguments.push(format!("{flag}={free}"));
            addresses.insert(*port, free);
            match flag.as_str() {
                "--listen" => https = Some(*port),
                "--admin" => admin = Some(*port),
                _ => {}
            }
        }
        let (Some(https), Some(admin)) = (https, admin) else {
            let missing = if https.is_none() { HTTPS } else { ADMIN };
            return Err(Error::Unusable(format!(
                "the container has no port {missing}"
            )));
        };
        Ok(Listening {
            arguments,
            addresses,
            https,
            admin,
        })
    }
}

impl Listening {
    pub(super) fn https(&self) -> SocketAddr {
        self.addresses[&self.https]
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.addresses[&self.admin]
    }

    /// The address for `probe`.
    pub(super) fn probed(&self, probe: &Probe) -> Result<SocketAddr> {
        self.addresses.get(&probe.port).copied().ok_or_else(|| {
            Error::Unusable(format!(
                "no flag of the container names port {}",
                probe.port
            ))
        })
    }
}

impl Probe {
    fn of(
        container: &core::Container,
        probe: Option<&core::Probe>,
    ) -> std::result::Result<Self, &'static str> {
        let probe = probe.ok_or("a probe is missing")?;
        let get = probe.http_get.as_ref().ok_or("a probe is not by HTTP")?;
        let port = match &get.port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                let named = ports.find(|it| it.name.as_ref() == Some(name));
                named.map(|it| it.container_port)
            }
        };
        // The defaults are Kubernetes'.
        let seconds = |value: Option<i32>, default| {
            Duration::from_secs(value.and_then(|it| it.try_into().ok()).unwrap_or(default))
        };
        Ok(Self {
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
            port: port
                .and_then(|port| port.try_into().ok())
                .ok_or("a probe's port is not a port of the container")?,
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            threshold: probe
                .failure_threshold
                .and_then(|it| it.try_into().ok())
                .unwrap_or(3),
        })
    }
}

/// A quantity of memory, such as `128Mi`.
fn bytes(quantity: &str) -> Option<u64> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("", 0)];
    units.into_iter().find_map(|(unit, shift)| {
        let number: u64 = quantity.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");

    #[test]
    fn the_charts_container_is_read() {
        let container = Container::read(Path::new(CHART)).unwrap();
        assert!(container.memory >= 1 << 20);
        assert_eq!(container.liveness.path, "/livez");
        assert_eq!(container.readiness.path, "/readyz");
        let listening = container.listen().unwrap();
        assert_ne!(listening.https(), listening.admin());
        listening.probed(&container.liveness).unwrap();
        listening.probed(&container.readiness).unwrap();
    }

    #[test]
    fn quantities_of_memory_are_read() {
        assert_eq!(bytes("128Mi"), Some(128 << 20));
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("lots"), None);
    }
}
