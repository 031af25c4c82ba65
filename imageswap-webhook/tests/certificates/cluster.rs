//! An API server with the service account of the webhook, its Secret and its configurations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use imageswap_lab::{ControlPlane, ControlPlaneOptions};
use imageswap_runtime::cluster::ClusterArgs;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use crate::replica::{Replica, SECRET};

pub(crate) const MUTATING: &str = "mutatingwebhookconfiguration";
pub(crate) const VALIDATING: &str = "validatingwebhookconfiguration";

pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    pub(crate) client: Client,
    pub(crate) account: PathBuf,
}

impl Cluster {
    /// `None` after printing that `test` is skipped.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let plane = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
        let account = plane.install_rights().unwrap();
        let client = client(plane.kubeconfig()).await;
        Some(Self {
            plane,
            client,
            account,
        })
    }

    /// A replica with the rights of the service account and no others.
    pub(crate) async fn replica(&self, flags: &str) -> Replica {
        Replica::start(flags, client(&self.account).await).await
    }

    /// Creates the Secret; `data` are further lines of YAML.
    pub(crate) fn secret(&self, data: &str) {
        let manifest = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {SECRET}, namespace: imageswap-system}}\n{data}"
        );
        self.plane.apply(&manifest).unwrap();
    }

    /// Changes the Secret by a merge patch.
    pub(crate) fn patch_secret(&self, patch: &str) {
        let args = ["-n", "imageswap-system", "patch", "secret", SECRET];
        let args = args.into_iter().chain(["--type=merge", "-p", patch]);
        self.plane.kubectl(args).unwrap();
    }

    /// Creates the configurations as shipped: without a caBundle.
    pub(crate) fn configurations(&self) {
        self.apply_configurations(&["--server-side"]);
    }

    pub(crate) fn apply_configurations(&self, flags: &[&str]) {
        let args = ["apply"].iter().chain(flags).chain(&["-f", "-"]);
        self.plane.kubectl_with(args, &configurations()).unwrap();
    }

    /// The caBundle of every webhook.
    pub(crate) async fn bundles(&self) -> Vec<Vec<u8>> {
        let (mutating, validating) = self.read().await;
        let mutating = mutating.webhooks.into_iter().flatten();
        let validating = validating.webhooks.into_iter().flatten();
        mutating
            .map(|webhook| webhook.client_config.ca_bundle)
            .chain(validating.map(|webhook| webhook.client_config.ca_bundle))
            .map(|bundle| bundle.unwrap_or_default().0)
            .collect()
    }

    pub(crate) async fn versions(&self) -> Vec<String> {
        let (mutating, validating) = self.read().await;
        let versions = [mutating.resource_version(), validating.resource_version()];
        versions.into_iter().flatten().collect()
    }

    pub(crate) async fn secret_data(&self) -> BTreeMap<String, ByteString> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "imageswap-system");
        secrets.get(SECRET).await.unwrap().data.unwrap_or_default()
    }

    /// A missing one counts as empty.
    async fn read(&self) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
        let mutating = Api::all(self.client.clone());
        let validating = Api::all(self.client.clone());
        (
            mutating
                .get_opt("imageswap")
                .await
                .unwrap()
                .unwrap_or_default(),
            validating
                .get_opt("imageswap")
                .await
                .unwrap()
                .unwrap_or_default(),
        )
    }
}

/// Files of a folder as a Secret's data.
pub(crate) fn data(dir: &Path, files: [&str; 3]) -> String {
    let mut yaml = "stringData:\n".to_owned();
    for file in files {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        writeln!(yaml, "  {file}: {}", serde_json::Value::from(text)).unwrap();
    }
    yaml
}

async fn client(kubeconfig: &Path) -> Client {
    let args = ClusterArgs {
        kubeconfig: Some(kubeconfig.to_owned()),
        context: None,
    };
    args.client().await.unwrap()
}

/// They match no objects of the tests.
fn configurations() -> String {
    let webhook = |name: &str| {
        format!(
            "- name: {name}
  clientConfig: {{service: {{name: imageswap-webhook, namespace: imageswap-system}}}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]
  sideEffects: None
  admissionReviewVersions: [v1]
"
        )
    };
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: imageswap}}
webhooks:
{}---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: imageswap}}
webhooks:
{}{}",
        webhook("swap.imageswap.io"),
        webhook("validate.imageswap.io"),
        webhook("policy.imageswap.io"),
    )
}
