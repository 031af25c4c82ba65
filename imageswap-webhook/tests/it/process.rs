//! `imageswap-webhook serve` as a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imageswap_runtime::tls::Connector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::client::{Connection, patched, pod_review};

/// A webhook that serves the maps file `maps`.
pub(crate) fn command(maps: &Path, certificates: &Path, listen: &str, admin: &str) -> Command {
    let mut command = serving(certificates, listen, admin);
    command.arg("--maps").arg(maps);
    command
}

/// A webhook without a policy, for flags of one to be added.
pub(crate) fn serving(certificates: &Path, listen: &str, admin: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap-webhook"));
    command
        .args(["serve", "--log-format", "json"])
        .args(["--listen", listen, "--admin", admin])
        .arg("--tls-self-signed")
        .arg(certificates)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A process that has logged its addresses.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) log: Lines<BufReader<ChildStderr>>,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
}

pub(crate) async fn serve(mut command: Command) -> Serving {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = log
            .next_line()
            .await
            .unwrap()
            .expect("the process ended before it served");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "serving" {
            let addr = |key: &str| line[key].as_str().unwrap().parse().unwrap();
            return Serving {
                webhook: addr("webhook"),
                admin: addr("admin"),
                child,
                log,
            };
        }
    }
}

impl Serving {
    /// Makes the webhooks of a configuration call this process, whose certificate is in `certificates`.
    pub(crate) fn is_called_by(&self, configuration: &mut Value, certificates: &Path) {
        let authority = std::fs::read(certificates.join("ca.crt")).unwrap();
        for hook in configuration["webhooks"].as_array_mut().unwrap() {
            let path = hook["clientConfig"]["service"]["path"].as_str().unwrap();
            let url = format!("https://{}{path}", self.webhook);
            hook["clientConfig"] = json!({"url": url, "caBundle": STANDARD.encode(&authority)});
        }
    }

    /// How many reviews it has answered, without those of policies.
    pub(crate) async fn reviews(&self) -> u64 {
        let metrics = admin(self.admin, "/metrics").await;
        let is_count = |line: &&str| {
            line.starts_with("imageswap_admission_requests_total{") && !line.contains("\"policy\"")
        };
        let counts = metrics.lines().filter(is_count);
        counts
            .map(|it| it.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// The answer of the admin port.
pub(crate) async fn admin(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn serves_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("maps");
    std::fs::write(&maps, "default::d.example.com\n").unwrap();
    let certificates = dir.path().join("tls");
    let mut command = command(&maps, &certificates, "127.0.0.1:0", "127.0.0.1:0");
    command.args(["--drain-delay", "0", "--tls-san", "imageswap.example.com"]);
    let mut serving = serve(command).await;

    let connector = Connector::new(&std::fs::read(certificates.join("ca.crt")).unwrap()).unwrap();
    let review = pod_review(
        "CREATE",
        &json!({"spec": {"containers": [{"name": "web", "image": "nginx"}]}}),
    );
    for name in ["localhost", "127.0.0.1", "::1", "imageswap.example.com"] {
        let mut connection = Connection::open(&connector, name, serving.webhook)
            .await
            .unwrap();
        let (response, answer) = connection.post("/mutate", review.to_string()).await;
        assert_eq!(response.status(), 200);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            patched(&review, &answer)["spec"]["containers"][0]["image"],
            "d.example.com/nginx"
        );
    }
    assert!(
        Connection::open(&connector, "other.example.com", serving.webhook)
            .await
            .is_err()
    );

    assert!(
        admin(serving.admin, "/readyz")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let metrics = admin(serving.admin, "/metrics").await;
    for series in [
        "imageswap_admission_requests_total{webhook=\"mutate\",operation=\"CREATE\",outcome=\"patched\"} 4\n",
        "imageswap_admission_duration_seconds_count 4\n",
        "imageswap_policy_info{set_revision=",
        "imageswap_policy_last_load_timestamp_seconds 1",
        "imageswap_tls_not_after_timestamp_seconds 1",
        "imageswap_policy_reload_failures_total 0\n",
    ] {
        assert!(metrics.contains(series), "{series}\n{metrics}");
    }

    let pid = rustix::process::Pid::from_raw(serving.child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = serving.child.wait().await.unwrap();
    assert!(status.success(), "{status}");
    let mut log = Vec::new();
    while let Some(line) = serving.log.next_line().await.unwrap() {
        log.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    let swapped: Vec<_> = log
        .iter()
        .filter(|it| it["message"] == "images swapped")
        .collect();
    assert_eq!(swapped.len(), 4, "{log:?}");
    assert_eq!(swapped[0]["swaps"], "web: nginx -> d.example.com/nginx");
    assert_eq!(swapped[0]["namespace"], "ns1");
    assert!(log.iter().any(|it| it["message"] == "drained"), "{log:?}");
}

#[tokio::test]
async fn a_restart_does_not_break_clients() {
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("maps");
    std::fs::write(&maps, "default::d.example.com\n").unwrap();
    let first = serve(command(&maps, dir.path(), "127.0.0.1:0", "127.0.0.1:0")).await;
    let connector = Connector::new(&std::fs::read(dir.path().join("ca.crt")).unwrap()).unwrap();
    drop(first);
    let second = serve(command(&maps, dir.path(), "127.0.0.1:0", "127.0.0.1:0")).await;
    assert!(
        Connection::open(&connector, "localhost", second.webhook)
            .await
            .is_ok()
    );
}

/// Runs a process that must not serve. Both ports are taken, so that it would fail on them if it
/// got that far.
async fn refused(maps: &Path, certificates: &Path) -> (Option<i32>, String) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output: Output = command(maps, certificates, &addr, &addr)
        .output()
        .await
        .unwrap();
    assert!(output.stdout.is_empty());
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn a_bad_policy_ends_it_before_a_port_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("swap.maps");
    std::fs::write(
        &maps,
        "# a comment\ndefault::d.example.com\nquay.io::https://UPPER CASE/\n",
    )
    .unwrap();
    let (code, error) = refused(&maps, dir.path()).await;
    assert_eq!(code, Some(2), "{error}");
    let place = format!("{}:3:", maps.display());
    assert!(error.contains(&place), "{place} is not in: {error}");
    assert!(!error.contains("cannot bind"), "{error}");

    std::fs::write(&maps, b"default::d.example.com\n\n  \xff").unwrap();
    let (code, error) = refused(&maps, dir.path()).await;
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains(&format!("{}:3:3: ", maps.display())),
        "{error}"
    );

    let (code, error) = refused(&dir.path().join("missing"), dir.path()).await;
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("cannot read") && error.contains("missing"),
        "{error}"
    );
}

#[tokio::test]
async fn labels_of_namespaces_need_a_cluster_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.yaml");
    let text = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: exempt}\n\
                spec: {match: {namespaceSelector: {matchLabels: {exempt: 'yes'}}}, rules: [{keep: '**'}]}\n";
    std::fs::write(&policy, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imageswap-webhook"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .arg("--policy")
        .arg(&policy)
        .arg("--tls-self-signed")
        .arg(dir.path())
        .env_clear()
        .env("HOME", dir.path())
        .output()
        .await
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("policy exempt: `namespaceSelector` needs the labels of namespaces")
            && error.contains("--kubeconfig FILE"),
        "{error}"
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("maps");
    std::fs::write(&maps, "default::d.example.com\n").unwrap();
    let (code, error) = refused(&maps, dir.path()).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("cannot bind 127.0.0.1:"), "{error}");
}
