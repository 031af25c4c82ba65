//! What all properties draw from, and the comparison of a rule with the policies made from it.

use crate::helpers::{DIGEST, imported, policies};
use imageswap_import::Status;
use imageswap_policy::{Date, PodScope, Reference, Scope};
use std::collections::BTreeMap;

/// A generator of numbers: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((it ^ (it >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

pub(crate) const HOSTS: [&str; 7] = [
    "reg.example.com",
    "quay.io",
    "docker.io",
    "old-hub.example.org",
    "localhost:5000",
    "ghcr.io",
    "10.1.2.3:8080",
];
pub(crate) const TARGETS: [&str; 4] = [
    "mirror.corp.example",
    "mirror.corp.example/hub",
    "cache:5000/a",
    "m-1.corp.example/x/y",
];
pub(crate) const PATHS: [&str; 4] = ["team", "acme/tools", "base-images", "library"];
pub(crate) const NAMESPACES: [&str; 5] = ["shop", "bank", "app-*", "*-ci", "team-?"];

/// A rule, evaluated without the importer.
pub(crate) trait Rule {
    /// Whether the rule is for this Pod.
    fn applies(&self, pod: &Pod) -> bool;
    /// The image that runs, and whether the rule lets it in.
    fn answer(&self, image: &str) -> (String, bool);
}

pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) labels: Vec<(&'static str, &'static str)>,
}

/// Pods in several namespaces, with several labels.
fn pods() -> Vec<Pod> {
    let namespaces = ["shop", "bank", "app-x", "web-ci", "team-a", "other"];
    let pods = namespaces.into_iter().flat_map(|namespace| {
        let labels = [
            vec![],
            vec![("tier", "web"), ("team", "red")],
            vec![("tier", "db")],
            vec![("team", "blue")],
        ];
        labels.map(|labels| Pod { namespace, labels })
    });
    pods.collect()
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

/// Whether a difference is one that the report may name: another spelling, a result that could not
/// run, an image that stays or is refused only here.
fn is_reported(
    rule: &impl Rule,
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

/// How many rules were carried over, differ and were left out, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    exact: u64,
    differs: u64,
    left_out: u64,
    wrong: Vec<String>,
}

impl Outcome {
    /// Runs all seeds, each in a thread of its own.
    pub(crate) fn of_all(seeds: &[u64], run: fn(u64) -> Self) -> Self {
        let runs: Vec<_> = (seeds.iter().copied())
            .map(|seed| std::thread::spawn(move || run(seed)))
            .collect();
        let mut all = Self::default();
        for it in runs {
            all.add(it.join().unwrap());
        }
        all
    }

    /// Draws `count` policies, and compares each. `write` returns its text, and whether it has to be
    /// left out.
    pub(crate) fn of_seed<R: Rule>(
        seed: u64,
        count: u64,
        draw: impl Fn(&mut Random) -> R,
        write: impl Fn(&R, u64) -> (String, bool),
    ) -> Self {
        let mut random = Random(seed);
        let pods = pods();
        let mut all = Self::default();
        for number in 0..count {
            let rule = draw(&mut random);
            let (text, never) = write(&rule, number);
            compare(&rule, &text, number, never, &pods, &mut all);
        }
        all
    }

    fn add(&mut self, other: Self) {
        self.exact += other.exact;
        self.differs += other.differs;
        self.left_out += other.left_out;
        self.wrong.extend(other.wrong);
    }

    /// # Panics
    /// If a policy decides wrongly, or fewer than half of the rules are carried over.
    pub(crate) fn judge(&self, what: &str, count: u64) {
        let Self {
            exact,
            differs,
            left_out,
            wrong,
        } = self;
        eprintln!("{what}: {exact} carried over, {differs} with differences, {left_out} left out");
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        assert_eq!(exact + differs + left_out, count);
        assert!(exact + differs >= *left_out, "{left_out} left out");
    }
}

/// Imports a text with one rule, and compares what the policies decide with the rule. `never` is set if the rule has to
/// be left out.
fn compare(
    rule: &impl Rule,
    text: &str,
    number: u64,
    never: bool,
    pods: &[Pod],
    all: &mut Outcome,
) {
    let it = imported(text);
    let status = it.report.rules[0].status;
    match status {
        Status::CarriedOver => all.exact += 1,
        Status::Differs => all.differs += 1,
        Status::LeftOut => {
            all.left_out += 1;
            return;
        }
    }
    assert!(!never, "{text}");
    let none = BTreeMap::new();
    let images = images();
    let policies = policies(&it);
    let mut found = None;
    for pod in pods {
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
                || (status == Status::Differs && is_reported(rule, &group, &image, &theirs, &ours));
            if !fine && found.is_none() {
                let policies = serde_json::to_string(&it.policies).unwrap();
                found = Some(format!(
                    "{number}, {image}: {theirs:?} there, {ours:?} here\n{text}\n{}\n{policies}",
                    it.report.rules[0]
                ));
            }
        }
    }
    if all.wrong.len() < 8 {
        all.wrong.extend(found);
    }
}
