//! A finding about an image, for people.

use super::Asked;
use imageswap_policy::document::Enforcement;
use imageswap_policy::{Reason, Severity};
use imageswap_runtime::text::{WIDTH, shown, wrap};
use std::fmt;

/// Why an image is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not approved, even after the swap.
    NotApproved,
    /// Too little is known about the Pod to decide.
    Undecided,
    /// It would be swapped, although manifests should name the results.
    Swapped,
}

/// A finding; shown as the line of the manifest, what is wrong with it, and the policy's decision.
pub(super) struct Finding<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) cause: Cause,
}

impl Cause {
    /// Stable name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotApproved => "not-approved",
            Self::Undecided => "scope-unknown",
            Self::Swapped => "would-be-swapped",
        }
    }
}

impl Finding<'_> {
    fn message(&self) -> String {
        let Asked {
            image, decision, ..
        } = self.asked;
        let (image, result) = (&image.image, &decision.result);
        match (self.cause, decision.reason) {
            (Cause::Undecided, _) => format!("`{image}` is not decided"),
            (Cause::Swapped, _) => format!("`{image}` would be swapped"),
            (_, Reason::Unparsable) => format!("`{image}` is not an image reference"),
            (_, Reason::Swapped) => {
                let what = decision.denied.map_or("not approved", |_| "denied");
                format!("`{image}` would become `{result}`, which is {what}")
            }
            (_, Reason::Denied) => format!("`{image}` is denied"),
            _ => format!("`{image}` is not approved"),
        }
    }

    fn notes(&self) -> Vec<String> {
        let Asked {
            pod,
            image,
            namespace,
            policy,
            decision,
            ..
        } = self.asked;
        let mut notes = vec![format!("{}, {}", pod.title(namespace), image.field)];
        if let Some(policy) = policy {
            let (name, enforcement) = (policy.name(), policy.enforcement());
            notes.push(format!(
                "policy {name} ({enforcement}): {}",
                decision.explain()
            ));
            let message = self.asked.message();
            let message = message.filter(|_| self.cause == Cause::NotApproved);
            notes.extend(message.map(|it| format!("message: {it}")));
        }
        notes
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked {
            file,
            image,
            policy,
            ..
        } = self.asked;
        let denies = policy.is_none_or(|it| it.enforcement() == Enforcement::Deny);
        let severity = match self.cause {
            Cause::NotApproved if !denies => Severity::Warning,
            _ => Severity::Error,
        };
        let code = self.cause.as_str();
        let span = image.span;
        let message = shown(&self.message()).into_owned();
        let diagnostic = span.diagnostic(&file.name, &file.text, severity, code, message);
        write!(f, "{diagnostic}")?;
        let margin = " ".repeat(span.line.to_string().len());
        for note in self.notes() {
            let lines = wrap(&shown(&note), WIDTH - margin.len() - 3);
            for (at, line) in lines.iter().enumerate() {
                let sign = if at == 0 { '=' } else { ' ' };
                write!(f, "\n{margin} {sign} {line}")?;
            }
        }
        Ok(())
    }
}
