//! Gatekeeper's constraints about registries and tags, and its mutation `AssignImage`.

use crate::fields::{only, selector, texts};
use crate::image::is_registry;
use crate::intent::{Check, Effect, Intent, LISTS, Lists, Origin, Reading, Vocabulary};
use crate::scope::{Formula, Literal, WORKLOADS, built_in_exclusion};
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;
use std::rc::Rc;
use templates::Version;

mod templates;

/// Reads a constraint of one of the library's templates.
pub(crate) fn constraint(node: &Node, origin: &Origin, all: &[(&str, Node)]) -> Reading {
    match read(node, origin, all) {
        Ok(intent) => Reading::Understood(intent),
        Err(why) => Reading::LeftOut(origin.clone(), why),
    }
}

fn read(node: &Node, origin: &Origin, all: &[(&str, Node)]) -> Result<Intent, String> {
    let spec = node.get("spec").ok_or("it has no `spec`")?;
    only(spec, &["match", "parameters", "enforcementAction"])?;
    let enforcement = match spec.get("enforcementAction").and_then(Node::as_str) {
        None | Some("deny") => Enforcement::Deny,
        Some("warn") => Enforcement::Warn,
        Some("dryrun") => Enforcement::Audit,
        Some(other) => return Err(format!("the action `{other}` is not understood")),
    };
    let version = templates::version(&origin.kind, all)?;
    let (holds, vocabulary) = demand(
        &origin.kind,
        version.unwrap_or(Version::Newest),
        spec.get("parameters"),
    )?;
    let mut differences = Vec::new();
    let formula = pods(spec.get("match"), &mut differences)?;
    let effect = Effect::Check {
        holds,
        enforcement,
        message: None,
    };
    let scope = formula.blocks()?;
    let mut notes = Vec::from_iter(built_in_exclusion(&scope));
    if version.is_none() {
        notes.push(
            "its template is not among the files; that of Gatekeeper's library is meant".to_owned(),
        );
    }
    Ok(Intent {
        differences,
        notes,
        ..Intent::new(origin.clone(), scope, effect, vocabulary)
    })
}

/// The images that a template lets in.
fn demand(
    kind: &str,
    version: Version,
    given: Option<&Node>,
) -> Result<(Check, Vocabulary), String> {
    let mut vocabulary = Vocabulary::default();
    if kind == "K8sImageDigests" {
        let exempt = given.map_or(Ok(Vec::new()), |it| {
            only(it, &["exemptImages"])?;
            texts(it.get("exemptImages"))
        })?;
        vocabulary.wildcards.clone_from(&exempt);
        vocabulary.wildcards.push("*@*".to_owned());
        let holds: Check = Rc::new(move |image| {
            let digest = image.split_once('@').is_some_and(|it| it.1.contains(':'));
            Ok(digest || is_among(&exempt, image))
        });
        return Ok((holds, vocabulary));
    }
    let parameters = given.ok_or("it has no parameters")?;
    let prefixes =
        |list: &[String]| -> Vec<String> { list.iter().map(|it| format!("{it}*")).collect() };
    let holds: Check = match kind {
        "K8sAllowedRepos" | "K8sDisallowedRepos" => {
            only(parameters, &["repos"])?;
            let repos = texts(parameters.get("repos"))?;
            vocabulary.wildcards = prefixes(&repos);
            let allowed = kind == "K8sAllowedRepos";
            Rc::new(move |image| {
                Ok(repos.iter().any(|it| image.starts_with(it.as_str())) == allowed)
            })
        }
        "K8sAllowedReposv2" => {
            only(parameters, &["allowedImages"])?;
            let images = texts(parameters.get("allowedImages"))?;
            // No image has a `*` in it.
            if let Some(inner) = images
                .iter()
                .find(|it| it.strip_suffix('*').unwrap_or(it).contains('*'))
            {
                return Err(format!(
                    "`{inner}` matches no image: one `*` at its end is a wildcard, any other is not"
                ));
            }
            vocabulary.wildcards.clone_from(&images);
            Rc::new(move |image| Ok(is_among(&images, image)))
        }
        "K8sDisallowedTags" => {
            only(parameters, &["tags", "exemptImages"])?;
            let tags = texts(parameters.get("tags"))?;
            let exempt = texts(parameters.get("exemptImages"))?;
            vocabulary.wildcards = tags
                .iter()
                .map(|it| format!("*:{it}"))
                .chain(exempt.clone())
                .collect();
            vocabulary.wildcards.push("*:latest".to_owned());
            Rc::new(move |image| {
                let exempted = is_among(&exempt, image);
                let tagged = match version {
                    Version::ColonAnywhere => image,
                    Version::Newest => image.rsplit('/').next().unwrap_or_default(),
                };
                let refused = !tagged.contains(':')
                    || tags.iter().any(|it| image.ends_with(&format!(":{it}")));
                Ok(exempted || !refused)
            })
        }
        other => return Err(format!("the template `{other}` is not understood")),
    };
    Ok((holds, vocabulary))
}

/// Whether an image is in a list in which a `*` at the end is a wildcard.
fn is_among(list: &[String], image: &str) -> bool {
    list.iter().any(|it| match it.strip_suffix('*') {
        Some(prefix) => image.starts_with(prefix),
        None => it == image,
    })
}

/// The Pods that a `match` selects.
fn pods(matched: Option<&Node>, differences: &mut Vec<String>) -> Result<Formula, String> {
    let mut parts = Vec::new();
    let mut workloads = false;
    for (key, value) in matched.map_or(&[][..], Node::entries) {
        let key = key.as_str().unwrap_or_default();
        match key {
            "kinds" => {
                let mut kinds = Vec::new();
                let mut of_pods = value.items().is_empty();
                for it in value.items() {
                    let (of, groups) = (texts(it.get("kinds"))?, texts(it.get("apiGroups"))?);
                    let has = |all: &[String], name: &str| {
                        all.is_empty() || all.iter().any(|it| it == name || it == "*")
                    };
                    of_pods |= has(&of, "Pod") && has(&groups, "");
                    kinds.extend(of);
                }
                if of_pods {
                    continue;
                }
                let named = |it: &str| kinds.iter().any(|kind| kind == it);
                if !WORKLOADS.iter().any(|it| named(it)) {
                    return Ok(Formula::never());
                }
                workloads = true;
                differences.push(format!(
                    "a Pod that no {} makes is judged, too",
                    kinds.join(" or ")
                ));
            }
            "scope" if matches!(value.as_str(), Some("*" | "Namespaced")) => {}
            "namespaces" => parts.push(Formula::Is(Literal::InNamespaces(texts(Some(value))?))),
            "excludedNamespaces" => {
                parts.push(Formula::Is(Literal::NotInNamespaces(texts(Some(value))?)));
            }
            "labelSelector" => parts.push(selector(value, Literal::ObjectLabel)?),
            "namespaceSelector" => parts.push(selector(value, Literal::NamespaceLabel)?),
            "source" if matches!(value.as_str(), Some("All")) => {}
            other => {
                return Err(format!(
                    "`{other}` of its `match` is not something that a policy here can select by"
                ));
            }
        }
    }
    if workloads && matched.is_some_and(|it| it.get("labelSelector").is_some()) {
        return Err("its `labelSelector` is about the labels of objects that make Pods, which their Pods need not have".to_owned());
    }
    Ok(Formula::All(parts))
}

/// Reads an `AssignImage`.
pub(crate) fn assign_image(node: &Node, origin: &Origin) -> Reading {
    match assigned(node, origin) {
        Ok(intent) => Reading::Understood(intent),
        Err(why) => Reading::LeftOut(origin.clone(), why),
    }
}

fn assigned(node: &Node, origin: &Origin) -> Result<Intent, String> {
    let spec = node.get("spec").ok_or("it has no `spec`")?;
    only(spec, &["applyTo", "match", "location", "parameters"])?;
    let location = spec
        .get("location")
        .and_then(Node::as_str)
        .unwrap_or_default();
    let list = LISTS
        .into_iter()
        .find(|it| location == format!("spec.{it}[name:*].image"));
    let list = list.ok_or_else(|| format!("the location `{location}` is not understood"))?;
    let mut of_pods = false;
    for it in spec.get("applyTo").map_or(&[][..], Node::items) {
        let has = |key: &str, name: &str| -> Result<bool, String> {
            Ok(texts(it.get(key))?.iter().any(|it| it == name || it == "*"))
        };
        of_pods |= has("groups", "")? && has("versions", "v1")? && has("kinds", "Pod")?;
    }
    if !of_pods {
        return Err("it does not change Pods".to_owned());
    }
    let parameters = spec.get("parameters").ok_or("it has no parameters")?;
    only(parameters, &["assignDomain", "assignPath", "assignTag"])?;
    let text = |key| {
        parameters
            .get(key)
            .and_then(Node::as_str)
            .map(str::to_owned)
    };
    let (domain, path, tag) = (text("assignDomain"), text("assignPath"), text("assignTag"));
    let mut vocabulary = Vocabulary::default();
    vocabulary
        .texts
        .extend([&domain, &path].into_iter().flatten().cloned());
    let swap = move |image: &str| {
        let (host, rest) = match image.split_once('/') {
            Some((host, rest)) if is_registry(host) => (Some(host), rest),
            _ => (None, image),
        };
        let end = rest.find(['@', ':']).unwrap_or(rest.len());
        let (old_path, old_tag) = rest.split_at(end);
        let host = domain.as_deref().or(host);
        let host = host.map_or_else(String::new, |it| format!("{it}/"));
        Ok(format!(
            "{host}{}{}",
            path.as_deref().unwrap_or(old_path),
            tag.as_deref().unwrap_or(old_tag)
        ))
    };
    let mut differences = Vec::new();
    let formula = pods(spec.get("match"), &mut differences)?;
    if let Some(wider) = differences.into_iter().next() {
        return Err(wider);
    }
    let effect = Effect::Swap(Rc::new(swap));
    let scope = formula.blocks()?;
    Ok(Intent {
        lists: Lists::named(&[list]),
        notes: built_in_exclusion(&scope).into_iter().collect(),
        ..Intent::new(origin.clone(), scope, effect, vocabulary)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use imageswap_policy::yaml;

    #[test]
    fn older_templates_take_the_colon_of_a_port_for_that_of_a_tag() {
        let nodes = yaml::parse("test.yaml", "{tags: [latest]}").expect("YAML");
        let lets_in = |version, image| {
            let (holds, _) = demand("K8sDisallowedTags", version, nodes.first()).expect("a demand");
            holds(image)
        };
        for (version, expected) in [(Version::ColonAnywhere, true), (Version::Newest, false)] {
            assert_eq!(lets_in(version, "a.io:5000/x"), Ok(expected));
            assert_eq!(lets_in(version, "a.io:5000/x:1"), Ok(true));
            assert_eq!(lets_in(version, "x"), Ok(false));
        }
    }
}
