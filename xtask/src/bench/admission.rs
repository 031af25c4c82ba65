//! How long a Pod's creation takes through a real API server, with and without webhooks.
//!
//! Each way has a namespace of its own, whose configurations select it by a label. The ways take
//! turns, Pod by Pod, so that other load on the machine affects all of them.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imageswap_lab::{ControlPlane, ControlPlaneOptions, HttpClient, Lab, free_address};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::server::{self, Server};
use super::{Format, Show, write};
use crate::process::Workspace;
use crate::{kubernetes, ui};

/// Pods that each way creates.
const PODS: usize = 600;
/// Pods per way that are not counted: connections, caches.
const WARM_UP: usize = 40;
/// Pods that a namespace has at most: etcd stays small.
const BATCH: usize = 100;
/// How long a configuration may take to become active.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that our webhooks may take, as a ratio to webhooks that answer a constant.
const MAX_RATIO: f64 = 1.05;
/// As many rules as a large company's policy has.
const RULES: usize = 50;
const LABEL: &str = "bench.imageswap.io/way";
const CONSTANT: &str = "00000000-0000-0000-0000-000000000000";

/// Which calls, and who answers them.
struct Way {
    name: &'static str,
    /// Also the value of its namespace's label.
    namespace: &'static str,
    calls: &'static [&'static str],
    ours: bool,
}

const WAYS: [Way; 5] = [
    way("no webhook", "none", &[], false),
    way("a constant, mutate", "constant-mutate", &["mutate"], false),
    way("imageswap, mutate", "imageswap-mutate", &["mutate"], true),
    way(
        "a constant, both",
        "constant-both",
        &["mutate", "validate"],
        false,
    ),
    way(
        "imageswap, both",
        "imageswap-both",
        &["mutate", "validate"],
        true,
    ),
];
/// Ours, and the constant that it is compared with, as indexes of [`WAYS`].
const PAIRS: [[usize; 2]; 2] = [[2, 1], [4, 3]];

const fn way(
    name: &'static str,
    namespace: &'static str,
    calls: &'static [&'static str],
    ours: bool,
) -> Way {
    Way {
        name,
        namespace,
        calls,
        ours,
    }
}

/// The servers, and where their certificate's authority is.
struct Servers {
    ours: Server,
    mutate: Server,
    validate: Server,
    certificates: PathBuf,
}

/// Builds for release, measures and prints.
pub(super) fn run_all(workspace: &Workspace, show: Show) -> Result<ExitCode> {
    ui::step("building for release");
    server::build(workspace)?;
    kubernetes::find_or_build_current()?;
    let lab = Lab::new("bench")?;
    let options = ControlPlaneOptions {
        current: true,
        ..ControlPlaneOptions::default()
    };
    let plane = ControlPlane::start_with(&lab, options)?;
    let version = plane.assets().minor_version()?;
    let servers = Servers::start(workspace, &lab)?;
    for way in &WAYS {
        configure(&plane, &servers, way)?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let times = runtime.block_on(async {
        let client = plane.client().await?;
        for way in &WAYS {
            until_active(&client, way).await?;
        }
        ui::step(format_args!(
            "Kubernetes 1.{version}: {PODS} Pods of three containers for each of {} ways",
            WAYS.len()
        ));
        measure(&client).await
    })?;
    let rows: Vec<_> = times.into_iter().map(Row::new).collect();
    let ratios = PAIRS.map(|[ours, constant]| rows[ours].p50 / rows[constant].p50);
    match show.output {
        Format::Json => print_json(&rows, &ratios),
        Format::Table => print_table(&rows, &ratios),
    }
    let missed = ratios.iter().any(|it| *it > MAX_RATIO);
    Ok(ExitCode::from(u8::from(missed && show.check)))
}

impl Servers {
    fn start(workspace: &Workspace, lab: &Lab) -> Result<Self> {
        let programs = workspace.target.join("release");
        let certificates = lab.path().join("tls");
        let policy = lab.path().join("policy.yaml");
        write(&policy, &policy_text(RULES))?;
        let options = [
            OsStr::new("--policy"),
            policy.as_ref(),
            OsStr::new("--log-level"),
            OsStr::new("info"),
        ];
        let ours = Server::webhook(
            "webhook",
            &programs.join("imageswap-webhook"),
            &certificates,
            &options,
        )?;
        let authority = read(&certificates.join("ca.crt"))?;
        let client = HttpClient::with_tls(ours.addr, "localhost", authority.as_bytes())?;
        let constant = |path: &str, review: &Value| {
            let answer = client.post(path, "application/json", review.to_string())?;
            ensure!(answer.status.is_success(), "{path}: {}", answer.status);
            let text = String::from_utf8(answer.body.to_vec()).context(path.to_owned())?;
            ensure!(text.contains(r#""allowed":true"#), "{path}: {text}");
            let file = lab.path().join(path.replace('/', "answer-"));
            write(&file, &text.replacen(CONSTANT, "UID", 1))?;
            let addr = free_address(Ipv4Addr::LOCALHOST)?;
            let mut command = Command::new(programs.join("examples/bare"));
            command.arg(addr.to_string()).arg(&certificates).arg(file);
            Server::start("bare server", command, addr)
        };
        Ok(Self {
            mutate: constant("/mutate", &review("docker.io"))?,
            validate: constant("/validate", &review("registry.example.com/hub"))?,
            ours,
            certificates,
        })
    }
}

/// A policy with so many rules.
pub(super) fn policy_text(rules: usize) -> String {
    let rules: Vec<_> = (1..rules)
        .map(|i| {
            let (host, place) = (format!("registry{i}.example.net"), format!("mirror{i}"));
            json!({"from": format!("{host}/**"), "to": format!("registry.example.com/{place}")})
        })
        .chain([json!({"from": "docker.io/**", "to": "registry.example.com/hub"})])
        .collect();
    json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": "bench"},
        "spec": {"rules": rules, "enforcement": "deny"},
    })
    .to_string()
}

/// A Pod of three containers with images of this host.
fn pod(host: &str) -> Value {
    let containers: Vec<_> = ["web", "proxy", "log"]
        .map(|name| {
            json!({
                "name": name,
                "image": format!("{host}/team/{name}:1.4"),
                "env": [{"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            })
        })
        .into();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "bench-", "labels": {"app": "bench"}},
        "spec": {"containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]},
    })
}

fn review(host: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": CONSTANT,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "bench",
            "operation": "CREATE",
            "object": pod(host),
        },
    })
}

/// Creates a way's namespace and the configurations that select it.
fn configure(plane: &ControlPlane, servers: &Servers, way: &Way) -> Result<()> {
    let authority = STANDARD.encode(read(&servers.certificates.join("ca.crt"))?);
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": way.namespace, "labels": {LABEL: way.namespace}},
    });
    let mut objects = vec![namespace];
    for &call in way.calls {
        let (kind, server) = match call {
            "mutate" => ("MutatingWebhookConfiguration", &servers.mutate),
            _ => ("ValidatingWebhookConfiguration", &servers.validate),
        };
        let server = if way.ours { &servers.ours } else { server };
        objects.push(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": format!("bench-{}", way.namespace)},
            "webhooks": [{
                "name": format!("{call}.bench.imageswap.io"),
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 10,
                "namespaceSelector": {"matchLabels": {LABEL: way.namespace}},
                "clientConfig": {
                    "url": format!("https://{}/{call}", server.addr),
                    "caBundle": authority,
                },
                "rules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }],
            }],
        }));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    plane.apply(&list.to_string())?;
    Ok(())
}

/// Waits until a Pod of a way is swapped, if a webhook of it swaps.
async fn until_active(client: &Client, way: &Way) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), way.namespace);
    let pod = serde_json::from_value(pod("docker.io"))?;
    let start = Instant::now();
    loop {
        let made = pods.create(&PostParams::default(), &pod).await;
        let swapped = made.as_ref().is_ok_and(is_swapped);
        if made.is_ok() && swapped != way.calls.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "{}: {made:?}", way.name);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is_swapped(pod: &Pod) -> bool {
    let spec = pod.spec.iter();
    let mut images = spec.flat_map(|it| &it.containers).map(|it| &it.image);
    images.all(|it| {
        it.as_ref()
            .is_some_and(|it| it.starts_with("registry.example.com/hub/"))
    })
}

/// The times of every way, each in order.
async fn measure(client: &Client) -> Result<Vec<Vec<Duration>>> {
    let pod: Pod = serde_json::from_value(pod("docker.io"))?;
    let mut times = vec![Vec::with_capacity(PODS); WAYS.len()];
    for round in 0..WARM_UP + PODS {
        for turn in 0..WAYS.len() {
            // Each way comes after each other one as often.
            let at = (turn + round) % WAYS.len();
            let way = &WAYS[at];
            let pods = Api::<Pod>::namespaced(client.clone(), way.namespace);
            let start = Instant::now();
            let made = pods.create(&PostParams::default(), &pod).await;
            let took = start.elapsed();
            let made = made.with_context(|| way.name)?;
            ensure!(
                is_swapped(&made) != way.calls.is_empty(),
                "{}: {made:?}",
                way.name
            );
            if round >= WARM_UP {
                times[at].push(took);
            }
            if round % BATCH == BATCH - 1 {
                let now = DeleteParams::default().grace_period(0);
                pods.delete_collection(&now, &ListParams::default()).await?;
            }
        }
    }
    Ok(times)
}

/// Milliseconds.
struct Row {
    p50: f64,
    p99: f64,
}

impl Row {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let time = times.get(times.len() * percent / 100);
            time.map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}

fn print_table(rows: &[Row], ratios: &[f64]) {
    let mut table = vec![["a Pod is created with", "p50", "p99", "beyond none"].map(str::to_owned)];
    let none = rows.first().map_or(f64::NAN, |it| it.p50);
    table.extend(WAYS.iter().zip(rows).map(|(way, row)| {
        [
            way.name.to_owned(),
            format!("{:.2} ms", row.p50),
            format!("{:.2} ms", row.p99),
            format!("{:.2} ms", row.p50 - none),
        ]
    }));
    ui::table(&table);
    println!();
    for ([ours, constant], ratio) in PAIRS.iter().zip(ratios) {
        let text = format!(
            "{}: {ratio:.3} of {}, at most {MAX_RATIO}",
            WAYS[*ours].name, WAYS[*constant].name
        );
        ui::outcome(text, *ratio <= MAX_RATIO);
    }
}

fn print_json(rows: &[Row], ratios: &[f64]) {
    let ways: Vec<_> = WAYS
        .iter()
        .zip(rows)
        .map(|(way, row)| {
            json!({"name": way.name, "p50_milliseconds": row.p50, "p99_milliseconds": row.p99})
        })
        .collect();
    println!("{}", json!({"ways": ways, "ratios": ratios}));
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
