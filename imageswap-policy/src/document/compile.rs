//! From a document to rules.
//!
//! Before each rule that moves images stands one of the same name that leaves alone what lies under its target. So an
//! image that a rule has moved stays there, unless an earlier rule moves it on; each move is by an earlier rule than
//! the last, and the chain ends.

use super::places::{Messages, Step};
use super::pull_secrets;
use super::{Exception as Written, ImageSwapPolicy, LabelSelector, Match, Operator, Requirement};
use crate::Policy;
use crate::maps::LABEL;
use crate::pattern::Pattern;
use crate::policy::{Head, NAMESPACE_NAME, ScopeRule};
use crate::reference::{Reference, is_registry};
use crate::rules::{
    Action, Approval, Draft, Exception, Expression, Join, Matcher, Regexes, Rule, Rules, Target,
    Template,
};
use std::collections::{BTreeMap, BTreeSet};
use time::Date;
use time::format_description::well_known::Iso8601;

/// Namespaces that no policy speaks of unless it selects them: without them a cluster cannot start.
const EXCLUDED: [&str; 3] = ["kube-system", "imageswap-system", "imageswap-agent"];
/// The most rules that a document may have.
const MAX_RULES: usize = 10_000;

/// A document, compiled rule by rule; what could not be is left out, with an error told.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) approved: Option<Vec<(usize, Pattern)>>,
    exceptions: Vec<Exception>,
    head: Head,
}

/// One rule, with what the checks look at.
#[derive(Debug)]
pub(super) struct CompiledRule {
    /// Position in the document.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) matcher: Matcher,
    /// `None` for a rule that keeps.
    pub(super) swap: Option<Swap>,
}

#[derive(Debug)]
pub(super) struct Swap {
    action: Action,
    /// What lies where the rule leads to.
    pub(super) targets: Vec<Pattern>,
    /// `to`, as written.
    pub(super) to: String,
}

const SPEC: Step<'static> = Step::Key("spec");

/// Compiles what of the document is sound; mistakes become messages.
pub(super) fn draft(document: &ImageSwapPolicy, messages: &mut Messages<'_>) -> Compiled {
    let spec = &document.spec;
    name(&document.metadata.name, messages);
    let path = |at: usize| [SPEC, Step::Key("approved"), Step::Index(at)];
    let approved = spec.approved.as_ref().map(|list| {
        let parse = |(at, text): (usize, &String)| match Pattern::parse(text) {
            Ok(pattern) => Some((at, pattern)),
            Err(why) => {
                messages.pattern(&path(at), text, why);
                None
            }
        };
        list.iter().enumerate().filter_map(parse).collect()
    });
    let exceptions = spec
        .exceptions
        .iter()
        .enumerate()
        .filter_map(|(at, it)| exception(at, it, messages))
        .collect();
    if spec.rules.len() > MAX_RULES {
        let message = format!(
            "expected at most {MAX_RULES} rules, found {}",
            spec.rules.len()
        );
        messages.error(&[SPEC, Step::Key("rules")], "field", message);
    }
    let mut rules = Vec::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, rule) in spec.rules.iter().enumerate().take(MAX_RULES) {
        if let Some(name) = &rule.name {
            if name.trim().is_empty() {
                let path = [SPEC, Step::Key("rules"), Step::Index(at), Step::Key("name")];
                messages.error(&path, "field", "expected a name, found nothing");
            }
            if let Some(earlier) = names.insert(name, at) {
                let path = [SPEC, Step::Key("rules"), Step::Index(at), Step::Key("name")];
                let message = format!("rules[{earlier}] is called `{name}` already");
                messages.error(&path, "duplicate-name", message);
            }
        }
        if let Some((matcher, swap)) = one(at, rule, messages) {
            rules.push(CompiledRule {
                at,
                name: rule.name.clone().unwrap_or_else(|| format!("rules[{at}]")),
                matcher,
                swap,
            });
        }
    }
    Compiled {
        rules,
        approved,
        exceptions,
        head: Head {
            name: document.metadata.name.clone(),
            priority: spec.priority,
            scope: scope(&spec.r#match, messages),
            enforcement: spec.enforcement,
            swaps: spec.enforcement != super::Enforcement::Audit,
            message: spec.message.clone(),
            pull_secrets: pull_secrets::compile(&spec.image_pull_secrets, messages),
            registries: BTreeSet::new(),
            places: Vec::new(),
        },
    }
}

/// Puts the parts of a sound document together.
pub(super) fn finish(compiled: Compiled, messages: &mut Messages<'_>) -> Option<Policy> {
    let mut head = compiled.head;
    let mut draft = Draft {
        rules: Vec::new(),
        targets: Vec::new(),
        approval: Approval::ByRules,
        exceptions: compiled.exceptions,
        regexes: None,
    };
    let mut registry = |pattern: &Pattern| {
        head.registries
            .extend(pattern.registry().map(str::to_owned));
    };
    for rule in compiled.rules {
        if let Matcher::Pattern(pattern) = &rule.matcher {
            registry(pattern);
        }
        let Some(swap) = rule.swap else {
            draft.rules.push(Rule {
                name: rule.name,
                matcher: rule.matcher,
                action: Action::Keep,
            });
            continue;
        };
        for target in swap.targets {
            registry(&target);
            draft.rules.push(Rule {
                name: rule.name.clone(),
                matcher: Matcher::Pattern(target.clone()),
                action: Action::Rest,
            });
            draft.targets.push(target);
        }
        draft.rules.push(Rule {
            name: rule.name,
            matcher: rule.matcher,
            action: swap.action,
        });
    }
    if let Some(approved) = compiled.approved {
        for (_, pattern) in &approved {
            registry(pattern);
        }
        draft.approval = Approval::Listed(approved.into_iter().map(|it| it.1).collect());
    }
    let expressions: Vec<_> = draft
        .rules
        .iter()
        .enumerate()
        .filter_map(|(at, rule)| match &rule.matcher {
            Matcher::Regex(expression) => Some((at, expression)),
            Matcher::Pattern(_) => None,
        })
        .collect();
    match Regexes::new(&expressions) {
        Ok(regexes) => draft.regexes = regexes,
        Err(why) => {
            messages.error(&[SPEC, Step::Key("rules")], "regex", why.to_string());
            return None;
        }
    }
    head.places = draft.places();
    Some(Policy::document(head, Rules::compile(draft)))
}

fn name(name: &str, messages: &mut Messages<'_>) {
    let path = [Step::Key("metadata"), Step::Key("name")];
    if !is_object_name(name) {
        let message = format!(
            "expected a name of at most 253 lower-case letters, digits, `-` and `.`, found `{name}`"
        );
        messages.error(&path, "field", message);
    }
}

/// A name as Kubernetes wants it: labels of lower-case letters, digits and `-`, with `.` between.
pub(super) fn is_object_name(name: &str) -> bool {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let label = |it: &str| {
        let edges = [it.bytes().next(), it.bytes().next_back()];
        edges.into_iter().all(|it| it.is_some_and(plain))
            && it.bytes().all(|it| plain(it) || it == b'-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label)
}

fn one(
    at: usize,
    rule: &super::Rule,
    messages: &mut Messages<'_>,
) -> Option<(Matcher, Option<Swap>)> {
    let path = |key| [SPEC, Step::Key("rules"), Step::Index(at), Step::Key(key)];
    let here = [SPEC, Step::Key("rules"), Step::Index(at)];
    let mut pattern = |key, text: &str| match Pattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            messages.pattern(&path(key), text, why);
            None
        }
    };
    match (&rule.keep, &rule.from, &rule.regex, &rule.to) {
        (Some(keep), None, None, None) => Some((Matcher::Pattern(pattern("keep", keep)?), None)),
        (None, Some(from), None, Some(to)) => {
            let from = pattern("from", from)?;
            let (action, target) = match destination(&from, to) {
                Ok(found) => found,
                Err(why) => {
                    let message = messages.error(&path("to"), why.code, why.message);
                    message.help = why.help;
                    return None;
                }
            };
            let swap = Swap {
                action,
                targets: vec![target],
                to: to.clone(),
            };
            Some((Matcher::Pattern(from), Some(swap)))
        }
        (None, None, Some(regex), Some(to)) => {
            let expression = Expression::parse(regex)
                .map_err(|why| messages.regex(&path("regex"), regex, why))
                .ok()?;
            let template = Template::parse(to, &expression)
                .map_err(|why| messages.regex(&path("to"), to, why))
                .ok()?;
            let targets = template_targets(&template)
                .map_err(|why| {
                    let message = messages.error(&path("to"), "to", why);
                    message.help =
                        Some("write a registry first, as in `registry.example.com/$1`".to_owned());
                })
                .ok()?;
            let swap = Swap {
                action: Action::Fill(template),
                targets,
                to: to.clone(),
            };
            Some((Matcher::Regex(expression), Some(swap)))
        }
        (None, Some(_), None, None) | (None, None, Some(_), None) => {
            messages.error(
                &here,
                "rule",
                "expected `to` beside it: where do these images go?",
            );
            None
        }
        _ => {
            let message = "expected a rule of `keep`, of `from` and `to`, or of `regex` and `to`";
            messages.error(&here, "rule", message);
            None
        }
    }
}

/// Why `to` leads nowhere.
struct BadTarget {
    code: &'static str,
    message: String,
    help: Option<String>,
}

/// What a rule of `from` and `to` does, and what lies where it leads to.
fn destination(from: &Pattern, to: &str) -> Result<(Action, Pattern), BadTarget> {
    let bad = |code, message: String, help| BadTarget {
        code,
        message,
        help,
    };
    if let Some((_, rest)) = to.split_once("://") {
        let help = format!("write `{}`", rest.trim_end_matches('/'));
        let message = "an image reference has no scheme".to_owned();
        return Err(bad("scheme", message, Some(help)));
    }
    let trimmed = to.trim_end_matches('/');
    if trimmed != to {
        let message = "expected no `/` at the end: one is put between".to_owned();
        return Err(bad(
            "trailing-slash",
            message,
            Some(format!("write `{trimmed}`")),
        ));
    }
    let host = to.split('/').next().unwrap_or(to);
    if !is_registry(host) {
        let message =
            format!("expected a registry first, found `{to}`, which is a path on docker.io");
        return Err(bad("to", message, Some(format!("write `docker.io/{to}`"))));
    }
    let pattern = |text: &str| Pattern::parse(text).map_err(|why| bad("to", why.message, why.help));
    let no_prefix = || {
        let message = format!(
            "expected `registry[:port][/path]`, found `{to}`, which begins no image reference"
        );
        bad("to", message, None)
    };
    // Where nothing of the path is left over, what comes of it is `to` itself, and nothing under it.
    if !from.fixes_path() {
        let sample = format!("{to}/x");
        if Reference::parse(&sample).is_err() {
            return Err(no_prefix());
        }
        let join = Join::Path(from.fixed_path().count());
        let target = pattern(&format!("{to}/**"))?;
        return Ok((Action::Replace(Target::new(to, join)), target));
    }
    let reference = Reference::parse(to).map_err(|_invalid| no_prefix())?;
    if !to.contains('/') {
        let message = "expected a registry and a repository, for `from` names one repository";
        let help = format!(
            "write `{to}/{}`",
            from.fixed_path().last().unwrap_or("name")
        );
        return Err(bad("to", message.to_owned(), Some(help)));
    }
    let (tag, digest) = (reference.tag(), reference.digest());
    if (tag.is_some() || digest.is_some()) && !from.fixes_version() {
        let message = "a tag or digest here would replace every tag: `from` names none";
        let help = "name the tag in `from`, or leave it out here: it is kept".to_owned();
        return Err(bad("to", message.to_owned(), Some(help)));
    }
    let join = Join::Rename {
        tag: tag.is_none() && digest.is_none(),
        digest: digest.is_none(),
    };
    Ok((Action::Replace(Target::new(to, join)), pattern(to)?))
}

/// What lies where a template leads to; it has to begin with a registry.
fn template_targets(template: &Template) -> Result<Vec<Pattern>, String> {
    let text = template.as_str();
    let (prefix, whole) = template.prefix();
    let host = prefix.split_once('/').map(|it| it.0);
    if !host.is_some_and(is_registry) {
        return Err(format!(
            "expected a registry first, found `{text}`: where it leads to could not be known"
        ));
    }
    let parse = |text: &str| Pattern::parse(text).map_err(|why| why.message);
    if whole {
        return Ok(vec![parse(prefix)?]);
    }
    let (base, rest) = prefix.rsplit_once('/').unwrap_or((prefix, ""));
    match rest.split_once([':', '@']) {
        Some((repository, _)) => Ok(vec![parse(&format!("{base}/{repository}"))?]),
        None if rest.is_empty() => Ok(vec![parse(&format!("{base}/**"))?]),
        None => Ok(vec![
            parse(&format!("{base}/{rest}*"))?,
            parse(&format!("{base}/{rest}*/**"))?,
        ]),
    }
}

fn exception(at: usize, it: &Written, messages: &mut Messages<'_>) -> Option<Exception> {
    let path = |key| {
        [
            SPEC,
            Step::Key("exceptions"),
            Step::Index(at),
            Step::Key(key),
        ]
    };
    let pattern = Pattern::parse(&it.pattern)
        .map_err(|why| messages.pattern(&path("pattern"), &it.pattern, why))
        .ok();
    let until = Some(it.until.as_str())
        .filter(|it| it.len() == 10 && it.as_bytes()[4] == b'-')
        .and_then(|it| Date::parse(it, &Iso8601::DATE).ok());
    if until.is_none() {
        let message = format!("expected a day as in `2027-01-31`, found `{}`", it.until);
        messages.error(&path("until"), "field", message);
    }
    if it.reason.trim().is_empty() {
        messages.error(&path("reason"), "field", "expected a reason, found nothing");
    }
    Some(Exception {
        name: format!("exceptions[{at}] until {}: {}", it.until, it.reason),
        pattern: pattern?,
        until: until?,
    })
}

fn scope(it: &Match, messages: &mut Messages<'_>) -> ScopeRule {
    for (key, selector) in [
        ("namespaceSelector", &it.namespace_selector),
        ("objectSelector", &it.object_selector),
    ] {
        let expressions = selector.iter().flat_map(|it| &it.match_expressions);
        for (at, requirement) in expressions.enumerate() {
            let path = [
                SPEC,
                Step::Key("match"),
                Step::Key(key),
                Step::Key("matchExpressions"),
                Step::Index(at),
            ];
            let listed = matches!(requirement.operator, Operator::In | Operator::NotIn);
            if listed == requirement.values.is_empty() {
                let message = if listed {
                    "expected values for `In` and `NotIn`"
                } else {
                    "expected no values for `Exists` and `DoesNotExist`"
                };
                messages.error(&path, "field", message);
            }
        }
    }
    let excluded = || LabelSelector {
        match_labels: BTreeMap::new(),
        match_expressions: vec![Requirement {
            key: NAMESPACE_NAME.to_owned(),
            operator: Operator::NotIn,
            values: EXCLUDED.iter().map(|it| (*it).to_owned()).collect(),
        }],
    };
    ScopeRule {
        namespace: it.namespace_selector.clone().unwrap_or_else(excluded),
        object: it.object_selector.clone().unwrap_or_default(),
        node: it.node_level,
        opt_out: it.allow_opt_out.then(|| LABEL.to_owned()),
    }
}
