//! Compiles a document to rules.
//!
//! Each rule that moves images is preceded by one of the same name that keeps what lies under its
//! target. So an image that a rule has moved stays, unless an earlier rule moves it on; each move
//! is by an earlier rule than the last, and the chain ends.

use super::identity::is_object_name;
use super::target::{destination, template_targets};
use super::{Exception as Written, IfMissing, ImageSwapPolicy, Match};
use super::{guard, pull_secrets, selector};
use crate::Policy;
use crate::day::parse_day;
use crate::guard::Guard;
use crate::pattern::Pattern;
use crate::policy::Head;
use crate::rules::{
    Action, Approval, Denial, Draft, Exception, Expression, Guarded, MAX_SIZE_OF_ALL, Matcher,
    Regexes, Rule, Rules, Template,
};
use crate::scope::{LABEL, ScopeRule};
use crate::yaml::places::{Messages, Step};
use std::collections::{BTreeMap, BTreeSet};

/// The most rules that a document may have.
const MAX_RULES: usize = 10_000;

/// A document, compiled rule by rule; parts with errors are left out and reported.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) approved: Option<Vec<(usize, Guarded)>>,
    pub(super) denied: Vec<(usize, Guarded, Denial)>,
    pub(super) exceptions: Vec<Exception>,
    head: Head,
}

/// One rule, with the data that the checks need.
#[derive(Debug)]
pub(super) struct CompiledRule {
    /// Position in the document.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) matcher: Matcher,
    pub(super) guard: Guard,
    /// Whether images stay if the registry does not have the rule's result.
    conditional: bool,
    /// `None` for a rule that keeps.
    pub(super) swap: Option<Swap>,
}

#[derive(Debug)]
pub(super) struct Swap {
    action: Action,
    /// Patterns of the places that the rule moves images to.
    pub(super) targets: Vec<Pattern>,
    /// `to`, as written.
    pub(super) to: String,
}

const SPEC: Step<'static> = Step::Key("spec");

/// Compiles the valid parts of the document; mistakes become messages.
pub(super) fn draft(document: &ImageSwapPolicy, messages: &mut Messages<'_>) -> Compiled {
    let spec = &document.spec;
    name(&document.metadata.name, messages);
    let approved = spec.approved.as_ref().map(|list| {
        let all = list.iter().enumerate();
        all.filter_map(|(at, it)| {
            let path = [SPEC, Step::Key("approved"), Step::Index(at)];
            let names = (it.namespaces.as_ref(), it.containers.as_ref());
            Some((at, guarded(&path, &it.pattern, names, messages)?))
        })
        .collect()
    });
    let denied = spec.denied.iter().enumerate();
    let denied = denied
        .filter_map(|(at, it)| {
            let path = [SPEC, Step::Key("denied"), Step::Index(at)];
            let names = (it.namespaces.as_ref(), it.containers.as_ref());
            let denial = Denial {
                name: format!("denied[{at}]"),
                message: it.message.clone(),
            };
            Some((at, guarded(&path, &it.pattern, names, messages)?, denial))
        })
        .collect();
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
        messages
            .error(&[SPEC, Step::Key("rules")], "field", message)
            .help = Some("patterns with wildcards need fewer rules".to_owned());
    }
    let mut rules = Vec::new();
    let mut regexes = RegexRoom::default();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, rule) in spec.rules.iter().enumerate().take(MAX_RULES) {
        if let Some(name) = &rule.name {
            if name.trim().is_empty() {
                let path = [SPEC, Step::Key("rules"), Step::Index(at), Step::Key("name")];
                messages
                    .error(&path, "field", "expected a name, found nothing")
                    .help = Some("name the rule, or remove `name`".to_owned());
            }
            if let Some(earlier) = names.insert(name, at) {
                let path = [SPEC, Step::Key("rules"), Step::Index(at), Step::Key("name")];
                let message = format!("rules[{earlier}] is called `{name}` already");
                messages.error(&path, "duplicate-name", message).help =
                    Some(format!("rename one of them, for example to `{name}-2`"));
            }
        }
        let path = [SPEC, Step::Key("rules"), Step::Index(at)];
        let (namespaces, containers) = (rule.namespaces.as_ref(), rule.containers.as_ref());
        let guard = guard::guard(&path, namespaces, containers, messages);
        if let Some((matcher, swap)) = one(at, rule, messages) {
            if let Matcher::Regex(expression) = &matcher
                && !regexes.has_room(at, expression)
            {
                regexes.complain(messages);
                break;
            }
            rules.push(CompiledRule {
                at,
                guard,
                conditional: rule.if_missing == IfMissing::Keep,
                name: rule.name.clone().unwrap_or_else(|| format!("rules[{at}]")),
                matcher,
                swap,
            });
        }
    }
    Compiled {
        rules,
        approved,
        denied,
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

/// Puts the parts of a valid document together.
pub(super) fn finish(compiled: Compiled, messages: &mut Messages<'_>) -> Option<Policy> {
    let mut head = compiled.head;
    let mut draft = Draft {
        rules: Vec::new(),
        targets: Vec::new(),
        approval: Approval::ByRules,
        denied: Vec::new(),
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
                guard: rule.guard,
                conditional: false,
            });
            continue;
        };
        for target in swap.targets {
            registry(&target);
            draft.rules.push(Rule {
                name: rule.name.clone(),
                matcher: Matcher::Pattern(target.clone()),
                action: Action::Rest,
                guard: rule.guard.clone(),
                conditional: false,
            });
            draft.targets.push(Guarded {
                pattern: target,
                guard: rule.guard.clone(),
            });
        }
        draft.rules.push(Rule {
            name: rule.name,
            matcher: rule.matcher,
            action: swap.action,
            guard: rule.guard,
            conditional: rule.conditional,
        });
    }
    if let Some(approved) = compiled.approved {
        for (_, it) in &approved {
            registry(&it.pattern);
        }
        draft.approval = Approval::Listed(approved.into_iter().map(|it| it.1).collect());
    }
    for (_, it, denial) in compiled.denied {
        registry(&it.pattern);
        draft.denied.push((it, denial));
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
            let found = messages.error(&[SPEC, Step::Key("rules")], "regex", why.to_string());
            found.help = Some("write patterns in `from` where they are enough".to_owned());
            return None;
        }
    }
    head.places = draft.places();
    Some(Policy::document(head, Rules::compile(draft)))
}

/// The memory that all regular expressions of a policy take together. Expressions beyond the limit
/// are not compiled.
#[derive(Default)]
struct RegexRoom {
    taken: usize,
    /// The largest, by its rule's position.
    largest: Option<(usize, usize)>,
}

impl RegexRoom {
    fn has_room(&mut self, at: usize, expression: &Expression) -> bool {
        let size = expression.size();
        self.taken += size;
        if self.largest.is_none_or(|(_, largest)| size > largest) {
            self.largest = Some((at, size));
        }
        self.taken <= MAX_SIZE_OF_ALL
    }

    fn complain(&self, messages: &mut Messages<'_>) {
        let Some((at, size)) = self.largest else {
            return;
        };
        let path = [
            SPEC,
            Step::Key("rules"),
            Step::Index(at),
            Step::Key("regex"),
        ];
        let message = format!(
            "the regular expressions of the policy are too large when compiled: all of them may take {} KiB, and this \
             one takes {} KiB, more than any before the limit",
            MAX_SIZE_OF_ALL >> 10,
            size.div_ceil(1 << 10)
        );
        let found = messages.error(&path, "regex", message);
        found.help = Some("repeat less, or use `from` with `*` and `**`".to_owned());
    }
}

fn name(name: &str, messages: &mut Messages<'_>) {
    let path = [Step::Key("metadata"), Step::Key("name")];
    if !is_object_name(name) {
        let message = format!(
            "expected a name of at most 253 lower-case letters, digits, `-` and `.`, found `{name}`"
        );
        let letters = |it: char| {
            if it.is_ascii_alphanumeric() || it == '.' {
                it
            } else {
                '-'
            }
        };
        let plain: String = name.to_lowercase().chars().map(letters).collect();
        let plain = plain.trim_matches(['-', '.']);
        let plain = if is_object_name(plain) { plain } else { "corp" };
        messages.error(&path, "field", message).help = Some(format!("write `{plain}`"));
    }
}

fn one(
    at: usize,
    rule: &super::Rule,
    messages: &mut Messages<'_>,
) -> Option<(Matcher, Option<Swap>)> {
    let path = |key| [SPEC, Step::Key("rules"), Step::Index(at), Step::Key(key)];
    let here = [SPEC, Step::Key("rules"), Step::Index(at)];
    if rule.keep.is_some() && rule.if_missing == IfMissing::Keep {
        let message = "images that `keep` matches stay, whether a registry has them or not";
        messages.error(&path("ifMissing"), "field", message).help =
            Some("remove `ifMissing`, or write `from` and `to` instead of `keep`".to_owned());
    }
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
                .map_err(|why| messages.error(&path("to"), why.code, why.message).help = why.help)
                .ok()?;
            let swap = Swap {
                action: Action::Fill(template),
                targets,
                to: to.clone(),
            };
            Some((Matcher::Regex(expression), Some(swap)))
        }
        (keep, from, regex, to) => {
            let (message, help) = match (keep, from.is_some(), regex.is_some(), to) {
                (None, true, false, None) | (None, false, true, None) => (
                    "expected `to` beside it: where do these images go?",
                    "add `to: registry.example.com/hub`, or write `keep` if they stay",
                ),
                (None, false, false, Some(_)) => (
                    "expected `from` or `regex` beside it: which images go there?",
                    "add `from: \"docker.io/**\"`",
                ),
                (Some(_), false, false, Some(_)) => (
                    "images that `keep` matches stay, so there is nothing that `to` could do",
                    "remove `to`, or write `from` instead of `keep`",
                ),
                (_, true, true, _) => (
                    "a rule has a pattern in `from` or an expression in `regex`, not both",
                    "write two rules",
                ),
                (Some(_), _, _, _) => (
                    "a rule either keeps images or moves them",
                    "write two rules; the first that matches decides",
                ),
                (None, ..) => (
                    "expected a rule of `keep`, of `from` and `to`, or of `regex` and `to`",
                    "add `keep` with a pattern of images that stay, or `from` and `to`",
                ),
            };
            messages.error(&here, "rule", message).help = Some(help.to_owned());
            None
        }
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
    let names = (it.namespaces.as_ref(), it.containers.as_ref());
    let matches = guarded(&path("pattern")[..3], &it.pattern, names, messages);
    let until = parse_day(&it.until)
        .map_err(|why| {
            let help = match &why.meant {
                Some(meant) => format!("write `{meant}`"),
                None => "write year, month and day, as in `2027-01-31`".to_owned(),
            };
            messages.error(&path("until"), "field", why.message()).help = Some(help);
        })
        .ok();
    if it.reason.trim().is_empty() {
        messages
            .error(&path("reason"), "field", "expected a reason, found nothing")
            .help = Some("write who asked for it, or the number of a ticket".to_owned());
    }
    let Guarded { pattern, guard } = matches?;
    Some(Exception {
        name: format!("exceptions[{at}] until {}: {}", it.until, it.reason),
        pattern,
        guard,
        until: until?,
    })
}

/// The pattern and guard of the item at `path`, which may also be a pattern alone.
fn guarded(
    path: &[Step<'_>],
    pattern: &str,
    (namespaces, containers): (Option<&Vec<String>>, Option<&Vec<String>>),
    messages: &mut Messages<'_>,
) -> Option<Guarded> {
    let guard = guard::guard(path, namespaces, containers, messages);
    match Pattern::parse(pattern) {
        Ok(pattern) => Some(Guarded { pattern, guard }),
        Err(why) => {
            let of_mapping: Vec<_> = path.iter().copied().chain([Step::Key("pattern")]).collect();
            let path = if messages.has(&of_mapping) {
                &of_mapping
            } else {
                path
            };
            messages.pattern(path, pattern, why);
            None
        }
    }
}

fn scope(it: &Match, messages: &mut Messages<'_>) -> ScopeRule {
    for (key, selector) in [
        ("namespaceSelector", &it.namespace_selector),
        ("objectSelector", &it.object_selector),
    ] {
        if let Some(selector) = selector {
            let path = [SPEC, Step::Key("match"), Step::Key(key)];
            selector::check(&path, selector, messages);
        }
    }
    let path = [SPEC, Step::Key("match")];
    ScopeRule {
        namespaces: it
            .namespaces
            .as_ref()
            .map(|list| guard::names(&path, "namespaces", list, messages)),
        excluded: Some(&it.exclude_namespaces)
            .filter(|list| !list.is_empty())
            .map(|list| guard::names(&path, "excludeNamespaces", list, messages)),
        namespace: it.namespace_selector.clone().unwrap_or_default(),
        object: it.object_selector.clone().unwrap_or_default(),
        node: it.node_level,
        opt_out: it.allow_opt_out.then(|| LABEL.to_owned()),
        trusts_labels: false,
    }
}
