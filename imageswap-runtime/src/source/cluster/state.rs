//! What of the cluster's policy texts is in force: a pure account of everything heard so far.
//!
//! Each object stands for itself: one that does not load leaves its own last good version in force, and changes
//! nothing about the others. What is deleted goes out of force.

use std::collections::{BTreeMap, BTreeSet};

use imageswap_policy::document::{self, API_VERSION, KIND};
use imageswap_policy::{Diagnostic, Diagnostics, Policies, Policy, maps};
use serde_json::{Value, json};

/// How messages name the maps ConfigMap.
const MAPS: &str = "maps ConfigMap";

/// Everything heard of the policies of a cluster.
#[derive(Debug, Default)]
pub(crate) struct State {
    options: maps::Options,
    documents: BTreeMap<String, Object>,
    maps: Object,
}

/// One object's text, as far as it is good.
#[derive(Debug, Default)]
struct Object {
    good: Option<Good>,
    /// Whether the newest version is of no use.
    refused: bool,
}

#[derive(Debug)]
struct Good {
    text: String,
    policy: Policy,
}

/// What is said about the newest version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in force.
    Accepted {
        /// Its revision.
        revision: String,
        /// What its author may want to look at, one message a line; often empty.
        warnings: String,
    },
    /// It does not load; what loaded before stays in force.
    Refused {
        /// Why, one message a line.
        reasons: String,
    },
}

/// The texts in force, to start from another time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// JSON documents by the policies' names.
    pub(crate) documents: BTreeMap<String, String>,
    /// The maps file's text.
    pub(crate) maps: Option<String>,
}

impl State {
    pub(crate) fn new(options: maps::Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Puts what was good once into force, until something newer is heard. What does not load any more, with another
    /// version of this program, is returned as messages.
    pub(crate) fn restore(&mut self, texts: &Texts) -> Vec<String> {
        let mut lost = Vec::new();
        for (name, text) in &texts.documents {
            if let Verdict::Refused { reasons } = self.document(name, text.clone()) {
                lost.push(format!("{KIND} {name}: {reasons}"));
            }
        }
        if let Some(text) = &texts.maps
            && let Verdict::Refused { reasons } = self.maps(text)
        {
            lost.push(reasons);
        }
        lost
    }

    /// Hears of a document: new, or another version of it. `text` is that of [`document_text`].
    pub(crate) fn document(&mut self, name: &str, text: String) -> Verdict {
        let loaded = document::load(&format!("{KIND} {name}"), &text);
        let loaded = loaded.and_then(|it| match it.policies.into_iter().next() {
            Some(policy) => Ok((policy, it.warnings)),
            None => Err(Diagnostics::default()),
        });
        let object = self.documents.entry(name.to_owned()).or_default();
        object.hear(text, loaded, Diagnostic::at_field)
    }

    /// Hears that a document is no more.
    pub(crate) fn no_document(&mut self, name: &str) {
        self.documents.remove(name);
    }

    /// Hears that there are no other documents than these.
    pub(crate) fn only_documents(&mut self, names: &BTreeSet<String>) {
        self.documents.retain(|name, _| names.contains(name));
    }

    /// Hears of the maps file.
    pub(crate) fn maps(&mut self, text: &str) -> Verdict {
        let loaded = maps::load_with(MAPS, text, &self.options);
        let loaded = loaded.map(|it| (it.policy, it.warnings));
        self.maps.hear(text.to_owned(), loaded, Diagnostic::summary)
    }

    /// Hears that the maps file's object has no text; what loaded before stays in force.
    pub(crate) fn refuse_maps(&mut self) {
        self.maps.refused = true;
    }

    /// Hears that there is no maps file.
    pub(crate) fn no_maps(&mut self) {
        self.maps = Object::default();
    }

    /// What is in force.
    pub(crate) fn policies(&self) -> Policies {
        let all = self.documents.values().chain([&self.maps]);
        let good = all.filter_map(|it| it.good.as_ref());
        Policies::new(good.map(|it| it.policy.clone()).collect())
    }

    /// Of how many objects the newest version is of no use.
    pub(crate) fn refused(&self) -> usize {
        let all = self.documents.values().chain([&self.maps]);
        all.filter(|it| it.refused).count()
    }

    /// The texts of what is in force.
    pub(crate) fn texts(&self) -> Texts {
        let documents = self.documents.iter();
        let text = |it: &Object| it.good.as_ref().map(|good| good.text.clone());
        Texts {
            documents: documents
                .filter_map(|(name, it)| Some((name.clone(), text(it)?)))
                .collect(),
            maps: text(&self.maps),
        }
    }
}

impl Object {
    fn hear(
        &mut self,
        text: String,
        loaded: Result<(Policy, Diagnostics), Diagnostics>,
        line: impl Fn(&Diagnostic) -> String,
    ) -> Verdict {
        let lines = |it: &Diagnostics| it.iter().map(&line).collect::<Vec<_>>().join("\n");
        self.refused = loaded.is_err();
        match loaded {
            Ok((policy, warnings)) => {
                let verdict = Verdict::Accepted {
                    revision: policy.revision().to_owned(),
                    warnings: lines(&warnings),
                };
                self.good = Some(Good { text, policy });
                verdict
            }
            Err(errors) => Verdict::Refused {
                reasons: lines(&errors),
            },
        }
    }
}

/// The text of an ImageSwapPolicy as the API server has it, without what Kubernetes keeps beside it. `data` is the
/// object without its metadata.
pub(crate) fn document_text(name: &str, data: &Value) -> String {
    let mut text = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}});
    for (key, value) in data.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            text[key] = value.clone();
        }
    }
    format!("{text:#}")
}

#[cfg(test)]
mod tests;
