//! The webhook as real receivers see it: traces by OTLP, metrics by Prometheus.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use http::{Method, Request};
use imageswap_lab::{Lab, OtlpReceiver, Prometheus, ReceivedSpan};
use imageswap_runtime::tls::Connector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Connection, PATIENCE, nginx_review};
use crate::process::{Serving, command, serve};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A serving process with its files in `dir`, and these additional arguments and variables.
async fn start(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (Serving, Connection) {
    let maps = dir.join("maps");
    std::fs::write(&maps, "default::d.example.com\n").unwrap();
    let mut command = command(&maps, dir, "127.0.0.1:0", "127.0.0.1:0");
    command
        .args(["--drain-delay", "0", "--drain-timeout", "1"])
        .args(args)
        .envs(variables.iter().copied());
    let serving = serve(command).await;
    let connector = Connector::new(&std::fs::read(dir.join("ca.crt")).unwrap()).unwrap();
    let connection = Connection::open(&connector, "localhost", serving.webhook)
        .await
        .unwrap();
    (serving, connection)
}

/// Ends the process by SIGTERM and returns its log.
async fn end(mut serving: Serving) -> Vec<Value> {
    let pid = Pid::from_raw(serving.child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut log = Vec::new();
    while let Some(line) = serving.log.next_line().await.unwrap() {
        log.push(serde_json::from_str(&line).unwrap());
    }
    let status = serving.child.wait().await.unwrap();
    assert!(status.success(), "{status}");
    log
}

async fn post(connection: &mut Connection, flags: Option<&str>) {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/mutate?timeout=5s");
    if let Some(flags) = flags {
        request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"));
    }
    let (response, _) = connection.send(request, nginx_review()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn spans_join_the_callers_trace() {
    let receiver = OtlpReceiver::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut connection) = start(
        dir.path(),
        &[
            "--otlp-endpoint",
            &receiver.endpoint(),
            "--otlp-sample-ratio",
            "0",
        ],
        &[(
            "OTEL_RESOURCE_ATTRIBUTES",
            "k8s.namespace.name=imageswap-system",
        )],
    )
    .await;
    // Only requests that the caller records are recorded, but the log has the trace in any case.
    post(&mut connection, None).await;
    post(&mut connection, Some("00")).await;
    post(&mut connection, Some("01")).await;
    let log = end(serving).await;
    let traces: Vec<_> = log
        .iter()
        .filter(|line| line["message"] == "images swapped")
        .map(|line| line["trace_id"].as_str())
        .collect();
    assert_eq!(traces.len(), 3);
    assert_ne!(traces[0], Some(TRACE));
    assert_eq!(traces[1..], [Some(TRACE); 2]);

    // The process has ended, and has sent all that it had.
    let spans: BTreeMap<String, ReceivedSpan> = receiver
        .spans()
        .into_iter()
        .map(|span| (span.name.clone(), span))
        .collect();
    let names: Vec<_> = spans.keys().map(String::as_str).collect();
    assert_eq!(names, ["POST /mutate", "decide", "parse", "patch"]);
    let request = &spans["POST /mutate"];
    assert_eq!(
        (&*request.trace, &*request.parent),
        (TRACE, CALLER),
        "{request:?}"
    );
    for step in ["parse", "decide", "patch"] {
        let step = &spans[step];
        assert_eq!(
            (&*step.trace, &step.parent),
            (TRACE, &request.id),
            "{step:?}"
        );
    }
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/mutate"),
        ("url.path", "/mutate"),
        ("url.query", "timeout=5s"),
        ("url.scheme", "https"),
        ("http.response.status_code", "200"),
        ("imageswap.operation", "CREATE"),
        ("imageswap.outcome", "patched"),
    ] {
        assert_eq!(request.attributes[name], value, "{name}");
    }
    for (name, value) in [
        ("service.name", "imageswap-webhook"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("k8s.namespace.name", "imageswap-system"),
    ] {
        assert_eq!(request.resource[name], value, "{name}");
    }
    assert!(!request.resource["service.instance.id"].is_empty());
}

#[tokio::test]
async fn a_collector_that_is_not_there_fails_no_review() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens on the port for discarding.
    let (serving, mut connection) = start(
        dir.path(),
        &["--otlp-endpoint", "http://127.0.0.1:9"],
        &[("OTEL_BSP_SCHEDULE_DELAY", "50")],
    )
    .await;
    for _ in 0..100 {
        post(&mut connection, None).await;
    }
    let log = end(serving).await;
    let failures = log
        .iter()
        .filter(|line| line["message"] == "cannot export to the collector")
        .count();
    assert!(failures <= 1, "{log:?}");
    assert!(
        log.iter().any(|line| line["message"] == "drained"),
        "{log:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("maps");
    std::fs::write(&maps, "default::d.example.com\n").unwrap();
    let output = command(&maps, dir.path(), "127.0.0.1:0", "127.0.0.1:0")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("--otlp-endpoint \"collector:4317\" must be an http"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_metrics() {
    if !Prometheus::is_installed_for("prometheus_reads_the_metrics") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut connection) = start(dir.path(), &[], &[]).await;
    for _ in 0..7 {
        post(&mut connection, None).await;
    }
    let target = serving.admin;
    let asking = tokio::task::spawn_blocking(move || {
        let lab = Lab::new("prometheus").unwrap();
        let prometheus = Prometheus::start(&lab, &[target]).unwrap();
        for (query, expected) in [
            ("up", 1.0),
            (
                r#"sum(imageswap_admission_requests_total{operation="CREATE",outcome="patched"})"#,
                7.0,
            ),
            (
                r#"sum(imageswap_admission_requests_total{outcome="shed"})"#,
                0.0,
            ),
            ("imageswap_admission_duration_seconds_count", 7.0),
            (
                r#"imageswap_admission_duration_seconds_bucket{le="+Inf"}"#,
                7.0,
            ),
            ("count(imageswap_policy_info)", 1.0),
            (
                r#"sum(imageswap_admission_images_total{decision="swapped"})"#,
                7.0,
            ),
            ("imageswap_admission_connections", 1.0),
            (
                "histogram_quantile(0.99, imageswap_admission_duration_seconds_bucket) > bool 0",
                1.0,
            ),
            (
                "imageswap_tls_not_after_timestamp_seconds > bool time()",
                1.0,
            ),
        ] {
            let start = Instant::now();
            loop {
                let result = prometheus.query(query).unwrap();
                let value = result
                    .first()
                    .and_then(|it| it["value"][1].as_str()?.parse::<f64>().ok());
                if value == Some(expected) {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{query}: {result:?}");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    });
    asking.await.unwrap();
    drop(connection);
    end(serving).await;
}
