//! The engine of maps files: the answer of ImageSwap's first pass, and corrections to it.
//!
//! An image under a target stays there, whatever the other lines say. So every answer is final: it
//! lies under a target, or ImageSwap leaves it alone.

use crate::decision::{Decision, Reason};
use crate::reference::Reference;
use crate::revision::Fields;
use std::borrow::Cow;

mod file;
mod glob;
mod place;
mod prefix;

pub(crate) use file::{File, Item, is_bare_host};
pub(crate) use glob::Glob;
use place::Places;
pub(crate) use place::{Path, Place};

/// A line of a file, or the legacy prefix.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    /// The key with its mark, or an item of `noswap_wildcards`; used for the revision.
    pub(crate) key: String,
    /// As written.
    pub(crate) value: String,
}

/// A compiled maps file or legacy prefix.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// In the order in which they are tried.
    rules: Vec<Rule>,
    mode: Mode,
    targets: Places,
}

/// ImageSwap's two modes.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    File(File),
    /// Every image gets the value of the only rule, if there is one.
    Prefix,
}

/// A possible answer, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// Position of the rule that decides; `None` if no rule matches.
    pub(crate) rule: Option<usize>,
    /// The new image; `None` if there is no answer.
    pub(crate) text: Option<Cow<'a, str>>,
}

impl<'a> Answer<'a> {
    fn new(rule: usize, text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            rule: Some(rule),
            text: Some(text.into()),
        }
    }

    fn stays(rule: Option<usize>, image: &'a str) -> Self {
        Self {
            rule,
            text: Some(Cow::Borrowed(image)),
        }
    }

    fn fails(rule: Option<usize>) -> Self {
        Self { rule, text: None }
    }
}

impl Engine {
    /// `rules` in the order in which they are tried, and the targets of their values.
    pub(crate) fn new(rules: Vec<Rule>, mode: Mode, targets: Vec<Place>) -> Self {
        Self {
            rules,
            mode,
            targets: Places::new(targets),
        }
    }

    /// The image that should run instead, and whether it is approved.
    pub(crate) fn decide<'i, 'p: 'i>(&'p self, image: &'i str) -> Decision<'i> {
        let decision = |rule: Option<usize>, reason, approved| Decision {
            result: Cow::Borrowed(image),
            rule: rule.map(|it| self.rules[it].name.as_str()),
            approved,
            in_scope: true,
            reason,
            denied: None,
            conditional: false,
        };
        let Ok(reference) = Reference::parse(image) else {
            return decision(None, Reason::Unparsable, false);
        };
        if self.targets.cover(&reference) {
            return decision(None, Reason::AlreadyTarget, true);
        }
        let stays = |rule: Option<usize>| {
            let rule = rule.or_else(|| self.mode.names(&reference));
            let reason = rule.map_or(Reason::NoRule, |_| Reason::Kept);
            decision(rule, reason, self.approves(&reference))
        };
        let mut invalid = None;
        for answer in [Self::first_pass, Self::mended] {
            let Answer { rule, text } = answer(self, &reference);
            let Some(text) = text else {
                invalid = rule.or(invalid);
                continue;
            };
            if text == image {
                return stays(rule);
            }
            invalid = rule;
            if let Some(approved) = self.rests(&text) {
                return Decision {
                    result: Cow::Owned(text.into_owned()),
                    ..decision(rule, Reason::Swapped, approved)
                };
            }
        }
        decision(invalid, Reason::InvalidResult, false)
    }

    /// ImageSwap's answer for any text, mistakes included; `None` if it fails.
    pub(crate) fn imageswap(&self, image: &str) -> Option<String> {
        let answer = self.mode.first_pass(&self.rules, image);
        answer.text.map(Cow::into_owned)
    }

    /// The rule that moves the image, and its result; `None` if the image stays.
    pub(crate) fn step<'p>(&'p self, image: &str) -> Option<(&'p str, String)> {
        let decision = self.decide(image);
        let moved = decision.rule.filter(|_| decision.swapped())?;
        let rule = self.names().find(|it| *it == moved)?;
        Some((rule, decision.result.into_owned()))
    }

    /// How many rules are tried before one decides; all if none does, and none under a target.
    pub(crate) fn tried(&self, image: &str) -> usize {
        let decision = self.decide(image);
        match decision.reason {
            Reason::Unparsable | Reason::AlreadyTarget => 0,
            _ => self
                .names()
                .position(|it| Some(it) == decision.rule)
                .unwrap_or(self.rules.len()),
        }
    }

    /// Names of the rules, in the order in which they are tried.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|it| it.name.as_str())
    }

    pub(crate) fn is_under_target(&self, reference: &Reference<'_>) -> bool {
        self.targets.cover(reference)
    }

    /// Hashes everything that affects decisions. Names of rules do not: they carry line numbers,
    /// which comments change.
    pub(crate) fn hash(&self, hash: &mut Fields) {
        hash.field(match self.mode {
            Mode::File(_) => "maps",
            Mode::Prefix => "image prefix",
        });
        for rule in &self.rules {
            hash.fields(&[&rule.key, &rule.value]);
        }
    }

    fn first_pass<'a>(&self, reference: &Reference<'a>) -> Answer<'a> {
        self.mode.first_pass(&self.rules, reference.as_str())
    }

    fn mended<'a>(&self, reference: &Reference<'a>) -> Answer<'a> {
        match &self.mode {
            Mode::File(file) => file.mended(&self.rules, reference),
            Mode::Prefix => prefix::mended(&self.rules, reference),
        }
    }

    /// Whether an answer is a reference that stays, and whether that is approved.
    fn rests(&self, answer: &str) -> Option<bool> {
        let reference = Reference::parse(answer).ok()?;
        if self.targets.cover(&reference) {
            return Some(true);
        }
        let again = self.first_pass(&reference).text;
        (again.as_deref() == Some(answer)).then(|| self.approves(&reference))
    }

    /// Whether an image that stays outside of all targets is approved.
    fn approves(&self, reference: &Reference<'_>) -> bool {
        match &self.mode {
            Mode::File(file) => file.approves(&self.rules, reference),
            Mode::Prefix => self.rules.is_empty(),
        }
    }
}

impl Mode {
    fn first_pass<'a>(&self, rules: &[Rule], image: &'a str) -> Answer<'a> {
        match self {
            Self::File(file) => file.first_pass(rules, image),
            Self::Prefix => prefix::first_pass(rules, image),
        }
    }

    /// The rule whose key names an image that stays, although the key does not apply to it.
    fn names(&self, reference: &Reference<'_>) -> Option<usize> {
        match self {
            Self::File(file) => file.named(reference),
            Self::Prefix => None,
        }
    }
}

/// The prefix that a value adds. A `/` at its end would double the following one.
pub(crate) fn target_prefix(value: &str) -> &str {
    match value.trim_end_matches('/') {
        "" => value,
        trimmed => trimmed,
    }
}

/// The last path segment, with tag and digest.
fn last_segment(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}
