//! Makes a policy for every combination of the rules' scopes, so that one policy decides for a Pod
//! as all rules did.

use crate::intent::{Effect, Intent, Reading};
use crate::lookalike;
use crate::policy::{self, Made};
use crate::report::{Difference, Item, Status};
use crate::scope::{Block, Pod};
use imageswap_policy::document::{Enforcement, ImageSwapPolicy, load_all};
use imageswap_policy::{Date, EXCLUDED_NAMESPACES, PodScope, Policies, Scope};
use std::collections::BTreeSet;

mod lists;

/// More combinations would be too many for a person to understand.
const MAX_CELLS: usize = 48;

/// Pods to which the same rules apply, and those rules.
#[derive(Debug, Clone)]
struct Cell {
    block: Block,
    rules: BTreeSet<usize>,
    /// How many scopes overlap here.
    depth: usize,
}

/// The result for all rules.
pub(crate) struct Combined {
    pub(crate) policies: Vec<ImageSwapPolicy>,
    /// The outcome of each rule.
    pub(crate) items: Vec<Item>,
    pub(crate) intents: Vec<Intent>,
    /// The rules of each policy.
    pub(crate) rules: Vec<BTreeSet<usize>>,
}

/// Combines rules into policies.
pub(crate) fn combine(readings: Vec<Reading>) -> Combined {
    let mut items = Vec::new();
    let mut intents = Vec::new();
    for reading in readings {
        match reading {
            Reading::LeftOut(origin, reason) => {
                items.push((None, item(&origin, Status::LeftOut, Some(reason))));
            }
            Reading::Settled(origin, status, remark) => {
                items.push((None, settled(&origin, status, remark)));
            }
            Reading::Understood(intent) => {
                let mut item = item(&intent.origin, Status::CarriedOver, None);
                item.notes.clone_from(&intent.notes);
                items.push((Some(intents.len()), item));
                intents.push(intent.remembering());
            }
        }
    }
    let mut work = Work {
        states: intents.iter().map(|_| State::default()).collect(),
        intents,
    };
    let (policies, rules) = work.run();
    let items: Vec<Item> = items
        .into_iter()
        .map(|(intent, mut item)| {
            if let Some(at) = intent {
                work.states[at].complete(&work.intents[at], &mut item);
            }
            item
        })
        .collect();
    Combined {
        policies,
        items,
        intents: work.intents,
        rules,
    }
}

fn item(origin: &crate::intent::Origin, status: Status, reason: Option<String>) -> Item {
    Item {
        source: origin.source.clone(),
        line: origin.line,
        column: origin.column,
        policy: format!("{} {}", origin.kind, origin.document),
        rule: origin.rule.clone(),
        status,
        reason,
        differences: Vec::new(),
        notes: Vec::new(),
    }
}

/// The outcome of a rule that needs no policy.
fn settled(origin: &crate::intent::Origin, status: Status, remark: String) -> Item {
    match status {
        Status::LeftOut => item(origin, status, Some(remark)),
        Status::Differs => {
            let difference = Difference {
                message: remark,
                example: None,
            };
            Item {
                differences: vec![difference],
                ..item(origin, status, None)
            }
        }
        Status::CarriedOver => Item {
            notes: vec![remark],
            ..item(origin, status, None)
        },
    }
}

/// What is known about one rule so far.
#[derive(Debug, Clone, Default)]
struct State {
    left_out: Option<String>,
    differences: Vec<Difference>,
    /// Whether a policy contains it.
    used: bool,
}

impl State {
    /// Writes the outcome of the rule into its item of the report.
    fn complete(&self, intent: &Intent, item: &mut Item) {
        if let Some(reason) = self
            .left_out
            .clone()
            .or_else(|| (!self.used).then(|| "no Pod is in its scope".to_owned()))
        {
            item.status = Status::LeftOut;
            item.reason = Some(reason);
            return;
        }
        let known = intent.differences.iter().map(|message| Difference {
            message: message.clone(),
            example: None,
        });
        item.differences
            .extend(known.chain(self.differences.iter().cloned()));
        if !item.differences.is_empty() {
            item.status = Status::Differs;
        }
        if self.differences.is_empty() {
            item.notes.extend(lookalike::note(intent));
        }
        let missing = intent.lists.missing();
        if !missing.is_empty() {
            let what = match intent.effect {
                Effect::Check { .. } => "judged",
                Effect::Swap(_) => "changed",
            };
            item.notes.push(format!(
                "images of {} are {what}, too",
                missing.join(" and ")
            ));
        }
    }
}

/// Rules that have to be left out, with reasons.
type LeftOut = Vec<(usize, String)>;

struct Work {
    intents: Vec<Intent>,
    states: Vec<State>,
}

impl Work {
    fn run(&mut self) -> (Vec<ImageSwapPolicy>, Vec<BTreeSet<usize>>) {
        // Each round leaves out at least one rule, or ends.
        loop {
            let cells = match self.cells() {
                Ok(cells) => cells,
                Err((rule, reason)) => {
                    self.leave_out(rule, reason);
                    continue;
                }
            };
            match self.policies(&cells) {
                Ok(policies) => return policies,
                Err(rules) => {
                    for (rule, reason) in rules {
                        self.leave_out(rule, reason);
                    }
                }
            }
        }
    }

    fn leave_out(&mut self, rule: usize, reason: String) {
        self.states[rule].left_out.get_or_insert(reason);
        for state in &mut self.states {
            state.differences.clear();
            state.used = false;
        }
    }

    fn kept(&self) -> Vec<usize> {
        (0..self.intents.len())
            .filter(|&it| self.states[it].left_out.is_none())
            .collect()
    }

    /// All combinations of scopes that a Pod can be in.
    fn cells(&self) -> Result<Vec<Cell>, (usize, String)> {
        let mut cells: Vec<Cell> = Vec::new();
        for rule in self.kept() {
            for block in &self.intents[rule].scope {
                let mut fresh = vec![Cell {
                    block: block.clone(),
                    rules: BTreeSet::from([rule]),
                    depth: 1,
                }];
                for cell in &cells {
                    let both = cell.block.intersect(block).map_err(|it| (rule, it))?;
                    if let Some(block) = both {
                        let mut rules = cell.rules.clone();
                        rules.insert(rule);
                        fresh.push(Cell {
                            block,
                            rules,
                            depth: cell.depth + 1,
                        });
                    }
                }
                for it in fresh {
                    match cells.iter_mut().find(|cell| cell.block == it.block) {
                        Some(cell) => {
                            cell.rules.extend(it.rules);
                            cell.depth = cell.depth.max(it.depth);
                        }
                        None => cells.push(it),
                    }
                }
                if cells.len() > MAX_CELLS {
                    return Err((rule, "its scope overlaps with too many others".to_owned()));
                }
            }
        }
        Ok(cells)
    }

    fn policies(
        &mut self,
        cells: &[Cell],
    ) -> Result<(Vec<ImageSwapPolicy>, Vec<BTreeSet<usize>>), LeftOut> {
        let mut made: Vec<(BTreeSet<usize>, ImageSwapPolicy)> = Vec::new();
        let mut known: Vec<(BTreeSet<usize>, Made)> = Vec::new();
        let depths: BTreeSet<usize> = cells.iter().map(|it| it.depth).collect();
        for cell in cells {
            let (rules, dropped) = self.one_enforcement(&cell.rules);
            let at = if let Some(at) = known.iter().position(|it| it.0 == rules) {
                at
            } else {
                let policy = self.attempt(&rules)?;
                known.push((rules.clone(), policy));
                known.len() - 1
            };
            let mut spec = known[at].1.spec.clone();
            // The lowest priority stays 0.
            let rank = depths
                .iter()
                .position(|&it| it == cell.depth)
                .unwrap_or_default();
            spec.priority = i32::try_from(rank * 10).unwrap_or(i32::MAX);
            spec.r#match = cell.block.to_match();
            for (rule, beside) in dropped {
                let beside = self.intents[beside].origin.rule.clone();
                self.differ(rule, Difference {
                    message: format!("one policy cannot both refuse and audit, so where `{beside}` applies, only `{beside}` is checked"),
                    example: None,
                });
            }
            for &rule in &rules {
                self.states[rule].used = true;
            }
            let differences = known[at].1.differences.clone();
            let order: Vec<usize> = rules.iter().copied().collect();
            for (difference, concerned) in differences {
                for it in concerned {
                    self.differ(order[it], difference.clone());
                }
            }
            for (rule, difference) in self.completed_elsewhere(&rules, cells) {
                self.differ(rule, difference);
            }
            made.push((rules.clone(), ImageSwapPolicy::new(self.name(&rules), spec)));
        }
        // A rule that is only audited, and always together with an enforced one, is not in any
        // policy.
        let lost: Vec<_> = self
            .kept()
            .into_iter()
            .filter(|&it| !self.states[it].used && !self.intents[it].scope.is_empty())
            .collect();
        if let Some(&rule) = lost.first() {
            return Err(vec![(rule, "it is audited, and rules that refuse apply to all of its Pods: one policy cannot do both".to_owned())]);
        }
        let mut policies: Vec<ImageSwapPolicy> = Vec::new();
        let mut contents = Vec::new();
        for (rules, mut policy) in made {
            contents.push(rules);
            let base = policy.metadata.name.clone();
            let mut count = 1;
            while policies
                .iter()
                .any(|it| it.metadata.name == policy.metadata.name)
            {
                count += 1;
                policy.metadata.name = format!("{base}-{count}");
            }
            policies.push(policy);
        }
        self.verify(cells, &policies)?;
        Ok((policies, contents))
    }

    fn differ(&mut self, rule: usize, difference: Difference) {
        let all = &mut self.states[rule].differences;
        if !all.iter().any(|it| it.message == difference.message) {
            all.push(difference);
        }
    }

    /// The rules without audited checks beside enforced ones, and each of these with an enforced one.
    fn one_enforcement(&self, rules: &BTreeSet<usize>) -> (BTreeSet<usize>, Vec<(usize, usize)>) {
        let enforcement = |it: usize| match &self.intents[it].effect {
            Effect::Check { enforcement, .. } => Some(*enforcement),
            Effect::Swap(_) => None,
        };
        let strictest = [Enforcement::Deny, Enforcement::Warn, Enforcement::Audit];
        let Some((strict, by)) = strictest.into_iter().find_map(|strict| {
            Some((
                strict,
                *rules.iter().find(|&&it| enforcement(it) == Some(strict))?,
            ))
        }) else {
            return (rules.clone(), Vec::new());
        };
        let (kept, dropped): (BTreeSet<usize>, BTreeSet<usize>) = rules
            .iter()
            .partition(|&&it| enforcement(it).is_none_or(|it| it == strict));
        (kept, dropped.into_iter().map(|it| (it, by)).collect())
    }

    /// One policy for these rules, or the rules that have to be left out.
    fn attempt(&self, rules: &BTreeSet<usize>) -> Result<Made, Vec<(usize, String)>> {
        if !self.lists(rules).containers {
            let left_out = rules.iter().map(|&it| (it, self.without_containers(it)));
            return Err(left_out.collect());
        }
        let intents: Vec<&Intent> = rules.iter().map(|&it| &self.intents[it]).collect();
        let failed = match policy::make(&intents) {
            Ok(made) => return Ok(made),
            Err(failed) => failed,
        };
        let told = |failed: &policy::Failed, beside: &str| {
            let image = failed
                .image
                .as_ref()
                .filter(|it| !failed.reason.contains(it.as_str()));
            let image = image.map_or_else(String::new, |it| format!(", such as `{it}`"));
            format!("{}{image}{beside}", failed.reason)
        };
        if rules.len() == 1 {
            return Err(rules.iter().map(|&it| (it, told(&failed, ""))).collect());
        }
        let alone: Vec<_> = rules
            .iter()
            .filter_map(|&it| {
                policy::make(&[&self.intents[it]])
                    .err()
                    .map(|why| (it, told(&why, "")))
            })
            .collect();
        if !alone.is_empty() {
            return Err(alone);
        }
        // A rule about `containers` is about all lists here, so one about another list cannot stay
        // beside it.
        let (main, others): (Vec<usize>, Vec<usize>) = rules
            .iter()
            .partition(|&&it| self.intents[it].lists.containers);
        let intents: Vec<&Intent> = main.iter().map(|&it| &self.intents[it]).collect();
        if let (Some(&by), false) = (main.first(), others.is_empty())
            && policy::make(&intents).is_ok()
        {
            let beside = format!("; beside it applies `{}`", self.intents[by].origin.rule);
            let left_out = others.into_iter().map(|it| (it, told(&failed, &beside)));
            return Err(left_out.collect());
        }
        let last = rules.iter().next_back().copied().unwrap_or_default();
        let beside = format!(
            "; alone it could be carried over, but not beside `{}`",
            self.intents[*rules.iter().next().unwrap_or(&last)]
                .origin
                .rule
        );
        Err(vec![(last, told(&failed, &beside))])
    }

    fn name(&self, rules: &BTreeSet<usize>) -> String {
        let mut names: Vec<String> = Vec::new();
        for &rule in rules {
            let name = object_name(&self.intents[rule].origin.document);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut name = match names.as_slice() {
            [one] => one.clone(),
            [one, two] => format!("{one}-and-{two}"),
            [one, rest @ ..] => format!("{one}-and-{}-more", rest.len()),
            [] => "imported".to_owned(),
        };
        name.truncate(200);
        name.trim_end_matches(['-', '.']).to_owned()
    }

    /// Asks all policies together about Pods of every kind: each has to get the policy of the rules
    /// that apply to it.
    fn verify(
        &self,
        cells: &[Cell],
        policies: &[ImageSwapPolicy],
    ) -> Result<(), Vec<(usize, String)>> {
        let texts: Vec<(String, String)> = policies
            .iter()
            .map(|it| {
                (
                    it.metadata.name.clone(),
                    serde_json::to_string(it).unwrap_or_default(),
                )
            })
            .collect();
        let last = || self.kept().last().copied().unwrap_or_default();
        let loaded = match load_all(
            texts
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        ) {
            Ok(loaded) => Policies::new(loaded.policies),
            Err(errors) => {
                let first = errors
                    .iter()
                    .next()
                    .map(|it| it.message.clone())
                    .unwrap_or_default();
                return Err(vec![(last(), format!("its policy is not valid: {first}"))]);
            }
        };
        for pod in cells.iter().flat_map(|it| it.block.pods()) {
            let applying: BTreeSet<usize> = self
                .kept()
                .into_iter()
                .filter(|&it| {
                    self.intents[it]
                        .scope
                        .iter()
                        .any(|block| block.selects(&pod))
                })
                .collect();
            let expected = cells
                .iter()
                .position(|it| it.rules == applying && it.block.selects(&pod));
            let selected = loaded.select(scope_of(&pod), Date::MIN);
            let found = selected.policy().map(imageswap_policy::Policy::name);
            let right = match (expected, found) {
                (None, None) => applying.is_empty(),
                (Some(at), Some(found)) => {
                    policies[at].metadata.name == found
                        || policies
                            .iter()
                            .zip(cells)
                            .any(|(it, cell)| it.metadata.name == found && cell.rules == applying)
                }
                // The built-in exclusions hold unless a namespace is named.
                (Some(_), None) => EXCLUDED_NAMESPACES.contains(&pod.namespace.as_str()),
                (None, Some(_)) => false,
            };
            if !right {
                let rule = applying.iter().next_back().copied().unwrap_or_else(last);
                return Err(vec![(
                    rule,
                    format!(
                        "which rules apply to a Pod in the namespace `{}` cannot be said",
                        pod.namespace
                    ),
                )]);
            }
        }
        Ok(())
    }
}

fn scope_of(pod: &Pod) -> Scope<'_> {
    Scope::Pod(PodScope {
        namespace: Some(&pod.namespace),
        namespace_labels: Some(&pod.namespace_labels),
        labels: Some(&pod.labels),
    })
}

/// A valid Kubernetes name.
fn object_name(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    let name: String = lower.chars().map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() {
        "imported".to_owned()
    } else {
        name.chars().take(90).collect()
    }
}
