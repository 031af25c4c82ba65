//! The context of a question: what the command line says about Pods, and what is missing to choose
//! the policy.

use clap::Args;
use imageswap_policy::{Date, Missing, PodScope, Policies, Policy, Scope, Selected};
use std::collections::{BTreeMap, BTreeSet};

/// Labels by their names.
pub(crate) type Labels = BTreeMap<String, String>;

/// The context. Values that are not given are unknown.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Namespace of the Pod
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Labels of the namespace; an empty text if it has none
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_labels)]
    namespace_labels: Option<Labels>,
    /// Labels of the Pod; an empty text if it has none
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_labels)]
    labels: Option<Labels>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
}

/// Labels of namespaces whose objects cannot be read.
#[derive(Debug, Default, Args)]
pub(crate) struct NamespaceArgs {
    /// Labels of namespaces
    ///
    /// With a name they are those of one namespace, as in
    /// shop:team=a,stage=prod; without a name, of every namespace whose
    /// object is neither in the input nor readable in the cluster. May be
    /// given more than once.
    #[arg(
        long,
        value_name = "[NAME:]KEY=VALUE,...",
        value_parser = parse_namespace,
        verbatim_doc_comment
    )]
    namespace_labels: Vec<(Option<String>, Labels)>,
}

/// The labels of namespaces, from their objects and from the command line.
#[derive(Debug)]
pub(crate) struct Namespaces<'a> {
    /// Labels of the namespaces whose objects were read.
    known: BTreeMap<String, Labels>,
    given: &'a NamespaceArgs,
}

/// Undecided questions, for one message.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    messages: BTreeSet<String>,
}

impl ScopeArgs {
    /// The policy of `policies` that decides for the described Pod.
    pub(crate) fn select<'a>(&'a self, policies: &'a Policies, today: Date) -> Selected<'a> {
        let scope = Scope::Pod(PodScope {
            namespace: self.namespace.as_deref(),
            namespace_labels: self.namespace_labels.as_ref(),
            labels: self.labels.as_ref().map(|it| it as _),
        });
        let selected = policies.select(scope, today);
        match self.container.as_deref() {
            Some(name) => selected.in_container(Some(name)),
            None => selected,
        }
    }
}

impl<'a> Namespaces<'a> {
    pub(crate) fn new(given: &'a NamespaceArgs) -> Self {
        Self {
            known: BTreeMap::new(),
            given,
        }
    }

    /// Takes in the labels that objects have.
    pub(crate) fn extend(&mut self, known: impl IntoIterator<Item = (String, Labels)>) {
        self.known.extend(known);
    }

    /// The policy of `policies` that decides for a Pod with these labels; `None` if they are unknown.
    pub(crate) fn select<'s>(
        &'s self,
        policies: &'s Policies,
        today: Date,
        namespace: &'s str,
        labels: Option<&'s Labels>,
    ) -> Selected<'s> {
        let scope = Scope::Pod(PodScope {
            namespace: Some(namespace),
            namespace_labels: self.given.labels(namespace, &self.known),
            labels: labels.map(|it| it as _),
        });
        policies.select(scope, today)
    }
}

impl NamespaceArgs {
    /// The labels of a namespace; `known` are those from its manifest or the cluster.
    pub(crate) fn labels<'a>(
        &'a self,
        namespace: &str,
        known: &'a BTreeMap<String, Labels>,
    ) -> Option<&'a Labels> {
        let given = |name: Option<&str>| {
            let mut all = self.namespace_labels.iter().rev();
            all.find(|it| it.0.as_deref() == name).map(|it| &it.1)
        };
        given(Some(namespace))
            .or_else(|| known.get(namespace))
            .or_else(|| given(None))
    }
}

impl Undecided {
    /// Records that the policies disagree about an image, for a Pod of `namespace`. `otherwise` is
    /// another source of the namespace's labels.
    pub(crate) fn add(
        &mut self,
        selected: &Selected<'_>,
        namespace: Option<&str>,
        otherwise: Option<&str>,
    ) {
        let missing = selected.missing();
        let whose = namespace.map(|it| format!(" in namespace `{it}`"));
        self.messages.insert(format!(
            "{}{} depends on {missing}: {}",
            question(selected),
            whose.unwrap_or_default(),
            help(missing, otherwise)
        ));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Prints the messages to standard error.
    pub(crate) fn report(&self) {
        for message in &self.messages {
            crate::report(&format!("error: {message}"));
        }
    }
}

/// What a case of `imageswap test` lacks.
pub(crate) fn undecided_case(selected: &Selected<'_>) -> String {
    let missing = selected.missing();
    let fields = [
        (missing.namespace, "`namespace`"),
        (missing.namespace_labels, "`namespace_labels`"),
        (missing.labels, "`labels`"),
        (missing.container, "`container`"),
    ];
    let fields: Vec<_> = fields.iter().filter(|it| it.0).map(|it| it.1).collect();
    let flag = if missing.namespace_labels {
        ", or give --namespace-labels KEY=VALUE,..."
    } else {
        ""
    };
    format!(
        "{} depends on {missing}: add {} to the case{flag}",
        question(selected),
        fields.join(" and ")
    )
}

/// What is unknown, as a clause.
fn question(selected: &Selected<'_>) -> String {
    let names = selected.candidates().map(Policy::name);
    let names: Vec<_> = names.map(|it| format!("`{it}`")).collect();
    match names.as_slice() {
        [one] => format!("what policy {one} says"),
        several => format!("which of the policies {} decides", several.join(" and ")),
    }
}

/// The flags for what is missing.
fn help(missing: Missing, otherwise: Option<&str>) -> String {
    let mut flags = Vec::new();
    if missing.namespace {
        flags.push("--namespace NAME");
    }
    if missing.namespace_labels {
        flags.push("--namespace-labels KEY=VALUE,...");
    }
    if missing.labels {
        flags.push("--labels KEY=VALUE,...");
    }
    if missing.container {
        flags.push("--container NAME");
    }
    let otherwise = otherwise
        .filter(|_| missing.namespace_labels)
        .map(|it| format!(", or {it}"));
    format!(
        "give {}{}",
        flags.join(" and "),
        otherwise.unwrap_or_default()
    )
}

/// `a=b,c=d`; an empty text means no labels, which is not the same as unknown labels.
pub(crate) fn parse_labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("expected `key=value`, found `{pair}`")),
        })
        .collect()
}

/// `a=b,c=d`, or the same for one namespace, `shop:a=b,c=d`. Neither keys nor names contain a `:`.
fn parse_namespace(text: &str) -> Result<(Option<String>, Labels), String> {
    match text.split_once(':') {
        Some((name, labels)) if !name.is_empty() && !name.contains('=') => {
            Ok((Some(name.to_owned()), parse_labels(labels)?))
        }
        _ => Ok((None, parse_labels(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(labels: &Labels) -> Vec<String> {
        let pairs = labels.iter();
        pairs.map(|(key, value)| format!("{key}:{value}")).collect()
    }

    #[test]
    fn labels() {
        let parsed = parse_labels("a=b, k8s.twr.io/imageswap=disabled,c=").unwrap();
        assert_eq!(
            shown(&parsed),
            ["a:b", "c:", "k8s.twr.io/imageswap:disabled"]
        );
        assert_eq!(parse_labels("").unwrap().len(), 0);
        assert!(parse_labels("a").unwrap_err().contains("`a`"));
        assert!(parse_labels("=b").is_err());
    }

    #[test]
    fn labels_of_one_namespace_go_before_those_of_any() {
        let args = NamespaceArgs {
            namespace_labels: ["a=1", "shop:a=2", "bank:"]
                .map(|it| parse_namespace(it).unwrap())
                .into(),
        };
        let known = BTreeMap::from([
            ("shop".to_owned(), parse_labels("a=3").unwrap()),
            ("team".to_owned(), parse_labels("a=4").unwrap()),
        ]);
        let labels = |name| args.labels(name, &known).map(shown).unwrap_or_default();
        assert_eq!(labels("shop"), ["a:2"]);
        assert_eq!(labels("bank"), [""; 0]);
        assert_eq!(labels("team"), ["a:4"]);
        assert_eq!(labels("other"), ["a:1"]);
        assert!(parse_namespace("shop:a").is_err());
    }
}
