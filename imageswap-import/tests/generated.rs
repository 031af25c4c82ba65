//! Random Kyverno policies, compared with an independent evaluator of their meaning. The evaluator
//! was written from Kyverno's documentation: patterns and operators are wildcards on the text of an
//! image, blocks of `any` are alternatives, all fields of a block must match, and a `mutate` rule
//! comes before a `validate` rule.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_import::{Import, Source, Status, import};
use imageswap_policy::document::load_all;
use imageswap_policy::{Date, PodScope, Policies, Reference, Scope};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Policies per thread.
const COUNT: u64 = 500;
/// Seeds, one for each thread.
const SEEDS: [u64; 4] = [0x1a2b_3c4d_5e6f_7788, 2, 3, 4];

/// A generator of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((it ^ (it >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const HOSTS: [&str; 7] = [
    "reg.example.com",
    "quay.io",
    "docker.io",
    "old-hub.example.org",
    "localhost:5000",
    "ghcr.io",
    "10.1.2.3:8080",
];
const TARGETS: [&str; 4] = [
    "mirror.corp.example",
    "mirror.corp.example/hub",
    "cache:5000/a",
    "m-1.corp.example/x/y",
];
const PATHS: [&str; 4] = ["team", "acme/tools", "base-images", "library"];
const NAMESPACES: [&str; 5] = ["shop", "bank", "app-*", "*-ci", "team-?"];

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

struct Pod {
    namespace: &'static str,
    labels: Vec<(&'static str, &'static str)>,
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

impl Rule {
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

fn canonical(text: &str) -> Option<String> {
    let reference = Reference::parse(text).ok()?;
    let latest = reference.tag().is_none() && reference.digest().is_none();
    Some(format!(
        "{}{}",
        reference.canonical(),
        if latest { ":latest" } else { "" }
    ))
}

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn images() -> Vec<String> {
    let mut all = Vec::new();
    let strangers = [
        "nvcr.io",
        "us-docker.pkg.dev",
        "a.b.c-d.example",
        "localhost",
        "Host.Example.com",
        "mirror.corp.example",
        "reg.example.com.evil.net",
        "sub.quay.io",
        "x-ghcr.io",
    ];
    let suffixes = ["", ":1", ":latest", ":v1.2-RC", DIGEST];
    for (at, host) in HOSTS.iter().chain(&strangers).enumerate() {
        let paths = [
            "app",
            "team/app",
            "acme/tools/x",
            "library/redis",
            "base-images/a/b",
            "teamx/y",
            "q/w/e/r",
            "9a/b_c",
            "acme/other",
        ];
        for (step, path) in paths.iter().enumerate() {
            all.push(format!(
                "{host}/{path}{}",
                suffixes[(at + step) % suffixes.len()]
            ));
        }
    }
    all
}

/// Other ways to write an image of Docker Hub, and the missing tag.
fn spellings(image: &str) -> Vec<String> {
    let mut all = vec![image.to_owned()];
    if let Some(rest) = image.strip_prefix("docker.io/") {
        all.extend([rest.to_owned(), format!("index.docker.io/{rest}")]);
        if let Some(short) = rest.strip_prefix("library/") {
            all.extend([short.to_owned(), format!("docker.io/{short}")]);
        } else if !rest.contains('/') {
            all.extend([
                format!("library/{rest}"),
                format!("docker.io/library/{rest}"),
            ]);
        }
    }
    for it in all.clone() {
        match it.strip_suffix(":latest") {
            Some(bare) => all.push(bare.to_owned()),
            None if !it.contains('@') && !it.rsplit('/').next().unwrap().contains(':') => {
                all.push(format!("{it}:latest"));
            }
            None => {}
        }
    }
    all
}

fn loaded(it: &Import) -> Policies {
    let texts: Vec<_> = it
        .policies
        .iter()
        .map(|it| (it.metadata.name.clone(), serde_json::to_string(it).unwrap()))
        .collect();
    let texts = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Policies::new(load_all(texts).unwrap_or_else(|it| panic!("{it}")).policies)
}

/// Whether a difference is one that the report may name: another spelling, a result that could not
/// run, an image that stays or is refused only here.
fn is_reported(
    rule: &Rule,
    group: &[String],
    image: &str,
    theirs: &(String, bool),
    ours: &(String, bool),
) -> bool {
    let other = group.iter().any(|it| {
        let (result, approved) = rule.answer(it);
        canonical(&result) == canonical(&ours.0) && approved == ours.1
    });
    let cannot_run = canonical(&theirs.0).is_none();
    let milder = theirs.0 == image && ours.0 == image && !theirs.1 && ours.1;
    let stays = canonical(&ours.0) == canonical(image) && theirs.0 != image;
    other || cannot_run || stays || (theirs.1 && !ours.1 && !milder)
}

#[test]
fn generated_policies_decide_as_their_source_or_are_left_out() {
    let runs: Vec<_> = SEEDS
        .into_iter()
        .map(|seed| std::thread::spawn(move || run(seed)))
        .collect();
    let (mut exact, mut differs, mut left_out) = (0, 0, 0);
    let mut wrong = Vec::new();
    for it in runs {
        let found = it.join().unwrap();
        exact += found.0;
        differs += found.1;
        left_out += found.2;
        wrong.extend(found.3);
    }
    eprintln!("{exact} carried over, {differs} with differences, {left_out} left out");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(exact + differs >= left_out, "{left_out} left out");
}

/// Draws policies; returns how many were carried over, differ and were left out, and what is wrong.
fn run(seed: u64) -> (u64, u64, u64, Vec<String>) {
    let mut random = Random(seed);
    let pods: Vec<Pod> = ["shop", "bank", "app-x", "web-ci", "team-a", "other"]
        .into_iter()
        .flat_map(|namespace| {
            let labels = [
                vec![],
                vec![("tier", "web"), ("team", "red")],
                vec![("tier", "db")],
                vec![("team", "blue")],
            ];
            labels.map(|labels| Pod { namespace, labels })
        })
        .collect();
    let images: Vec<String> = images();
    let none = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut exact, mut differs, mut left_out) = (0, 0, 0);
    for number in 0..COUNT {
        let rule = rule(&mut random);
        let text = format!(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p{number}}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n{}",
            rule.write()
        );
        let it = import(&[Source {
            name: "generated.yaml",
            text: &text,
        }]);
        let status = it.report.rules[0].status;
        match status {
            Status::CarriedOver => exact += 1,
            Status::Differs => differs += 1,
            Status::LeftOut => {
                left_out += 1;
                continue;
            }
        }
        assert!(!matches!(rule.effect, Effect::Anchor(..)), "{text}");
        let policies = loaded(&it);
        for pod in &pods {
            let labels: BTreeMap<String, String> = pod
                .labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let scope = Scope::Pod(PodScope {
                namespace: Some(pod.namespace),
                namespace_labels: Some(&none),
                labels: Some(&labels),
            });
            let selected = policies.select(scope, Date::MIN);
            let applies = rule.applies(pod);
            assert_eq!(
                selected.policy().is_some(),
                applies,
                "{} {:?}\n{text}\n{:#?}",
                pod.namespace,
                pod.labels,
                it.policies
            );
            if !applies {
                continue;
            }
            let groups = images.iter().map(|it| spellings(it));
            for (group, image) in
                groups.flat_map(|it| it.clone().into_iter().map(move |image| (it.clone(), image)))
            {
                let decision = selected.decide(&image);
                let ours = (decision.result.to_string(), decision.approved);
                let theirs = rule.answer(&image);
                let same = canonical(&ours.0) == canonical(&theirs.0) && ours.1 == theirs.1;
                let fine = same
                    || (status == Status::Differs
                        && is_reported(&rule, &group, &image, &theirs, &ours));
                if !fine
                    && wrong.len() < 8
                    && wrong.last().is_none_or(|it: &(u64, String)| it.0 != number)
                {
                    let policies = serde_json::to_string(&it.policies).unwrap();
                    wrong.push((
                        number,
                        format!(
                            "{image}: {theirs:?} there, {ours:?} here\n{text}{}\n{policies}",
                            it.report.rules[0]
                        ),
                    ));
                }
            }
        }
    }
    (
        exact,
        differs,
        left_out,
        wrong.into_iter().map(|it| it.1).collect(),
    )
}
