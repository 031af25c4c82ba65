//! Random admission policies of Kubernetes in CEL. The evaluator was written from the documentation of Kubernetes and
//! of CEL: functions are those on texts, a policy applies where all of its conditions are true, and a demand with
//! `all` judges each image.

use super::shared::{HOSTS, Outcome, PATHS, Pod, Random, TARGETS};

/// Policies per thread.
const COUNT: u64 = 300;
/// Seeds, one for each thread.
const SEEDS: [u64; 2] = [0x51ed_270b_9f0c_a2d4, 7];

/// A condition on the Pod, or on something that only a cluster knows.
#[derive(Debug, Clone)]
enum Condition {
    Namespace {
        name: &'static str,
        equal: bool,
    },
    Among(Vec<&'static str>),
    Label {
        key: &'static str,
        value: &'static str,
        equal: bool,
    },
    HasLabel(&'static str),
    Either(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Unknown(&'static str),
}

/// A condition on the text of an image.
#[derive(Debug, Clone)]
enum Demand {
    Starts(String),
    Ends(String),
    Contains(String),
    /// A host and what follows it, as an expression with escaped dots.
    Matches(String),
    OneOf(Vec<String>),
    Either(Box<Demand>, Box<Demand>),
    Both(Box<Demand>, Box<Demand>),
    Not(Box<Demand>),
}

/// The new text of an image.
#[derive(Debug)]
enum Change {
    /// A prefix becomes another.
    Prefix { from: String, to: String },
    /// The same with `replace`, wherever the text occurs.
    Replace { from: String, to: String },
    /// The image goes below a target, unless it begins with it.
    Below { to: String },
    /// The host becomes another, if there is one with a dot.
    Host { to: String },
}

#[derive(Debug)]
enum Effect {
    Check(Demand),
    /// The demand is on one of several images, or on the first.
    Beside(Demand, &'static str),
    Change(Change),
}

#[derive(Debug)]
struct Rule {
    conditions: Vec<Condition>,
    /// A condition beside the demand with `||`: Pods for which it is true are not judged.
    exempt: Option<Condition>,
    namespaces: Option<Vec<&'static str>>,
    effect: Effect,
    /// Whether the demand is on all lists of containers.
    lists: bool,
}

fn condition(random: &mut Random, depth: usize) -> Condition {
    match random.below(if depth == 0 { 12 } else { 8 }) {
        0 | 1 => Condition::Namespace {
            name: random.of(&["shop", "bank", "other"]),
            equal: random.one_in(2),
        },
        2 => Condition::Among(vec![
            random.of(&["shop", "team-a"]),
            random.of(&["bank", "web-ci"]),
        ]),
        3 | 4 => Condition::Label {
            key: "team",
            value: random.of(&["red", "blue"]),
            equal: random.one_in(2),
        },
        5 => Condition::HasLabel(random.of(&["tier", "team"])),
        6 => Condition::Label {
            key: "tier",
            value: random.of(&["web", "db"]),
            equal: true,
        },
        7 if random.one_in(3) => Condition::Unknown(random.of(&[
            "request.userInfo.username == 'a'",
            "has(object.metadata.annotations)",
            "object.spec.hostNetwork == true",
            "object.metadata.name.startsWith('a')",
        ])),
        7 => Condition::HasLabel("team"),
        8 | 9 => Condition::Not(Box::new(condition(random, depth + 1))),
        _ => Condition::Either(
            Box::new(condition(random, depth + 1)),
            Box::new(condition(random, depth + 1)),
        ),
    }
}

fn demand(random: &mut Random, depth: usize) -> Demand {
    let host = random.of(&HOSTS);
    let path = random.of(&PATHS);
    match random.below(if depth == 0 { 14 } else { 9 }) {
        0..=2 => Demand::Starts(format!("{host}/")),
        3 => Demand::Starts(format!("{host}/{path}/")),
        4 => Demand::Starts(host.to_owned()),
        5 => Demand::Ends(":latest".to_owned()),
        6 => Demand::Contains(format!("/{path}/")),
        7 => Demand::Matches(format!("{host}/")),
        8 => Demand::OneOf(vec![
            format!("{host}/"),
            format!("{}/{path}/", random.of(&HOSTS)),
        ]),
        9..=11 => Demand::Either(
            Box::new(demand(random, depth + 1)),
            Box::new(demand(random, depth + 1)),
        ),
        12 => Demand::Both(
            Box::new(demand(random, depth + 1)),
            Box::new(demand(random, depth + 1)),
        ),
        _ => Demand::Not(Box::new(demand(random, depth + 1))),
    }
}

fn rule(random: &mut Random) -> Rule {
    let conditions = (0..random.below(3)).map(|_| condition(random, 0)).collect();
    let host = random.of(&HOSTS);
    let target = random.of(&TARGETS);
    let effect = match random.below(12) {
        0..=5 => Effect::Check(demand(random, 0)),
        6 => Effect::Beside(demand(random, 1), random.of(&["exists", "first"])),
        7 | 8 => Effect::Change(Change::Prefix {
            from: format!("{host}/"),
            to: format!("{target}/"),
        }),
        9 => Effect::Change(Change::Replace {
            from: format!("{host}/{}/", random.of(&PATHS)),
            to: format!("{target}/"),
        }),
        10 => Effect::Change(Change::Below {
            to: target.to_owned(),
        }),
        _ => Effect::Change(Change::Host {
            to: target.to_owned(),
        }),
    };
    let check = matches!(effect, Effect::Check(_));
    Rule {
        conditions,
        exempt: (check && random.one_in(4)).then(|| condition(random, 0)),
        namespaces: random
            .one_in(5)
            .then(|| vec![random.of(&["shop", "app-x"]), "bank"]),
        effect,
        lists: check && random.one_in(3),
    }
}

impl Condition {
    fn holds(&self, pod: &Pod) -> bool {
        match self {
            Self::Namespace { name, equal } => (pod.namespace == *name) == *equal,
            Self::Among(names) => names.contains(&pod.namespace),
            Self::Label { key, value, equal } => pod.labels.contains(&(*key, *value)) == *equal,
            Self::HasLabel(key) => pod.labels.iter().any(|it| it.0 == *key),
            Self::Either(a, b) => a.holds(pod) || b.holds(pod),
            Self::Not(inner) => !inner.holds(pod),
            Self::Unknown(_) => unreachable!("such a rule is left out"),
        }
    }

    fn is_known(&self) -> bool {
        match self {
            Self::Either(a, b) => a.is_known() && b.is_known(),
            Self::Not(inner) => inner.is_known(),
            Self::Unknown(_) => false,
            _ => true,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Namespace { name, equal } => {
                format!(
                    "request.namespace {} '{name}'",
                    if *equal { "==" } else { "!=" }
                )
            }
            Self::Among(names) => format!("request.namespace in ['{}']", names.join("', '")),
            Self::Label { key, value, equal } => format!(
                "object.metadata.?labels['{key}'].orValue('') {} '{value}'",
                if *equal { "==" } else { "!=" }
            ),
            Self::HasLabel(key) => {
                format!("(has(object.metadata.labels) && '{key}' in object.metadata.labels)")
            }
            Self::Either(a, b) => format!("({} || {})", a.write(), b.write()),
            Self::Not(inner) => format!("!({})", inner.write()),
            Self::Unknown(text) => (*text).to_owned(),
        }
    }
}

impl Demand {
    fn holds(&self, image: &str) -> bool {
        match self {
            Self::Starts(it) | Self::Matches(it) => image.starts_with(it.as_str()),
            Self::Ends(it) => image.ends_with(it.as_str()),
            Self::Contains(it) => image.contains(it.as_str()),
            Self::OneOf(all) => all.iter().any(|it| image.starts_with(it.as_str())),
            Self::Either(a, b) => a.holds(image) || b.holds(image),
            Self::Both(a, b) => a.holds(image) && b.holds(image),
            Self::Not(inner) => !inner.holds(image),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Starts(it) => format!("c.image.startsWith('{it}')"),
            Self::Ends(it) => format!("c.image.endsWith('{it}')"),
            Self::Contains(it) => format!("c.image.contains('{it}')"),
            Self::Matches(it) => format!("c.image.matches('^{}')", it.replace('.', "[.]")),
            Self::OneOf(all) => {
                format!("['{}'].exists(r, c.image.startsWith(r))", all.join("', '"))
            }
            Self::Either(a, b) => format!("({} || {})", a.write(), b.write()),
            Self::Both(a, b) => format!("({} && {})", a.write(), b.write()),
            Self::Not(inner) => format!("!{}", inner.write()),
        }
    }
}

impl Change {
    fn of(&self, image: &str) -> String {
        match self {
            Self::Prefix { from, to } => match image.strip_prefix(from.as_str()) {
                Some(rest) => format!("{to}{rest}"),
                None => image.to_owned(),
            },
            Self::Replace { from, to } => image.replace(from.as_str(), to),
            Self::Below { to } if image.starts_with(&format!("{to}/")) => image.to_owned(),
            Self::Below { to } => format!("{to}/{image}"),
            Self::Host { to } => match image.split_once('/') {
                Some((host, rest)) if host.contains('.') => format!("{to}/{rest}"),
                _ => image.to_owned(),
            },
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Prefix { from, to } => format!(
                "c.image.startsWith('{from}') ? '{to}' + c.image.substring({}) : c.image",
                from.len()
            ),
            Self::Replace { from, to } => format!("c.image.replace('{from}', '{to}')"),
            Self::Below { to } => {
                format!("c.image.startsWith('{to}/') ? c.image : '{to}/' + c.image")
            }
            Self::Host { to } => format!(
                "c.image.contains('/') && c.image.split('/')[0].contains('.') ? '{to}/' + c.image.substring(c.image.indexOf('/') + 1) : c.image"
            ),
        }
    }
}

impl super::shared::Rule for Rule {
    fn applies(&self, pod: &Pod) -> bool {
        self.conditions.iter().all(|it| it.holds(pod))
            && !self.exempt.as_ref().is_some_and(|it| it.holds(pod))
            && self
                .namespaces
                .as_ref()
                .is_none_or(|it| it.contains(&pod.namespace))
    }

    fn answer(&self, image: &str) -> (String, bool) {
        match &self.effect {
            Effect::Check(demand) => (image.to_owned(), demand.holds(image)),
            Effect::Beside(..) => unreachable!("such a rule is left out"),
            Effect::Change(change) => (change.of(image), true),
        }
    }
}

impl Rule {
    fn is_left_out(&self) -> bool {
        let unknown = |it: &Condition| !it.is_known();
        matches!(self.effect, Effect::Beside(..))
            || self.conditions.iter().chain(&self.exempt).any(unknown)
    }

    fn write(&self, number: u64) -> String {
        let pods = "resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]";
        let names = self.namespaces.as_ref().map_or_else(String::new, |it| {
            format!(
                ", namespaceSelector: {{matchExpressions: [{{key: kubernetes.io/metadata.name, operator: In, values: [{}]}}]}}",
                it.join(", ")
            )
        });
        let conditions: Vec<_> = self
            .conditions
            .iter()
            .enumerate()
            .map(|(at, it)| format!("  - {{name: c{at}, expression: \"{}\"}}\n", it.write()))
            .collect();
        let conditions = match conditions.as_slice() {
            [] => String::new(),
            all => format!("  matchConditions:\n{}", all.concat()),
        };
        let list = if self.lists {
            "variables.all"
        } else {
            "object.spec.containers"
        };
        let lists = if self.lists {
            "  variables: [{name: all, expression: \"object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])\"}]\n"
        } else {
            ""
        };
        let (kind, body) = match &self.effect {
            Effect::Check(demand) => {
                let all = format!("{list}.all(c, {})", demand.write());
                let all = match &self.exempt {
                    Some(it) => format!("({}) || {all}", it.write()),
                    None => all,
                };
                (
                    "Validating",
                    format!("  validations: [{{expression: \"{all}\"}}]\n"),
                )
            }
            Effect::Beside(demand, "exists") => (
                "Validating",
                format!(
                    "  validations: [{{expression: \"{list}.exists(c, {})\"}}]\n",
                    demand.write()
                ),
            ),
            Effect::Beside(demand, _) => (
                "Validating",
                format!(
                    "  validations: [{{expression: \"[{list}[0]].all(c, {})\"}}]\n",
                    demand.write()
                ),
            ),
            Effect::Change(change) => (
                "Mutating",
                format!(
                    "  reinvocationPolicy: IfNeeded\n  mutations: [{{patchType: ApplyConfiguration, applyConfiguration: {{expression: \"Object{{spec: Object.spec{{containers: object.spec.containers.map(c, Object.spec.containers{{name: c.name, image: {}}})}}}}\"}}}}]\n",
                    change.write()
                ),
            ),
        };
        let action = if kind == "Validating" {
            ", validationActions: [Deny]"
        } else {
            ""
        };
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}AdmissionPolicy\nmetadata: {{name: p{number}}}\nspec:\n  matchConstraints: {{{pods}{names}}}\n{conditions}{lists}{body}---\napiVersion: admissionregistration.k8s.io/v1\nkind: {kind}AdmissionPolicyBinding\nmetadata: {{name: b{number}}}\nspec: {{policyName: p{number}{action}}}\n"
        )
    }
}

#[test]
fn generated_policies_in_cel_decide_as_their_source_or_are_left_out() {
    Outcome::of_all(&SEEDS, run).judge("CEL", COUNT * SEEDS.len() as u64);
}

fn run(seed: u64) -> Outcome {
    Outcome::of_seed(seed, COUNT, rule, |rule, number| {
        (rule.write(number), rule.is_left_out())
    })
}
