//! Free TCP ports.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Error, Result};

/// A port that was free when asked for.
pub(crate) fn free(address: Ipv4Addr) -> Result<u16> {
    let bind = || TcpListener::bind((address, 0))?.local_addr();
    Ok(bind()
        .map_err(Error::io(format!("a free port on {address}")))?
        .port())
}
