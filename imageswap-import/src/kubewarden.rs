//! Kubewarden's policy `trusted-repos`.

use crate::fields::{only, selector, texts};
use crate::image::Image;
use crate::intent::{Check, Effect, Intent, Origin, Reading, Vocabulary};
use crate::scope::{Formula, Literal, built_in_exclusion};
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;
use std::rc::Rc;

/// Reads an `AdmissionPolicy` or `ClusterAdmissionPolicy`; `None` if it runs another module.
pub(crate) fn read(node: &Node, origin: &Origin) -> Option<Vec<Reading>> {
    let spec = node.get("spec")?;
    let module = spec.get("module").and_then(Node::as_str)?;
    let last = module.rsplit('/').next().unwrap_or_default();
    if last.split([':', '@']).next() != Some("trusted-repos") {
        return None;
    }
    let readings = version(module).and_then(|it| policy(node, spec, it, origin));
    Some(readings.unwrap_or_else(|why| vec![Reading::LeftOut(origin.clone(), why)]))
}

/// The version of the module, as numbers.
///
/// # Errors
/// It is not Kubewarden's, its version is not known, or the version reads images otherwise than today's.
fn version(module: &str) -> Result<[u32; 3], String> {
    let bare = module.strip_prefix("registry://").unwrap_or(module);
    let of_kubewarden = bare
        .strip_prefix("ghcr.io/kubewarden/policies/trusted-repos")
        .ok_or_else(|| format!("what the module `{bare}` does is not known"))?;
    let tag = of_kubewarden.split('@').next().unwrap_or_default();
    let tag = match tag.strip_prefix(':') {
        // Neither tag nor digest, or the newest.
        None if of_kubewarden.is_empty() => "latest",
        Some(tag) => tag,
        None => "",
    };
    if tag == "latest" {
        return Ok([u32::MAX; 3]);
    }
    let numbers: Vec<u32> = tag
        .trim_start_matches('v')
        .split('.')
        .filter_map(|it| it.parse().ok())
        .collect();
    match <[u32; 3]>::try_from(numbers) {
        Ok(it) if it >= [0, 2, 0] => Ok(it),
        Ok(_) => Err("modules before 0.2.0 read images in another way".to_owned()),
        Err(_) => Err(format!("the version of the module `{bare}` is not known")),
    }
}

/// The first version that compares images as today's.
const IMAGES_SINCE: [u32; 3] = [2, 0, 1];

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
        let (allow, reject) = (of("allow")?, of("reject")?);
        if !allow.is_empty() && !reject.is_empty() {
            return Err("Kubewarden refuses settings with both `allow` and `reject`".to_owned());
        }
        Ok(Self { allow, reject })
    }

    fn lets_in(&self, matches: impl Fn(&String) -> bool) -> bool {
        let among = |list: &[String]| list.iter().any(&matches);
        (self.allow.is_empty() || among(&self.allow)) && !among(&self.reject)
    }
}

/// Each of the settings is a rule.
fn policy(
    node: &Node,
    spec: &Node,
    version: [u32; 3],
    origin: &Origin,
) -> Result<Vec<Reading>, String> {
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
    let is_tag = |it: &&String| Image::parse(&format!("x:{it}")).is_some();
    if let Some(it) = settings.rejected_tags.iter().find(|it| !is_tag(it)) {
        return Err(format!("`{it}` is not a tag"));
    }
    let unread = |it: &&String| Image::parse(it).is_none();
    if let Some(it) = settings.images.each().find(unread) {
        return Err(format!("`{it}` is not an image"));
    }
    if !settings.images.is_empty() && version < IMAGES_SINCE {
        return Err("modules before 2.0.1 compare `images` in another way".to_owned());
    }
    let mut differences = Vec::new();
    let mut parts = Vec::new();
    let objects = rules(spec, &mut differences)?;
    if objects == Objects::None {
        parts.push(Formula::never());
    }
    if let Some(it) = spec.get("namespaceSelector") {
        parts.push(selector(it, Literal::NamespaceLabel)?);
    }
    if let Some(it) = spec.get("objectSelector") {
        if objects == Objects::Workloads {
            return Err("its `objectSelector` is about the labels of objects that make Pods, which their Pods need not have".to_owned());
        }
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
    let scope = Formula::All(parts).blocks()?;
    let place = |rule: &str| Origin {
        rule: rule.to_owned(),
        ..origin.clone()
    };
    let rule = |name: &str, demand: (Check, Vocabulary), wider: Option<String>| {
        let effect = Effect::Check {
            holds: demand.0,
            enforcement,
            message: None,
        };
        Reading::Understood(Intent {
            differences: differences.iter().cloned().chain(wider).collect(),
            notes: built_in_exclusion(&scope).into_iter().collect(),
            ..Intent::new(place(name), scope.clone(), effect, demand.1)
        })
    };
    let Settings {
        registries,
        images,
        rejected_tags,
    } = settings;
    let (latest, tags): (Vec<String>, Vec<String>) =
        rejected_tags.into_iter().partition(|it| it == "latest");
    let mut readings = Vec::new();
    if !registries.is_empty() {
        readings.push(rule("registries", registries.of_registries(), None));
    }
    if !images.is_empty() {
        let wider = images.wider();
        readings.push(rule("images", images.of_images(), wider));
    }
    if !tags.is_empty() {
        readings.push(rule("tags", without_tags(tags), None));
    }
    if !latest.is_empty() {
        let why = "there `latest` also rejects a digest without a tag, which no pattern here distinguishes from one with a tag; for the other images add `**:latest` to `denied`";
        readings.push(Reading::LeftOut(place("tags latest"), why.to_owned()));
    }
    if readings.is_empty() {
        return Err("its settings demand nothing".to_owned());
    }
    Ok(readings)
}

impl Sides {
    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.reject.is_empty()
    }

    fn each(&self) -> impl Iterator<Item = &String> {
        self.allow.iter().chain(&self.reject)
    }

    /// Images of the registries.
    fn of_registries(self) -> (Check, Vocabulary) {
        let vocabulary = Vocabulary {
            wildcards: self.each().map(|it| format!("{it}/*")).collect(),
            ..Vocabulary::default()
        };
        let holds = move |image: &Image| self.lets_in(|it| *it == image.host);
        (check(holds), vocabulary)
    }

    /// Images by reference or name.
    fn of_images(self) -> (Check, Vocabulary) {
        let mut vocabulary = Vocabulary::default();
        for it in self.each().filter_map(|it| Image::parse(it)) {
            vocabulary.wildcards.push(it.text());
            if it != unpinned(&it) {
                // Other digests of the tag.
                vocabulary.wildcards.push(format!("{}@*", it.name()));
                continue;
            }
            // A name without its registry is compared with the repository of every image.
            let path = it.path.join("/");
            let short = path.strip_prefix("library/").unwrap_or(&path);
            let names = match it.host.as_str() {
                // Such a repository may begin with the registry, too.
                "docker.io" => ["", "docker.io/", "index.docker.io/"]
                    .iter()
                    .flat_map(|it| [&*path, short].map(|path| format!("*/{it}{path}")))
                    .collect(),
                _ => vec![it.name(), format!("*/{}", it.name())],
            };
            vocabulary.wildcards.extend(names);
        }
        let holds = move |image: &Image| {
            let repository = Image::parse(&image.path.join("/"));
            let without_digest = Image {
                digest: None,
                ..image.clone()
            };
            self.lets_in(|it| {
                let listed = Image::parse(it);
                let same = |it: &Image| listed.as_ref() == Some(it);
                // A denied tag is denied with a digest, too.
                let same_tag = !self.reject.is_empty() && same(&without_digest);
                let same_name = same(&unpinned(image)) || repository.as_ref().is_some_and(same);
                same(image) || same_tag || same_name
            })
        };
        (check(holds), vocabulary)
    }

    /// How more images are rejected here.
    fn wider(&self) -> Option<String> {
        let pinned = |it: &Image| it.digest.is_none() && *it != unpinned(it);
        let mut rejected = self.reject.iter().filter_map(|it| Image::parse(it));
        rejected
            .any(|it| pinned(&it))
            .then(|| "a rejected tag is rejected with a digest beside it, too".to_owned())
    }
}

/// The same name without tag and digest, which stands for `latest`.
fn unpinned(image: &Image) -> Image {
    Image {
        tag: Some("latest".to_owned()),
        digest: None,
        ..image.clone()
    }
}

/// Images without these tags; `latest`, which a digest alone counts as, is not one of them.
fn without_tags(tags: Vec<String>) -> (Check, Vocabulary) {
    let vocabulary = Vocabulary {
        wildcards: tags.iter().map(|it| format!("*:{it}")).collect(),
        ..Vocabulary::default()
    };
    let holds = move |image: &Image| image.tag.as_ref().is_none_or(|it| !tags.contains(it));
    (check(holds), vocabulary)
}

/// What is not a reference is let in.
fn check(holds: impl Fn(&Image) -> bool + 'static) -> Check {
    Rc::new(move |text| Ok(Image::parse(text).is_none_or(|it| holds(&it))))
}

/// The objects that a policy sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objects {
    Pods,
    /// Objects that make Pods, and no Pods.
    Workloads,
    None,
}

/// What the rules of a policy cover.
fn rules(spec: &Node, differences: &mut Vec<String>) -> Result<Objects, String> {
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
        return Ok(Objects::None);
    }
    if !named(&operations, "UPDATE") {
        differences.push("an image that an UPDATE changes is judged, too".to_owned());
    }
    if named(&resources, "pods") {
        return Ok(Objects::Pods);
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
    if !workloads.iter().any(|it| named(&resources, it)) {
        return Ok(Objects::None);
    }
    differences.push(format!(
        "a Pod that none of its {} makes is judged, too",
        resources.join(", ")
    ));
    Ok(Objects::Workloads)
}
