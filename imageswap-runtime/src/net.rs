//! Listens for TCP connections, and accepts them without ever giving up.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel completes before they are accepted; it may allow fewer.
const BACKLOG: u32 = 4096;
/// Bytes per direction that the kernel may buffer for one connection, before it doubles the figure.
/// By default it grows buffers to megabytes, which count as memory of this process's cgroup.
const KERNEL_BUFFER: u32 = 64 << 10;

/// Pause after a failed accept. The usual cause is a lack of file descriptors; trying again at once
/// would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Listens on `addr`. The connections' buffers in the kernel stay small.
///
/// # Errors
/// The operating system's error; the address is not part of the message.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // So that a restart does not wait until old connections are forgotten.
    socket.set_reuseaddr(true)?;
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.set_send_buffer_size(KERNEL_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// The next connection, with `TCP_NODELAY` set. Never fails: errors of a single peer are skipped,
/// other errors are logged and followed by a pause.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                return (stream, peer);
            }
            Err(error) if concerns_peer(error.kind()) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_peer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}
