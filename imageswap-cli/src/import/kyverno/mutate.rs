//! `mutate`: what a rule makes of images. What it makes of some images, asked of the expression itself, says which
//! rules do the same.

use super::conditions;
use super::expression::{Expression, Variables};
use super::formula::Sources;
use super::note::Notes;
use super::validate::anchored;
use imageswap_policy::document::Rule;
use imageswap_policy::yaml::{Node, Span, Value};

/// Registries that policies speak of.
const KNOWN: [&str; 8] = [
    "docker.io",
    "quay.io",
    "gcr.io",
    "ghcr.io",
    "k8s.gcr.io",
    "registry.k8s.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
];
/// Registries that none speaks of.
const STRANGERS: [&str; 2] = ["one.example.invalid", "two-b.example.invalid"];
/// The rest of an image that is asked about.
const REST: &str = "p-x/i_y:1";

/// The rules that do what the mutation does.
pub(super) fn read(
    name: &str,
    rule: &Node,
    mutate: &Node,
    variables: &Variables,
    notes: &mut Notes,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let outer = rule.get("preconditions");
    for (key, value) in mutate.entries() {
        match key.as_str().unwrap_or_default() {
            "patchStrategicMerge" | "overlay" => {
                changes(name, value, &[outer], variables, &mut rules, notes);
            }
            "patchesJson6902" => json_patch(name, value, &[outer], variables, &mut rules, notes),
            "foreach" => {
                for each in value.items() {
                    let variables = variables.with(each.get("context"));
                    let conditions = [outer, each.get("preconditions")];
                    if let Some(patch) = each.get("patchStrategicMerge") {
                        changes(name, patch, &conditions, &variables, &mut rules, notes);
                    }
                    if let Some(patch) = each.get("patchesJson6902") {
                        json_patch(name, patch, &conditions, &variables, &mut rules, notes);
                    }
                }
            }
            "mutateExistingOnPolicyUpdate" | "targets" => {
                notes.note(
                    value.span,
                    "existing",
                    "images of Pods that run already are not changed",
                );
            }
            other => notes.lost(value.span, "mutate", format!("`{other}` is not read")),
        }
    }
    rules
}

/// Images anywhere in a patch.
fn changes(
    name: &str,
    patch: &Node,
    conditions: &[Option<&Node>],
    variables: &Variables,
    rules: &mut Vec<Rule>,
    notes: &mut Notes,
) {
    let entries = patch.entries().iter();
    for (key, value) in entries {
        let (_, field) = anchored(key.as_str().unwrap_or_default());
        match (field, &value.value) {
            ("image" | "reference", Value::String(text)) => {
                change(name, text, value.span, conditions, variables, rules, notes);
            }
            (_, Value::Mapping(_) | Value::Sequence(_)) => {
                changes(name, value, conditions, variables, rules, notes);
            }
            ("name", _) => {}
            (other, _) => notes.lost(
                value.span,
                "field",
                format!("`{other}` is not about images"),
            ),
        }
    }
    for item in patch.items() {
        changes(name, item, conditions, variables, rules, notes);
    }
}

/// A JSON patch as a text, with `value` for the image.
fn json_patch(
    name: &str,
    patch: &Node,
    conditions: &[Option<&Node>],
    variables: &Variables,
    rules: &mut Vec<Rule>,
    notes: &mut Notes,
) {
    let text = patch.as_str().unwrap_or_default();
    let values = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim().trim_matches(['-', ' ', '"']) == "value")
            .then(|| value.trim().trim_matches('"'))
    });
    let mut any = false;
    if text.contains("/image") {
        for value in values {
            any = true;
            change(name, value, patch.span, conditions, variables, rules, notes);
        }
    }
    if !any {
        notes.lost(patch.span, "patch", "a patch that sets no image");
    }
}

fn change(
    name: &str,
    text: &str,
    at: Span,
    conditions: &[Option<&Node>],
    variables: &Variables,
    rules: &mut Vec<Rule>,
    notes: &mut Notes,
) {
    let expression = variables.read_text(text.trim());
    if let Some(unknown) = expression.unknown() {
        notes.lost(at, "expression", format!("`{unknown}` is not understood"));
        return;
    }
    if !expression.uses_image() {
        notes.lost(
            at,
            "expression",
            format!("every image would become `{}`", text.trim()),
        );
        return;
    }
    let mut sources = Sources::default();
    for condition in conditions.iter().flatten() {
        match conditions::read(condition, variables, notes).sources() {
            Ok(more) => {
                sources.only = more.only.or(sources.only);
                sources.except.extend(more.except);
            }
            Err(problem) => {
                notes.lost(
                    problem.at,
                    problem.code,
                    format!(
                        "{}; without it more images would change, so this is left out",
                        problem.message
                    ),
                );
                return;
            }
        }
    }
    for except in &sources.except {
        push(
            rules,
            Rule {
                name: Some(format!("{name}: except {except}")),
                keep: Some(except.clone()),
                ..Rule::default()
            },
        );
    }
    let made = translate(name, &expression, sources.only.as_deref(), at, notes);
    if made.is_empty() {
        notes.lost(
            at,
            "expression",
            format!("what `{}` does cannot be said by rules", text.trim()),
        );
    }
    for rule in made {
        push(rules, rule);
    }
}

fn push(rules: &mut Vec<Rule>, rule: Rule) {
    let same = |it: &Rule| {
        (&it.keep, &it.from, &it.regex, &it.to) == (&rule.keep, &rule.from, &rule.regex, &rule.to)
    };
    if !rules.iter().any(same) {
        rules.push(rule);
    }
}

/// What becomes of the images of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Becomes {
    Same,
    /// The prefix takes the registry's place.
    Under(String),
    /// The prefix goes before the registry.
    Before(String),
    Other,
}

fn asked(expression: &Expression, host: &str) -> Becomes {
    let image = format!("{host}/{REST}");
    let Some(result) = expression.evaluate(&image) else {
        return Becomes::Other;
    };
    let result = result.trim();
    if result == image {
        return Becomes::Same;
    }
    if let Some(prefix) = result.strip_suffix(&format!("/{image}")) {
        return Becomes::Before(prefix.to_owned());
    }
    match result.strip_suffix(&format!("/{REST}")) {
        Some(prefix) if !prefix.is_empty() && !prefix.contains(host) => {
            Becomes::Under(prefix.to_owned())
        }
        Some(prefix) if prefix.ends_with(host) => {
            let before = prefix[..prefix.len() - host.len()].to_owned();
            Becomes::Before(before.trim_end_matches('/').to_owned())
        }
        _ => Becomes::Other,
    }
}

fn translate(
    name: &str,
    expression: &Expression,
    only: Option<&[String]>,
    at: Span,
    notes: &mut Notes,
) -> Vec<Rule> {
    let rule = |from: String, to: &str| Rule {
        name: Some(format!("{name}: {from}")),
        from: Some(from),
        to: Some(to.to_owned()),
        ..Rule::default()
    };
    let mut rules = Vec::new();
    if let Some(only) = only {
        for pattern in only {
            let host = pattern.split('/').next().unwrap_or_default();
            let host = if host.contains('*') {
                STRANGERS[0]
            } else {
                host
            };
            match asked(expression, host) {
                Becomes::Under(to) => rules.push(rule(pattern.clone(), &to)),
                Becomes::Before(to) if !to.is_empty() && host != STRANGERS[0] => {
                    rules.push(rule(pattern.clone(), &format!("{to}/{host}")));
                }
                _ => {}
            }
        }
        return rules;
    }
    let rest = asked(expression, STRANGERS[0]);
    let rest = if asked(expression, STRANGERS[1]) == rest || matches!(rest, Becomes::Before(_)) {
        rest
    } else {
        Becomes::Other
    };
    let short = expression.evaluate(REST).map(|it| it.trim().to_owned());
    let official = expression
        .evaluate("nginx:1")
        .map(|it| it.trim().to_owned());
    let hub = asked(expression, "docker.io");
    let short_to = short
        .as_deref()
        .and_then(|it| it.strip_suffix(&format!("/{REST}")))
        .filter(|it| !it.is_empty());
    // What Kyverno makes of a name alone depends on its version; what its author meant does not.
    let to_hub = match (&hub, short_to) {
        (_, Some(to)) => Some(to.to_owned()),
        (Becomes::Under(to), None) => Some(to.clone()),
        _ => None,
    };
    if let Some(to) = &to_hub {
        let kept = official.as_deref() == Some(&format!("{to}/library/nginx:1"));
        if !kept {
            rules.push(rule("docker.io/library/*".to_owned(), to));
        }
        if official.as_deref() != Some(&format!("{to}/nginx:1")) && !kept {
            notes.warning(
                at,
                "name-lost",
                format!(
                    "of `nginx` Kyverno would make `{}`, without its name; here it is `{to}/nginx`",
                    official
                        .as_deref()
                        .unwrap_or_default()
                        .split(':')
                        .next()
                        .unwrap_or_default()
                ),
            );
        }
        notes.note(
            at,
            "one-image",
            "`nginx`, `library/nginx` and `docker.io/nginx` are one image here, and become one",
        );
    }
    let mut texts = Vec::new();
    expression.texts(&mut texts);
    let named = texts.iter().flat_map(|it| hosts(it));
    let mut seen = Vec::new();
    for host in KNOWN.iter().map(|it| (*it).to_owned()).chain(named) {
        if seen.contains(&host) {
            continue;
        }
        seen.push(host.clone());
        let becomes = asked(expression, &host);
        if host == "docker.io" {
            if let Some(to) = to_hub
                .as_deref()
                .filter(|to| rest != Becomes::Under((*to).to_owned()))
            {
                rules.push(rule("docker.io/**".to_owned(), to));
            }
        } else if becomes != rest {
            match becomes {
                Becomes::Under(to) => rules.push(rule(format!("{host}/**"), &to)),
                Becomes::Before(to) if !to.is_empty() && !same_prefix(&rest, &to) => {
                    rules.push(rule(format!("{host}/**"), &format!("{to}/{host}")));
                }
                Becomes::Same if !matches!(rest, Becomes::Same | Becomes::Other) => {
                    rules.push(Rule {
                        name: Some(format!("{name}: {host}")),
                        keep: Some(format!("{host}/**")),
                        ..Rule::default()
                    });
                }
                _ => {}
            }
        }
    }
    match rest {
        Becomes::Under(to) => {
            rules.push(rule("**".to_owned(), &to));
            notes.note(
                at,
                "all-containers",
                "every container's own image is changed, of init and ephemeral containers too",
            );
        }
        Becomes::Before(to) if to.contains(['.', ':']) => {
            rules.push(Rule {
                name: Some(format!("{name}: every other registry")),
                regex: Some("^([^/:]+)/(.*)$".to_owned()),
                to: Some(format!("{to}/$1/$2")),
                ..Rule::default()
            });
            notes.note(
                at,
                "port",
                "images of a registry with a port stay: its `:` can be no part of a path",
            );
        }
        _ => {}
    }
    rules
}

fn same_prefix(rest: &Becomes, to: &str) -> bool {
    matches!(rest, Becomes::Before(it) if it == to)
}

/// The registries that a text, perhaps a regular expression, names.
fn hosts(text: &str) -> Vec<String> {
    let plain = text
        .replace("\\.", ".")
        .replace("\\/", "/")
        .replace("\\-", "-");
    plain
        .split(|it: char| !(it.is_ascii_alphanumeric() || ".:-".contains(it)))
        .map(|it| it.trim_matches(['.', ':', '-']))
        .filter(|it| it.contains('.') && it.len() > 3)
        .map(str::to_ascii_lowercase)
        .collect()
}
