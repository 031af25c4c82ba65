//! `deploy/kustomize`: the chart for users of kustomize.
//!
//! All of it is generated. The base is the chart without the agent. A component is what a value of
//! the chart adds or changes. An overlay combines components and changes them by further values. So
//! the chart stays the only description, and each overlay is an installation that Helm could have
//! made.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Generated;
use super::chart::{Chart, NAMESPACE, Values};
use super::object::{self, Object};
use super::patch::Delta;

pub(super) const FOLDER: &str = "deploy/kustomize";
const HEAD: &str = "# Generated from the chart by `cargo xtask manifests`; do not edit.\n";

/// A part that can be switched on.
struct Component {
    name: &'static str,
    /// The chart's values that it corresponds to.
    values: &'static [&'static str],
    says: &'static str,
}

/// The others are compared with the base and the first one together, because they concern webhook
/// and agent.
const COMPONENTS: [Component; 4] = [
    Component {
        name: "agent",
        values: &["agent.enabled=true"],
        says: "The agent, in a namespace of its own. The other components come after it.",
    },
    Component {
        name: "cert-manager",
        values: &["certificates.mode=cert-manager"],
        says: "The webhook's certificate by cert-manager, which has to be in the cluster.",
    },
    Component {
        name: "monitoring",
        values: &[
            "monitoring.serviceMonitor.enabled=true",
            "monitoring.prometheusRule.enabled=true",
            "monitoring.dashboard.enabled=true",
        ],
        says: "ServiceMonitors, alerts and Grafana's dashboard. The resources of the Prometheus operator have to be in\n\
               # the cluster; where Prometheus selects by labels, put them on with `labels`.",
    },
    Component {
        name: "network-policy",
        values: &["networkPolicy.egress=true"],
        says: "NetworkPolicies that restrict what webhook and agent may reach, too.",
    },
];

/// An installation.
struct Overlay {
    name: &'static str,
    components: &'static [&'static str],
    /// Values in addition to the components.
    files: &'static [&'static str],
    values: &'static [&'static str],
    says: &'static str,
}

const OVERLAYS: [Overlay; 3] = [
    Overlay {
        name: "development",
        components: &["agent"],
        files: &[],
        values: &[
            "webhook.replicas=1",
            "webhook.failurePolicy=Ignore",
            "log.level=debug",
        ],
        says: "For a cluster on one machine: one replica, nothing waits for it, and the log says more.",
    },
    Overlay {
        name: "imageswap",
        components: &["agent"],
        files: &["values-imageswap.yaml"],
        values: &[],
        says: "For a cluster that runs ImageSwap, the Python webhook: its maps ConfigMap and labels are used unchanged.",
    },
    Overlay {
        name: "production",
        components: &["agent", "network-policy"],
        files: &[],
        values: &["webhook.replicas=3", "log.format=json"],
        says: "Three replicas, NetworkPolicies for what they may reach, logs as JSON. Set registry and tag of the images below.",
    },
];

/// Programs whose images an overlay may name.
const IMAGES: [&str; 2] = ["imageswap-agent", "imageswap-webhook"];

/// Every file.
pub(super) fn generate(chart: &Chart) -> Result<Vec<Generated>> {
    let webhook = chart.render(&without_agent())?;
    let both = chart.render(&Values::default())?;
    let mut files = layer(
        "base",
        "The webhook, with the chart's default values.",
        "Kustomization",
        &[],
        &Delta::between(&[], &webhook),
        &json!({}),
    )?;
    for component in &COMPONENTS {
        let delta = if component.name == "agent" {
            Delta::between(&webhook, &both)
        } else {
            Delta::between(&both, &chart.render(&Values::set(component.values))?)
        };
        let folder = format!("components/{}", component.name);
        files.extend(layer(
            &folder,
            component.says,
            "Component",
            &[],
            &delta,
            &json!({}),
        )?);
    }
    for overlay in &OVERLAYS {
        let of_components = chart.render(&overlay.of_components()?)?;
        let delta = Delta::between(&of_components, &chart.render(&overlay.values()?)?);
        let folder = format!("overlays/{}", overlay.name);
        let images = images(&of_components)?;
        files.extend(layer(
            &folder,
            overlay.says,
            "Kustomization",
            overlay.components,
            &delta,
            &json!({"images": images}),
        )?);
    }
    Ok(files)
}

/// The chart's values for the base.
fn without_agent() -> Values {
    Values::set(&["agent.enabled=false"])
}

impl Overlay {
    /// The values that its components correspond to.
    fn of_components(&self) -> Result<Values> {
        let mut set = Vec::new();
        for name in self.components {
            let component = COMPONENTS.iter().find(|it| it.name == *name);
            ensure!(component.is_some(), "there is no component {name}");
            set.extend(component.into_iter().flat_map(|it| it.values));
        }
        Ok(Values::set(&set))
    }

    /// All of its values.
    fn values(&self) -> Result<Values> {
        Ok(self.of_components()?.and(&Values {
            files: self.files,
            ..Values::set(self.values)
        }))
    }
}

/// The files of one kustomization: objects by kind, patches by object.
fn layer(
    folder: &str,
    says: &str,
    kind: &str,
    components: &[&str],
    delta: &Delta,
    more: &Value,
) -> Result<Vec<Generated>> {
    let mut files = Vec::new();
    let mut file = |name: &str, text: String| {
        files.push(Generated {
            path: format!("{FOLDER}/{folder}/{name}"),
            text,
        });
    };
    let version = match kind {
        "Component" => "kustomize.config.k8s.io/v1alpha1",
        _ => "kustomize.config.k8s.io/v1beta1",
    };
    let mut kustomization = more.clone();
    kustomization["apiVersion"] = json!(version);
    kustomization["kind"] = json!(kind);

    let mut by_kind: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for object in &delta.added {
        let kind = object.id().kind.to_lowercase();
        by_kind.entry(kind).or_default().push(object.clone());
    }
    let mut resources: Vec<String> = Vec::new();
    if folder.starts_with("overlays/") {
        resources.push("../../base".to_owned());
    }
    for (kind, objects) in by_kind {
        let name = format!("{kind}.yaml");
        file(&name, object::write(HEAD, &objects)?);
        resources.push(name);
    }
    if !resources.is_empty() {
        kustomization["resources"] = json!(resources);
    }
    if !components.is_empty() {
        let paths: Vec<_> = components
            .iter()
            .map(|it| format!("../../components/{it}"))
            .collect();
        kustomization["components"] = json!(paths);
    }

    let mut patches = Vec::new();
    for (object, operations) in &delta.changed {
        let id = object.id();
        let name = format!("patch-{}-{}.yaml", id.kind.to_lowercase(), id.name);
        let text = object::yaml(&json!(operations))?;
        file(&name, format!("{HEAD}{text}"));
        let mut target = json!({"kind": id.kind, "name": id.name});
        if let Some(namespace) = id.namespace {
            target["namespace"] = json!(namespace);
        }
        patches.push(json!({"path": name, "target": target}));
    }
    for object in &delta.removed {
        let mut gone = json!({
            "$patch": "delete",
            "apiVersion": object.0["apiVersion"],
            "kind": object.0["kind"],
            "metadata": {"name": object.0["metadata"]["name"]},
        });
        if let Some(namespace) = object.id().namespace {
            gone["metadata"]["namespace"] = json!(namespace);
        }
        patches.push(json!({"patch": object::yaml(&gone)?}));
    }
    if !patches.is_empty() {
        kustomization["patches"] = json!(patches);
    }
    let text = object::yaml(&kustomization)?;
    file("kustomization.yaml", format!("{HEAD}# {says}\n{text}"));
    Ok(files)
}

/// The images of our programs, so that users can point them to another registry.
fn images(objects: &[Object]) -> Result<Vec<Value>> {
    let mut images = Vec::new();
    for object in objects {
        let containers = object.0["spec"]["template"]["spec"]["containers"].as_array();
        for container in containers.into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default();
            let name_and_tag = image.rsplit_once(':');
            if let Some((name, tag)) = name_and_tag
                && IMAGES.iter().any(|it| name.ends_with(it))
            {
                images.push(json!({"name": name, "newName": name, "newTag": tag}));
            }
        }
    }
    ensure!(
        images.len() == IMAGES.len(),
        "{} images in namespace {NAMESPACE} instead of {}",
        images.len(),
        IMAGES.len()
    );
    images.sort_by_key(|it| it["name"].to_string());
    Ok(images)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::super::{install, tests::chart};
    use super::*;
    use crate::helm;
    use crate::process::output;

    /// What kubectl renders from a folder, sorted as we sort.
    fn build(folder: &Path) -> Vec<Object> {
        let mut command = Command::new(helm::kubectl().unwrap());
        let text = output(command.arg("kustomize").arg(folder)).unwrap();
        let mut objects = object::parse(&text).unwrap();
        object::sort(&mut objects);
        objects
    }

    /// The generated files in a folder of their own.
    fn written(chart: &Chart) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in generate(chart).unwrap() {
            let path = root.path().join(file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.text).unwrap();
        }
        root
    }

    fn assert_same(what: &str, built: &[Object], rendered: &[Object]) {
        let delta = Delta::between(built, rendered);
        assert_eq!(delta, Delta::default(), "{what}");
        assert!(!built.is_empty());
    }

    #[test]
    fn every_overlay_is_what_helm_makes_of_its_values() {
        let Some(chart) = chart("every_overlay_is_what_helm_makes_of_its_values") else {
            return;
        };
        let root = written(&chart);
        for overlay in &OVERLAYS {
            let folder = root.path().join(FOLDER).join("overlays").join(overlay.name);
            let rendered = chart.render(&overlay.values().unwrap()).unwrap();
            assert_same(overlay.name, &build(&folder), &rendered);
        }
    }

    #[test]
    fn base_and_agent_are_what_install_yaml_installs() {
        let Some(chart) = chart("base_and_agent_are_what_install_yaml_installs") else {
            return;
        };
        let root = written(&chart);
        let compose = |name: &str, components: &[&str]| {
            let folder = root.path().join(FOLDER).join(name);
            fs::create_dir_all(&folder).unwrap();
            let components: Vec<_> = components
                .iter()
                .map(|it| format!("../components/{it}"))
                .collect();
            let kustomization = json!({"resources": ["../base"], "components": components});
            fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
            build(&folder)
        };
        let install = object::parse(&install::generate(&chart).unwrap().text).unwrap();
        assert_same("install", &compose("both", &["agent"]), &install);
        // Each component, and all together.
        let all: Vec<_> = COMPONENTS.iter().map(|it| it.name).collect();
        for component in &COMPONENTS[1..] {
            let rendered = chart.render(&Values::set(component.values)).unwrap();
            let built = compose(component.name, &["agent", component.name]);
            assert_same(component.name, &built, &rendered);
        }
        let set: Vec<_> = COMPONENTS
            .iter()
            .flat_map(|it| it.values)
            .copied()
            .collect();
        let rendered = chart.render(&Values::set(&set)).unwrap();
        assert_same("all", &compose("all", &all), &rendered);
    }

    /// Helm's output, read by kubectl's YAML reader instead of ours.
    #[test]
    fn what_is_written_is_what_helm_printed() {
        let Some(chart) = chart("what_is_written_is_what_helm_printed") else {
            return;
        };
        let root = tempfile::tempdir().unwrap();
        let text = chart.text(&Values::default()).unwrap();
        fs::write(root.path().join("all.yaml"), text).unwrap();
        fs::write(
            root.path().join("kustomization.yaml"),
            "resources: [all.yaml]\n",
        )
        .unwrap();
        let mut raw = build(root.path());
        raw.iter_mut().for_each(Object::forget_helm);
        let install = install::generate(&chart).unwrap().text;
        assert_same("install.yaml", &object::parse(&install).unwrap(), &raw);
        for word in ["helm.sh/", "app.kubernetes.io/managed-by"] {
            assert!(!install.contains(word), "{word}");
        }
    }
}
