//! Imports policies in tests, and asks about the result.

use imageswap_import::{Import, Source, Status, import, write};
use imageswap_policy::document::{ImageSwapPolicy, load_all};
use imageswap_policy::{Date, PodScope, Policies, Scope};
use std::collections::BTreeMap;

pub(crate) const DIGEST: &str =
    "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Imports one text.
pub(crate) fn imported(text: &str) -> Import {
    import(&[Source {
        name: "test.yaml",
        text,
    }])
}

/// The imported policies, loaded from their texts.
pub(crate) fn policies(it: &Import) -> Policies {
    let text = |it: &ImageSwapPolicy| (it.metadata.name.clone(), write::policy(it, "", &[]));
    let texts: Vec<_> = it.policies.iter().map(text).collect();
    let texts = texts.iter().map(|it| (it.0.as_str(), it.1.as_str()));
    Policies::new(load_all(texts).unwrap_or_else(|it| panic!("{it}")).policies)
}

/// Result and approval of an image; `None` if no policy applies.
pub(crate) fn decide(
    it: &Import,
    namespace: &str,
    labels: &[(&str, &str)],
    image: &str,
) -> Option<(String, bool)> {
    let policies = policies(it);
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let labels: BTreeMap<String, String> = labels.iter().map(own).collect();
    let none = BTreeMap::new();
    let scope = Scope::Pod(PodScope {
        namespace: Some(namespace),
        namespace_labels: Some(&none),
        labels: Some(&labels),
    });
    let decision = policies.select(scope, Date::MIN).decide(image).clone();
    decision
        .in_scope
        .then(|| (decision.result.to_string(), decision.approved))
}

pub(crate) fn result(it: &Import, image: &str) -> String {
    decide(it, "any", &[], image).unwrap().0
}

#[track_caller]
pub(crate) fn becomes(it: &Import, image: &str, expected: &str) {
    assert_eq!(result(it, image), expected, "{image}: {}", told(it));
}

/// Checks that images of one place move to another, those without a digest only if `tagged`; and that others stay.
#[track_caller]
pub(crate) fn moves(it: &Import, [from, to]: [&str; 2], tagged: bool, others: &[&str], text: &str) {
    let digest = format!("/b{DIGEST}");
    for (rest, moves) in [("/b:1", tagged), ("/a/b", tagged), (&digest, true)] {
        let place = if moves { to } else { from };
        let image = format!("{from}{rest}");
        assert_eq!(result(it, &image), format!("{place}{rest}"), "{text}");
    }
    for image in others {
        assert_eq!(result(it, image), *image, "{text}");
    }
}

pub(crate) fn approved(it: &Import, namespace: &str, image: &str) -> Option<bool> {
    decide(it, namespace, &[], image).map(|it| it.1)
}

pub(crate) fn statuses(it: &Import) -> Vec<Status> {
    it.report.rules.iter().map(|it| it.status).collect()
}

/// Checks the outcome of each rule.
#[track_caller]
pub(crate) fn is(it: &Import, expected: &[Status]) {
    assert_eq!(statuses(it), expected, "{}", told(it));
}

/// Checks that the report has a text.
#[track_caller]
pub(crate) fn says(it: &Import, part: &str) {
    let told = told(it);
    assert!(told.contains(part), "{part:?} is not in: {told}");
}

/// A ClusterPolicy with one rule.
pub(crate) fn rule(body: &str) -> Import {
    let indented = body.replace('\n', "\n    ");
    imported(&format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: r\n    {indented}\n"
    ))
}

/// A rule that changes every container's image to this, with further lines of its `foreach`.
pub(crate) fn swap(more: &str, image: &str) -> Import {
    let more: Vec<_> = more.lines().map(|it| format!("    {it}\n")).collect();
    let more = more.concat();
    rule(&format!(
        "match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\nmutate:\n  foreach:\n  - list: request.object.spec.containers\n{more}    patchStrategicMerge: {{spec: {{containers: [{{name: \"{{{{ element.name }}}}\", image: \"{image}\"}}]}}}}"
    ))
}

/// A rule that demands this pattern in these Pods.
pub(crate) fn check(matched: &str, pattern: &str) -> Import {
    rule(&format!(
        "{matched}\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"{pattern}\"}}]}}}}}}"
    ))
}

/// A constraint of Gatekeeper for these Pods.
pub(crate) fn constraint(kind: &str, matched: &str, parameters: &str) -> String {
    format!(
        "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: {kind}\nmetadata: {{name: c}}\nspec:\n  match: {matched}\n  parameters: {parameters}\n"
    )
}

/// The `match` of a constraint for all Pods.
pub(crate) const ALL_PODS: &str = "{kinds: [{apiGroups: [\"\"], kinds: [Pod]}]}";

/// Imports files of these names.
pub(crate) fn files(files: &[(&str, &str)]) -> Import {
    let sources: Vec<_> = files
        .iter()
        .map(|&(name, text)| Source { name, text })
        .collect();
    import(&sources)
}

/// The report of the first rule.
pub(crate) fn first(it: &Import) -> String {
    let rule = &it.report.rules[0];
    let notes: Vec<_> = rule.notes.iter().map(|it| format!("note: {it}")).collect();
    format!("{}:{} {rule} {}", rule.line, rule.column, notes.join("; "))
}

/// The report of all rules.
pub(crate) fn told(it: &Import) -> String {
    let each = it
        .report
        .rules
        .iter()
        .map(|it| format!("{}:{} {it} {}", it.line, it.column, it.notes.join("; ")));
    each.collect::<Vec<_>>().join(" / ")
}

/// A webhook as a cluster registers it.
pub(crate) fn webhook(name: &str, path: &str, more: &str) -> String {
    format!(
        "\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{name: w}}\nwebhooks:\n- name: {name}\n  clientConfig: {{service: {{name: w, namespace: w, path: {path}}}}}\n  rules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]\n  sideEffects: None\n  admissionReviewVersions: [v1]\n{more}"
    )
}

/// The configuration with its webhook, as a chart has both.
pub(crate) fn together(config: &str, webhook: &str) -> Import {
    files(&[("config.yaml", config), ("webhook.yaml", webhook)])
}
