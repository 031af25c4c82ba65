//! The revision: a short hash of a policy's behaviour, the same in every process and every build.

use crate::guard::{Guard, Names};
use crate::scope::ScopeRule;
use crate::selector::LabelSelector;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Digits of the hash that a revision shows.
pub(crate) const LENGTH: usize = 12;

/// The SHA-256 of `bytes`, in hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// `bytes` in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hashes fields with their lengths, so that different lists of fields never look the same.
pub(crate) struct Fields(Sha256);

impl Fields {
    pub(crate) fn new() -> Self {
        let mut hash = Self(Sha256::new());
        hash.field("imageswap policy 2");
        hash
    }

    /// The revision.
    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize()[..LENGTH / 2])
    }

    pub(crate) fn field(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }

    pub(crate) fn fields(&mut self, texts: &[&str]) {
        for text in texts {
            self.field(text);
        }
    }

    pub(crate) fn scope(&mut self, scope: &ScopeRule) {
        self.names("namespaces", scope.namespaces.as_ref());
        self.names("excluded namespaces", scope.excluded.as_ref());
        self.field("selectors");
        self.selector(&scope.namespace);
        self.selector(&scope.object);
        self.fields(&[
            if scope.node { "node" } else { "pods" },
            scope.opt_out.as_deref().unwrap_or_default(),
            if scope.trusts_labels { "trusted" } else { "" },
        ]);
    }

    /// Adds a guard; nothing if the item holds everywhere.
    pub(crate) fn guard(&mut self, guard: &Guard) {
        self.names("in namespaces", guard.namespaces.as_ref());
        self.names("in containers", guard.containers.as_ref());
    }

    fn names(&mut self, what: &str, names: Option<&Names>) {
        let Some(names) = names else { return };
        self.field(what);
        for name in names.iter() {
            self.fields(&["name", name]);
        }
        self.field("end");
    }

    fn selector(&mut self, selector: &LabelSelector) {
        for (key, value) in &selector.match_labels {
            self.fields(&["label", key, value]);
        }
        for it in &selector.match_expressions {
            self.fields(&["expression", &it.key, &format!("{:?}", it.operator)]);
            for value in &it.values {
                self.fields(&["value", value]);
            }
        }
        self.field("end");
    }
}
