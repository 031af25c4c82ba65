//! Rules in CEL about Pods, as rules about images and the Pods for which they hold.

use super::Program;
use super::evaluate::{Evaluation, Root, Variables};
use super::patch::{apply, json_patch};
use super::pod::{Decomposed, Evaluate, Known, Outcome, Shape, Subject, decompose};
use super::scope::Scopes;
use super::value::{Object, Stop, Value};
use crate::intent::{Check, LISTS, Lists, Swap, Vocabulary};
use crate::probe::probes;
use crate::scope::{Formula, Pod};
use cel::common::ast::IdedExpr;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What an expression that fails means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request is refused.
    Refuse,
    /// The policy does not count.
    Ignore,
    /// It is not documented.
    Unclear,
}

/// How an expression says what it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patch {
    Apply,
    Json,
}

/// A rule about images.
pub(crate) struct Rule<T> {
    /// The Pods for which it holds.
    pub(crate) applies: Formula,
    pub(crate) lists: Lists,
    pub(crate) each: T,
}

/// Whether an image is one that the rule is about.
pub(crate) type Concerns = Rc<dyn Fn(&str) -> Result<bool, String>>;

/// Everything that the expressions of one policy share.
#[derive(Clone)]
pub(crate) struct Environment {
    /// The objects that the policy is about.
    pub(crate) subjects: Vec<Subject>,
    /// The operations for which answers have to be the same.
    pub(crate) operations: Vec<&'static str>,
    /// Further names.
    pub(crate) names: BTreeMap<String, Value>,
    pub(crate) variables: Variables,
    pub(crate) failure: Failure,
    /// For policies that read `images` instead of the Pod.
    pub(crate) images: Option<Concerns>,
    /// Conditions that are about images.
    guards: Vec<Rc<Program>>,
    vocabulary: Vocabulary,
}

impl Environment {
    pub(crate) fn new(subjects: Vec<Subject>, variables: Variables, failure: Failure) -> Self {
        let mut vocabulary = Vocabulary::default();
        for (_, it) in variables.iter() {
            it.texts(&mut vocabulary);
        }
        Self {
            subjects,
            operations: vec!["CREATE"],
            names: BTreeMap::new(),
            variables,
            failure,
            images: None,
            guards: Vec::new(),
            vocabulary,
        }
    }

    /// Adds texts that can be parts of images.
    pub(crate) fn add_texts(&mut self, value: &Value) {
        match value {
            Value::Text(it) => self.vocabulary.texts.push(it.clone()),
            Value::List(items) => items.iter().for_each(|it| self.add_texts(it)),
            Value::Map(fields) => fields.values().for_each(|it| self.add_texts(it)),
            _ => {}
        }
    }

    /// The Pods for which a condition is true.
    ///
    /// # Errors
    /// It is not CEL, or no policy here can select by it.
    pub(crate) fn scope(&self, text: &str) -> Result<Formula, String> {
        let program = Program::parse(text)?;
        let failing = (self.failure == Failure::Ignore).then_some(false);
        let formulas = self.for_each_operation(|it| it.formula(&program, &program.root, failing));
        let formulas: Vec<_> = formulas.into_iter().collect::<Result<_, _>>()?;
        same(&formulas).cloned()
    }

    /// Adds a condition of the policy, and returns the Pods for which its parts about Pods are true.
    ///
    /// # Errors
    /// It is not understood. A condition that is about images is evaluated with each image.
    pub(crate) fn condition(&mut self, text: &str) -> Result<Formula, String> {
        let why = match self.scope(text) {
            Ok(formula) => return Ok(formula),
            Err(why) => why,
        };
        let program = Program::parse(text)?;
        let sample = [
            vec!["sample.example/x:1".to_owned()],
            Vec::new(),
            Vec::new(),
        ];
        for root in self.roots(&sample)? {
            let holds = Evaluation::new(&root).evaluate(&program, &program.root);
            if let Err(Stop::Unknown(_)) = holds {
                return Err(why);
            }
        }
        program.texts(&mut self.vocabulary);
        self.guards.push(program);
        Ok(Formula::always())
    }

    /// The demands of an expression that has to be true.
    ///
    /// # Errors
    /// It is not understood, or it is not about images.
    pub(crate) fn demands(&self, text: &str) -> Result<(Vec<Rule<Check>>, Vocabulary), String> {
        let program = Program::parse(text)?;
        let mut vocabulary = self.vocabulary.clone();
        program.texts(&mut vocabulary);
        let images = images(&vocabulary);
        let whole = vec![(Rc::clone(&program), program.root.clone())];
        let one = |applies, it: &Decomposed| Rule {
            applies,
            lists: it.lists,
            each: it.check(),
        };
        let why = match self.demand(whole, &images) {
            Ok(it) => return Ok((vec![one(Formula::always(), &it)], vocabulary)),
            Err(why) => why,
        };
        let parts = self.for_each_operation(|it| it.parts(&program, &program.root));
        let scopes: Vec<Vec<Formula>> = parts
            .iter()
            .map(|it| it.iter().map(|part| part.applies.clone()).collect())
            .collect();
        same(&scopes)?;
        let parts = parts.into_iter().next().unwrap_or_default();
        if parts.iter().all(|it| it.applies == Formula::always()) && parts.len() < 2 {
            return Err(why);
        }
        let mut rules = Vec::new();
        for part in parts {
            let it = self.demand(part.any, &images)?;
            rules.push(one(part.applies, &it));
        }
        Ok((rules, vocabulary))
    }

    fn demand(
        &self,
        any: Vec<(Rc<Program>, IdedExpr)>,
        images: &[String],
    ) -> Result<Decomposed, String> {
        let numbers = self.numbers(any.iter().map(|it| &it.0));
        let here = self.clone();
        let evaluate = move |shape: &Shape| {
            here.outcome(shape, &Outcome::Verdict(true), |root, _| {
                let mut failed = None;
                for (program, expr) in &any {
                    match Evaluation::new(root).evaluate(program, expr) {
                        Ok(Value::Bool(true)) => return Ok(Outcome::Verdict(true)),
                        Ok(Value::Bool(false)) => {}
                        Ok(_) => return Err(Stop::Unknown("it is not a condition".to_owned())),
                        Err(Stop::Unknown(why)) => return Err(Stop::Unknown(why)),
                        Err(why) => failed = Some(why),
                    }
                }
                failed.map_or(Ok(Outcome::Verdict(false)), Err)
            })
        };
        let evaluate: Evaluate = Rc::new(evaluate);
        decompose(&evaluate, images, &numbers)
    }

    /// What an expression that changes a Pod makes to each image.
    ///
    /// # Errors
    /// It is not understood, or it changes something else.
    pub(crate) fn change(
        &self,
        text: &str,
        patch: Patch,
    ) -> Result<(Rule<Swap>, Vocabulary), String> {
        let program = Program::parse(text)?;
        let mut vocabulary = self.vocabulary.clone();
        program.texts(&mut vocabulary);
        let images = images(&vocabulary);
        let numbers = self.numbers([&program]);
        let here = self.clone();
        let evaluate = move |shape: &Shape| {
            here.outcome(shape, &Outcome::Images(shape.clone()), |root, subject| {
                let made = Evaluation::new(root).evaluate(&program, &program.root)?;
                let changed = match patch {
                    Patch::Apply => apply(&made, subject.path, shape),
                    Patch::Json => json_patch(&made, subject.path, shape),
                };
                changed.map(Outcome::Images).map_err(Stop::Unknown)
            })
        };
        let evaluate: Evaluate = Rc::new(evaluate);
        let it = decompose(&evaluate, &images, &numbers)?;
        let rule = Rule {
            applies: Formula::always(),
            lists: it.lists,
            each: it.swap(),
        };
        Ok((rule, vocabulary))
    }

    /// The numbers that expressions, variables, conditions and parameters name.
    fn numbers<'a>(&self, programs: impl IntoIterator<Item = &'a Rc<Program>>) -> BTreeSet<i64> {
        let mut all = BTreeSet::new();
        let variables = self.variables.iter().map(|it| &it.1);
        for it in variables.chain(&self.guards) {
            it.numbers(&mut all);
        }
        programs.into_iter().for_each(|it| it.numbers(&mut all));
        self.names.values().for_each(|it| it.numbers(&mut all));
        all
    }

    /// The outcome for a Pod, which has to be the same for every object and operation.
    fn outcome(
        &self,
        shape: &Shape,
        untouched: &Outcome,
        rule: impl Fn(&Root, Subject) -> Result<Outcome, Stop>,
    ) -> Result<Outcome, String> {
        let mut found: Option<Outcome> = None;
        for (at, root) in self.roots(shape)?.iter().enumerate() {
            let subject = self.subjects[at / self.operations.len()];
            let outcome = match self.guarded(root) {
                Ok(true) => rule(root, subject),
                Ok(false) => Ok(untouched.clone()),
                Err(why) => Err(why),
            };
            let outcome = match (outcome, self.failure, untouched) {
                (Ok(outcome), ..) => outcome,
                (Err(Stop::Error(_)), Failure::Refuse, Outcome::Verdict(_)) => {
                    Outcome::Verdict(false)
                }
                (Err(Stop::Error(_)), Failure::Ignore, _) => untouched.clone(),
                (Err(Stop::Error(why)), ..) => return Err(format!("it fails ({why})")),
                (Err(Stop::Unknown(why)), ..) => return Err(why),
            };
            if found.as_ref().is_some_and(|it| *it != outcome) {
                return Err("its answer depends on the kind or operation".to_owned());
            }
            found = Some(outcome);
        }
        found.ok_or_else(|| "it is about no Pods".to_owned())
    }

    fn guarded(&self, root: &Root) -> Result<bool, Stop> {
        for guard in &self.guards {
            match Evaluation::new(root).evaluate(guard, &guard.root)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                _ => return Err(Stop::Unknown("it is not a condition".to_owned())),
            }
        }
        Ok(true)
    }

    /// What expressions can read, for each object and operation.
    fn roots(&self, shape: &Shape) -> Result<Vec<Root>, String> {
        let mut roots = Vec::new();
        for &subject in &self.subjects {
            for &operation in &self.operations {
                let mut root = self.root(subject, operation, Some(shape), None);
                if let Some(concerns) = &self.images {
                    let mut lists = BTreeMap::new();
                    for (name, images) in LISTS.iter().zip(shape) {
                        let mut texts = Vec::new();
                        for image in images {
                            if concerns(image)? {
                                texts.push(Value::text(image));
                            }
                        }
                        lists.insert((*name).to_owned(), Value::list(texts));
                    }
                    root.names
                        .insert("images".to_owned(), Value::Map(Rc::new(lists)));
                }
                roots.push(root);
            }
        }
        Ok(roots)
    }

    fn root(
        &self,
        subject: Subject,
        operation: &'static str,
        shape: Option<&Shape>,
        pod: Option<&Pod>,
    ) -> Root {
        let known = Known {
            subject,
            operation,
            shape,
            pod,
        };
        let mut names = known.names();
        names.extend(self.names.clone());
        Root {
            names,
            variables: Rc::clone(&self.variables),
        }
    }

    /// Asks about conditions on Pods. Labels of an object that makes Pods are not those of its Pods.
    fn for_each_operation<T>(&self, ask: impl Fn(&Scopes<'_>) -> T) -> Vec<T> {
        let subject = self.subjects.first().copied().unwrap_or(Subject::POD);
        let operations = self.operations.iter();
        let answers = operations.map(|operation| {
            let constant = self.root(subject, operation, None, None);
            let of_pod = |pod: &Pod| {
                let mut root = self.root(subject, operation, None, Some(pod));
                if subject != Subject::POD {
                    root.names
                        .insert("object".to_owned(), Object::known("object", []));
                }
                root
            };
            ask(&Scopes {
                constant: &constant,
                of_pod: &of_pod,
                failing: match self.failure {
                    Failure::Refuse => Some(false),
                    Failure::Ignore => Some(true),
                    Failure::Unclear => None,
                },
            })
        });
        answers.collect()
    }
}

/// The one answer for all operations.
fn same<T: PartialEq>(answers: &[T]) -> Result<&T, String> {
    match answers {
        [first, rest @ ..] if rest.iter().all(|it| it == first) => Ok(first),
        _ => Err("it treats CREATE and UPDATE differently".to_owned()),
    }
}

/// The images that a rule is tried with.
fn images(vocabulary: &Vocabulary) -> Vec<String> {
    let all = probes(vocabulary, 0);
    let texts = all.iter().flat_map(|it| it.texts.iter());
    texts.map(|it| it.0.clone()).collect()
}
