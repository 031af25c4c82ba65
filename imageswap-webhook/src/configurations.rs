//! The two kinds of webhook configurations, for those who keep parts of them.
//!
//! A strategic merge patch contains only what it sets, so that we own no other fields. It carries the
//! version of the configuration that was read: it changes nothing that was written since.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wait::{FIELD_MANAGER, RequestError, request};

/// A kind of webhook configuration.
pub(crate) trait Configuration:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
    /// The kind's name.
    const KIND: &'static str;
    /// The kind as a label of metrics.
    const LABEL: &'static str;

    /// Every webhook.
    fn webhooks(&self) -> Vec<Webhook<'_>>;
}

/// The parts of a webhook that matter here.
pub(crate) struct Webhook<'a> {
    pub(crate) name: &'a str,
    pub(crate) rules: &'a [RuleWithOperations],
    /// The caBundle; empty if there is none.
    pub(crate) bundle: &'a [u8],
}

impl<'a> Webhook<'a> {
    fn of(
        name: &'a str,
        rules: Option<&'a Vec<RuleWithOperations>>,
        client: &'a WebhookClientConfig,
    ) -> Self {
        Self {
            name,
            rules: rules.map_or(&[], Vec::as_slice),
            bundle: client.ca_bundle.as_ref().map_or(&[], |bundle| &bundle.0),
        }
    }
}

impl Configuration for MutatingWebhookConfiguration {
    const KIND: &'static str = "MutatingWebhookConfiguration";
    const LABEL: &'static str = "mutating";

    fn webhooks(&self) -> Vec<Webhook<'_>> {
        let webhooks = self.webhooks.iter().flatten();
        let of = webhooks.map(|it| Webhook::of(&it.name, it.rules.as_ref(), &it.client_config));
        of.collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const KIND: &'static str = "ValidatingWebhookConfiguration";
    const LABEL: &'static str = "validating";

    fn webhooks(&self) -> Vec<Webhook<'_>> {
        let webhooks = self.webhooks.iter().flatten();
        let of = webhooks.map(|it| Webhook::of(&it.name, it.rules.as_ref(), &it.client_config));
        of.collect()
    }
}

/// The patch that sets these parts of webhooks, each with its name.
pub(crate) fn patch_of<K: Configuration>(present: &K, webhooks: &[Value]) -> Value {
    json!({
        "metadata": {"resourceVersion": present.resource_version()},
        "webhooks": webhooks,
    })
}

/// Writes such a patch; returns the configuration afterwards.
pub(crate) async fn write<K: Configuration>(
    api: &Api<K>,
    name: &str,
    patch: &Value,
) -> Result<K, RequestError> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    request(api.patch(name, &params, &Patch::Strategic(patch))).await
}
