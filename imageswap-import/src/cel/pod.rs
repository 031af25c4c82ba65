//! Pods that are made of images, and what a rule about a whole Pod states for each of its images.

use super::value::{Object, Value};
use crate::intent::{LISTS, Lists};
use crate::scope::Pod;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Images that are tried beside others; alone, all are tried.
const MAX_PAIRED: usize = 120;
/// More containers than an author would write down one by one.
const MANY: usize = 16;
/// More containers than any Pod has.
const TOO_MANY: i64 = 100;

/// The images of a Pod, list by list.
pub(crate) type Shape = [Vec<String>; 3];

/// An object that has a Pod or makes Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: &'static str,
    pub(crate) resource: &'static str,
    /// Fields below `spec` that hold the specification of the Pod.
    pub(crate) path: &'static [&'static str],
}

impl Subject {
    pub(crate) const POD: Self = Self {
        kind: "Pod",
        resource: "pods",
        path: &[],
    };
    /// Objects that make Pods.
    pub(crate) const WORKLOADS: [Self; 7] = [
        Self::workload("Deployment", "deployments"),
        Self::workload("StatefulSet", "statefulsets"),
        Self::workload("DaemonSet", "daemonsets"),
        Self::workload("ReplicaSet", "replicasets"),
        Self::workload("ReplicationController", "replicationcontrollers"),
        Self::workload("Job", "jobs"),
        Self {
            kind: "CronJob",
            resource: "cronjobs",
            path: &["jobTemplate", "spec", "template", "spec"],
        },
    ];

    const fn workload(kind: &'static str, resource: &'static str) -> Self {
        Self {
            kind,
            resource,
            path: &["template", "spec"],
        }
    }

    /// The group of the API that has the resource.
    pub(crate) fn group(self) -> &'static str {
        match self.kind {
            "Pod" | "ReplicationController" => "",
            "Job" | "CronJob" => "batch",
            _ => "apps",
        }
    }
}

/// What is known of the object, beside its images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) subject: Subject,
    pub(crate) operation: &'static str,
    pub(crate) shape: Option<&'a Shape>,
    pub(crate) pod: Option<&'a Pod>,
}

impl Known<'_> {
    /// The names that every expression can read.
    pub(crate) fn names(&self) -> BTreeMap<String, Value> {
        let labels = |labels: &BTreeMap<String, String>| {
            let texts = labels
                .iter()
                .map(|(key, it)| (key.clone(), Value::text(it)));
            Value::Map(Rc::new(texts.collect()))
        };
        let empty = Object::known("", []);
        let mut metadata = Object::known("object.metadata", []);
        let mut namespace = Object::known("namespaceObject.metadata", []);
        let mut request_namespace = None;
        if let Some(pod) = self.pod {
            let own = (!pod.labels.is_empty()).then(|| labels(&pod.labels));
            let name = Value::text(&pod.namespace);
            metadata = Object::known(
                "object.metadata",
                [("namespace", Some(name.clone())), ("labels", own)],
            );
            let mut all = pod.namespace_labels.clone();
            all.insert(
                "kubernetes.io/metadata.name".to_owned(),
                pod.namespace.clone(),
            );
            namespace = Object::known(
                "namespaceObject.metadata",
                [("name", Some(name.clone())), ("labels", Some(labels(&all)))],
            );
            request_namespace = Some(name);
        }
        let operation = Some(Value::text(self.operation));
        let request = match request_namespace {
            Some(name) => Object::known(
                "request",
                [("operation", operation), ("namespace", Some(name))],
            ),
            None => Object::known("request", [("operation", operation)]),
        };
        let object = Object::known(
            "object",
            [
                ("kind", Some(Value::text(self.subject.kind))),
                ("metadata", Some(metadata)),
                ("spec", Some(self.spec())),
            ],
        );
        let namespace = Object::known("namespaceObject", [("metadata", Some(namespace))]);
        let names = [
            ("object", object),
            ("request", request),
            ("namespaceObject", namespace),
            ("JSONPatch", empty),
        ];
        names
            .into_iter()
            .map(|(name, it)| (name.to_owned(), it))
            .collect()
    }

    /// The `spec` of the object.
    fn spec(&self) -> Value {
        let Some(shape) = self.shape else {
            return Object::known("object.spec", []);
        };
        let list = |at: usize| {
            let images = shape[at].iter().enumerate();
            let containers = images.map(|(number, image)| {
                Object::known(
                    "container",
                    [
                        ("image", Some(Value::text(image))),
                        ("name", Some(Value::Opaque(at << 16 | number))),
                    ],
                )
            });
            Value::list(containers.collect())
        };
        let optional = |at: usize| (!shape[at].is_empty()).then(|| list(at));
        let mut spec = Object::known(
            "object.spec",
            [
                (LISTS[0], Some(list(0))),
                (LISTS[1], optional(1)),
                (LISTS[2], optional(2)),
                ("template", None),
                ("jobTemplate", None),
            ],
        );
        for field in self.subject.path.iter().rev() {
            // An object that makes Pods has no containers of its own.
            let other = match *field {
                "template" => "jobTemplate",
                _ => "template",
            };
            spec = match *field {
                "spec" => Object::known("object.spec.template", [("spec", Some(spec))]),
                field => Object::known(
                    "object.spec",
                    [
                        (field, Some(spec)),
                        (other, None),
                        (LISTS[0], None),
                        (LISTS[1], None),
                        (LISTS[2], None),
                    ],
                ),
            };
        }
        spec
    }
}

/// What a rule does with a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Whether it is let in.
    Verdict(bool),
    /// The images that it has afterwards.
    Images(Shape),
}

/// What a rule does with one image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Single {
    Verdict(bool),
    Image(String),
}

impl Single {
    /// Whether the image is let in unchanged.
    fn is_plain(&self, image: &str) -> bool {
        match self {
            Self::Verdict(it) => *it,
            Self::Image(it) => it == image,
        }
    }
}

/// A rule about a whole Pod, evaluated.
pub(crate) type Evaluate = Rc<dyn Fn(&Shape) -> Result<Outcome, String>>;
/// The answer of a rule for one image.
type Each<T> = Rc<dyn Fn(&str) -> Result<T, String>>;

/// A rule about Pods as one about images.
pub(crate) struct Decomposed {
    pub(crate) lists: Lists,
    each: Each<Single>,
}

impl Decomposed {
    /// Whether an image is let in.
    pub(crate) fn check(&self) -> Each<bool> {
        let each = Rc::clone(&self.each);
        Rc::new(move |image| match each(image)? {
            Single::Verdict(it) => Ok(it),
            Single::Image(_) => Err("it changes images".to_owned()),
        })
    }

    /// What an image becomes.
    pub(crate) fn swap(&self) -> Each<String> {
        let each = Rc::clone(&self.each);
        Rc::new(move |image| match each(image)? {
            Single::Image(it) => Ok(it),
            Single::Verdict(_) => Err("it checks images".to_owned()),
        })
    }
}

/// Finds the answer of the rule for each image, if it says the same of an image whatever is beside it.
///
/// The number of containers can matter if it is one of `numbers`, which the rule names.
///
/// # Errors
/// It cannot be evaluated for one of the images, it reads none, or it judges several together.
pub(crate) fn decompose(
    evaluate: &Evaluate,
    texts: &[String],
    numbers: &BTreeSet<i64>,
) -> Result<Decomposed, String> {
    let such_as = |why: String, image: &str| {
        if why.contains(image) {
            why
        } else {
            format!("{why}, such as `{image}`")
        }
    };
    let mut base = None;
    for text in texts {
        if alone(evaluate, 0, "", text)
            .map_err(|it| such_as(it, text))?
            .is_plain(text)
        {
            base = Some(text.clone());
            break;
        }
    }
    let first = texts.first().cloned().unwrap_or_default();
    let changes = matches!(alone(evaluate, 0, "", &first)?, Single::Image(_));
    let base = match base {
        Some(it) => it,
        // A rule that moves every image leaves no image unchanged that could be put beside another.
        None if changes => texts.last().cloned().unwrap_or(first),
        None => return Err("it lets in no image that was tried".to_owned()),
    };
    let mut read: Vec<(usize, Vec<Single>)> = Vec::new();
    for list in 0..LISTS.len() {
        let mut answers = Vec::new();
        for text in texts {
            let it = alone(evaluate, list, &base, text).map_err(|it| such_as(it, text))?;
            answers.push(it);
        }
        if answers
            .iter()
            .zip(texts)
            .any(|(it, text)| !it.is_plain(text))
        {
            read.push((list, answers));
        }
    }
    let Some((list, answers)) = read.first() else {
        return Err("it decides nothing about images".to_owned());
    };
    for (_, others) in &read {
        if let Some(at) = (0..texts.len()).find(|&it| others[it] != answers[it]) {
            return Err(format!(
                "its lists of containers are treated differently, such as for `{}`",
                texts[at]
            ));
        }
    }
    let list = *list;
    let moved = (0..texts.len()).find(|&it| !answers[it].is_plain(&texts[it]));
    let partners = [
        base.clone(),
        moved.map_or_else(String::new, |it| texts[it].clone()),
    ];
    let names: Vec<usize> = read.iter().map(|it| it.0).collect();
    let each = {
        let known: RefCell<HashMap<String, Result<Single, String>>> = RefCell::default();
        let evaluate = Rc::clone(evaluate);
        let base = base.clone();
        move |image: &str| {
            if let Some(answer) = known.borrow().get(image) {
                return answer.clone();
            }
            let answer = alone(&evaluate, list, &base, image);
            known.borrow_mut().insert(image.to_owned(), answer.clone());
            answer
        }
    };
    let counts: BTreeSet<usize> = numbers
        .range(1..TOO_MANY)
        .filter_map(|&it| usize::try_from(it).ok())
        .flat_map(|it| [it, it + 1])
        .chain([MANY])
        .collect();
    let step = texts.len().div_ceil(MAX_PAIRED).max(1);
    for (at, text) in texts.iter().step_by(step).enumerate() {
        for partner in &partners {
            let mut shapes = pairs(text, partner, &base);
            for &count in counts.iter().filter(|_| at < LISTS.len()) {
                let mut many = Shape::default();
                many[0].push(base.clone());
                let images = [text, partner].into_iter().cycle().take(count);
                many[at] = images.cloned().collect();
                shapes.push(many);
            }
            for shape in shapes {
                let together = evaluate(&shape)?;
                if together != composed(&shape, &names, &each)? {
                    return Err(format!(
                        "it does not judge each image alone: `{text}` beside `{partner}`"
                    ));
                }
            }
        }
    }
    let lists: Vec<&str> = names.iter().map(|&it| LISTS[it]).collect();
    Ok(Decomposed {
        lists: Lists::named(&lists),
        each: Rc::new(each),
    })
}

/// The rule's answer about a Pod in which the image is the only one of its list.
fn alone(evaluate: &Evaluate, list: usize, base: &str, image: &str) -> Result<Single, String> {
    let mut shape = Shape::default();
    if list != 0 {
        shape[0].push(base.to_owned());
    }
    shape[list].push(image.to_owned());
    match evaluate(&shape)? {
        Outcome::Verdict(it) => Ok(Single::Verdict(it)),
        Outcome::Images(mut made) => match made[list].pop() {
            Some(it) if made[list].is_empty() => Ok(Single::Image(it)),
            _ => Err("it adds or removes containers".to_owned()),
        },
    }
}

/// Pods with both images, in every combination of lists.
fn pairs(image: &str, partner: &str, base: &str) -> Vec<Shape> {
    let mut all = Vec::new();
    for left in 0..LISTS.len() {
        for right in 0..LISTS.len() {
            let mut shape = Shape::default();
            shape[left].push(image.to_owned());
            shape[right].push(partner.to_owned());
            if shape[0].is_empty() {
                shape[0].push(base.to_owned());
            }
            if left == right {
                let mut other = shape.clone();
                other[left].reverse();
                all.push(other);
            }
            all.push(shape);
        }
    }
    all
}

/// The rule's answer about a Pod if it judges each image alone.
fn composed(
    shape: &Shape,
    read: &[usize],
    each: &impl Fn(&str) -> Result<Single, String>,
) -> Result<Outcome, String> {
    let mut images = shape.clone();
    let mut verdict = None;
    for &list in read {
        for image in &mut images[list] {
            match each(image)? {
                Single::Verdict(it) => verdict = Some(verdict.unwrap_or(true) && it),
                Single::Image(it) => *image = it,
            }
        }
    }
    if let Some(it) = verdict {
        return Ok(Outcome::Verdict(it));
    }
    // Of a check that reads none of the lists of this Pod nothing is known but that it lets the Pod in.
    let checks = matches!(each(&shape[0][0])?, Single::Verdict(_));
    Ok(if checks {
        Outcome::Verdict(true)
    } else {
        Outcome::Images(images)
    })
}
