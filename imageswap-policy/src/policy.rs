//! A compiled policy: the parts common to every format, and the engine of its format.
//!
//! A maps file means what ImageSwap does with it, and a document what its rules say, so each has
//! its own engine. Both give the same kind of answer, and every answer is stable.

use crate::decision::Decision;
use crate::enforcement::Enforcement;
use crate::guard::Asking;
use crate::maps_engine;
use crate::reference::Reference;
use crate::revision::Fields;
use crate::rules::Rules;
use crate::scope::{Missing, ScopeRule};
use std::collections::BTreeSet;
use std::sync::Arc;
use time::Date;

/// A compiled policy: immutable, cheap to share, and the only part that decides.
#[derive(Debug, Clone)]
pub struct Policy {
    head: Arc<Head>,
    revision: String,
    engine: Engine,
}

/// The parts of a policy in every format.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) priority: i32,
    pub(crate) scope: ScopeRule,
    pub(crate) enforcement: Enforcement,
    /// Whether admission changes images, or only reports what it would do.
    pub(crate) swaps: bool,
    pub(crate) message: Option<String>,
    pub(crate) pull_secrets: Vec<PullSecret>,
    /// Registry hosts that the text names.
    pub(crate) registries: BTreeSet<String>,
    /// Patterns of approved images, for people.
    pub(crate) places: Vec<String>,
}

/// What decides.
#[derive(Debug, Clone)]
enum Engine {
    Document(Arc<Rules>),
    Maps(Arc<maps_engine::Engine>),
}

/// A Secret that a Pod needs for images from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSecret {
    registry: String,
    name: String,
}

impl Policy {
    pub(crate) fn document(head: Head, rules: Rules) -> Self {
        Self {
            revision: head.revision(|hash| rules.hash(hash)),
            head: Arc::new(head),
            engine: Engine::Document(Arc::new(rules)),
        }
    }

    pub(crate) fn maps(head: Head, engine: maps_engine::Engine) -> Self {
        Self {
            revision: head.revision(|hash| engine.hash(hash)),
            head: Arc::new(head),
            engine: Engine::Maps(Arc::new(engine)),
        }
    }

    /// Name of the policy, for findings and metrics.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// Of the policies that match a Pod, the one with the highest priority decides; among equals, the first by name.
    pub fn priority(&self) -> i32 {
        self.head.priority
    }

    /// Short hash of the compiled policy; equal revisions decide alike, in every process.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What to do about an image that is not approved.
    pub fn enforcement(&self) -> Enforcement {
        self.head.enforcement
    }

    /// Whether admission changes images. A policy under audit only reports what it would change;
    /// ImageSwap's maps files never deny, but do swap.
    pub fn swaps(&self) -> bool {
        self.head.swaps
    }

    /// The author's message about an image that is not approved.
    pub fn message(&self) -> Option<&str> {
        self.head.message.as_deref()
    }

    /// The Secrets that Pods need for images from certain registries, in the order of the document.
    pub fn pull_secrets(&self) -> &[PullSecret] {
        &self.head.pull_secrets
    }

    /// Patterns of approved images, for messages; exceptions are left out.
    pub fn approved_places(&self) -> &[String] {
        &self.head.places
    }

    /// The pattern of each exception as written, and the last day on which it holds, in UTC.
    pub fn exceptions(&self) -> impl Iterator<Item = (&str, Date)> {
        let exceptions = match &self.engine {
            Engine::Document(rules) => rules.exceptions(),
            Engine::Maps(_) => &[],
        };
        exceptions.iter().map(|it| (it.pattern.as_str(), it.until))
    }

    /// Registry hosts that the policy names, canonical; a bounded set for metric labels.
    pub fn registries(&self) -> impl Iterator<Item = &str> {
        self.head.registries.iter().map(String::as_str)
    }

    pub(crate) fn is_under_target(&self, asking: Asking<'_>, image: &str) -> bool {
        Reference::parse(image).is_ok_and(|it| match &self.engine {
            Engine::Document(rules) => rules.is_under_target(asking, &it),
            Engine::Maps(engine) => engine.is_under_target(&it),
        })
    }

    /// The names that guards of the policy need.
    pub(crate) fn guards(&self) -> Missing {
        match &self.engine {
            Engine::Document(rules) => rules.guards(),
            Engine::Maps(_) => Missing::default(),
        }
    }

    /// Whether a registry has to be asked about the results of some rules: `ifMissing: keep`.
    pub fn asks_registries(&self) -> bool {
        match &self.engine {
            Engine::Document(rules) => rules.asks_registries(),
            Engine::Maps(_) => false,
        }
    }

    /// Names of the rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        let (document, maps) = match &self.engine {
            Engine::Document(rules) => (Some(rules.names()), None),
            Engine::Maps(engine) => (None, Some(engine.names())),
        };
        document
            .into_iter()
            .flatten()
            .chain(maps.into_iter().flatten())
    }

    /// Whether the policy selects by namespace labels other than the name.
    pub fn needs_namespace_labels(&self) -> bool {
        self.head.scope.needs_namespace_labels()
    }

    /// The rules of a document; `None` for a maps file.
    pub(crate) fn rules_of_document(&self) -> Option<&Rules> {
        match &self.engine {
            Engine::Document(rules) => Some(rules),
            Engine::Maps(_) => None,
        }
    }

    pub(crate) fn scope(&self) -> &ScopeRule {
        &self.head.scope
    }

    pub(crate) fn resolve<'i, 'p: 'i>(
        &'p self,
        asking: Asking<'_>,
        image: &'i str,
    ) -> Decision<'i> {
        match &self.engine {
            Engine::Document(rules) => rules.resolve(asking, image, |_, _| ()),
            Engine::Maps(engine) => engine.decide(image),
        }
    }

    /// Each rule that moves the image, and its result; empty if the image stays.
    pub(crate) fn steps<'p>(&'p self, asking: Asking<'_>, image: &str) -> Vec<(&'p str, String)> {
        match &self.engine {
            Engine::Document(rules) => {
                let mut steps = Vec::new();
                let moved = |rule, to: &str| steps.push((rule, to.to_owned()));
                if !rules.resolve(asking, image, moved).swapped() {
                    steps.clear();
                }
                steps
            }
            Engine::Maps(engine) => engine.step(image).into_iter().collect(),
        }
    }

    /// How many rules are tried before one matches the image; all if none does.
    pub(crate) fn tried(&self, asking: Asking<'_>, image: &str) -> usize {
        match &self.engine {
            Engine::Document(rules) => rules.tried(asking, image),
            Engine::Maps(engine) => engine.tried(image),
        }
    }
}

impl Head {
    /// The hash of everything that affects decisions: the head, and what `engine` adds. Names of
    /// rules do not: they carry line numbers, which comments change.
    fn revision(&self, engine: impl FnOnce(&mut Fields)) -> String {
        let mut hash = Fields::new();
        hash.field(&self.name);
        hash.field(&self.priority.to_string());
        hash.field(self.enforcement.as_str());
        hash.scope(&self.scope);
        for secret in &self.pull_secrets {
            hash.fields(&["pull secret", secret.registry(), secret.name()]);
        }
        engine(&mut hash);
        hash.finish()
    }
}

impl PullSecret {
    pub(crate) fn new(registry: String, name: String) -> Self {
        Self { registry, name }
    }

    /// The registry: a canonical host, with its port if it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Name of the Secret, in the Pod's namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}
