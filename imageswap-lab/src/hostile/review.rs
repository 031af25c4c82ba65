//! AdmissionReviews as an API server sends them.

use serde_json::{Value, json};

/// A review of a Pod with three containers as the API server sends it, of about this many bytes:
/// environment variables and managed fields fill it up, as in large Pods.
pub fn review(bytes: usize) -> Value {
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
    let mut missing = bytes.saturating_sub(review.to_string().len());
    let mut i = 0;
    while missing >= 40 {
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
        missing = missing.saturating_sub(item.to_string().len() + 1);
        if let Some(list) = list.as_array_mut() {
            list.push(item);
        }
        i += 1;
    }
    review
}

/// A review of a change to a large Pod, of about this many bytes, half of them the old Pod.
pub(super) fn large_update(bytes: usize) -> Value {
    let mut review = review(bytes / 2);
    let request = &mut review["request"];
    request["operation"] = "UPDATE".into();
    request["oldObject"] = request["object"].clone();
    request["object"]["spec"]["containers"][0]["image"] = "nginx:1.28".into();
    review
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_as_large_as_asked_for() {
        for bytes in [3200, 75_000] {
            let length = review(bytes).to_string().len();
            assert!((bytes - 100..=bytes).contains(&length), "{length}");
        }
        let length = large_update(150_000).to_string().len();
        assert!((140_000..160_000).contains(&length), "{length}");
    }
}
