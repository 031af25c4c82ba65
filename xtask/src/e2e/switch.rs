//! Switches from ImageSwap to ours without a moment in which no webhook swaps.
//!
//! ImageSwap's image is not available here: its objects exist under their names, and a process of
//! our webhook acts as its Pods. The steps show that both overlap and that neither touches the
//! other's objects.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use imageswap_lab::Process;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::{Site, Story};
use crate::isolation::SPARE;
use crate::site::NAMESPACE;
use crate::ui;

/// Pods are created in this namespace all the time, as dry runs.
const PROBED: &str = "shop";
const TYPED: &str = "docker.io/library/web:1";
const SWAPPED: &str = "registry.example.com/library/web:1";
/// Between two Pods.
const PAUSE: Duration = Duration::from_millis(50);
/// ImageSwap's configuration, Service and Secret.
const CONFIGURATION: &str = "imageswap-webhook";
const SERVICE: &str = "imageswap";
const SECRET: &str = "imageswap-tls";

/// The objects of ImageSwap's manifests that matter here.
fn theirs() -> String {
    let address = SPARE;
    let selector = json!({"matchLabels": {"k8s.twr.io/imageswap": "enabled"}});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": NAMESPACE, "name": SERVICE, "labels": {"app": "imageswap"}},
            "spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443}]}}),
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"namespace": NAMESPACE, "name": SERVICE},
            "subsets": [{"addresses": [{"ip": address}],
                "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}]}]}),
        json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": SECRET}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION, "labels": {"app": "imageswap"}},
        "webhooks": [{
            "name": "imageswap.webhook.k8s.twr.io",
            "clientConfig": {"service": {"namespace": NAMESPACE, "name": SERVICE, "path": "/"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "operations": ["CREATE", "UPDATE"]}],
            "namespaceSelector": selector,
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }]}),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// A switch in progress: the webhook that is being replaced, and Pods created meanwhile.
pub(super) struct Switch {
    theirs: Process,
    stop: Arc<AtomicBool>,
    probing: JoinHandle<Result<Seen>>,
}

/// What happened to the Pods.
#[derive(Debug, Default)]
struct Seen {
    swapped: usize,
    /// Images of Pods that were not swapped, and errors of the API server.
    otherwise: Vec<String>,
}

/// Starts a cluster that ImageSwap serves, and creates Pods from then on.
pub(super) fn begin(story: &Story<'_>, site: &Site, programs: &Path) -> Result<Switch> {
    ui::heading("A cluster that runs ImageSwap");
    story.step(
        "its ConfigMap imageswap-maps, Service, Secret and configuration",
        |it| {
            it.apply("examples/maps")?;
            it.kubectl.with("apply -f -", &theirs())?;
            it.namespace(PROBED)?;
            it.kubectl.run(&format!(
                "label namespace {PROBED} k8s.twr.io/imageswap=enabled"
            ))?;
            Ok(())
        },
    )?;
    let address = SPARE;
    let mut command = Command::new(programs.join("imageswap-webhook"));
    command
        .arg("serve")
        .arg(format!("--maps-configmap={NAMESPACE}/imageswap-maps"))
        .arg(format!("--tls-secret={NAMESPACE}/{SECRET}"))
        .arg(format!("--tls-service={SERVICE}"))
        .arg(format!("--mutating-webhook-configuration={CONFIGURATION}"))
        .arg("--validating-webhook-configuration=")
        .arg(format!("--listen={address}:8443"))
        .arg(format!("--admin={address}:8080"))
        .arg(format!(
            "--kubeconfig={}",
            site.plane.kubeconfig().display()
        ));
    let theirs = Process::start(&site.lab, "imageswap", command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime")?;
    let client = runtime.block_on(site.plane.client())?;
    let pods: Api<Pod> = Api::namespaced(client, PROBED);
    story.step("Pods of namespaces with its label are swapped", |it| {
        it.until("a swapped Pod", |_| {
            Ok(runtime
                .block_on(outcome(&pods))
                .is_ok_and(|image| image == SWAPPED))
        })
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let probing = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                match runtime.block_on(outcome(&pods)) {
                    Ok(image) if image == SWAPPED => seen.swapped += 1,
                    Ok(image) => seen.otherwise.push(image),
                    Err(error) => seen.otherwise.push(error.to_string()),
                }
                thread::sleep(PAUSE);
            }
            Ok(seen)
        }
    });
    ui::good("from now on a Pod is made there, as a dry run, twenty times a second at most");
    Ok(Switch {
        theirs,
        stop,
        probing,
    })
}

/// Removes ImageSwap while ours runs, and checks what happened to the Pods.
pub(super) fn end(story: &Story<'_>, switch: Switch) -> Result<()> {
    let Switch {
        mut theirs,
        stop,
        probing,
    } = switch;
    ui::heading("ImageSwap goes");
    story.step(
        "ours is registered for Pods, because its maps file is in force",
        |it| {
            it.until("rules in the configuration", |it| {
                let path = "jsonpath={.webhooks[0].rules}";
                Ok(!it
                    .kubectl
                    .run(&format!(
                        "get mutatingwebhookconfiguration imageswap -o {path}"
                    ))?
                    .is_empty())
            })
        },
    )?;
    story.step(
        "kubectl delete mutatingwebhookconfiguration imageswap-webhook",
        |it| {
            it.kubectl.run(&format!(
                "delete mutatingwebhookconfiguration {CONFIGURATION}"
            ))?;
            Ok(())
        },
    )?;
    // The API server uses a configuration for a second or two after it is deleted.
    thread::sleep(Duration::from_secs(3));
    story.step("then its Pods, Service and Secret", |it| {
        theirs.stop();
        let delete = format!("-n {NAMESPACE} delete service/{SERVICE} secret/{SECRET}");
        it.kubectl.run(&delete)?;
        Ok(())
    })?;
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    let seen = probing
        .join()
        .map_err(|_panic| anyhow!("the task that creates Pods panicked"))??;
    ensure!(
        seen.otherwise.is_empty(),
        "{} of {} Pods were not swapped: {:?}",
        seen.otherwise.len(),
        seen.otherwise.len() + seen.swapped,
        seen.otherwise.iter().take(3).collect::<Vec<_>>()
    );
    ui::good(format_args!(
        "{} Pods were made meanwhile; each was swapped",
        seen.swapped
    ));
    Ok(())
}

/// The image of a Pod that is created as a dry run.
async fn outcome(pods: &Api<Pod>) -> Result<String> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "probe-"},
        "spec": {"containers": [{"name": "app", "image": TYPED}]},
    }))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let made = pods.create(&dry, &pod).await?;
    let containers = made.spec.map(|spec| spec.containers).unwrap_or_default();
    let image = containers.into_iter().next().and_then(|it| it.image);
    image.context("a Pod without an image")
}
