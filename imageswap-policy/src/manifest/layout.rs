//! Recognises documents that are not objects of the API: kustomizations, values of Helm charts and
//! Compose files.

use crate::yaml::Node;

/// What kind of text a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// An object of the API, or a list of them.
    Objects,
    Kustomization,
    Values,
    Compose,
    /// It has no kind, and its file has none of the known names.
    Unknown,
}

/// The layout of a document in the file `source`. The kind decides if there is one; otherwise the
/// file's name, and for Compose files the content.
pub(super) fn of(source: &str, document: &Node) -> Layout {
    let own = |key| document.get(key).and_then(Node::as_str);
    if let Some(kind) = own("kind") {
        let version = own("apiVersion").unwrap_or_default();
        let is_kustomize = version.starts_with("kustomize.config.k8s.io/");
        return if is_kustomize && matches!(kind, "Kustomization" | "Component") {
            Layout::Kustomization
        } else {
            Layout::Objects
        };
    }
    let name = source.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let stem = [".yaml", ".yml", ".json"]
        .iter()
        .find_map(|it| name.strip_suffix(it));
    let stem = stem.unwrap_or(&name);
    if stem == "kustomization" {
        Layout::Kustomization
    } else if is_compose(document) {
        Layout::Compose
    } else if stem.contains("values") {
        Layout::Values
    } else {
        Layout::Unknown
    }
}

/// Whether a document has services that are built or have an image.
fn is_compose(document: &Node) -> bool {
    let services = document.get("services").map(Node::entries);
    let mut services = services.unwrap_or_default().iter();
    services.any(|(_, it)| {
        it.get("image").is_some_and(|it| it.as_str().is_some()) || it.get("build").is_some()
    })
}
