//! `ConstraintTemplate`s: what a constraint demands is written in its template, so a template among the files has to be
//! one of Gatekeeper's library.

use crate::fields::kind;
use imageswap_policy::sha256;
use imageswap_policy::yaml::Node;

/// A way in which versions of the library differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `K8sDisallowedTags` takes the colon of a registry's port for that of a tag.
    ColonAnywhere,
    Newest,
}

/// Kinds with the SHA-256 of their templates' code without comments and indentation, for every version of the library
/// that reads all lists of containers and `exemptImages`.
const KNOWN: [(&str, &str, Version); 9] = [
    (
        "K8sAllowedRepos",
        "39ed9dfa6da8b4363baa762334bb56f1a19c08195378cd438a795a8725218781",
        Version::Newest,
    ),
    (
        "K8sAllowedRepos",
        "e0e610da9f926be85c2a532fcf1a4a1fc3d4483546d0cfc6428135c71b421c77",
        Version::Newest,
    ),
    (
        "K8sAllowedReposv2",
        "7ab02f59318c9700d1b5272038907b0c28858b98ef1b802e95b9254ed2e62272",
        Version::Newest,
    ),
    (
        "K8sDisallowedRepos",
        "6758ae54b09e9df1d3d8548793518d680e7f7f2d2f4a01498633febd4b957d25",
        Version::Newest,
    ),
    (
        "K8sDisallowedTags",
        "53fa56ab5d647125cc61c99f952b059eb44e8c91d418b75dfddb9b5e45437b21",
        Version::Newest,
    ),
    (
        "K8sDisallowedTags",
        "a5a71f5d35f52c0cd047ddf7393c40fa1bacd02273813a0841d9a3fae5c8de7f",
        Version::ColonAnywhere,
    ),
    (
        "K8sDisallowedTags",
        "30f92fcbdba82b578d8756bd6f4fc0a3d9a2f7d49114e6e1538e2157073685c3",
        Version::ColonAnywhere,
    ),
    (
        "K8sImageDigests",
        "6e9172e7870bdc857c814132349902bf89d698a24325d53b9cc6e2e015331e85",
        Version::Newest,
    ),
    (
        "K8sImageDigests",
        "446decf862dacf7bb45ccc6c392c5268a34c64093cca42e01bd12aaf1efc74b3",
        Version::Newest,
    ),
];

/// The version of the template of this kind; `None` if the template is not among the files.
///
/// # Errors
/// It is not one of the library.
pub(super) fn version(of: &str, all: &[(&str, Node)]) -> Result<Option<Version>, String> {
    let mut found = None;
    for (source, node) in all.iter().filter(|it| is_template_of(&it.1, of)) {
        let code = code(node);
        let known = KNOWN
            .iter()
            .find(|it| it.0 == of && Some(it.1) == code.as_deref());
        let version = known.map(|it| it.2).ok_or_else(|| {
            format!(
                "its template ({source}:{}) is not one of Gatekeeper's library since May 2022, so what it demands is not known",
                node.span.line
            )
        })?;
        if found.is_some_and(|it| it != version) {
            return Err("its template is among the files in several versions".to_owned());
        }
        found = Some(version);
    }
    Ok(found)
}

fn is_template_of(node: &Node, of: &str) -> bool {
    let path = ["spec", "crd", "spec", "names", "kind"];
    let named = path.iter().try_fold(node, |it, key| it.get(key));
    kind(node) == ("templates.gatekeeper.sh", "ConstraintTemplate")
        && named.and_then(Node::as_str) == Some(of)
}

/// The hash of a template's code; `None` if it is not Rego alone.
fn code(node: &Node) -> Option<String> {
    let [target] = node.get("spec")?.get("targets")?.items() else {
        return None;
    };
    let keys = target.entries().iter().map(|it| it.0.as_str());
    let known = [Some("target"), Some("rego"), Some("libs")];
    if !keys.into_iter().all(|it| known.contains(&it)) {
        return None;
    }
    let mut lines = Vec::new();
    let libs = target.get("libs").map_or(&[][..], Node::items);
    for it in target.get("rego").into_iter().chain(libs) {
        for line in it.as_str()?.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() {
                lines.push(words.join(" "));
            }
        }
    }
    Some(sha256(lines.join("\n")))
}
