//! The webhook's half: real AdmissionReviews over verified HTTPS.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use imageswap_lab::{HttpClient, Process, free_address};
use json_patch::Patch;
use serde_json::{Value, json};

use super::Demo;
use crate::ui;

/// The places of images in a Pod: JSON pointer, image, and expected result.
const IMAGES: [(&str, &str, &str); 7] = [
    (
        "/spec/containers/0/image",
        "nginx",
        "registry.example.com/nginx",
    ),
    (
        "/spec/containers/1/image",
        "gcr.io/istio/istiod:1",
        "registry.example.com/istio/istiod:1",
    ),
    (
        "/spec/containers/2/image",
        "gitlab.com/group/app:2",
        "registry.example.com/gitlab/group/app:2",
    ),
    (
        "/spec/containers/3/image",
        "edge.example.com/app:1",
        "edge.example.com/app:1",
    ),
    (
        "/spec/initContainers/0/image",
        "bitnami/redis:7.2",
        "registry.example.com/bitnami/redis:7.2",
    ),
    (
        "/spec/ephemeralContainers/0/image",
        "quay.io/tools/debug:v2",
        "registry.example.com/tools/debug:v2",
    ),
    (
        "/spec/volumes/0/image/reference",
        "docker.io/org/model:1",
        "registry.example.com/org/model:1",
    ),
];

/// Starts the webhook, posts reviews and shows each image before and after.
pub(super) fn show(demo: &mut Demo) -> Result<()> {
    ui::heading("Webhook: AdmissionReviews over verified HTTPS");
    let (_webhook, client) = start(demo).context("imageswap-webhook")?;

    let pod = pod(&json!({}));
    let (answer, swapped) = review(&client, &pod, "11111111-0000-0000-0000-000000000001")?;
    let mut rows = vec![["where".to_owned(), "before".to_owned(), "after".to_owned()]];
    let mut wrong = Vec::new();
    for (pointer, before, expected) in IMAGES {
        let after = swapped
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("nothing");
        if after != expected {
            wrong.push(format!(
                "{before} becomes {expected}\n    (it became {after})"
            ));
        }
        let after = if after == before { "(kept)" } else { after };
        rows.push([place(pointer), before.to_owned(), after.to_owned()]);
    }
    ui::table(&rows);
    demo.check("the Pod is allowed", answer["allowed"] == true);
    if wrong.is_empty() {
        demo.check("every image is swapped or kept as the maps say", true);
    }
    for what in wrong {
        demo.check(what, false);
    }

    let pod = self::pod(&json!({"k8s.twr.io/imageswap": "disabled"}));
    let (answer, after) = review(&client, &pod, "11111111-0000-0000-0000-000000000002")?;
    demo.check(
        "a Pod with the label imageswap=disabled is left alone",
        answer["allowed"] == true && after == pod,
    );

    let (answer, again) = review(&client, &swapped, "11111111-0000-0000-0000-000000000003")?;
    demo.check(
        "a swapped image stays unchanged",
        answer["allowed"] == true && again == swapped,
    );
    Ok(())
}

fn start(demo: &Demo) -> Result<(Process, HttpClient)> {
    let (listen, admin) = (
        free_address(Ipv4Addr::LOCALHOST)?,
        free_address(Ipv4Addr::LOCALHOST)?,
    );
    let tls = demo.lab.path().join("tls");
    let mut command = Command::new(demo.binaries.join("imageswap-webhook"));
    command
        .arg("serve")
        .args([
            "--listen",
            &listen.to_string(),
            "--admin",
            &admin.to_string(),
        ])
        .args(["--drain-delay", "0", "--drain-timeout", "1"])
        .arg("--maps")
        .arg(&demo.maps)
        .arg("--tls-self-signed")
        .arg(&tls);
    let mut webhook = Process::start(&demo.lab, "webhook", command)?;
    demo.wait_ready(&mut webhook, &HttpClient::new(admin)?)?;
    let ca = fs::read(tls.join("ca.crt")).context("the CA that the webhook wrote")?;
    Ok((webhook, HttpClient::with_tls(listen, "localhost", &ca)?))
}

/// Posts a review as the API server does; returns the response, and the Pod
/// after the response's patch.
fn review(client: &HttpClient, pod: &Value, uid: &str) -> Result<(Value, Value)> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "team-a",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:team-a:default"},
            "object": pod,
            "dryRun": false,
        },
    });
    let answer = client.post("/mutate?timeout=5s", "application/json", review.to_string())?;
    ensure!(
        answer.status.is_success(),
        "the webhook answered {}: {}",
        answer.status,
        answer.text()
    );
    let answer: Value =
        serde_json::from_slice(&answer.body).context("the webhook's answer is not JSON")?;
    let response = answer["response"].clone();
    ensure!(
        response["uid"] == uid,
        "the webhook answered another request: {response}"
    );
    let mut after = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        let patch = BASE64_STANDARD
            .decode(patch)
            .context("the patch is not base64")?;
        let patch: Patch =
            serde_json::from_slice(&patch).context("the patch is not a JSON Patch")?;
        json_patch::patch(&mut after, &patch).context("the patch does not fit the Pod")?;
    }
    Ok((response, after))
}

fn pod(labels: &Value) -> Value {
    let image = |pointer: &str| {
        IMAGES
            .iter()
            .find(|(known, ..)| *known == pointer)
            .map(|(_, image, _)| *image)
    };
    // No two containers of a Pod may have the same name, whichever list they are in.
    let container = |list: &str, n: usize| {
        let image = image(&format!("/spec/{list}/{n}/image"));
        json!({"name": format!("{}-{n}", list.to_lowercase()), "image": image})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "team-a", "labels": labels},
        "spec": {
            "containers": (0..4).map(|n| container("containers", n)).collect::<Vec<_>>(),
            "initContainers": [container("initContainers", 0)],
            "ephemeralContainers": [container("ephemeralContainers", 0)],
            "volumes": [{"name": "model", "image": {"reference": image("/spec/volumes/0/image/reference")}}],
        },
    })
}

/// `containers[0]` for `/spec/containers/0/image`.
fn place(pointer: &str) -> String {
    let mut parts = pointer.split('/').skip(2);
    let (list, index) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    // Two columns are needed for the images.
    let list = list
        .replace("Containers", "")
        .replace("containers", "container");
    format!("{list} {index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_names_every_image() {
        let pod = pod(&json!({}));
        for (pointer, image, _) in IMAGES {
            assert_eq!(pod.pointer(pointer), Some(&json!(image)));
        }
    }
}
