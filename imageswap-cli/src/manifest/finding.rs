//! A finding about an image, for people.

use super::Asked;
use crate::formats::Entry;
use crate::report;
use crate::verdict::VerdictArgs;
use imageswap_policy::document::Enforcement;
use imageswap_policy::{Policy, Reason, Severity};
use imageswap_runtime::text::{WIDTH, shown, wrap};
use std::fmt;

/// Why an image is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not approved, even after the swap.
    NotApproved,
    /// Its text has a variable, so the image is not known.
    Variable,
    /// Too little is known about the Pod to decide.
    Undecided,
    /// It would be swapped, although manifests should name the results.
    Swapped,
}

/// Writes to standard error why an image stays.
pub(super) fn report_refused(asked: &Asked<'_>) {
    let cause = if asked.undecided() {
        Cause::Undecided
    } else if asked.is_variable() {
        Cause::Variable
    } else {
        Cause::NotApproved
    };
    let finding = Finding {
        asked,
        cause,
        verdict: None,
    };
    report(&format!("{finding}\n"));
}

/// A finding; shown as the line of the manifest, what is wrong with it, and the policy's decision.
pub(super) struct Finding<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) cause: Cause,
    /// The enforcement that counts instead of the policy's.
    pub(super) verdict: Option<&'a VerdictArgs>,
}

impl Cause {
    /// Stable name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotApproved => "not-approved",
            Self::Variable => "variable",
            Self::Undecided => "scope-unknown",
            Self::Swapped => "would-be-swapped",
        }
    }

    /// Every cause, and its meaning.
    pub(super) const MEANINGS: [(&'static str, &'static str); 4] = [
        (
            "not-approved",
            "The policy does not approve the image, even after the swap",
        ),
        (
            "variable",
            "The image has a variable and is not known before it runs",
        ),
        (
            "scope-unknown",
            "Too little is known about the Pod to decide",
        ),
        (
            "would-be-swapped",
            "The policy would replace the image by another one",
        ),
    ];
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
            (Cause::Variable, _) => format!("`{image}` has a variable"),
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
        let mut notes = vec![format!("{}, {}", pod.title(namespace), image.title())];
        if self.cause == Cause::Variable {
            let help = if image.image.contains("$(") {
                "the image is known when it runs: admission decides about it then"
            } else {
                "render the file first: helm template, docker compose config, oc process"
            };
            notes.push(format!("help: {help}"));
            return notes;
        }
        if let Some(policy) = policy {
            let (name, enforcement) = (policy.name(), self.enforcement(policy.enforcement()));
            let by = match self.verdict {
                Some(verdict) if verdict.is_overridden() => ", by --as",
                _ => "",
            };
            notes.push(format!(
                "policy {name} ({enforcement}{by}): {}",
                decision.explain()
            ));
            let message = self.asked.message();
            let message = message.filter(|_| self.cause == Cause::NotApproved);
            notes.extend(message.map(|it| format!("message: {it}")));
        }
        notes
    }
}

impl Finding<'_> {
    fn enforcement(&self, own: Enforcement) -> Enforcement {
        self.verdict.map_or(own, |it| it.effective(own))
    }

    pub(super) fn severity(&self) -> Severity {
        let own = self.asked.policy.map(Policy::enforcement);
        let denies = self.enforcement(own.unwrap_or_default()) == Enforcement::Deny;
        match self.cause {
            Cause::NotApproved if !denies => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// The same for pipelines. Swaps that are not findings are worth knowing.
    pub(super) fn entry(&self, fails: bool) -> Entry {
        let Asked { image, file, .. } = self.asked;
        let severity = match self.cause {
            Cause::Swapped if !fails => Severity::Note,
            Cause::Variable if !fails => Severity::Warning,
            _ => self.severity(),
        };
        let code = self.cause.as_str();
        let message = self.message();
        let span = image.span;
        let diagnostic = span.diagnostic(&file.name, &file.text, severity, code, message);
        let mut entry = Entry::of(&diagnostic);
        entry.notes = self.notes();
        entry
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { file, image, .. } = self.asked;
        let severity = self.severity();
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
