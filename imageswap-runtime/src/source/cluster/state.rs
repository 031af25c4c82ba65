//! Which of the cluster's policy texts are in force: a pure state of everything received so far.
//!
//! Each object is independent: one that does not load leaves its own last good version in force,
//! and does not affect the others. A deleted object goes out of force.

use std::collections::{BTreeMap, BTreeSet};

use imageswap_policy::document::{self, API_VERSION, KIND};
use imageswap_policy::{Diagnostic, Diagnostics, Policies, Policy, maps};
use serde_json::{Value, json};

/// The name of the maps ConfigMap in messages.
const MAPS: &str = "maps ConfigMap";

/// Everything received about the policies of a cluster.
#[derive(Debug, Default)]
pub(crate) struct State {
    options: maps::Options,
    documents: BTreeMap<String, Object>,
    maps: Object,
}

/// One object's last good text.
#[derive(Debug, Default)]
struct Object {
    good: Option<Good>,
    /// Whether the latest version was rejected.
    refused: bool,
}

#[derive(Debug)]
struct Good {
    text: String,
    policy: Policy,
}

/// The result for the latest version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in force.
    Accepted {
        /// Its revision.
        revision: String,
        /// Warnings, one message per line; often empty.
        warnings: String,
    },
    /// It does not load; the version that loaded before stays in force.
    Refused {
        /// Why, one message per line.
        reasons: String,
    },
}

/// The texts in force, for a later start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// JSON documents by policy name.
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

    /// Puts last good texts into force, until something newer arrives. Texts that this version of
    /// the program no longer loads are returned as messages.
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

    /// Handles a document: new, or another version. `text` is that of [`document_text`].
    pub(crate) fn document(&mut self, name: &str, text: String) -> Verdict {
        let loaded = document::load(&format!("{KIND} {name}"), &text);
        let loaded = loaded.and_then(|it| match it.policies.into_iter().next() {
            Some(policy) => Ok((policy, it.warnings)),
            None => Err(Diagnostics::default()),
        });
        let object = self.documents.entry(name.to_owned()).or_default();
        object.hear(text, loaded, Diagnostic::at_field)
    }

    /// Handles a document's deletion.
    pub(crate) fn no_document(&mut self, name: &str) {
        self.documents.remove(name);
    }

    /// Handles a complete list: no other documents exist.
    pub(crate) fn only_documents(&mut self, names: &BTreeSet<String>) {
        self.documents.retain(|name, _| names.contains(name));
    }

    /// Handles the maps file.
    pub(crate) fn maps(&mut self, text: &str) -> Verdict {
        let loaded = maps::load_with(MAPS, text, &self.options);
        let loaded = loaded.map(|it| (it.policy, it.warnings));
        self.maps.hear(text.to_owned(), loaded, Diagnostic::summary)
    }

    /// Handles a maps file object without a text; what loaded before stays in force.
    pub(crate) fn refuse_maps(&mut self) {
        self.maps.refused = true;
    }

    /// Handles the deletion of the maps file.
    pub(crate) fn no_maps(&mut self) {
        self.maps = Object::default();
    }

    /// The policies in force.
    pub(crate) fn policies(&self) -> Policies {
        let all = self.documents.values().chain([&self.maps]);
        let good = all.filter_map(|it| it.good.as_ref());
        Policies::new(good.map(|it| it.policy.clone()).collect())
    }

    /// How many objects have a rejected latest version.
    pub(crate) fn refused(&self) -> usize {
        let all = self.documents.values().chain([&self.maps]);
        all.filter(|it| it.refused).count()
    }

    /// The texts in force.
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

/// The text of an ImageSwapPolicy from the API server, without the fields that Kubernetes adds.
/// `data` is the object without its metadata.
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
