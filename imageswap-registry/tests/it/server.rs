//! A server for these tests.

use imageswap_lab::{Act, ScriptedServer, answer};
use imageswap_registry::Client;
use imageswap_runtime::tls::Connector;

/// Starts a server that answers by a script.
pub(crate) async fn start(
    script: impl Fn(&str, &str) -> Act + Send + Sync + 'static,
) -> ScriptedServer {
    ScriptedServer::start(script).await.unwrap()
}

/// A client that trusts the server.
pub(crate) fn client(server: &ScriptedServer) -> Client {
    Client::new(Connector::new(server.ca_pem()).unwrap(), [].into())
}

/// A good answer about a manifest, to `HEAD`.
pub(crate) fn manifest() -> Act {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    Act::Say(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 500\r\n\r\n"
    ))
}

/// The protocol's answer about a manifest that is not there.
pub(crate) fn missing(head: &str) -> Act {
    if head.starts_with("HEAD") {
        return Act::Say("HTTP/1.1 404 Not Found\r\ncontent-length: 50\r\n\r\n".to_owned());
    }
    answer(
        "404 Not Found",
        &[],
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
    )
}
