//! ImageSwap's maps files, which `imageswap-policy` turns into policies, compared with them image by image.

use crate::intent::{Effect, Intent, Origin, Source, Vocabulary};
use crate::policy::compare;
use crate::probe::probes;
use crate::report::{Difference, Item, Status};
use imageswap_policy::document::{Enforcement, ImageSwapPolicy};
use imageswap_policy::maps::{self, LABEL};
use imageswap_policy::yaml::Node;
use imageswap_policy::{Date, Diagnostics, PodScope, Policies, Policy, Scope, Severity};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Examples of images that are decided about differently.
const EXAMPLES: usize = 4;

/// Whether a text is a maps file: one of its own keys, no fields of an object, and only values that can be registries.
pub(crate) fn is_maps(text: &str, documents: &[Node]) -> bool {
    let object = |it: &Node| it.get("apiVersion").is_some() || it.get("kind").is_some();
    let lines = || {
        text.lines()
            .filter(|it| !it.trim().is_empty() && !it.trim_start().starts_with('#'))
    };
    let own = |it: &str| it.starts_with("default:") || it.starts_with("noswap_wildcards:");
    let plain = |it: &str| {
        let value = it
            .split_once(':')
            .map(|it| it.1.trim_start_matches(':').trim());
        !it.starts_with([' ', '\t', '-', '{'])
            && value.is_some_and(|it| it.is_empty() || it.contains(['.', ':', '/', '-']))
    };
    !documents.iter().any(object) && lines().any(own) && lines().all(plain)
}

/// A maps file as a policy.
pub(crate) struct File {
    pub(crate) policy: ImageSwapPolicy,
    /// What the file does.
    pub(crate) rules: Vec<Intent>,
    /// The outcome of each line.
    pub(crate) items: Vec<Item>,
    /// For each rule of the policy, the line that it comes from.
    pub(crate) comments: Vec<String>,
    /// Decisions that differ from the file's, with their lines.
    pub(crate) diagnostics: Diagnostics,
}

/// Reads a maps file, as a policy of this name.
///
/// # Errors
/// The messages about a file that does not load.
pub(crate) fn read(source: Source<'_>, name: &str) -> Result<File, Diagnostics> {
    let file = maps::load(source.name, source.text)?.policy;
    let imported = maps::import(source.name, source.text, name)?;
    let mut lines: BTreeMap<usize, Item> = BTreeMap::new();
    let item = |line: usize, rule: &str| Item {
        source: source.name.to_owned(),
        line,
        column: 1,
        policy: "maps file".to_owned(),
        rule: rule.to_owned(),
        status: Status::CarriedOver,
        reason: None,
        differences: Vec::new(),
        notes: Vec::new(),
    };
    let written = |line: usize| {
        let text = source.text.lines().nth(line.saturating_sub(1));
        text.unwrap_or_default().trim().to_owned()
    };
    for &line in &imported.lines {
        lines
            .entry(line)
            .or_insert_with(|| item(line, &written(line)));
    }
    for it in &imported.differences {
        let item = lines
            .entry(it.line)
            .or_insert_with(|| item(it.line, &written(it.line)));
        if it.severity > Severity::Note {
            item.status = Status::LeftOut;
            item.reason.get_or_insert(it.message.clone());
        } else {
            item.status = item.status.max(Status::Differs);
            item.differences.push(Difference {
                message: it.message.clone(),
                example: None,
            });
        }
    }
    let rules = rules(source, file);
    let mut whole = item(1, "all lines");
    whole.differences = differences(&rules, &imported.policy, source.text);
    if !whole.differences.is_empty() {
        whole.status = Status::Differs;
    }
    let comments = imported.lines.iter();
    let comments = comments.map(|&line| format!("line {line}: {}", written(line)));
    Ok(File {
        rules,
        comments: comments.collect(),
        items: [whole].into_iter().chain(lines.into_values()).collect(),
        policy: imported.policy,
        diagnostics: imported.differences,
    })
}

/// The file as a rule that changes images and one that checks their outcome.
fn rules(source: Source<'_>, file: Policy) -> Vec<Intent> {
    let policies = Rc::new(Policies::new(vec![file]));
    let labels = Rc::new(BTreeMap::from([(LABEL.to_owned(), "enabled".to_owned())]));
    let decide = move |image: &str| {
        let none = BTreeMap::new();
        let scope = Scope::Pod(PodScope {
            namespace: Some("any"),
            namespace_labels: Some(&labels),
            labels: Some(&none),
        });
        let selected = policies.select(scope, Date::MIN);
        let decision = selected.decide(image);
        (decision.result.to_string(), decision.approved)
    };
    let checks = decide.clone();
    let effects = [
        Effect::Swap(Rc::new(move |image| Ok(decide(image).0))),
        Effect::Check {
            holds: Rc::new(move |image| Ok(checks(image).1)),
            enforcement: Enforcement::Warn,
            message: None,
        },
    ];
    let origin = Origin {
        source: source.name.to_owned(),
        line: 1,
        column: 1,
        kind: "maps".to_owned(),
        document: "file".to_owned(),
        rule: "all lines".to_owned(),
    };
    let intents = effects
        .map(|effect| Intent::new(origin.clone(), Vec::new(), effect, Vocabulary::default()));
    intents.into()
}

/// Images about which the file and the policy decide differently.
fn differences(rules: &[Intent], policy: &ImageSwapPolicy, text: &str) -> Vec<Difference> {
    let vocabulary = Vocabulary {
        texts: text.lines().map(|it| it.replace("::", " ")).collect(),
        ..Vocabulary::default()
    };
    let all = probes(&vocabulary, 0);
    let rules: Vec<&Intent> = rules.iter().collect();
    match compare(&rules, &policy.spec, all.iter()) {
        Ok(outcome) => {
            let named = outcome.differences.into_iter().map(|it| it.0);
            let wrong = outcome.wrong.into_iter().map(|it| Difference {
                message: "the file decides otherwise".to_owned(),
                ..it.1
            });
            named.chain(wrong).take(EXAMPLES).collect()
        }
        Err(why) => vec![Difference {
            message: why,
            example: None,
        }],
    }
}
