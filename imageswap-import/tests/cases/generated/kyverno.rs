//! Random Kyverno policies, compared with an independent evaluator of their meaning. The evaluator
//! was written from Kyverno's documentation: patterns and operators are wildcards on the text of an
//! image, blocks of `any` are alternatives, all fields of a block must match, and a `mutate` rule
//! comes before a `validate` rule.

use super::shared::{HOSTS, NAMESPACES, Outcome, PATHS, Pod, Random, TARGETS};
use std::fmt::Write;

/// Policies per thread.
const COUNT: u64 = 500;
/// Seeds, one for each thread.
const SEEDS: [u64; 4] = [0x1a2b_3c4d_5e6f_7788, 2, 3, 4];

/// One block of `match` or `exclude`.
#[derive(Debug, Default)]
struct Block {
    namespaces: Vec<&'static str>,
    label: Option<(&'static str, &'static str)>,
    name: Option<&'static str>,
}

/// The effect of a rule on one image.
#[derive(Debug)]
enum Effect {
    /// Wildcards, one of which has to match; `!` refuses.
    Pattern(Vec<(bool, String)>),
    /// The same, only for images that match the first wildcard.
    Conditional(String, String),
    /// Refuses what matches.
    Deny(String),
    /// The prefix of an image becomes another.
    Replace { from: String, to: String },
    /// Any registry becomes another, for images whose registry is written.
    Host { only: Option<String>, to: String },
    /// The image goes below a prefix, unless it begins with a registry.
    Prepend { unless: String, to: String },
    /// The image is a condition for another field, so images are not restricted.
    Anchor(&'static str, String),
}

#[derive(Debug)]
struct Rule {
    matched: Vec<Block>,
    exclude: Vec<Block>,
    /// A label that a precondition asks for.
    precondition: Option<(&'static str, &'static str, bool)>,
    effect: Effect,
}

fn wildcard(random: &mut Random) -> String {
    let host = random.of(&HOSTS);
    let path = random.of(&PATHS);
    match random.below(10) {
        0..=3 => format!("{host}/*"),
        4 | 5 => format!("{host}/{path}/*"),
        6 => format!("*/{path}/*"),
        7 => format!("*.{host}/*"),
        8 => format!("{host}*"),
        _ => "*:latest".to_owned(),
    }
}

fn block(random: &mut Random) -> Block {
    let mut block = Block::default();
    if random.one_in(2) {
        block.namespaces.push(random.of(&NAMESPACES));
        if random.one_in(3) {
            block.namespaces.push(random.of(&NAMESPACES));
        }
    }
    if random.one_in(4) {
        block.label = Some(("tier", random.of(&["web", "db"])));
    }
    block
}

fn rule(random: &mut Random) -> Rule {
    let mut matched = vec![block(random)];
    if random.one_in(4) {
        matched.push(block(random));
    }
    let mut exclude = Vec::new();
    if random.one_in(4) {
        let mut it = block(random);
        if it.namespaces.is_empty() && it.label.is_none() {
            it.namespaces.push("kube-public");
        }
        if random.one_in(6) {
            it.name = Some("job-*");
        }
        exclude.push(it);
    }
    let precondition = random
        .one_in(6)
        .then(|| ("team", random.of(&["red", "blue"]), random.one_in(2)));
    let host = random.of(&HOSTS);
    let target = random.of(&TARGETS).to_owned();
    let effect = match random.below(12) {
        0..=2 => {
            let mut all = vec![(false, wildcard(random))];
            if random.one_in(3) {
                all.push((false, wildcard(random)));
            }
            Effect::Pattern(all)
        }
        3 => Effect::Pattern(vec![(true, wildcard(random))]),
        4 => Effect::Deny(wildcard(random)),
        5 => Effect::Conditional(
            format!("{host}/*"),
            format!("{host}/{}/*", random.of(&PATHS)),
        ),
        6..=8 => Effect::Replace {
            from: if random.one_in(3) {
                format!("{host}/{}/", random.of(&PATHS))
            } else {
                format!("{host}/")
            },
            to: format!("{target}/"),
        },
        9 => Effect::Host {
            only: random.one_in(2).then(|| format!("{host}/*")),
            to: target,
        },
        10 => Effect::Prepend {
            unless: target.split('/').next().unwrap().to_owned(),
            to: target,
        },
        _ => Effect::Anchor(random.of(&["()", "<()", "^()", "X()"]), format!("{host}/*")),
    };
    Rule {
        matched,
        exclude,
        precondition,
        effect,
    }
}

fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| glob_bytes(rest, &text[at..])),
        Some((b'?', rest)) => !text.is_empty() && glob_bytes(rest, &text[1..]),
        Some((it, rest)) => text.first() == Some(it) && glob_bytes(rest, &text[1..]),
    }
}

fn glob_bytes(pattern: &[u8], text: &[u8]) -> bool {
    glob(
        std::str::from_utf8(pattern).unwrap(),
        std::str::from_utf8(text).unwrap(),
    )
}

impl Block {
    fn selects(&self, pod: &Pod) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|it| glob(it, pod.namespace)))
            && self.label.is_none_or(|it| pod.labels.contains(&it))
            && self.name.is_none_or(|it| glob(it, "a-pod"))
    }

    fn write(&self) -> String {
        let mut fields = vec!["kinds: [Pod]".to_owned()];
        if !self.namespaces.is_empty() {
            fields.push(format!(
                "namespaces: [{}]",
                self.namespaces
                    .iter()
                    .map(|it| format!("\"{it}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        if let Some((key, value)) = self.label {
            fields.push(format!("selector: {{matchLabels: {{{key}: {value}}}}}"));
        }
        if let Some(name) = self.name {
            fields.push(format!("names: [\"{name}\"]"));
        }
        format!("{{resources: {{{}}}}}", fields.join(", "))
    }
}

impl super::shared::Rule for Rule {
    fn applies(&self, pod: &Pod) -> bool {
        self.matched.iter().any(|it| it.selects(pod))
            && !self.exclude.iter().any(|it| it.selects(pod))
            && self
                .precondition
                .is_none_or(|(key, value, equal)| pod.labels.contains(&(key, value)) == equal)
    }

    /// The image that runs, and whether the rule lets it in.
    fn answer(&self, image: &str) -> (String, bool) {
        let stays = || image.to_owned();
        match &self.effect {
            Effect::Pattern(all) => (stays(), all.iter().any(|(not, it)| glob(it, image) != *not)),
            Effect::Conditional(condition, demand) => {
                (stays(), !glob(condition, image) || glob(demand, image))
            }
            Effect::Deny(it) => (stays(), !glob(it, image)),
            Effect::Anchor(..) => (stays(), true),
            Effect::Replace { from, to } => (
                image
                    .strip_prefix(from.as_str())
                    .map_or_else(stays, |rest| format!("{to}{rest}")),
                true,
            ),
            Effect::Host { only, to } => {
                let asked = only.as_ref().is_none_or(|it| glob(it, image));
                let host = image.split_once('/').filter(|it| it.0.contains(['.', ':']));
                match host.filter(|_| asked) {
                    Some((_, rest)) => (format!("{to}/{rest}"), true),
                    None => (stays(), true),
                }
            }
            Effect::Prepend { unless, to } => {
                let inside = image.starts_with(&format!("{unless}/"));
                (
                    if inside {
                        stays()
                    } else {
                        format!("{to}/{image}")
                    },
                    true,
                )
            }
        }
    }
}

impl Rule {
    fn write(&self) -> String {
        let blocks = |all: &[Block]| all.iter().map(Block::write).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "  - name: r\n    match: {{any: [{}]}}\n",
            blocks(&self.matched)
        );
        if !self.exclude.is_empty() {
            writeln!(text, "    exclude: {{any: [{}]}}", blocks(&self.exclude)).unwrap();
        }
        if let Some((key, value, equal)) = self.precondition {
            let operator = if equal { "Equals" } else { "NotEquals" };
            writeln!(text, "    preconditions: {{all: [{{key: \"{{{{ request.object.metadata.labels.{key} || '' }}}}\", operator: {operator}, value: {value}}}]}}").unwrap();
        }
        let pattern = |key: &str, value: &str| {
            format!(
                "    validate: {{pattern: {{spec: {{containers: [{{{key}: \"{value}\"}}]}}}}}}\n"
            )
        };
        let element = "request.object.spec.containers";
        let foreach =
            |body: &str| format!("    validate: {{foreach: [{{list: {element}, {body}}}]}}\n");
        let swap = |condition: &str, image: &str| {
            format!(
                "    mutate: {{foreach: [{{list: {element}, {condition}patchStrategicMerge: {{spec: {{containers: [{{name: \"{{{{ element.name }}}}\", image: \"{image}\"}}]}}}}}}]}}\n"
            )
        };
        let escaped = |it: &str| it.replace('.', "\\\\.");
        let condition = |key: &str, value: &str| {
            format!(
                "preconditions: {{all: [{{key: \"{{{{ {key} }}}}\", operator: Equals, value: {value}}}]}}, "
            )
        };
        text.push_str(&match &self.effect {
            Effect::Pattern(all) => pattern("image", &all.iter().map(|(not, it)| format!("{}{it}", if *not { "!" } else { "" })).collect::<Vec<_>>().join(" | ")),
            Effect::Anchor(anchor, it) => pattern(&anchor.replace("()", "(image)"), &format!("{it}\", imagePullPolicy: \"Always")),
            Effect::Deny(it) => foreach(&format!("deny: {{conditions: {{any: [{{key: \"{{{{ element.image }}}}\", operator: Equals, value: \"{it}\"}}]}}}}")),
            Effect::Conditional(only, it) => foreach(&format!("{}pattern: {{image: \"{it}\"}}", condition("element.image", &format!("\"{only}\"")))),
            Effect::Replace { from, to } => swap("", &format!("{{{{ regex_replace_all('^{}', element.image, '{to}') }}}}", escaped(from))),
            Effect::Host { only, to } => {
                let only = only.as_ref().map_or_else(String::new, |it| condition("element.image", &format!("\"{it}\"")));
                swap(&only, &format!("{{{{ regex_replace_all('^[^/]*[.:][^/]*/', element.image, '{to}/') }}}}"))
            }
            Effect::Prepend { unless, to } => swap(&condition(&format!("regex_match('^{}/', element.image)", escaped(unless)), "false"), &format!("{to}/{{{{ element.image }}}}")),
        });
        text
    }
}

#[test]
fn generated_policies_decide_as_their_source_or_are_left_out() {
    Outcome::of_all(&SEEDS, run).judge("Kyverno", COUNT * SEEDS.len() as u64);
}

fn run(seed: u64) -> Outcome {
    Outcome::of_seed(seed, COUNT, rule, |rule, number| {
        let text = format!(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p{number}}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n{}",
            rule.write()
        );
        (text, matches!(rule.effect, Effect::Anchor(..)))
    })
}
