//! The path to a custom resource's Pod template.

use std::str::FromStr;
use thiserror::Error;

/// The path at which objects of a kind keep a Pod template (or a Pod's `spec` itself), written
/// `KIND=PATH`.
///
/// The kind may be followed by its API group (`Job.batch.volcano.sh`). The path consists of field
/// names separated by `.`; `*` is every item of a list or every value of a mapping, and `field[*]`
/// is `field.*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplatePath {
    kind: String,
    group: Option<String>,
    steps: Vec<Step>,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The value of a key.
    Field(String),
    /// Every item or value.
    Each,
}

/// Why a text is not a [`TemplatePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// There is no `=`.
    #[error("expected `KIND=PATH`, such as `Rollout=spec.template`")]
    NoPath,
    /// Nothing, or only a group, comes before the `=`.
    #[error("expected a kind before the `=`")]
    NoKind,
    /// A name between two dots, at the beginning or at the end is empty.
    #[error("expected a field name or `*` between the dots of the path")]
    EmptyStep,
    /// Brackets other than `[*]` after a field.
    #[error("expected no other brackets in the path than `[*]` after a field")]
    Brackets,
}

impl TemplatePath {
    /// Whether objects of this kind keep a template there.
    pub(super) fn is_of(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group.as_ref().is_none_or(|it| it == group)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The path as text, for messages.
    pub(super) fn path(&self) -> String {
        let steps = self.steps.iter().map(|it| match it {
            Step::Field(name) => name.as_str(),
            Step::Each => "*",
        });
        steps.collect::<Vec<_>>().join(".")
    }
}

impl FromStr for TemplatePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (kind, path) = text.split_once('=').ok_or(PathError::NoPath)?;
        let (kind, group) = match kind.trim().split_once('.') {
            Some((kind, group)) => (kind, Some(group.to_owned())),
            None => (kind.trim(), None),
        };
        if kind.is_empty() || group.as_deref() == Some("") {
            return Err(PathError::NoKind);
        }
        let path = path.trim();
        // As kubectl writes it.
        let path = path.strip_prefix('.').unwrap_or(path);
        let mut steps = Vec::new();
        for step in path.split('.') {
            let (field, each) = match step.strip_suffix("[*]") {
                Some(field) => (field, true),
                None => (step, false),
            };
            match field {
                "" => return Err(PathError::EmptyStep),
                "*" => steps.push(Step::Each),
                _ if field.contains(['[', ']']) => return Err(PathError::Brackets),
                _ => steps.push(Step::Field(field.to_owned())),
            }
            if each {
                steps.push(Step::Each);
            }
        }
        Ok(Self {
            kind: kind.to_owned(),
            group,
            steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let rows = [
            ("Rollout=spec.template", Ok("spec.template")),
            ("Rollout=.spec.template", Ok("spec.template")),
            (
                "PyTorchJob=spec.replicas.*.template",
                Ok("spec.replicas.*.template"),
            ),
            (
                "Job.batch.volcano.sh=spec.tasks[*].template",
                Ok("spec.tasks.*.template"),
            ),
            ("A=*", Ok("*")),
            ("Rollout", Err(PathError::NoPath)),
            ("=spec", Err(PathError::NoKind)),
            (".g=spec", Err(PathError::NoKind)),
            ("A.=spec", Err(PathError::NoKind)),
            ("A=", Err(PathError::EmptyStep)),
            ("A=spec..x", Err(PathError::EmptyStep)),
            ("A=spec.[*]", Err(PathError::EmptyStep)),
            ("A=spec.x[0]", Err(PathError::Brackets)),
            ("A=spec.x[*][*]", Err(PathError::Brackets)),
        ];
        for (text, expected) in rows {
            let found = text.parse::<TemplatePath>().map(|it| it.path());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_group_narrows() {
        let any: TemplatePath = "Job=a".parse().unwrap();
        let one: TemplatePath = "Job.batch.volcano.sh=a".parse().unwrap();
        assert!(any.is_of("batch", "Job") && any.is_of("", "Job"));
        assert!(one.is_of("batch.volcano.sh", "Job") && !one.is_of("batch", "Job"));
        assert!(!any.is_of("batch", "CronJob"));
    }
}
