//! Kubewarden's policy `trusted-repos`.

use crate::fields::{only, selector, texts};
use crate::image::Image;
use crate::intent::{Effect, Intent, Origin, Reading, Vocabulary};
use crate::scope::{Formula, Literal};
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;
use std::rc::Rc;

/// Reads an `AdmissionPolicy` or `ClusterAdmissionPolicy`; `None` if it runs another module.
pub(crate) fn read(node: &Node, origin: &Origin) -> Option<Reading> {
    let spec = node.get("spec")?;
    let module = spec.get("module").and_then(Node::as_str)?;
    let name = module.rsplit('/').next().unwrap_or_default();
    if name.split([':', '@']).next() != Some("trusted-repos") {
        return None;
    }
    Some(match intent(node, spec, origin) {
        Ok(intent) => Reading::Understood(intent),
        Err(why) => Reading::LeftOut(origin.clone(), why),
    })
}

/// What the settings allow and reject.
struct Settings {
    registries: Sides,
    images: Sides,
    rejected_tags: Vec<String>,
}

/// At most one of both lists is given.
struct Sides {
    allow: Vec<String>,
    reject: Vec<String>,
}

impl Sides {
    fn read(node: Option<&Node>) -> Result<Self, String> {
        if let Some(node) = node {
            only(node, &["allow", "reject"])?;
        }
        let of = |key| texts(node.and_then(|it| it.get(key)));
        Ok(Self {
            allow: of("allow")?,
            reject: of("reject")?,
        })
    }

    fn lets_in(&self, matches: impl Fn(&str) -> bool) -> bool {
        let among = |list: &[String]| list.iter().any(|it| matches(it));
        (self.allow.is_empty() || among(&self.allow)) && !among(&self.reject)
    }
}

fn intent(node: &Node, spec: &Node, origin: &Origin) -> Result<Intent, String> {
    only(
        spec,
        &[
            "module",
            "settings",
            "rules",
            "mutating",
            "mode",
            "policyServer",
            "failurePolicy",
            "timeoutSeconds",
            "namespaceSelector",
            "objectSelector",
            "backgroundAudit",
            "sideEffects",
            "matchPolicy",
        ],
    )?;
    let empty = spec.get("settings");
    if let Some(settings) = empty {
        only(settings, &["registries", "images", "tags"])?;
    }
    let of = |key| empty.and_then(|it| it.get(key));
    if let Some(tags) = of("tags") {
        only(tags, &["reject"])?;
    }
    let settings = Settings {
        registries: Sides::read(of("registries"))?,
        images: Sides::read(of("images"))?,
        rejected_tags: texts(of("tags").and_then(|it| it.get("reject")))?,
    };
    let listed = settings.images.allow.iter().chain(&settings.images.reject);
    if let Some(it) = listed.clone().find(|it| Image::parse(it).is_none()) {
        return Err(format!("`{it}` is not an image"));
    }
    let mut differences = Vec::new();
    let mut parts = Vec::new();
    if !rules(spec, &mut differences)? {
        parts.push(Formula::never());
    }
    if let Some(it) = spec.get("namespaceSelector") {
        parts.push(selector(it, Literal::NamespaceLabel)?);
    }
    if let Some(it) = spec.get("objectSelector") {
        parts.push(selector(it, Literal::ObjectLabel)?);
    }
    if origin.kind == "AdmissionPolicy" {
        let name = node
            .get("metadata")
            .and_then(|it| it.get("namespace"))
            .and_then(Node::as_str);
        let name = name.ok_or("it belongs to a namespace that it does not name")?;
        parts.push(Formula::Is(Literal::InNamespaces(vec![name.to_owned()])));
    }
    let enforcement = match spec.get("mode").and_then(Node::as_str) {
        None | Some("protect") => Enforcement::Deny,
        Some("monitor") => Enforcement::Audit,
        Some(other) => return Err(format!("the mode `{other}` is not understood")),
    };
    let mut vocabulary = Vocabulary::default();
    let Settings {
        registries,
        images,
        rejected_tags,
    } = &settings;
    vocabulary.wildcards.extend(
        registries
            .allow
            .iter()
            .chain(&registries.reject)
            .map(|it| format!("{it}/*")),
    );
    vocabulary
        .wildcards
        .extend(images.allow.iter().chain(&images.reject).cloned());
    vocabulary.wildcards.extend(
        images
            .allow
            .iter()
            .chain(&images.reject)
            .map(|it| format!("{it}:*")),
    );
    vocabulary
        .wildcards
        .extend(rejected_tags.iter().map(|it| format!("*:{it}")));
    let holds = move |text: &str| {
        let Some(image) = Image::parse(text) else {
            return Ok(true);
        };
        let listed = |it: &str| {
            Image::parse(it).is_some_and(|listed| {
                let written = it
                    .rsplit('/')
                    .next()
                    .is_some_and(|it| it.contains([':', '@']));
                if written {
                    listed == image
                } else {
                    listed.name() == image.name()
                }
            })
        };
        let tag = image
            .tag
            .as_ref()
            .is_some_and(|tag| settings.rejected_tags.contains(tag));
        Ok(settings.registries.lets_in(|it| it == image.host)
            && settings.images.lets_in(listed)
            && !tag)
    };
    let effect = Effect::Check {
        holds: Rc::new(holds),
        enforcement,
        message: None,
    };
    let scope = Formula::All(parts).blocks()?;
    Ok(Intent {
        differences,
        ..Intent::new(origin.clone(), scope, effect, vocabulary)
    })
}

/// Whether the rules of a policy cover Pods, or workloads.
fn rules(spec: &Node, differences: &mut Vec<String>) -> Result<bool, String> {
    let mut resources = Vec::new();
    let mut operations = Vec::new();
    for it in spec.get("rules").map_or(&[][..], Node::items) {
        let of = texts(it.get("resources"))?;
        let groups = texts(it.get("apiGroups"))?;
        let core = groups.iter().any(|it| it.is_empty() || it == "*");
        // Pods are of the core group.
        resources.extend(
            of.into_iter()
                .filter(|it| core || it != "pods" && it != "*"),
        );
        operations.extend(texts(it.get("operations"))?);
    }
    let named = |list: &[String], it: &str| list.iter().any(|one| one == it || one == "*");
    if !named(&operations, "CREATE") {
        return Ok(false);
    }
    if !named(&operations, "UPDATE") {
        differences.push("an image that an UPDATE changes is judged, too".to_owned());
    }
    if named(&resources, "pods") {
        return Ok(true);
    }
    let workloads = [
        "deployments",
        "statefulsets",
        "daemonsets",
        "replicasets",
        "jobs",
        "cronjobs",
        "replicationcontrollers",
    ];
    let any = workloads.iter().any(|it| named(&resources, it));
    if any {
        differences.push(format!(
            "a Pod that none of its {} makes is judged, too",
            resources.join(", ")
        ));
    }
    Ok(any)
}
