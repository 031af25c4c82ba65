//! A rule of another program in the common form that all readers produce.

use crate::report::Status;
use crate::scope::{Block, Formula, Literal};
use imageswap_policy::document::Enforcement;
use imageswap_policy::manifest::List;
use imageswap_policy::yaml::Span;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A text and its origin.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Name of the file, for the report.
    pub name: &'a str,
    /// Its content.
    pub text: &'a str,
}

/// The result of a rule for an image, both as written; an error says why the source cannot be
/// evaluated.
pub(crate) type Swap = Evaluated<String>;
/// Whether a rule lets an image in.
pub(crate) type Check = Evaluated<bool>;
/// A rule's answer about an image, evaluated as its program would.
type Evaluated<T> = Rc<dyn Fn(&str) -> Result<T, String>>;

/// Where a rule is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) source: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Kind and name of the document.
    pub(crate) kind: String,
    pub(crate) document: String,
    /// Name of the rule within it.
    pub(crate) rule: String,
}

impl Origin {
    /// The same document, at another place.
    pub(crate) fn at(&self, span: Span) -> Self {
        Self {
            line: span.line,
            column: span.column,
            ..self.clone()
        }
    }
}

/// One rule that was understood.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) origin: Origin,
    /// Pods that one of these blocks selects.
    pub(crate) scope: Vec<Block>,
    pub(crate) lists: Lists,
    pub(crate) effect: Effect,
    pub(crate) vocabulary: Vocabulary,
    /// Names of Secrets that the rule adds for the images that it moves.
    pub(crate) secrets: Vec<String>,
    /// It is one of the rules of a configuration that decides by the image as written: the first
    /// rule that changes the image is the only one that does.
    pub(crate) alternative: bool,
    /// Known differences that affect more than single images.
    pub(crate) differences: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Intent {
    /// A rule about all lists of containers, without peculiarities.
    pub(crate) fn new(
        origin: Origin,
        scope: Vec<Block>,
        effect: Effect,
        vocabulary: Vocabulary,
    ) -> Self {
        Self {
            origin,
            scope,
            lists: Lists::ALL,
            effect,
            vocabulary,
            secrets: Vec::new(),
            alternative: false,
            differences: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The same rule, evaluated only once per image.
    pub(crate) fn remembering(mut self) -> Self {
        self.effect = match self.effect {
            Effect::Swap(swap) => Effect::Swap(remember(swap)),
            Effect::Check {
                holds,
                enforcement,
                message,
            } => Effect::Check {
                holds: remember(holds),
                enforcement,
                message,
            },
        };
        self
    }
}

fn remember<T: Clone + 'static>(function: Evaluated<T>) -> Evaluated<T> {
    let known: RefCell<HashMap<String, Result<T, String>>> = RefCell::default();
    Rc::new(move |text| {
        if let Some(answer) = known.borrow().get(text) {
            return answer.clone();
        }
        let answer = function(text);
        known.borrow_mut().insert(text.to_owned(), answer.clone());
        answer
    })
}

/// What the rule does.
#[derive(Clone)]
pub(crate) enum Effect {
    Swap(Swap),
    Check {
        holds: Check,
        enforcement: Enforcement,
        message: Option<String>,
    },
}

/// The lists of containers that a rule reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) containers: bool,
    pub(crate) init: bool,
    pub(crate) ephemeral: bool,
}

/// Texts of the source, from which images to try are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    /// Parts of images.
    pub(crate) texts: Vec<String>,
    /// Wildcards for the text of an image, in which `*` crosses `/`.
    pub(crate) wildcards: Vec<String>,
    /// Regular expressions and the templates that replace what they match.
    pub(crate) templates: Vec<(String, String)>,
}

/// The outcome of reading one rule.
pub(crate) enum Reading {
    Understood(Intent),
    /// Not understood, and why.
    LeftOut(Origin, String),
    /// No rule is needed: the outcome, and its reason or a remark.
    Settled(Origin, Status, String),
}

impl Reading {
    /// A rule of a node's configuration, which is for all Pods of the node.
    pub(crate) fn of_nodes(
        origin: Origin,
        effect: Effect,
        vocabulary: Vocabulary,
        differences: Vec<String>,
        notes: Vec<String>,
    ) -> Self {
        match Formula::Is(Literal::InNamespaces(vec!["*".to_owned()])).blocks() {
            Ok(scope) => Self::Understood(Intent {
                alternative: true,
                differences,
                notes,
                ..Intent::new(origin, scope, effect, vocabulary)
            }),
            Err(why) => Self::LeftOut(origin, why),
        }
    }
}

impl Vocabulary {
    /// Adds another vocabulary.
    pub(crate) fn add(&mut self, other: &Self) {
        self.texts.extend(other.texts.iter().cloned());
        self.wildcards.extend(other.wildcards.iter().cloned());
        self.templates.extend(other.templates.iter().cloned());
        for list in [&mut self.texts, &mut self.wildcards] {
            list.sort();
            list.dedup();
        }
        self.templates.sort();
        self.templates.dedup();
    }
}

/// The fields with the lists of containers.
pub(crate) const LISTS: [&str; 3] = {
    let [containers, init, ephemeral] = List::CONTAINERS;
    [containers.as_str(), init.as_str(), ephemeral.as_str()]
};

impl Lists {
    pub(crate) const ALL: Self = Self {
        containers: true,
        init: true,
        ephemeral: true,
    };

    pub(crate) const NOT_EPHEMERAL: Self = Self {
        ephemeral: false,
        ..Self::ALL
    };

    /// The lists by the names of Kubernetes' fields.
    pub(crate) fn named(names: &[&str]) -> Self {
        let [containers, init, ephemeral] = LISTS.map(|it| names.contains(&it));
        Self {
            containers,
            init,
            ephemeral,
        }
    }

    /// The lists that at least one of both reads.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            containers: self.containers || other.containers,
            init: self.init || other.init,
            ephemeral: self.ephemeral || other.ephemeral,
        }
    }

    /// Each list that is read, as one.
    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        let none = Self::default();
        [
            self.containers.then_some(Self {
                containers: true,
                ..none
            }),
            self.init.then_some(Self { init: true, ..none }),
            self.ephemeral.then_some(Self {
                ephemeral: true,
                ..none
            }),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether it reads all that the other reads.
    pub(crate) fn includes(self, other: Self) -> bool {
        (self.containers || !other.containers)
            && (self.init || !other.init)
            && (self.ephemeral || !other.ephemeral)
    }

    /// The lists that are read, for messages.
    pub(crate) fn names(self) -> Vec<&'static str> {
        self.of(true)
    }

    /// The lists that are not read, for messages.
    pub(crate) fn missing(self) -> Vec<&'static str> {
        self.of(false)
    }

    fn of(self, wanted: bool) -> Vec<&'static str> {
        let read = [self.containers, self.init, self.ephemeral].into_iter();
        let these = read.zip(LISTS).filter(|(read, _)| *read == wanted);
        these.map(|(_, name)| name).collect()
    }
}
