//! The network of a node: a namespace of its own, with a link to this machine.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, id};

use crate::error::Result;
use crate::process::run;

/// A network namespace, linked to this machine's by a pair of addresses; dropping it removes both.
///
/// A kubelet refuses a loopback address, and leaves chains in the packet filter of the namespace that it runs in.
#[derive(Debug)]
pub struct NodeNetwork {
    name: String,
    /// Last bytes of its addresses, from the process id, so that concurrent test runs do not
    /// collide.
    number: u16,
}

impl NodeNetwork {
    /// Makes the namespace and the link.
    pub fn new() -> Result<Self> {
        let pid = id();
        let network = Self {
            name: format!("isw{pid}"),
            number: u16::try_from(pid % (1 << 14)).unwrap_or_default(),
        };
        let (here, there) = (network.link(), "eth0");
        let ip = |line: &str| {
            let mut command = Command::new("ip");
            command.args(line.split(' '));
            run(command).map(drop)
        };
        ip(&format!("netns add {}", network.name))?;
        ip(&format!(
            "link add {here} type veth peer name {there} netns {}",
            network.name
        ))?;
        ip(&format!("addr add {}/30 dev {here}", network.here()))?;
        ip(&format!("link set {here} up"))?;
        let inside = format!("-n {}", network.name);
        ip(&format!(
            "{inside} addr add {}/30 dev {there}",
            network.there()
        ))?;
        ip(&format!("{inside} link set {there} up"))?;
        ip(&format!("{inside} link set lo up"))?;
        ip(&format!(
            "{inside} route add default via {}",
            network.here()
        ))?;
        Ok(network)
    }

    /// This machine's end of the link, where the node reaches the API server.
    pub fn here(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The node's end.
    pub fn there(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// The range of the node's Pod addresses.
    pub fn pods(&self) -> String {
        format!("198.19.{}.0/24", self.number % 256)
    }

    /// A command for `program` that runs in the namespace.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let namespace: PathBuf = ["/run/netns", &self.name].iter().collect();
        command
            .arg(format!("--net={}", namespace.display()))
            .arg("--");
        command.arg(program);
        command
    }

    /// Each network has four addresses from the range for benchmarks of network devices (RFC 2544),
    /// which no host uses.
    fn address(&self, last: u16) -> Ipv4Addr {
        let [high, low] = (self.number * 4 + last).to_be_bytes();
        Ipv4Addr::new(198, 18, high, low)
    }

    fn link(&self) -> String {
        format!("{}h", self.name)
    }
}

impl Drop for NodeNetwork {
    fn drop(&mut self) {
        // Deleting one end of the link deletes both.
        let mut command = Command::new("ip");
        command.args(["netns", "delete", &self.name]);
        if let Err(error) = run(command) {
            eprintln!("network namespace {}: {error}", self.name);
        }
    }
}
