//! One Kyverno policy: its scope, its action, and its rules.

use super::expression::Variables;
use super::formula::{Images, add};
use super::note::Notes;
use super::{Note, mutate, sound, validate};
use imageswap_policy::document::{
    Enforcement, ImageSwapPolicy, LabelSelector, Match, Operator, Requirement, Rule, Spec,
};
use imageswap_policy::yaml::Node;

const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What the rules of a policy come to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) rules: Vec<Rule>,
    /// All of these have to hold.
    pub(super) approved: Vec<Images>,
    pub(super) message: Option<String>,
    deny: bool,
}

/// The policies of a document: itself, or the items of a list.
pub(super) fn documents(node: &Node) -> Vec<&Node> {
    let is_list = node
        .get("kind")
        .and_then(Node::as_str)
        .is_some_and(|it| it.ends_with("List"));
    match node.get("items") {
        _ if node.is_null() => Vec::new(),
        Some(items) if is_list => items.items().iter().collect(),
        _ => vec![node],
    }
}

/// Reads a policy: its name, what it became, and the notes about it.
pub(super) fn read(node: &Node) -> (String, Option<ImageSwapPolicy>, Vec<Note>) {
    let mut notes = Notes::default();
    let text = |key: &str| node.get(key).and_then(Node::as_str).unwrap_or_default();
    let metadata = node.get("metadata");
    let name = metadata
        .and_then(|it| it.get("name"))
        .and_then(Node::as_str)
        .unwrap_or("unnamed")
        .to_owned();
    let group = text("apiVersion").split('/').next().unwrap_or_default();
    if !matches!(group, "kyverno.io" | "policies.kyverno.io") {
        notes.lost(
            node.span,
            "kind",
            format!(
                "`{}` `{}` is no policy of Kyverno",
                text("apiVersion"),
                text("kind")
            ),
        );
        return (name, None, notes.finish());
    }
    if !matches!(text("kind"), "Policy" | "ClusterPolicy") {
        notes.lost(
            node.span,
            "kind",
            format!(
                "a policy of kind `{}` is written in CEL, which is not read",
                text("kind")
            ),
        );
        return (name, None, notes.finish());
    }
    let Some(spec) = node.get("spec") else {
        notes.lost(node.span, "kind", "a policy without `spec`");
        return (name, None, notes.finish());
    };
    let mut scope = Match::default();
    if text("kind") == "Policy" {
        match metadata
            .and_then(|it| it.get("namespace"))
            .and_then(Node::as_str)
        {
            Some(namespace) => {
                scope.namespace_selector =
                    Some(namespaces(Operator::In, vec![namespace.to_owned()]));
            }
            None => notes.note(
                node.span,
                "namespace",
                "a Policy of a namespace that is not named: taken for all of them",
            ),
        }
    }
    let mut found = Found {
        deny: is_enforce(spec.get("validationFailureAction")),
        ..Found::default()
    };
    if let Some(overrides) = spec.get("validationFailureActionOverrides") {
        notes.lost(
            overrides.span,
            "action",
            "actions for single namespaces; write a policy for each of them",
        );
    }
    for rule in spec.get("rules").map(Node::items).unwrap_or_default() {
        one(rule, &mut found, &mut scope, &mut notes);
    }
    let about_images = !found.rules.is_empty() || !found.approved.is_empty();
    if !about_images {
        notes.lost(
            spec.span,
            "nothing",
            "nothing here says which images to swap or let in",
        );
        return (name, None, notes.finish());
    }
    let mut approved: Vec<String> = Vec::new();
    let demands = Images::all(std::mem::take(&mut found.approved));
    let validates = demands != Images::Everything;
    if validates && let Some(patterns) = demands.approved(&mut notes) {
        add(&mut approved, patterns);
    }
    if validates && approved.is_empty() && found.rules.is_empty() {
        return (name, None, notes.finish());
    }
    let enforcement = match (validates, found.deny) {
        (true, true) => Enforcement::Deny,
        (true, false) => {
            notes.note(
                spec.span,
                "audit",
                "Kyverno only reports unless `Enforce` is written: `enforcement: audit`",
            );
            Enforcement::Audit
        }
        (false, _) => {
            let message = "it changes images and refuses none: `enforcement: warn`, for `audit` \
                           would not swap";
            notes.note(spec.span, "warn", message);
            Enforcement::Warn
        }
    };
    let policy = ImageSwapPolicy::new(
        name.clone(),
        Spec {
            r#match: scope,
            rules: numbered(found.rules),
            approved: (!approved.is_empty())
                .then(|| approved.into_iter().map(Into::into).collect()),
            enforcement,
            message: found.message,
            ..Spec::default()
        },
    );
    let policy = sound::settle(policy, spec.span, &mut notes);
    (name, policy, notes.finish())
}

fn one(rule: &Node, found: &mut Found, scope: &mut Match, notes: &mut Notes) {
    selected(rule, scope, notes);
    let variables = Variables::default().with(rule.get("context"));
    let name = rule.get("name").and_then(Node::as_str).unwrap_or("rule");
    let mut understood = false;
    if let Some(validate) = rule.get("validate") {
        understood = true;
        found.deny |= is_enforce(validate.get("failureAction"));
        let message = validate.get("message").and_then(Node::as_str);
        if let Some(message) = message.filter(|it| !it.contains("{{")) {
            found
                .message
                .get_or_insert_with(|| message.trim().to_owned());
        } else if message.is_some() {
            notes.note(
                validate.span,
                "message",
                "a message with variables is left out",
            );
        }
        let images = validate::read(rule, validate, &variables, notes);
        found.approved.extend(images);
    }
    if let Some(mutate) = rule.get("mutate") {
        understood = true;
        found
            .rules
            .extend(mutate::read(name, rule, mutate, &variables, notes));
    }
    if !understood {
        for key in ["verifyImages", "generate", "imageExtractors"] {
            if let Some(node) = rule.get(key) {
                let message = format!(
                    "`{key}` of rule `{name}` says nothing of registries that can be carried over"
                );
                notes.lost(node.span, "rule", message);
                return;
            }
        }
        notes.lost(
            rule.span,
            "rule",
            format!("rule `{name}` neither validates nor mutates"),
        );
    }
}

/// What `match` and `exclude` select, as far as ours can say it.
fn selected(rule: &Node, scope: &mut Match, notes: &mut Notes) {
    let mut blocks = Vec::new();
    if let Some(resource) = rule.get("resource") {
        blocks.push((resource, false));
    }
    for (key, excludes) in [("match", false), ("exclude", true)] {
        let Some(node) = rule.get(key) else { continue };
        blocks.extend(node.get("resources").map(|it| (it, excludes)));
        let lists = ["any", "all"].into_iter().filter_map(|it| node.get(it));
        for entry in lists.flat_map(Node::items) {
            blocks.extend(entry.get("resources").map(|it| (it, excludes)));
            for key in ["subjects", "roles", "clusterRoles"] {
                if let Some(node) = entry.get(key) {
                    notes.lost(
                        node.span,
                        "subjects",
                        format!("`{key}`: who asks makes no difference here"),
                    );
                }
            }
        }
    }
    for (block, excludes) in blocks {
        resources(block, excludes, scope, notes);
    }
}

fn resources(block: &Node, excludes: bool, scope: &mut Match, notes: &mut Notes) {
    for (key, value) in block.entries() {
        let Some(key) = key.as_str() else { continue };
        let names = || -> Vec<String> {
            value
                .items()
                .iter()
                .filter_map(Node::as_str)
                .map(str::to_owned)
                .collect()
        };
        match (key, excludes) {
            ("kinds", false) => {
                let pods = value.items().iter().all(|it| {
                    it.as_str()
                        .is_some_and(|it| it.rsplit('/').next() == Some("Pod"))
                });
                if !pods {
                    let message = "every kind of workload is looked at here, and Pods, and all \
                                   lists of containers";
                    notes.note(value.span, "kinds", message);
                }
            }
            ("namespaces", _) if names().iter().all(|it| !it.contains(['*', '?'])) => {
                let operator = if excludes {
                    Operator::NotIn
                } else {
                    Operator::In
                };
                let selector = scope
                    .namespace_selector
                    .get_or_insert_with(LabelSelector::default);
                let more = namespaces(operator, names()).match_expressions;
                selector.match_expressions.extend(
                    more.into_iter()
                        .filter(|it| !selector.match_expressions.contains(it))
                        .collect::<Vec<_>>(),
                );
            }
            ("namespaceSelector" | "selector", false) => match labels(value) {
                Some(selector) if key == "selector" => scope.object_selector = Some(selector),
                Some(selector) => scope.namespace_selector = Some(selector),
                None => notes.lost(
                    value.span,
                    "selector",
                    format!("`{key}` has wildcards or is no selector"),
                ),
            },
            ("operations", _) => {}
            _ => notes.lost(
                value.span,
                "match",
                format!(
                    "`{key}` of {} has no counterpart here",
                    if excludes { "`exclude`" } else { "`match`" }
                ),
            ),
        }
    }
}

fn labels(node: &Node) -> Option<LabelSelector> {
    let selector: LabelSelector = serde_json::from_value(node.to_json()).ok()?;
    let wild = |it: &String| it.contains(['*', '?', '{']);
    let plain = selector
        .match_labels
        .iter()
        .all(|(key, value)| !wild(key) && !wild(value));
    plain.then_some(selector)
}

fn namespaces(operator: Operator, values: Vec<String>) -> LabelSelector {
    LabelSelector {
        match_expressions: vec![Requirement {
            key: NAMESPACE_NAME.to_owned(),
            operator,
            values,
        }],
        ..LabelSelector::default()
    }
}

fn is_enforce(node: Option<&Node>) -> bool {
    node.and_then(Node::as_str)
        .is_some_and(|it| it.eq_ignore_ascii_case("enforce"))
}

/// Names are unique: the second of one name gets a number.
fn numbered(mut rules: Vec<Rule>) -> Vec<Rule> {
    let mut seen: Vec<String> = Vec::new();
    for rule in &mut rules {
        let Some(name) = &mut rule.name else { continue };
        let base = name.clone();
        let mut count = 1;
        while seen.contains(name) {
            count += 1;
            *name = format!("{base} ({count})");
        }
        seen.push(name.clone());
    }
    rules
}
