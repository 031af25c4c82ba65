//! The revision: a short name of what a policy decides, the same in every process and every build.

use super::{Action, Approval, Draft, Join, Matcher, Place, ScopeRule};
use crate::document::LabelSelector;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Bytes of the hash that the revision shows.
const LENGTH: usize = 6;

/// Hashes what decides. Names of rules do not: they carry line numbers, which comments move.
pub(super) fn of(draft: &Draft) -> String {
    let mut hash = Fields(Sha256::new());
    hash.field("imageswap policy 1");
    hash.field(&draft.name);
    hash.field(&draft.priority.to_string());
    hash.field(draft.enforcement.as_str());
    hash.scope(&draft.scope);
    match &draft.approval {
        Approval::ByRules { rest: true } => hash.field("approve"),
        Approval::ByRules { rest: false } => hash.field("refuse"),
        Approval::Listed(patterns) => {
            hash.field("listed");
            for pattern in patterns {
                hash.fields(&["approved", pattern.as_str()]);
            }
        }
    }
    for exception in &draft.exceptions {
        hash.fields(&[
            "exception",
            exception.pattern.as_str(),
            &exception.until.to_julian_day().to_string(),
        ]);
    }
    for secret in &draft.pull_secrets {
        hash.fields(&["pull secret", secret.registry(), secret.name()]);
    }
    for rule in &draft.rules {
        hash.matcher(&rule.matcher);
        hash.action(&rule.action);
    }
    for place in &draft.targets {
        hash.place(place);
    }
    hash.0
        .finalize()
        .iter()
        .take(LENGTH)
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            _ = write!(text, "{byte:02x}");
            text
        })
}

/// Hashes fields with their lengths, so that no two lists of fields run together.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }

    fn fields(&mut self, texts: &[&str]) {
        for text in texts {
            self.field(text);
        }
    }

    fn scope(&mut self, scope: &ScopeRule) {
        match scope {
            ScopeRule::Labels { opt_in, opt_out } => self.fields(&["labels", opt_in, opt_out]),
            ScopeRule::Selectors {
                namespace,
                object,
                node,
                opt_out,
            } => {
                self.field("selectors");
                self.selector(namespace);
                self.selector(object);
                self.fields(&[
                    if *node { "node" } else { "pods" },
                    opt_out.as_deref().unwrap_or_default(),
                ]);
            }
        }
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

    fn matcher(&mut self, matcher: &Matcher) {
        match matcher {
            Matcher::Text(text) => self.fields(&["text", text]),
            Matcher::Glob(glob) => self.fields(&["glob", glob.as_str()]),
            Matcher::Registry(key) => self.fields(&["registry", key]),
            Matcher::Name => self.field("name"),
            Matcher::Within(part, place) => {
                self.fields(&["within", part]);
                self.place(place);
            }
            Matcher::Contains(part) => self.fields(&["contains", part]),
            Matcher::Any => self.field("any"),
            Matcher::Pattern(pattern) => self.fields(&["pattern", pattern.as_str()]),
            Matcher::Regex(expression) => self.fields(&["regex", expression.as_str()]),
        }
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Keep { approved: true } => self.field("approve"),
            Action::Keep { approved: false } => self.field("keep"),
            Action::Rest => self.field("rest"),
            Action::Fill(template) => self.fields(&["fill", template.as_str()]),
            Action::Replace(target) => {
                let count;
                let join = match target.join {
                    Join::Remainder { carry_port: false } => "remainder",
                    Join::Remainder { carry_port: true } => "port and remainder",
                    Join::Mirror => "mirror",
                    Join::LastSegment => "last segment",
                    Join::Nothing => "nothing",
                    Join::Text => "text",
                    Join::Path(skip) => {
                        count = format!("path from {skip}");
                        &count
                    }
                    Join::Rename { tag, digest } => {
                        count = format!("rename {tag} {digest}");
                        &count
                    }
                };
                self.fields(&[
                    "replace",
                    join,
                    &target.prefix,
                    if target.mended { "mended" } else { "" },
                ]);
            }
        }
    }

    fn place(&mut self, place: &Place) {
        match place {
            Place::Path {
                registry,
                any_port,
                path,
            } => {
                self.fields(&[if *any_port { "any port" } else { "path" }, registry, path]);
            }
            Place::Pattern(pattern) => self.fields(&["pattern", pattern.as_str()]),
            Place::Mirrors(prefix) => self.fields(&["mirrors", prefix]),
            Place::Names(prefix) => self.fields(&["names", prefix]),
            Place::Image {
                registry,
                path,
                tag,
                digest,
            } => {
                let part = |it: &Option<String>| it.clone().unwrap_or_default();
                self.fields(&["image", registry, path, &part(tag), &part(digest)]);
            }
        }
    }
}
