//! `deploy/install.yaml`: everything for one `kubectl apply -f`, and a copy for kustomize.

use anyhow::Result;

use super::Generated;
use super::chart::{Chart, KUBERNETES, Values};
use super::object;

/// kustomize reads no file outside the folder of a base.
const PATHS: [&str; 2] = ["deploy/install.yaml", "deploy/kustomize/base/install.yaml"];

/// The registry that `cargo xtask image` uses by default.
const REGISTRY: &str = "localhost";

pub(super) fn generate(chart: &Chart) -> Result<Vec<Generated>> {
    let text = text(chart, REGISTRY)?;
    let files = PATHS.map(|path| Generated {
        path: path.to_owned(),
        text: text.clone(),
    });
    Ok(files.into())
}

/// The text for images in a registry.
pub(super) fn text(chart: &Chart, registry: &str) -> Result<String> {
    let objects = chart.render(&Values::set(&[&format!("image.registry={registry}")]))?;
    object::write(&head(registry), &objects)
}

fn head(registry: &str) -> String {
    let images = if registry == REGISTRY {
        "# The images are named as `cargo xtask image` names them; put a registry in place of localhost first.\n"
    } else {
        ""
    };
    let (minor, _patch) = KUBERNETES.rsplit_once('.').unwrap_or((KUBERNETES, ""));
    format!(
        "# Generated from the chart by `cargo xtask manifests`; do not edit.\n\
         #\n\
         # The chart with its default values, as Helm renders it for Kubernetes {minor}:\n\
         #\n\
         #   kubectl apply --server-side -f install.yaml\n\
         #\n\
         {images}\
         # Webhook and agent come up without a policy, and change nothing until there is one.\n\
         # Kubernetes before 1.21 does not take all of it: use the chart there.\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use imageswap_lab::require;

    use super::super::object::{Id, Object};
    use super::super::tests::chart;
    use super::*;
    use crate::helm;
    use crate::process::output;

    /// Values that an overlay of `deploy/kustomize` stands for.
    struct Overlay {
        name: &'static str,
        files: &'static [&'static str],
        values: &'static [&'static str],
    }

    const OVERLAYS: [Overlay; 2] = [
        Overlay {
            name: "imageswap",
            files: &["values-imageswap.yaml"],
            values: &[],
        },
        Overlay {
            name: "production",
            files: &[],
            values: &[
                "webhook.replicas=3",
                "log.format=json",
                "networkPolicy.egress=true",
            ],
        },
    ];

    /// What kubectl renders from a folder.
    fn build(folder: &Path) -> BTreeMap<Id, Object> {
        let mut command = Command::new(helm::kubectl().unwrap());
        let text = output(command.arg("kustomize").arg(folder)).unwrap();
        by_id(object::parse(&text).unwrap())
    }

    fn by_id(objects: Vec<Object>) -> BTreeMap<Id, Object> {
        assert!(!objects.is_empty());
        objects.into_iter().map(|it| (it.id(), it)).collect()
    }

    #[test]
    fn every_overlay_is_what_helm_makes_of_its_values() {
        let chart = require!(chart("every_overlay_is_what_helm_makes_of_its_values"));
        let overlays = chart.folder.join("../../kustomize/overlays");
        assert_eq!(fs::read_dir(&overlays).unwrap().count(), OVERLAYS.len());
        for overlay in &OVERLAYS {
            let values = Values {
                files: overlay.files,
                ..Values::set(overlay.values)
            };
            let rendered = by_id(chart.render(&values).unwrap());
            assert_eq!(
                build(&overlays.join(overlay.name)),
                rendered,
                "{}",
                overlay.name
            );
        }
    }

    /// Helm's output, read by kubectl's YAML reader instead of ours.
    #[test]
    fn what_is_written_is_what_helm_printed() {
        let chart = require!(chart("what_is_written_is_what_helm_printed"));
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("all.yaml", &chart.text(&Values::default()).unwrap());
        write("kustomization.yaml", "resources: [all.yaml]\n");
        let mut raw = build(root.path());
        raw.values_mut().for_each(Object::forget_helm);
        let install = text(&chart, REGISTRY).unwrap();
        assert_eq!(by_id(object::parse(&install).unwrap()), raw);
        for word in ["helm.sh/", "app.kubernetes.io/managed-by"] {
            assert!(!install.contains(word), "{word}");
        }
    }
}
