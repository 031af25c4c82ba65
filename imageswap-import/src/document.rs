//! Finds the policies among documents of any kind, and calls the reader of each format.

use crate::answer::{answer, of_one_list};
use crate::combine::combine;
use crate::config_file::{ConfigFile, Format};
use crate::configuration::{self, Candidate, Found};
use crate::fields::{kind, origin};
use crate::image::Image;
use crate::intent::{Intent, Origin, Reading, Source};
use crate::maps::is_maps;
use crate::policy::compiled;
use crate::report::{Item, Other, Report, Status};
use crate::{admission, gatekeeper, harbor, kubewarden, kyverno, maps, swapper};
use imageswap_policy::document::ImageSwapPolicy;
use imageswap_policy::yaml::{self, Node};
use imageswap_policy::{Date, Diagnostics, Policies, Scope};

/// The resulting policies, and the outcome of every rule.
pub struct Import {
    /// The policies, in the order in which the rules are written.
    pub policies: Vec<ImageSwapPolicy>,
    /// For each policy, the comments of its rules, if it is made from lines of a file.
    pub comments: Vec<Vec<String>>,
    /// The outcome of the rules.
    pub report: Report,
    /// Where a maps file decides otherwise, with its lines.
    pub diagnostics: Diagnostics,
    combined: Vec<(Vec<Intent>, Policies)>,
}

/// The answers of a source and of the policy made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The policy.
    pub policy: String,
    /// The image as asked.
    pub image: String,
    /// What the source does.
    pub source: String,
    /// What the policy does.
    pub ours: String,
    /// Whether both are the same image and the same verdict.
    pub same: bool,
}

impl Import {
    fn add(&mut self, file: maps::File) {
        let compiled = compiled(&file.policy.spec).unwrap_or_default();
        self.combined.push((file.rules, compiled));
        self.policies.push(file.policy);
        self.comments.push(file.comments);
        self.report.rules.extend(file.items);
        self.diagnostics = file.diagnostics;
    }

    /// Asks the sources and each policy about an image.
    pub fn verify(&self, image: &str) -> Vec<Verified> {
        let each = self.policies.iter().zip(&self.combined);
        each.map(|(policy, (rules, compiled))| {
            let rules: Vec<&Intent> = rules.iter().collect();
            let theirs = answer(&of_one_list(&rules), image);
            let decision = compiled.select(Scope::Node, Date::MIN);
            let decision = decision.decide(image);
            let ours = (decision.result.to_string(), decision.approved);
            let told = |result: &str, approved: bool| {
                let moved = if result == image {
                    "stays".to_owned()
                } else {
                    result.to_owned()
                };
                if approved {
                    moved
                } else {
                    format!("{moved}, refused")
                }
            };
            let same = match &theirs {
                Ok(theirs) => {
                    Image::parse(&theirs.result) == Image::parse(&ours.0)
                        && theirs.approved == ours.1
                }
                Err(_) => false,
            };
            Verified {
                policy: policy.metadata.name.clone(),
                image: image.to_owned(),
                source: theirs.map_or_else(|why| why, |it| told(&it.result, it.approved)),
                ours: told(&ours.0, ours.1),
                same,
            }
        })
        .collect()
    }
}

/// Imports everything in the texts.
pub fn import(sources: &[Source<'_>]) -> Import {
    let mut report = Report::default();
    let mut texts = Texts::default();
    for source in sources {
        texts.read(*source, &mut report);
    }
    let Texts {
        mut documents,
        maps,
        mut files,
    } = texts;
    documents.retain(|(source, node)| !in_config_map(source, node, &mut files));
    let maps_of_documents = documents.iter().filter_map(|(source, node)| {
        // Lines are those of the key's text.
        Some((format!("{source} (data.maps)"), maps_of(node)?))
    });
    let maps_of_documents: Vec<_> = maps_of_documents.collect();
    let mut found: Vec<maps::File> = Vec::new();
    let named = maps_of_documents
        .iter()
        .map(|(name, text)| Source { name, text });
    for source in maps.into_iter().chain(named) {
        match maps::read(source, "imageswap") {
            Ok(file) => found.push(file),
            Err(errors) => report.others.extend(errors.iter().map(|it| Other {
                source: source.name.to_owned(),
                line: it.line,
                column: it.column,
                what: it.message.clone(),
                unreadable: true,
            })),
        }
    }
    let formats: Vec<Format> = files.iter().map(|it| it.format).collect();
    let mut configurations = configuration::read(files, &documents);
    let mut readings = read(&documents, &formats, &mut report);
    // One policy decides for each Pod, and nothing says what a configuration and other policies do together.
    let count = found.len() + configurations.len();
    let alone = count == 1 && report.rules.is_empty() && readings.is_empty();
    if !alone {
        configurations = configurations
            .into_iter()
            .map(|it| configuration::left_out(it, ALONE))
            .collect();
    }
    readings.extend(configurations.into_iter().flatten());
    let made = combine(readings);
    report.rules.extend(made.items);
    let pairs = made.policies.iter().zip(&made.rules);
    let combined = pairs.map(|(policy, rules)| {
        let intents = rules.iter().map(|&it| made.intents[it].clone()).collect();
        // A policy without its scope, to ask it about any Pod.
        (intents, compiled(&policy.spec).unwrap_or_default())
    });
    let mut all = Import {
        comments: vec![Vec::new(); made.policies.len()],
        combined: combined.collect(),
        policies: made.policies,
        diagnostics: Diagnostics::default(),
        report,
    };
    for mut file in found {
        if alone {
            all.add(file);
            continue;
        }
        for it in &mut file.items {
            it.status = Status::LeftOut;
            it.reason = Some(ALONE.to_owned());
        }
        all.report.rules.extend(file.items);
    }
    all
}

/// Imports a maps file, whether it looks like one or not, as a policy of this name.
///
/// # Errors
/// The messages about a file that does not load, or makes no policy.
pub fn import_maps(source: Source<'_>, name: &str) -> Result<Import, Diagnostics> {
    let mut all = Import {
        policies: Vec::new(),
        comments: Vec::new(),
        report: Report::default(),
        diagnostics: Diagnostics::default(),
        combined: Vec::new(),
    };
    all.add(maps::read(source, name)?);
    Ok(all)
}

/// Exceptions depend on how Kyverno is started.
const EXCEPTIONS: &str = "Kyverno uses exceptions only with `--enablePolicyException`, in the namespaces that `--exceptionNamespace` names; remove this one if yours does not use it";

/// Why a configuration beside others is left out.
const ALONE: &str = "a configuration or maps file has to be imported alone";

/// The contents of the texts, by kind.
#[derive(Default)]
struct Texts<'a> {
    documents: Vec<(&'a str, Node)>,
    maps: Vec<Source<'a>>,
    files: Vec<ConfigFile>,
}

impl<'a> Texts<'a> {
    fn read(&mut self, source: Source<'a>, report: &mut Report) {
        let parsed = yaml::parse(source.name, source.text);
        let documents = parsed.as_deref().ok();
        if is_maps(source.text, documents.unwrap_or_default()) {
            return self.maps.push(source);
        }
        let mut other = |line, column, what, unreadable| {
            report.others.push(Other {
                source: source.name.to_owned(),
                line,
                column,
                what,
                unreadable,
            });
        };
        let candidate = Candidate {
            name: source.name,
            path: source.name,
            text: source.text,
            documents,
        };
        match (configuration::find(candidate), parsed) {
            (Found::File(it), _) => self.files.push(*it),
            (Found::Broken(line, column, what), _) => {
                other(line, column, what, true);
                self.files.push(ConfigFile::unreadable(source.name));
            }
            (Found::Other, _) => other(1, 1, "TOML of another program".to_owned(), false),
            (Found::None, Ok(nodes)) => {
                for node in nodes {
                    flatten(source.name, node, &mut self.documents);
                }
            }
            (Found::None, Err(errors)) => {
                for it in &errors {
                    other(it.line, it.column, it.message.clone(), true);
                }
            }
        }
    }
}

/// Whether a ConfigMap holds a configuration; adds it to the files.
fn in_config_map(source: &str, node: &Node, files: &mut Vec<ConfigFile>) -> bool {
    if kind(node) != ("", "ConfigMap") {
        return false;
    }
    let before = files.len();
    for (key, value) in node.get("data").map_or(&[][..], Node::entries) {
        let (Some(key), Some(text)) = (key.as_str(), value.as_str()) else {
            continue;
        };
        let name = format!("{source} (data.{key})");
        let parsed = yaml::parse(&name, text).ok();
        // Lines are those of the key's text.
        let candidate = Candidate {
            name: &name,
            path: key,
            text,
            documents: parsed.as_deref(),
        };
        if let Found::File(it) = configuration::find(candidate) {
            files.push(*it);
        }
    }
    files.len() > before
}

/// The maps file in a ConfigMap, as ImageSwap has it.
fn maps_of(node: &Node) -> Option<&str> {
    let data = node
        .get("data")
        .filter(|_| kind(node) == ("", "ConfigMap"))?;
    let text = data.get("maps").and_then(Node::as_str)?;
    is_maps(text, &[]).then_some(text)
}

/// The documents of a `List` are documents of their own.
fn flatten<'a>(source: &'a str, node: Node, into: &mut Vec<(&'a str, Node)>) {
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    if kind.ends_with("List") && node.get("items").is_some() {
        let items = node.get("items").map_or(&[][..], Node::items).to_vec();
        for item in items {
            flatten(source, item, into);
        }
    } else if !node.is_null() {
        into.push((source, node));
    }
}

fn read(documents: &[(&str, Node)], formats: &[Format], report: &mut Report) -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut exceptions = kyverno::Exceptions::default();
    let mut in_cel = admission::Exceptions::default();
    for (source, node) in documents {
        match kind(node) {
            ("kyverno.io", "PolicyException") => exceptions.add(node, origin(source, node)),
            ("policies.kyverno.io", "PolicyException") => in_cel.add(node, origin(source, node)),
            _ => {}
        }
    }
    let mut known = Vec::new();
    let mut known_in_cel = Vec::new();
    for (source, node) in documents {
        let origin = origin(source, node);
        match kind(node) {
            ("kyverno.io", "Policy" | "ClusterPolicy") => {
                let namespace = kyverno::namespace(node).unwrap_or_default();
                for reading in kyverno::read(node, &origin, &exceptions) {
                    if let Reading::Understood(it) = &reading {
                        known.push((
                            namespace.clone(),
                            it.origin.document.clone(),
                            it.origin.rule.clone(),
                        ));
                    }
                    readings.push(reading);
                }
            }
            ("kyverno.io" | "policies.kyverno.io", "PolicyException") => {}
            (
                "admissionregistration.k8s.io",
                "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy",
            ) => readings.extend(admission::native(node, &origin, documents)),
            (
                "admissionregistration.k8s.io",
                "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
            ) => readings.extend(admission::binding(node, &origin, documents)),
            (
                "policies.kyverno.io",
                "ValidatingPolicy"
                | "MutatingPolicy"
                | "ImageValidatingPolicy"
                | "NamespacedValidatingPolicy"
                | "NamespacedMutatingPolicy"
                | "NamespacedImageValidatingPolicy",
            ) => {
                let more = admission::kyverno(node, &origin, &in_cel);
                if more.iter().any(|it| matches!(it, Reading::Understood(_))) {
                    known_in_cel.push((origin.kind.clone(), origin.document.clone()));
                }
                readings.extend(more);
            }
            ("constraints.gatekeeper.sh", kind) if kind.starts_with("K8s") => {
                readings.push(gatekeeper::constraint(node, &origin, documents));
            }
            ("mutations.gatekeeper.sh", "AssignImage") => {
                readings.push(gatekeeper::assign_image(node, &origin));
            }
            ("policies.kubewarden.io", "AdmissionPolicy" | "ClusterAdmissionPolicy") => {
                match kubewarden::read(node, &origin) {
                    Some(more) => readings.extend(more),
                    None => report.others.push(other(origin, node)),
                }
            }
            _ if admission::is_parameter(node, documents) => {}
            ("", "ConfigMap") if maps_of(node).is_some() => {}
            _ if formats.contains(&Format::Harbor) && harbor::WEBHOOK.is_in(node) => {}
            _ if formats.contains(&Format::Swapper) && swapper::WEBHOOK.is_in(node) => {}
            _ => report.others.push(other(origin, node)),
        }
    }
    let excepted = exceptions.readings(&known).into_iter();
    for (origin, result) in excepted.chain(in_cel.readings(&known_in_cel)) {
        let (status, reason, notes) = match result {
            Ok(()) => (Status::CarriedOver, None, vec![EXCEPTIONS.to_owned()]),
            Err(why) => (Status::LeftOut, Some(why), Vec::new()),
        };
        report.rules.push(Item {
            source: origin.source,
            line: origin.line,
            column: origin.column,
            policy: format!("{} {}", origin.kind, origin.document),
            rule: "exception".to_owned(),
            status,
            reason,
            differences: Vec::new(),
            notes,
        });
    }
    readings
}

/// A document that is not a policy of a known kind.
fn other(origin: Origin, node: &Node) -> Other {
    Other {
        source: origin.source,
        line: origin.line,
        column: origin.column,
        what: match kind(node).1 {
            "" => "not a Kubernetes object".to_owned(),
            kind => format!("{kind} {}", origin.document),
        },
        unreadable: false,
    }
}
