//! Which Pods a rule applies to: a disjunction of blocks, each of which is one `match` of an ImageSwapPolicy.

use crate::text::glob;
use imageswap_policy::document::{LabelSelector, Match, Operator, Requirement};
use std::collections::BTreeMap;

/// More blocks than a person would write.
const MAX_BLOCKS: usize = 64;

/// The label with the name of the namespace, which the API server keeps on each.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Conditions that must all be true. The derived order has no meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// Sorted patterns of namespace names; `None` means every namespace.
    namespaces: Option<Vec<String>>,
    /// Sorted patterns of names of namespaces that are left out.
    except: Vec<String>,
    namespace_labels: Vec<Requirement>,
    object_labels: Vec<Requirement>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    /// The namespace's name matches one of these patterns.
    InNamespaces(Vec<String>),
    /// The namespace's name matches none of these patterns.
    NotInNamespaces(Vec<String>),
    NamespaceLabel(Requirement),
    ObjectLabel(Requirement),
}

/// Workloads whose Pods other programs judge by their templates.
pub(crate) const WORKLOADS: [&str; 7] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
];

/// A note for a scope that includes `kube-system`, which a policy here leaves alone unless it names it.
pub(crate) fn built_in_exclusion(scope: &[Block]) -> Option<String> {
    let in_it = |pod| Pod {
        namespace: "kube-system".to_owned(),
        ..pod
    };
    let left_alone = scope.iter().any(|block| {
        let mut pods = block.pods().into_iter().map(in_it);
        block.namespaces.is_none() && pods.any(|it| block.selects(&it))
    });
    left_alone.then(|| "Pods in kube-system are left alone here, unless `match.namespaces` of the policy names it; the source includes them".to_owned())
}

/// A condition on Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Formula {
    All(Vec<Formula>),
    Any(Vec<Formula>),
    Not(Box<Formula>),
    Is(Literal),
}

impl Formula {
    /// True for every Pod.
    pub(crate) fn always() -> Self {
        Self::All(Vec::new())
    }

    /// True for no Pod.
    pub(crate) fn never() -> Self {
        Self::Any(Vec::new())
    }

    /// The negation.
    pub(crate) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Pods on both sides of every condition, and whether [`Self::blocks`] select each.
    pub(crate) fn judged(&self) -> Result<Vec<(Pod, bool)>, String> {
        let selected = self.blocks()?;
        let others = self.clone().not().blocks()?;
        let near = selected.iter().chain(&others).flat_map(Block::pods);
        let elsewhere = Pod {
            namespace: "other-place".to_owned(),
            ..Pod::default()
        };
        let judged = near.chain([elsewhere]).map(|pod| {
            let is_selected = selected.iter().any(|it| it.selects(&pod));
            (pod, is_selected)
        });
        Ok(judged.collect())
    }

    /// The same as blocks, one of which has to match.
    ///
    /// # Errors
    /// The formula is too large, or namespace patterns overlap in a way that no single pattern
    /// expresses.
    pub(crate) fn blocks(&self) -> Result<Vec<Block>, String> {
        let mut merged: Vec<Block> = Vec::new();
        for block in self.normal(false)? {
            let names = block.namespaces.iter().flatten().chain(&block.except);
            if let Some(name) = names.clone().find(|it| it.contains('?')) {
                return Err(format!(
                    "the namespaces `{name}` have a `?`, which no policy here has"
                ));
            }
            // Blocks that only differ in namespaces are one.
            let same = |it: &&mut Block| {
                it.namespaces.is_some()
                    && block.namespaces.is_some()
                    && (&it.except, &it.namespace_labels, &it.object_labels)
                        == (&block.except, &block.namespace_labels, &block.object_labels)
            };
            if let Some(names) = merged
                .iter_mut()
                .find(same)
                .and_then(|it| it.namespaces.as_mut())
            {
                names.extend(block.namespaces.unwrap_or_default());
                names.sort();
                names.dedup();
            } else if !merged.contains(&block) {
                merged.push(block);
            }
        }
        Ok(merged)
    }

    fn normal(&self, negated: bool) -> Result<Vec<Block>, String> {
        let (parts, all) = match self {
            Self::Not(inner) => return inner.normal(!negated),
            Self::Is(literal) => {
                let literal = if negated {
                    literal.negated()
                } else {
                    literal.clone()
                };
                return match literal.by_name() {
                    Some(literal) => Ok(Block::default().and(literal)?.into_iter().collect()),
                    // The label is there or not whatever the namespace.
                    None => match literal {
                        Literal::NamespaceLabel(it) if it.operator == Operator::Exists => {
                            Ok(vec![Block::default()])
                        }
                        _ => Ok(Vec::new()),
                    },
                };
            }
            Self::All(parts) => (parts, !negated),
            Self::Any(parts) => (parts, negated),
        };
        if !all {
            let mut any = Vec::new();
            for part in parts {
                any.extend(part.normal(negated)?);
            }
            return limited(any);
        }
        let mut product = vec![Block::default()];
        for part in parts {
            let right = part.normal(negated)?;
            let mut next = Vec::new();
            for a in &product {
                for b in &right {
                    next.extend(a.intersect(b)?);
                }
            }
            product = limited(next)?;
        }
        Ok(product)
    }
}

fn limited(blocks: Vec<Block>) -> Result<Vec<Block>, String> {
    if blocks.len() > MAX_BLOCKS {
        return Err("its scope has too many alternatives".to_owned());
    }
    Ok(blocks)
}

impl Literal {
    /// The same by the namespace's name where it is about the label that always has it; `None` if it is not about the
    /// label's value.
    fn by_name(&self) -> Option<Self> {
        match self {
            Self::NamespaceLabel(it) if it.key == NAME_LABEL => match it.operator {
                Operator::In => Some(Self::InNamespaces(it.values.clone())),
                Operator::NotIn => Some(Self::NotInNamespaces(it.values.clone())),
                Operator::Exists | Operator::DoesNotExist => None,
            },
            _ => Some(self.clone()),
        }
    }

    fn negated(&self) -> Self {
        let invert = |it: &Requirement| Requirement {
            key: it.key.clone(),
            operator: match it.operator {
                Operator::In => Operator::NotIn,
                Operator::NotIn => Operator::In,
                Operator::Exists => Operator::DoesNotExist,
                Operator::DoesNotExist => Operator::Exists,
            },
            values: it.values.clone(),
        };
        match self {
            Self::InNamespaces(names) => Self::NotInNamespaces(names.clone()),
            Self::NotInNamespaces(names) => Self::InNamespaces(names.clone()),
            Self::NamespaceLabel(it) => Self::NamespaceLabel(invert(it)),
            Self::ObjectLabel(it) => Self::ObjectLabel(invert(it)),
        }
    }
}

/// The data of a Pod for trying a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) namespace_labels: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Block {
    /// This block and one more condition; `None` if both cannot hold.
    fn and(&self, literal: Literal) -> Result<Option<Self>, String> {
        let mut other = Self::default();
        match literal {
            Literal::InNamespaces(names) => other.namespaces = Some(sorted(names)),
            Literal::NotInNamespaces(names) => other.except = sorted(names),
            Literal::NamespaceLabel(it) => other.namespace_labels.push(it),
            Literal::ObjectLabel(it) => other.object_labels.push(it),
        }
        self.intersect(&other)
    }

    /// The Pods that both select; `None` if no Pod can be selected by both.
    ///
    /// # Errors
    /// No pattern expresses the namespaces that both name.
    pub(crate) fn intersect(&self, other: &Self) -> Result<Option<Self>, String> {
        let mut except = self.except.clone();
        except.extend(other.except.iter().cloned());
        let except = sorted(except);
        let mut namespaces = match (&self.namespaces, &other.namespaces) {
            (None, names) | (names, None) => names.clone(),
            (Some(left), Some(right)) => {
                let mut both = Vec::new();
                for a in left {
                    for b in right {
                        both.extend(narrower(a, b)?);
                    }
                }
                Some(sorted(both))
            }
        };
        if let Some(names) = &mut namespaces {
            names.retain(|it| !except.iter().any(|out| covers(out, it)));
            if names.is_empty() {
                return Ok(None);
            }
        }
        let except = match &namespaces {
            // Names that cannot match anyway need not be excluded.
            Some(names) if names.iter().all(|it| !it.contains(['*', '?'])) => Vec::new(),
            _ => except,
        };
        let (Some(namespace_labels), Some(object_labels)) = (
            together(&self.namespace_labels, &other.namespace_labels),
            together(&self.object_labels, &other.object_labels),
        ) else {
            return Ok(None);
        };
        Ok(Some(Self {
            namespaces,
            except,
            namespace_labels,
            object_labels,
        }))
    }

    /// Whether it selects the Pod.
    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        let named = |names: &[String]| names.iter().any(|it| glob(it, &pod.namespace));
        self.namespaces.as_deref().is_none_or(named)
            && !named(&self.except)
            && self
                .namespace_labels
                .iter()
                .all(|it| holds(it, &pod.namespace_labels))
            && self.object_labels.iter().all(|it| holds(it, &pod.labels))
    }

    /// The block as a policy's `match`. A block that selects some Pods leaves containers without a
    /// Pod alone.
    pub(crate) fn to_match(&self) -> Match {
        Match {
            namespaces: self.namespaces.clone(),
            exclude_namespaces: self.except.clone(),
            namespace_selector: selector(&self.namespace_labels),
            object_selector: selector(&self.object_labels),
            node_level: self.namespaces.is_none()
                && self.namespace_labels.is_empty()
                && self.object_labels.is_empty(),
            ..Match::default()
        }
    }

    /// Pods for which the block's conditions differ.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let mut names = vec!["other-place".to_owned()];
        for it in self.namespaces.iter().flatten().chain(&self.except) {
            for filled in [
                it.replace('*', "x-1").replace('?', "q"),
                it.replace('*', "").replace('?', "q"),
            ] {
                names.push(filled);
            }
        }
        names.retain(|it| !it.is_empty());
        names.sort();
        names.dedup();
        let mut pods = Vec::new();
        for namespace in names {
            for namespace_labels in labels(&self.namespace_labels) {
                for labels in labels(&self.object_labels) {
                    pods.push(Pod {
                        namespace: namespace.clone(),
                        namespace_labels: namespace_labels.clone(),
                        labels,
                    });
                }
            }
        }
        pods
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// The labels that satisfy all requirements, and for each requirement some that do not.
fn labels(requirements: &[Requirement]) -> Vec<BTreeMap<String, String>> {
    let satisfying: BTreeMap<String, String> = requirements
        .iter()
        .filter_map(|it| match it.operator {
            Operator::In => Some((it.key.clone(), it.values.first()?.clone())),
            Operator::Exists => Some((it.key.clone(), "any".to_owned())),
            Operator::NotIn | Operator::DoesNotExist => None,
        })
        .collect();
    let mut all = vec![satisfying.clone(), BTreeMap::new()];
    for it in requirements {
        for value in it
            .values
            .iter()
            .map(String::as_str)
            .chain(["something-else"])
        {
            let mut labels = satisfying.clone();
            labels.insert(it.key.clone(), value.to_owned());
            all.push(labels);
        }
    }
    all.dedup();
    all
}

fn holds(it: &Requirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&it.key);
    let among = value.is_some_and(|value| it.values.contains(value));
    match it.operator {
        Operator::In => among,
        Operator::NotIn => !among,
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

/// Whether `outer` matches every name that `inner` matches; may return false in doubt.
fn covers(outer: &str, inner: &str) -> bool {
    outer == inner || glob(outer, inner)
}

/// The pattern of the names that both match.
fn narrower(a: &str, b: &str) -> Result<Option<String>, String> {
    if covers(a, b) {
        return Ok(Some(b.to_owned()));
    }
    if covers(b, a) {
        return Ok(Some(a.to_owned()));
    }
    let wild = |it: &str| it.contains(['*', '?']);
    if !wild(a) || !wild(b) || disjoint(a, b) {
        return Ok(None);
    }
    Err(format!(
        "no pattern says which namespaces both `{a}` and `{b}` match"
    ))
}

/// Whether the fixed beginnings or ends of two patterns differ.
fn disjoint(a: &str, b: &str) -> bool {
    let begin = |it: &str| it.split(['*', '?']).next().unwrap_or_default().to_owned();
    let end = |it: &str| it.rsplit(['*', '?']).next().unwrap_or_default().to_owned();
    let (first, second) = (begin(a), begin(b));
    let (last, other) = (end(a), end(b));
    !(first.starts_with(&second) || second.starts_with(&first))
        || !(last.ends_with(&other) || other.ends_with(&last))
}

/// Both lists of requirements without duplicates; `None` if they cannot be true together.
fn together(left: &[Requirement], right: &[Requirement]) -> Option<Vec<Requirement>> {
    let mut all: Vec<Requirement> = Vec::new();
    for it in left.iter().chain(right) {
        if !all.contains(it) {
            all.push(it.clone());
        }
    }
    all.sort_by_key(|it| format!("{it:?}"));
    let contradicts = |a: &Requirement, b: &Requirement| {
        a.key == b.key
            && match (a.operator, b.operator) {
                (Operator::In, Operator::In) => !a.values.iter().any(|it| b.values.contains(it)),
                (Operator::In, Operator::NotIn) => a.values.iter().all(|it| b.values.contains(it)),
                (Operator::In | Operator::Exists, Operator::DoesNotExist) => true,
                _ => false,
            }
    };
    let none = all.iter().any(|a| all.iter().any(|b| contradicts(a, b)));
    (!none).then_some(all)
}

fn selector(requirements: &[Requirement]) -> Option<LabelSelector> {
    let mut selector = LabelSelector::default();
    for it in requirements {
        let single = it.operator == Operator::In && it.values.len() == 1;
        if single && !selector.match_labels.contains_key(&it.key) {
            selector
                .match_labels
                .insert(it.key.clone(), it.values[0].clone());
        } else {
            selector.match_expressions.push(it.clone());
        }
    }
    (selector != LabelSelector::default()).then_some(selector)
}
