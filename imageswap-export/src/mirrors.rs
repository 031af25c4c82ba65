//! Mirrors of container runtimes: where a runtime pulls an image from, under the name that it has.
//!
//! A mirror changes no name and refuses nothing, it knows neither Pods nor dates, and it is chosen by
//! the beginning of a name. So rules that move a registry, or a path of one, can become mirrors. What
//! was written is compared with the policy for images near all of its patterns.

mod compare;
mod write;

use crate::report::{Parts, Report};
use compare::Comparison;
use imageswap_policy::document::{Enforcement, LabelSelector};
use imageswap_policy::{
    ActionOutline, Date, GuardOutline, MatcherOutline, Outline, Pattern, Policies, Policy,
    RuleOutline,
};

pub use write::{hosts_toml, registries_conf};

const REFUSES: &str = "a mirror refuses no image";

/// Names that begin with `prefix` are pulled from `location` instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// A registry, with a path if there is one.
    pub prefix: String,
    /// The same for the mirror.
    pub location: String,
    /// Name of the rule.
    pub rule: String,
}

/// The mirrors of a policy, and the outcome of every part of it.
#[derive(Debug)]
pub struct Export {
    /// The policy's name.
    pub policy: String,
    /// In the order of the rules.
    pub mirrors: Vec<Mirror>,
    /// Every part.
    pub report: Report,
}

/// What the runtime's configuration can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// containerd's `hosts.toml`: one place for all of a registry.
    HostsToml,
    /// `registries.conf` of podman and CRI-O: any beginning of a name, the longest decides.
    RegistriesConf,
}

/// Exports a policy's rules as mirrors. `today` is in UTC: exceptions that have ended need not be
/// exported.
pub fn export(policies: &Policies, language: Language, today: Date) -> Export {
    let mut report = Report::default();
    let mut all = policies.iter();
    let (Some(policy), None) = (all.next(), all.next()) else {
        for policy in policies {
            let mut parts = Parts {
                policy: policy.name(),
                report: &mut report,
            };
            parts.left_out("policy", "a mirror serves every Pod: export one policy");
        }
        return Export {
            policy: String::new(),
            mirrors: Vec::new(),
            report,
        };
    };
    let mut parts = Parts {
        policy: policy.name(),
        report: &mut report,
    };
    let mirrors = match policy.outline() {
        None => {
            parts.left_out(
                "policy",
                "a maps file matches images as they are written; `imageswap import maps` makes an ImageSwapPolicy of it",
            );
            Vec::new()
        }
        Some(_) if !policy.swaps() => {
            parts.left_out(
                "policy",
                "a policy for audit swaps nothing, and a mirror would",
            );
            Vec::new()
        }
        Some(outline) => {
            let comparison = Comparison::new(policies, &outline, today);
            let mirrors = rules(&outline, language, &comparison, &mut parts);
            others(policy, &outline, today, &mut parts);
            mirrors
        }
    };
    Export {
        policy: policy.name().to_owned(),
        mirrors,
        report,
    }
}

/// The mirrors of rules.
fn rules(
    outline: &Outline<'_>,
    language: Language,
    comparison: &Comparison<'_>,
    parts: &mut Parts<'_>,
) -> Vec<Mirror> {
    let rules: Vec<_> = outline
        .rules
        .iter()
        .filter(|it| !matches!(it.action, ActionOutline::Rest))
        .collect();
    let mut mirrors: Vec<Mirror> = Vec::new();
    let mut why = Vec::new();
    for rule in &rules {
        match candidate(rule, language) {
            Ok(Some(mirror)) if mirrors.iter().any(|it| it.prefix == mirror.prefix) => {
                why.push(Some("an earlier rule has the same images".to_owned()));
            }
            Ok(mirror) => {
                mirrors.extend(mirror);
                why.push(None);
            }
            Err(reason) => why.push(Some(reason)),
        }
    }
    if language == Language::HostsToml {
        // All of a registry or nothing: a mirror that also serves images of other rules is not
        // written.
        mirrors.retain(|mirror| {
            let found = comparison.of_mirror(mirror, std::slice::from_ref(mirror));
            let at = rules.iter().position(|it| it.name == mirror.rule);
            if let (Some(found), Some(at)) = (&found, at) {
                why[at] = Some(format!("a mirror is for all of a registry, and {found}"));
            }
            found.is_none()
        });
    }
    for (rule, why) in rules.iter().zip(why) {
        let part = format!("rule {}", rule.name);
        let mirror = mirrors.iter().find(|it| it.rule == rule.name);
        match (why, mirror) {
            (Some(why), _) => parts.left_out(part, why),
            (None, Some(_)) if rule.conditional => parts.differs(
                part,
                "an image that the mirror lacks is not pulled from elsewhere (`ifMissing: keep`)",
            ),
            (None, Some(mirror)) => match comparison.of_mirror(mirror, &mirrors) {
                Some(how) => parts.differs(part, how),
                None => parts.exported(part),
            },
            (None, None) => match comparison.of_rule(rule.name, &mirrors) {
                Some(how) => parts.differs(part, how),
                None => parts.exported(part),
            },
        }
    }
    mirrors
}

/// The mirror that a rule may become; `None` if it needs none.
fn candidate(rule: &RuleOutline<'_>, language: Language) -> Result<Option<Mirror>, String> {
    if rule.guard != GuardOutline::default() && !matches!(rule.action, ActionOutline::Keep) {
        return Err("a mirror knows neither namespaces nor containers".to_owned());
    }
    let (pattern, location) = match (rule.matcher, &rule.action) {
        (_, ActionOutline::Keep | ActionOutline::Rest) => return Ok(None),
        (MatcherOutline::Pattern(pattern), ActionOutline::Prefix { prefix, .. }) => {
            (pattern, *prefix)
        }
        (
            MatcherOutline::Pattern(pattern),
            ActionOutline::Rename {
                name, tag: true, ..
            },
        ) => (pattern, *name),
        (MatcherOutline::Pattern(_), _) => {
            return Err("a mirror keeps tag and digest".to_owned());
        }
        (MatcherOutline::Regex(..), _) => {
            return Err("a mirror has no expressions; write the rule with `from`".to_owned());
        }
    };
    let (beginning, whole) = pattern.beginning();
    let prefix = beginning.trim_end_matches('/');
    if prefix.is_empty() {
        return Err("a mirror needs the name of a registry".to_owned());
    }
    match language {
        Language::HostsToml if !whole || prefix.contains('/') => {
            Err("a mirror is for all of a registry".to_owned())
        }
        Language::RegistriesConf
            if !whole && pattern.repository().is_none() && !is_one_level(pattern) =>
        {
            Err("a mirror is for all names with the same beginning".to_owned())
        }
        _ => Ok(Some(Mirror {
            prefix: prefix.to_owned(),
            location: location.to_owned(),
            rule: rule.name.to_owned(),
        })),
    }
}

/// Whether a pattern is a fixed path and `*`, for any tag and digest.
fn is_one_level(pattern: &Pattern) -> bool {
    let text = pattern.to_string();
    text.strip_suffix("/*")
        .is_some_and(|it| !it.contains(['*', '@']))
}

/// Parts of a policy that no mirror can say.
fn others(policy: &Policy, outline: &Outline<'_>, today: Date, parts: &mut Parts<'_>) {
    let scope = &outline.scope;
    let any = LabelSelector::default();
    let everything = scope
        .namespaces
        .as_ref()
        .is_some_and(|it| it.contains(&"*"))
        && scope.excluded.is_empty()
        && *scope.namespace_selector == any
        && *scope.object_selector == any
        && scope.opt_out.is_none();
    if everything {
        parts.exported("match");
    } else {
        parts.differs(
            "match",
            "a mirror serves every container of a node, also in namespaces that the policy does not apply to",
        );
    }
    if outline.approved.is_some() {
        parts.left_out("approved", REFUSES);
    }
    for it in &outline.denied {
        parts.left_out(format!("{} {}", it.name, it.listed.pattern), REFUSES);
    }
    if policy.enforcement() != Enforcement::Audit {
        parts.left_out(format!("enforcement {}", policy.enforcement()), REFUSES);
    }
    for (at, it) in outline.exceptions.iter().enumerate() {
        let part = format!("exceptions[{at}] {}", it.listed.pattern);
        if today > it.until {
            parts.exported(part);
        } else {
            parts.left_out(part, "a mirror has no dates");
        }
    }
    for it in policy.pull_secrets() {
        parts.left_out(
            format!("imagePullSecrets {}", it.name()),
            "a runtime has credentials of its own for a mirror",
        );
    }
}
