//! The path to the images of a kind of objects, as users write it.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The path at which objects of a kind keep an image, a container or a Pod template, written
/// `KIND=PATH`.
///
/// The kind may be followed by its API group (`Job.batch.volcano.sh`); `-` is a document without a
/// kind. The path consists of field names separated by `.`; `*` is every item of a list or every
/// value of a mapping, `field[*]` is `field.*`, and `field[NAME]` is the item called NAME, or the
/// value of an argument `NAME=...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImagePath {
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
    /// The item of a list that has this name.
    Named(String),
}

/// The kind of documents that have none.
pub(super) const NO_KIND: &str = "-";

/// Why a text is not an [`ImagePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// There is no `=`.
    #[error("expected `KIND=PATH`, such as `Widget=spec.image`")]
    NoPath,
    /// Nothing, or only a group, comes before the `=`.
    #[error("expected a kind before the `=`")]
    NoKind,
    /// A name between two dots, at the beginning or at the end is empty.
    #[error("expected a field name or `*` between the dots of the path")]
    EmptyStep,
    /// Brackets other than `[*]` and `[NAME]` after a field.
    #[error("expected no other brackets in the path than `[*]` or `[NAME]` after a field")]
    Brackets,
}

impl ImagePath {
    /// Whether it is about objects of this kind.
    pub(super) fn is_of(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group.as_ref().is_none_or(|it| it == group)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The path as text, for messages.
    pub(super) fn path(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            match step {
                Step::Named(name) => {
                    text.push('[');
                    text.push_str(name);
                    text.push(']');
                }
                Step::Field(name) => text.push_str(&dotted(&text, name)),
                Step::Each => text.push_str(&dotted(&text, "*")),
            }
        }
        text
    }
}

/// The step, written so that it can be appended to the path.
pub(super) fn dotted(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{dot}{name}")
}

/// The steps of a path.
pub(super) fn steps(path: &str) -> Result<Vec<Step>, PathError> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        // Names in brackets may have dots.
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        match field {
            "" => return Err(PathError::EmptyStep),
            "*" => steps.push(Step::Each),
            _ if field.contains(']') => return Err(PathError::Brackets),
            _ => steps.push(Step::Field(field.to_owned())),
        }
        let after = match after.strip_prefix('[') {
            Some(bracket) => {
                let (name, after) = bracket.split_once(']').ok_or(PathError::Brackets)?;
                match name {
                    "" => return Err(PathError::EmptyStep),
                    "*" => steps.push(Step::Each),
                    _ if field == "*" || name.parse::<usize>().is_ok() || name.contains('[') => {
                        return Err(PathError::Brackets);
                    }
                    _ => steps.push(Step::Named(name.to_owned())),
                }
                after
            }
            None => after,
        };
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(steps),
            None => return Err(PathError::Brackets),
        }
    }
}

/// As it was given.
impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group.as_deref();
        let group = group.map(|it| format!(".{it}")).unwrap_or_default();
        write!(f, "{}{group}={}", self.kind, self.path())
    }
}

impl FromStr for ImagePath {
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
        Ok(Self {
            kind: kind.to_owned(),
            group,
            steps: steps(path)?,
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
            (
                "A=spec.env[RELATED.X].value",
                Ok("spec.env[RELATED.X].value"),
            ),
            ("A=spec.args[--reloader]", Ok("spec.args[--reloader]")),
            ("-=image", Ok("image")),
            ("Rollout", Err(PathError::NoPath)),
            ("=spec", Err(PathError::NoKind)),
            (".g=spec", Err(PathError::NoKind)),
            ("A.=spec", Err(PathError::NoKind)),
            ("A=", Err(PathError::EmptyStep)),
            ("A=spec..x", Err(PathError::EmptyStep)),
            ("A=spec.[*]", Err(PathError::EmptyStep)),
            ("A=spec.x[0]", Err(PathError::Brackets)),
            ("A=spec.x[*][*]", Err(PathError::Brackets)),
            ("A=spec.x[a", Err(PathError::Brackets)),
            ("A=spec.x[]", Err(PathError::EmptyStep)),
            ("A=spec.x]", Err(PathError::Brackets)),
            ("A=spec.*[a]", Err(PathError::Brackets)),
        ];
        for (text, expected) in rows {
            let found = text.parse::<ImagePath>().map(|it| it.path());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_group_narrows() {
        let any: ImagePath = "Job=a".parse().unwrap();
        let one: ImagePath = "Job.batch.volcano.sh=a".parse().unwrap();
        assert!(any.is_of("batch", "Job") && any.is_of("", "Job"));
        assert!(one.is_of("batch.volcano.sh", "Job") && !one.is_of("batch", "Job"));
        assert!(!any.is_of("batch", "CronJob"));
    }
}
