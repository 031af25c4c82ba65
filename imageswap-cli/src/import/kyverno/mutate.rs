//! `mutate`: what a rule makes of images. What it makes of some images, asked of the expression itself, says which
//! rules do the same.

use super::conditions;
use super::expression::{Expression, Variables};
use super::formula::Images;
use super::image::is_registry;
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
    let outer: Vec<_> = rule.get("preconditions").into_iter().collect();
    let mut reader = Reader {
        name,
        conditions: outer.clone(),
        variables: variables.clone(),
        rules: &mut rules,
        notes,
    };
    for (key, value) in mutate.entries() {
        match key.as_str().unwrap_or_default() {
            "foreach" => {
                for each in value.items() {
                    reader.variables = variables.with(each.get("context"));
                    reader.conditions.extend(each.get("preconditions"));
                    for (key, value) in each.entries() {
                        reader.patch(key.as_str().unwrap_or_default(), value);
                    }
                    reader.variables = variables.clone();
                    reader.conditions.clone_from(&outer);
                }
            }
            "mutateExistingOnPolicyUpdate" | "targets" => {
                let message = "images of Pods that run already are not changed";
                reader.notes.note(value.span, "existing", message);
            }
            other if reader.patch(other, value) => {}
            other => {
                let message = format!("`{other}` is not read");
                reader.notes.lost(value.span, "mutate", message);
            }
        }
    }
    rules
}

/// Reads the patches of one rule of Kyverno.
struct Reader<'a> {
    name: &'a str,
    /// All of these have to hold of an image that is changed.
    conditions: Vec<&'a Node>,
    variables: Variables,
    rules: &'a mut Vec<Rule>,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    /// Reads a patch; false where `key` is none.
    fn patch(&mut self, key: &str, value: &Node) -> bool {
        match key {
            "patchStrategicMerge" | "overlay" => self.changes(value),
            "patchesJson6902" => self.json_patch(value),
            _ => return false,
        }
        true
    }

    /// Images anywhere in a patch.
    fn changes(&mut self, patch: &Node) {
        for (key, value) in patch.entries() {
            let (_, field) = anchored(key.as_str().unwrap_or_default());
            match (field, &value.value) {
                ("image" | "reference", Value::String(text)) => self.change(text, value.span),
                (_, Value::Mapping(_) | Value::Sequence(_)) => self.changes(value),
                ("name", _) => {}
                (other, _) => {
                    let message = format!("`{other}` is not about images");
                    self.notes.lost(value.span, "field", message);
                }
            }
        }
        for item in patch.items() {
            self.changes(item);
        }
    }

    /// A JSON patch as a text, with `value` for the image.
    fn json_patch(&mut self, patch: &Node) {
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
                self.change(value, patch.span);
            }
        }
        if !any {
            let message = "a patch that sets no image";
            self.notes.lost(patch.span, "patch", message);
        }
    }

    /// One image becomes what the text says.
    fn change(&mut self, text: &str, at: Span) {
        let expression = self.variables.read_text(text.trim());
        if let Some(unknown) = expression.unknown() {
            let message = format!("`{unknown}` is not understood");
            self.notes.lost(at, "expression", message);
            return;
        }
        if !expression.uses_image() {
            let message = format!("every image would become `{}`", text.trim());
            self.notes.lost(at, "expression", message);
            return;
        }
        let mut sets = Vec::new();
        for condition in &self.conditions {
            sets.push(conditions::read(condition, &self.variables, self.notes));
        }
        // Those of the rule and those of the list both have to hold.
        let sources = match Images::all(sets).sources() {
            Ok(sources) => sources,
            Err(problem) => {
                let message = format!(
                    "{}; without it more images would change, so this is left out",
                    problem.message
                );
                self.notes.lost(problem.at, problem.code, message);
                return;
            }
        };
        for except in sources.except {
            let name = format!("{}: except {except}", self.name);
            push(self.rules, keep(name, except));
        }
        let only = sources.only.as_deref();
        let made = translate(self.name, &expression, only, at, self.notes);
        if made.is_empty() {
            let message = format!("what `{}` does cannot be said by rules", text.trim());
            self.notes.lost(at, "expression", message);
        }
        for rule in made {
            push(self.rules, rule);
        }
    }
}

fn keep(name: String, pattern: String) -> Rule {
    Rule {
        name: Some(name),
        keep: Some(pattern),
        ..Rule::default()
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
        return only
            .iter()
            .flat_map(|it| some(expression, it))
            .map(|(from, to)| rule(from, &to))
            .collect();
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
                    rules.push(keep(format!("{name}: {host}"), format!("{host}/**")));
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

/// What the expression makes of the images of one pattern: where they are from, and where they go.
fn some(expression: &Expression, pattern: &str) -> Vec<(String, String)> {
    let (first, path) = pattern.split_once('/').unwrap_or(("", pattern));
    let (host, path) = match first {
        "" => ("docker.io", pattern),
        "**" => (STRANGERS[0], "**"),
        it if it.contains('*') => (STRANGERS[0], path),
        it if is_registry(it) => (it, path),
        _ => ("docker.io", pattern),
    };
    let to = match asked(expression, host) {
        Becomes::Under(to) => to,
        Becomes::Before(to) if !to.is_empty() && host != STRANGERS[0] => format!("{to}/{host}"),
        _ => return Vec::new(),
    };
    // A rule leaves out what its pattern fixes of the path, and the expression does not.
    let name = path.split([':', '@']).next().unwrap_or(path);
    let fixed = name.split('/').take_while(|it| !it.contains('*'));
    let under = fixed.fold(to.clone(), |to, segment| format!("{to}/{segment}"));
    let mut rules = vec![(pattern.to_owned(), under)];
    if pattern == "docker.io/**" {
        // Kyverno knows the official images by their name alone.
        rules.insert(0, ("docker.io/library/*".to_owned(), to));
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
