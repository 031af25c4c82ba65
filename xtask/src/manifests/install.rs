//! `deploy/install.yaml`: everything for one `kubectl apply -f`.

use anyhow::Result;

use super::Generated;
use super::chart::{Chart, KUBERNETES, Values};
use super::object;

pub(super) const PATH: &str = "deploy/install.yaml";

/// The registry that `cargo xtask image` uses by default.
const REGISTRY: &str = "localhost";

pub(super) fn generate(chart: &Chart) -> Result<Generated> {
    Ok(Generated {
        path: PATH.to_owned(),
        text: text(chart, REGISTRY)?,
    })
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
