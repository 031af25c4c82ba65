//! Images in kustomizations, values of Helm charts and Compose files.

use super::Image;
use super::elsewhere::is_image_key;
use super::find::Finder;
use crate::Reference;
use crate::diagnostic::Severity;
use crate::yaml::{Node, Value};

impl Finder<'_> {
    /// The services of a Compose file.
    pub(super) fn compose(&mut self, document: &Node) {
        let services = document.get("services").map(Node::entries);
        for (key, service) in services.unwrap_or_default() {
            let name = key.as_str().unwrap_or("*");
            if let Some(image) = service.get("image") {
                self.image(image, &format!("services.{name}.image"));
            }
        }
    }

    /// `images` of a kustomization.
    pub(super) fn kustomization(&mut self, document: &Node) {
        if let Some(images) = document.get("images") {
            for (index, image) in self.list(images, "images").iter().enumerate() {
                self.kustomize_image(image, &format!("images[{index}]"));
            }
        }
    }

    /// An entry of `images`: the image that kustomize writes. Fields that the entry does not
    /// change come from other files, which are read on their own.
    pub(super) fn kustomize_image(&mut self, entry: &Node, path: &str) {
        let text = |key| entry.get(key).filter(|it| it.as_str() != Some(""));
        let new = text("newName");
        let [tag, digest] = ["newTag", "digest"].map(text);
        let Some(name) = new.or_else(|| text("name")) else {
            return;
        };
        if new.is_none() && tag.is_none() && digest.is_none() {
            return;
        }
        self.parts([None, Some(name), tag, digest], path);
        if let Some(Image {
            parts: Some(parts), ..
        }) = self.loose.last_mut()
            && new.is_none()
        {
            // kustomize looks for this name, so it has to stay.
            parts.is_fixed = true;
        }
    }

    /// Values of a chart: every mapping that looks like an image, and every text at a key for one.
    pub(super) fn values(&mut self, document: &Node) {
        for path in [&["global", "imageRegistry"][..], &["imageRegistry"]] {
            let at = path.iter().try_fold(document, |it, key| it.get(key));
            if let Some(node) = at.filter(|it| it.as_str().is_some_and(|it| !it.is_empty())) {
                let message = format!(
                    "charts put `{}` in place of the registries of other values",
                    path.join(".")
                );
                self.problem(node, Severity::Warning, "helm-registry", message)
                    .help = Some("check the rendered chart: helm template".to_owned());
            }
        }
        self.values_below(document, "");
    }

    /// The same below a path.
    pub(super) fn values_below(&mut self, node: &Node, path: &str) {
        for (index, item) in node.items().iter().enumerate() {
            self.values_below(item, &format!("{path}[{index}]"));
        }
        let key_of_image = path.rsplit('.').next().is_some_and(is_image_key);
        let has = |key: &str| node.get(key).is_some();
        let is_text = |key: &str| {
            let text = node.get(key).and_then(Node::as_str);
            text.is_some_and(|it| !it.is_empty() && !it.contains("://"))
        };
        let rest = has("tag") || has("registry") || has("digest");
        let is_image = is_text("repository") && (rest || key_of_image || has("pullPolicy"))
            || is_text("image") && rest
            || key_of_image && is_text("name") && rest;
        if is_image {
            self.split(node, path);
        }
        for (key, value) in node.entries() {
            let Some(name) = key.as_str() else { continue };
            if is_image && matches!(name, "repository" | "image" | "name") {
                continue;
            }
            let below = Self::join(path, name);
            match &value.value {
                Value::String(text) if is_image_key(name) && !text.is_empty() => {
                    let tag = node.get(&format!("{name}Tag")).filter(|it| !it.is_null());
                    if let Some(tag) = tag {
                        self.parts([None, Some(value), Some(tag), None], &below);
                    } else if is_near_reference(name, text) {
                        self.image(value, &below);
                    }
                }
                _ => self.values_below(value, &below),
            }
        }
    }
}

/// Whether a text is an image, or a template of one. Values at keys such as `image` may also be
/// names of pictures.
fn is_near_reference(key: &str, text: &str) -> bool {
    let is_template = text.contains("{{") || text.contains("${");
    is_template || Reference::parse(text).is_ok() && (key == "image" || text.contains(['/', ':']))
}
