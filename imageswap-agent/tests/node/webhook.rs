//! The real webhook, as a process that the API server calls.

use crate::harness::{OURS, PATIENCE, free_address, program};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imageswap_lab::{ControlPlane, Lab, Process, wait_until};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// A webhook that keeps its policy and addresses across restarts.
pub(crate) struct Webhook {
    lab: Lab,
    program: PathBuf,
    listen: SocketAddr,
    tls: PathBuf,
    /// Its access to the API server, for the labels of namespaces.
    kubeconfig: PathBuf,
    process: Option<Process>,
}

impl Webhook {
    /// Starts it with the lab's policy, and registers it for Pods for as long as it lives.
    pub(crate) fn start(lab: &Lab, plane: &ControlPlane) -> Self {
        let tls = lab.path().join("webhook-tls");
        std::fs::create_dir_all(&tls).unwrap();
        let mut webhook = Self {
            lab: lab.clone(),
            program: program("imageswap-webhook"),
            listen: free_address(),
            tls,
            kubeconfig: plane.kubeconfig().to_path_buf(),
            process: None,
        };
        webhook.comes();
        let authority = std::fs::read(webhook.tls.join("ca.crt")).unwrap();
        let url = format!("https://{}/mutate", webhook.listen);
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "imageswap"},
            "webhooks": [{
                "name": "mutate.imageswap.io",
                "clientConfig": {"url": url, "caBundle": STANDARD.encode(authority)},
                "rules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["pods"],
                }],
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "admissionReviewVersions": ["v1"],
            }],
        });
        plane.apply(&configuration.to_string()).unwrap();
        // The API server uses a configuration a moment after it is stored.
        let probe = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "team-a", "name": "probe"},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": OURS}],
            },
        });
        let create = ["create", "--dry-run=server", "--validate=false"];
        let create = create.into_iter().chain(["-o", "json", "-f", "-"]);
        let made = || plane.kubectl_with(create.clone(), &probe.to_string());
        let is_asked = || made().is_ok_and(|pod| pod.contains("imageswap.io/note"));
        assert!(wait_until(PATIENCE, is_asked), "{:?}", made());
        webhook
    }

    /// Starts it again, with the same authority.
    pub(crate) fn comes(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", &self.listen.to_string()]);
        command.args(["--admin", &free_address().to_string()]);
        command.arg("--tls-self-signed").arg(&self.tls);
        let policy = self.lab.path().join("policy.yaml");
        command.arg("--policy").arg(policy);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        let mut process = Process::start(&self.lab, "webhook", command).unwrap();
        let ready = || std::net::TcpStream::connect(self.listen).is_ok();
        process.wait_ready(PATIENCE, ready).unwrap();
        self.process = Some(process);
    }

    /// Stops it; Pods created meanwhile are not reviewed.
    pub(crate) fn goes(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }
}
