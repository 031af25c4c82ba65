//! Makes the AdmissionReview that the webhook is measured with.
//!
//! `review json BYTES` prints it, `review lua BYTES` prints a script for wrk that posts it, and `review time BYTES`
//! says how long the webhook takes from a body's bytes to the answer's.

use std::hint::black_box;
use std::time::Instant;

use imageswap_policy::{Policies, maps};
use imageswap_runtime::metrics::{Exporter, Webhook};
use imageswap_runtime::source::PolicySource;
use imageswap_webhook::admit::Admission;
use serde_json::{Value, json};

/// What the measured policy is made of; as many rules as a large company's.
const RULES: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(what), Some(bytes)) = (args.next(), args.next()) else {
        return Err("usage: review json|lua|time BYTES".into());
    };
    let body = review(bytes.parse()?).to_string();
    match what.as_str() {
        "json" => println!("{body}"),
        "lua" => println!(
            "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = [==[{body}]==]"
        ),
        "time" => time(&body)?,
        other => return Err(format!("{other:?} is none of json, lua and time").into()),
    }
    Ok(())
}

/// A Pod with three containers as the API server sends it, of about that many bytes: what is missing is made up of
/// environment variables and managed fields, which is what large Pods are made of.
fn review(bytes: usize) -> Value {
    let container = |name: &str, image: &str| {
        json!({
            "name": name,
            "image": image,
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "LOG_LEVEL", "value": "info"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [{"name": "kube-api-access", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "terminationMessagePath": "/dev/termination-log",
            "imagePullPolicy": "IfNotPresent",
        })
    };
    let mut review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": "web-6d4cf56db6-",
                    "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
                    "managedFields": [],
                },
                "spec": {
                    "containers": [
                        container("web", "nginx:1.27"),
                        container("sidecar", "quay.io/prometheus/statsd-exporter:v0.27.0"),
                        container("log", "registry.example.com/log/shipper:2"),
                    ],
                    "serviceAccountName": "web",
                },
            },
        },
    });
    for i in 0.. {
        let missing = bytes.saturating_sub(review.to_string().len());
        if missing < 40 {
            break;
        }
        let object = &mut review["request"]["object"];
        let (list, item) = if i % 2 == 0 {
            let value = "v".repeat(missing.min(60) - 30);
            (
                &mut object["spec"]["containers"][0]["env"],
                json!({"name": format!("V{i}"), "value": value}),
            )
        } else {
            let field = json!({"f:metadata": {"f:labels": {format!("f:{i}"): {}}}});
            (&mut object["metadata"]["managedFields"], field)
        };
        list.as_array_mut().expect("both are lists").push(item);
    }
    review
}

fn time(body: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text: String = std::iter::once("default::registry.example.com\n".to_owned())
        .chain(
            (1..RULES)
                .map(|i| format!("registry{i}.example.net::registry.example.com/mirror{i}\n")),
        )
        .collect();
    let policy = maps::load("measured.maps", &text)?.policy;
    let admission = Admission::new(
        PolicySource::fixed(Policies::one(policy)),
        Exporter::new().webhook_metrics(),
    );
    let rounds = 100_000_u32;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(admission.answer(Webhook::Mutate, black_box(body.as_bytes())));
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    println!(
        "{} bytes in to bytes out: {:.2} µs (best of 5 x {rounds})",
        body.len(),
        best * 1e6
    );
    Ok(())
}
