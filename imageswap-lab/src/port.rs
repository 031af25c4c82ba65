//! TCP ports for servers that cannot say which one they chose.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Below the ports that Linux gives to clients and to port 0
/// (`net.ipv4.ip_local_port_range`). A connection of another test cannot take one of these before
/// the server listens.
const PORTS: Range<u16> = 10_000..32_768;
/// A process claims this many at once.
const BLOCK: u16 = 64;

static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed {
    claims: Vec::new(),
    left: 0..0,
});

/// The ports of this process.
struct Claimed {
    /// Sockets with abstract names. The kernel frees a name when the process ends.
    claims: Vec<UnixDatagram>,
    left: Range<u16>,
}

/// An address with a port that this process has not been given before, that nobody listens on, and
/// that no other process gets from here while this one lives.
///
/// # Errors
///
/// If no port is left.
pub fn free_address(address: Ipv4Addr) -> Result<SocketAddr> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(port) = claimed.left.next() else {
            claimed.claim_block()?;
            continue;
        };
        let free = SocketAddrV4::new(address, port);
        if TcpListener::bind(free).is_ok() {
            return Ok(free.into());
        }
    }
}

impl Claimed {
    fn claim_block(&mut self) -> Result<()> {
        for first in PORTS.step_by(BLOCK.into()) {
            let name = UnixAddr::from_abstract_name(format!("imageswap-lab/port/{first}"));
            if let Ok(claim) = name.and_then(|name| UnixDatagram::bind_addr(&name)) {
                self.claims.push(claim);
                self.left = first..PORTS.end.min(first + BLOCK);
                return Ok(());
            }
        }
        let all = format!("ports {} to {} are claimed", PORTS.start, PORTS.end - 1);
        Err(Error::Unusable(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let count = usize::from(BLOCK) + 10;
        let addresses = (0..count).map(|_| free_address(Ipv4Addr::LOCALHOST).unwrap());
        let mut ports: Vec<_> = addresses.map(|address| address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        let name = UnixAddr::from_abstract_name(format!(
            "imageswap-lab/port/{}",
            ports[0] - (ports[0] - PORTS.start) % BLOCK
        ));
        UnixDatagram::bind_addr(&name.unwrap()).expect_err("its block is claimed");
    }
}
