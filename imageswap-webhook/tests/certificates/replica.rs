//! A replica that keeps its certificate and answers each byte with a byte.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use imageswap_runtime::admin::Readiness;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::tls::{Acceptor, ClientStream, ConnectError, Connector, Tls, TlsArgs};
use imageswap_webhook::certificates::CertificateArgs;
use kube::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The server name by which the API server calls a webhook.
pub(crate) const NAME: &str = "imageswap-webhook.imageswap-system.svc";
/// The Secret that the webhook may write.
pub(crate) const SECRET: &str = "imageswap-webhook-tls";
/// How long to wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    certificates: CertificateArgs,
}

pub(crate) struct Replica {
    pub(crate) tls: Tls,
    addr: SocketAddr,
    readiness: Readiness,
    _tasks: JoinSet<()>,
}

pub(crate) struct Connection {
    stream: ClientStream,
}

impl Replica {
    pub(crate) async fn start(flags: &str, client: Client) -> Self {
        let secret = format!("imageswap-system/{SECRET}");
        let args = ["x", "--tls-secret", &secret];
        let command = Command::parse_from(args.into_iter().chain(flags.split_whitespace()));
        let secret = command.certificates.load(&command.tls.tls_san);
        let secret = secret.unwrap().unwrap();
        let tls = Tls::unset().unwrap();
        let readiness = Readiness::new();
        let ready = readiness.condition("certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(secret.keep(client, tls.clone(), Exporter::new(), ready));
        tasks.spawn(answer(listener, tls.acceptor()));
        Self {
            tls,
            addr,
            readiness,
            _tasks: tasks,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness.missing().is_empty()
    }

    pub(crate) async fn connect(
        &self,
        connector: &Connector,
        name: &str,
    ) -> Result<Connection, ConnectError> {
        let stream = TcpStream::connect(self.addr).await?;
        let stream = connector.connect(name, stream).await?;
        Ok(Connection { stream })
    }
}

impl Connection {
    pub(crate) async fn ping(&mut self) -> io::Result<()> {
        self.stream.write_u8(7).await?;
        self.stream.flush().await?;
        assert_eq!(self.stream.read_u8().await?, 7);
        Ok(())
    }

    /// The server's certificate.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        let chain = self.stream.get_ref().1.peer_certificates();
        chain.unwrap()[0].to_vec()
    }
}

/// Waits until `holds` returns true, which must happen.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes a certificate and its authority in a folder; returns the authority for clients.
pub(crate) fn self_signed(dir: &Path) -> Vec<u8> {
    let args = TlsArgs {
        tls_self_signed: Some(dir.to_owned()),
        ..TlsArgs::default()
    };
    args.load("127.0.0.1:0".parse().unwrap()).unwrap();
    std::fs::read(dir.join("ca.crt")).unwrap()
}

async fn answer(listener: TcpListener, acceptor: Acceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            while let Ok(byte) = stream.read_u8().await {
                if stream.write_u8(byte).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        });
    }
}
