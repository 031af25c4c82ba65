//! Which Pods a webhook of another program gets: its MutatingWebhookConfiguration, if it is among the files.

use crate::fields::{kind, only, selector, texts};
use crate::scope::{Formula, Literal};
use imageswap_policy::yaml::Node;

/// The webhook of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Webhook {
    /// The path of its service.
    pub(crate) path: &'static str,
    /// A part of the webhook's name, if the path alone does not identify it.
    pub(crate) name: &'static str,
}

impl Webhook {
    fn is(self, node: &Node) -> bool {
        let config = node.get("clientConfig");
        let path = config
            .and_then(|it| it.get("service"))
            .and_then(|it| it.get("path"));
        let name = node.get("name").and_then(Node::as_str).unwrap_or_default();
        path.and_then(Node::as_str) == Some(self.path) && name.contains(self.name)
    }

    fn among(self, node: &Node) -> impl Iterator<Item = &Node> {
        let configuration = kind(node)
            == (
                "admissionregistration.k8s.io",
                "MutatingWebhookConfiguration",
            );
        let webhooks = node.get("webhooks").filter(|_| configuration);
        let webhooks = webhooks.map_or(&[][..], Node::items);
        webhooks.iter().filter(move |it| self.is(it))
    }

    /// Whether a document registers the webhook.
    pub(crate) fn is_in(self, node: &Node) -> bool {
        self.among(node).next().is_some()
    }

    /// The Pods that it gets. If no file names them, they are all Pods, which is a difference.
    pub(crate) fn pods(
        self,
        documents: &[(&str, Node)],
        differences: &mut Vec<String>,
    ) -> Result<Formula, String> {
        let everywhere = Formula::Is(Literal::InNamespaces(vec!["*".to_owned()]));
        let mut found = documents.iter().flat_map(|it| self.among(&it.1));
        let Some(webhook) = found.next() else {
            differences.push("which Pods it gets is in its MutatingWebhookConfiguration, which is not among the files; here it is for all Pods".to_owned());
            return Ok(everywhere);
        };
        if found.next().is_some() {
            return Err("two webhooks call it".to_owned());
        }
        only(
            webhook,
            &[
                "name",
                "clientConfig",
                "rules",
                "failurePolicy",
                "matchPolicy",
                "namespaceSelector",
                "objectSelector",
                "sideEffects",
                "timeoutSeconds",
                "admissionReviewVersions",
                "reinvocationPolicy",
            ],
        )
        .map_err(|it| format!("{it} in its MutatingWebhookConfiguration"))?;
        let mut parts = vec![everywhere];
        let (mut created, mut updated) = (false, false);
        for rule in webhook.get("rules").map_or(&[][..], Node::items) {
            let has = |key: &str, name: &str| -> Result<bool, String> {
                let all = texts(rule.get(key))?;
                Ok(all.iter().any(|it| it == name || it == "*"))
            };
            let pods =
                has("apiGroups", "")? && has("apiVersions", "v1")? && has("resources", "pods")?;
            created |= pods && has("operations", "CREATE")?;
            updated |= pods && has("operations", "UPDATE")?;
        }
        if !created {
            return Err("its webhook is not called for new Pods".to_owned());
        }
        if !updated {
            differences.push("an image that an UPDATE changes is swapped, too".to_owned());
        }
        if let Some(it) = webhook.get("namespaceSelector") {
            parts.push(selector(it, Literal::NamespaceLabel)?);
        }
        if let Some(it) = webhook.get("objectSelector") {
            parts.push(selector(it, Literal::ObjectLabel)?);
        }
        Ok(Formula::All(parts))
    }
}
