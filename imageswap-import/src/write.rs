//! Writes an ImageSwapPolicy as YAML for people: fields in the order of the docs, a comment for
//! each rule.

use imageswap_policy::document::{ImageSwapPolicy, LabelSelector, Match, Operator, Spec};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The document. `comments` belong to the rules in order; the same comment is written once for rules in a row.
pub fn policy(policy: &ImageSwapPolicy, head: &str, comments: &[String]) -> String {
    let mut yaml = Yaml::default();
    yaml.comment(0, head);
    yaml.field(0, "apiVersion", &policy.api_version);
    yaml.field(0, "kind", &policy.kind);
    yaml.open(0, "metadata");
    yaml.field(2, "name", &policy.metadata.name);
    yaml.map(2, "labels", &policy.metadata.labels);
    yaml.map(2, "annotations", &policy.metadata.annotations);
    yaml.open(0, "spec");
    spec(&mut yaml, &policy.spec, comments);
    yaml.0
}

fn spec(yaml: &mut Yaml, spec: &Spec, comments: &[String]) {
    if spec.priority != 0 {
        yaml.line(2, &format!("priority: {}", spec.priority));
    }
    if spec.r#match != Match::default() {
        yaml.open(2, "match");
        matched(yaml, &spec.r#match);
    }
    if !spec.rules.is_empty() {
        yaml.open(2, "rules");
    }
    let mut last = None;
    for (at, rule) in spec.rules.iter().enumerate() {
        let comment = comments.get(at);
        if let Some(comment) = comment.filter(|it| last != Some(*it)) {
            yaml.comment(4, comment);
        }
        last = comment;
        let fields = [
            ("name", &rule.name),
            ("keep", &rule.keep),
            ("from", &rule.from),
            ("regex", &rule.regex),
            ("to", &rule.to),
        ];
        let fields: Vec<_> = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_deref()?)))
            .collect();
        yaml.item(4, &fields);
        guard(yaml, rule.namespaces.as_ref(), rule.containers.as_ref());
    }
    match spec.approved.as_deref() {
        Some([]) => yaml.line(2, "approved: []"),
        Some(_) => yaml.open(2, "approved"),
        None => {}
    }
    for it in spec.approved.iter().flatten() {
        let names = (it.namespaces.as_ref(), it.containers.as_ref());
        listed(yaml, &it.pattern, None, names);
    }
    if !spec.denied.is_empty() {
        yaml.open(2, "denied");
    }
    for it in &spec.denied {
        let names = (it.namespaces.as_ref(), it.containers.as_ref());
        listed(yaml, &it.pattern, it.message.as_deref(), names);
    }
    if !spec.exceptions.is_empty() {
        yaml.open(2, "exceptions");
    }
    for it in &spec.exceptions {
        yaml.item(
            4,
            &[
                ("pattern", it.pattern.as_str()),
                ("until", &it.until),
                ("reason", &it.reason),
            ],
        );
        guard(yaml, it.namespaces.as_ref(), it.containers.as_ref());
    }
    if !spec.image_pull_secrets.is_empty() {
        yaml.open(2, "imagePullSecrets");
    }
    for it in &spec.image_pull_secrets {
        yaml.item(4, &[("registry", it.registry.as_str()), ("name", &it.name)]);
    }
    yaml.field(2, "enforcement", spec.enforcement.as_str());
    if let Some(message) = &spec.message {
        yaml.field(2, "message", message);
    }
}

/// An item of `approved` or `denied`: its pattern alone if it has no other field.
fn listed(
    yaml: &mut Yaml,
    pattern: &str,
    message: Option<&str>,
    (namespaces, containers): (Option<&Vec<String>>, Option<&Vec<String>>),
) {
    if message.is_none() && namespaces.is_none() && containers.is_none() {
        return yaml.line(4, &format!("- {}", scalar(pattern)));
    }
    let message = message.map(|it| ("message", it));
    let fields: Vec<_> = [("pattern", pattern)].into_iter().chain(message).collect();
    yaml.item(4, &fields);
    guard(yaml, namespaces, containers);
}

/// The names of an item's guard.
fn guard(yaml: &mut Yaml, namespaces: Option<&Vec<String>>, containers: Option<&Vec<String>>) {
    for (key, names) in [("namespaces", namespaces), ("containers", containers)] {
        if let Some(names) = names {
            yaml.list(6, key, names);
        }
    }
}

fn matched(yaml: &mut Yaml, matched: &Match) {
    if let Some(names) = &matched.namespaces {
        yaml.list(4, "namespaces", names);
    }
    if !matched.exclude_namespaces.is_empty() {
        yaml.list(4, "excludeNamespaces", &matched.exclude_namespaces);
    }
    let selectors = [
        ("namespaceSelector", &matched.namespace_selector),
        ("objectSelector", &matched.object_selector),
    ];
    for (key, selector) in selectors {
        if let Some(selector) = selector {
            label_selector(yaml, key, selector);
        }
    }
    if !matched.node_level {
        yaml.line(4, "nodeLevel: false");
    }
    if matched.allow_opt_out {
        yaml.line(4, "allowOptOut: true");
    }
}

fn label_selector(yaml: &mut Yaml, key: &str, selector: &LabelSelector) {
    if *selector == LabelSelector::default() {
        return yaml.line(4, &format!("{key}: {{}}"));
    }
    yaml.open(4, key);
    yaml.map(6, "matchLabels", &selector.match_labels);
    if !selector.match_expressions.is_empty() {
        yaml.open(6, "matchExpressions");
    }
    for it in &selector.match_expressions {
        let operator = match it.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
        };
        yaml.item(8, &[("key", it.key.as_str()), ("operator", operator)]);
        if !it.values.is_empty() {
            yaml.list(10, "values", &it.values);
        }
    }
}

/// A text of lines that are indented.
#[derive(Debug, Default)]
struct Yaml(String);

impl Yaml {
    fn line(&mut self, indent: usize, text: &str) {
        writeln!(self.0, "{:indent$}{text}", "").expect("a String takes all text");
    }

    fn comment(&mut self, indent: usize, text: &str) {
        // Line breaks and control characters must not end a comment.
        let text = text.replace(char::is_control, " ");
        self.line(indent, format!("# {text}").trim_end());
    }

    fn open(&mut self, indent: usize, key: &str) {
        self.line(indent, &format!("{key}:"));
    }

    fn field(&mut self, indent: usize, key: &str, value: &str) {
        self.line(indent, &format!("{}: {}", scalar(key), scalar(value)));
    }

    fn item(&mut self, indent: usize, fields: &[(&str, &str)]) {
        for (at, (key, value)) in fields.iter().enumerate() {
            let dash = if at == 0 { "- " } else { "  " };
            self.line(indent, &format!("{dash}{key}: {}", scalar(value)));
        }
    }

    fn map(&mut self, indent: usize, key: &str, map: &BTreeMap<String, String>) {
        if !map.is_empty() {
            self.open(indent, key);
        }
        for (key, value) in map {
            self.field(indent + 2, key, value);
        }
    }

    fn list(&mut self, indent: usize, key: &str, values: &[String]) {
        if values.is_empty() {
            return self.line(indent, &format!("{key}: []"));
        }
        self.open(indent, key);
        for value in values {
            self.line(indent + 2, &format!("- {}", scalar(value)));
        }
    }
}

/// A text without quotes if every YAML reader reads it unchanged, otherwise in JSON's quotes.
fn scalar(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-._/".contains(it);
    let word = text.starts_with(|it: char| it.is_ascii_alphabetic());
    let known = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let meant = known.iter().any(|it| text.eq_ignore_ascii_case(it));
    if word && text.chars().all(plain) && !meant {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use imageswap_policy::document::Enforcement;
    use imageswap_policy::document::{
        Approval, Denial, Exception, ImagePullSecret, Metadata, Requirement, Rule,
    };
    use imageswap_policy::yaml;

    /// Every field that there is, with texts that need quotes.
    fn full() -> ImageSwapPolicy {
        let text = |it: &str| Some(it.to_owned());
        let labels = BTreeMap::from([("a.io/b".to_owned(), "true".to_owned())]);
        let selector = LabelSelector {
            match_labels: labels.clone(),
            match_expressions: vec![
                Requirement {
                    key: "x".to_owned(),
                    operator: Operator::NotIn,
                    values: vec!["1".to_owned(), "# \"y\"".to_owned()],
                },
                Requirement {
                    key: "z".to_owned(),
                    operator: Operator::Exists,
                    values: Vec::new(),
                },
            ],
        };
        let mut policy = ImageSwapPolicy::new(
            "all",
            Spec {
                priority: -3,
                r#match: Match {
                    namespaces: Some(names()),
                    exclude_namespaces: names(),
                    namespace_selector: Some(selector),
                    object_selector: Some(LabelSelector::default()),
                    node_level: false,
                    allow_opt_out: true,
                },
                rules: vec![
                    Rule {
                        name: text("maps:1 [EXACT]a # b"),
                        keep: text("**"),
                        ..Rule::default()
                    },
                    Rule {
                        regex: text(r"docker\.io/(?:library/)?([^/]+)"),
                        to: text("r.io/$1"),
                        namespaces: Some(names()),
                        containers: Some(names()),
                        ..Rule::default()
                    },
                ],
                approved: Some(vec![
                    "*.r.io/**".to_owned().into(),
                    Approval {
                        pattern: "s.io/**".to_owned(),
                        namespaces: Some(names()),
                        containers: None,
                    },
                ]),
                denied: vec![
                    "**:latest".to_owned().into(),
                    Denial {
                        pattern: "t.io/**".to_owned(),
                        message: text("no: never"),
                        namespaces: None,
                        containers: Some(names()),
                    },
                ],
                exceptions: vec![Exception {
                    namespaces: Some(names()),
                    containers: None,
                    pattern: "a.io/**".to_owned(),
                    until: "2027-01-31".to_owned(),
                    reason: "multi\nline: yes".to_owned(),
                }],
                image_pull_secrets: vec![ImagePullSecret {
                    registry: "r.io:5000".to_owned(),
                    name: "corp-pull".to_owned(),
                }],
                enforcement: Enforcement::Warn,
                message: text("no"),
            },
        );
        policy.metadata = Metadata {
            labels: labels.clone(),
            annotations: labels,
            ..policy.metadata
        };
        policy
    }

    fn names() -> Vec<String> {
        ["*".to_owned(), "team-a".to_owned()].into()
    }

    #[test]
    fn the_text_is_the_document() {
        let none = ImageSwapPolicy::new(
            "none",
            Spec {
                approved: Some(Vec::new()),
                ..Spec::default()
            },
        );
        for document in [full(), none] {
            let comments = ["one\ntwo".to_owned(), "one\ntwo".to_owned()];
            let text = policy(&document, "head", &comments);
            let nodes = yaml::parse("x", &text).unwrap_or_else(|it| panic!("{text}\n{it}"));
            let read: ImageSwapPolicy = serde_json::from_value(nodes[0].to_json()).unwrap();
            assert_eq!(read, document, "{text}");
            assert!(
                text.starts_with("# head\napiVersion: imageswap.io/v1alpha1\n"),
                "{text}"
            );
            assert!(text.matches("# one two").count() <= 1, "{text}");
        }
    }
}
