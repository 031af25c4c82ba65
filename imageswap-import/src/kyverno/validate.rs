//! `validate`: which images a rule lets in.

use super::conditions::{self, Conditions};
use super::context::{Context, Variables, lists_in, template_texts};
use crate::answer::alike;
use crate::intent::{Check, Lists, Vocabulary};
use crate::text::glob;
use imageswap_policy::yaml::{Node, Value};
use std::rc::Rc;

/// The demands of a `validate` on images.
pub(super) struct Validation {
    pub(super) lists: Lists,
    pub(super) holds: Check,
    pub(super) vocabulary: Vocabulary,
}

/// Reads the demands of a rule.
pub(super) fn read(validate: &Node, variables: &Variables) -> Result<Validation, String> {
    let mut found: Option<Validation> = None;
    for (key, value) in validate.entries() {
        let key = key.as_str().unwrap_or_default();
        let more = match key {
            "message" | "failureAction" | "failureActionOverrides" | "allowExistingViolations" => {
                continue;
            }
            "pattern" => pattern(value, variables)?,
            "anyPattern" if value.items().len() == 1 => pattern(&value.items()[0], variables)?,
            "anyPattern" => {
                return Err("`anyPattern` asks whether all images of a Pod match the same pattern; one pattern with `|` asks image by image".to_owned());
            }
            "deny" => deny(value, variables)?,
            "foreach" => foreach(value, variables)?,
            other => return Err(format!("`{other}` is not understood")),
        };
        if found.is_some() {
            return Err("it has several demands at once".to_owned());
        }
        found = Some(more);
    }
    let mut found = found.ok_or("it demands nothing")?;
    variables.texts(&mut found.vocabulary);
    Ok(found)
}

/// The value of a pattern for one field: `|` is or, `&` is and, `!` is not, in this order.
#[derive(Debug, Clone)]
struct Wanted(String);

impl Wanted {
    fn read(node: &Node) -> Result<Self, String> {
        let text = node.as_str().ok_or("a pattern for images is not a text")?;
        let comparison = |it: &str| it.trim().starts_with(['<', '>']);
        if text.split(['|', '&']).any(comparison) {
            return Err(format!("`{text}` compares images like numbers"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the image matches; `None` if the pattern depends on the context.
    fn without_context(&self, image: &str) -> Option<bool> {
        (!self.0.contains("{{")).then(|| Self::matches(&self.0, image))
    }

    fn holds(&self, context: &Context, image: &str) -> Result<bool, String> {
        Ok(Self::matches(&context.text(&self.0)?, image))
    }

    fn matches(text: &str, image: &str) -> bool {
        let demand = |it: &str| match it.trim().strip_prefix('!') {
            Some(refused) => !glob(refused.trim(), image),
            None => glob(it.trim(), image),
        };
        text.split('|').any(|it| it.split('&').all(demand))
    }

    fn texts(&self, into: &mut Vocabulary) {
        if self.0.contains("{{") {
            template_texts(&self.0, into);
        } else {
            let parts = self.0.split(['|', '&']);
            into.wildcards
                .extend(parts.map(|it| it.trim().trim_start_matches('!').trim().to_owned()));
        }
    }
}

/// Demands on every container of some lists.
fn pattern(node: &Node, variables: &Variables) -> Result<Validation, String> {
    let mut wanted: Vec<(Lists, Wanted)> = Vec::new();
    pod(node, &mut wanted)?;
    let lists = wanted.iter().fold(Lists::default(), |all, it| all.or(it.0));
    // One demand represents all lists only if it is the same for each.
    let (_, first) = wanted
        .first()
        .cloned()
        .ok_or("its pattern says nothing of images")?;
    if wanted.iter().any(|it| it.1.0 != first.0) {
        return Err("its pattern demands different images of the lists of containers".to_owned());
    }
    let mut vocabulary = Vocabulary::default();
    first.texts(&mut vocabulary);
    let variables = variables.clone();
    let holds = move |image: &str| {
        if let Some(holds) = first.without_context(image) {
            return Ok(holds);
        }
        let context = Context::new(lists, image).with(&variables);
        first.holds(&context, image)
    };
    Ok(Validation {
        lists,
        holds: Rc::new(holds),
        vocabulary,
    })
}

/// Goes down to the lists of containers.
fn pod(node: &Node, wanted: &mut Vec<(Lists, Wanted)>) -> Result<(), String> {
    if !matches!(node.value, Value::Mapping(_)) {
        return Err("its pattern is not understood".to_owned());
    }
    for (key, value) in node.entries() {
        let (anchor, field) = anchored(key.as_str().unwrap_or_default());
        match (anchor, field) {
            ("" | "=", "spec" | "template" | "jobTemplate") => pod(value, wanted)?,
            // Only this list always exists.
            ("" | "=", "containers") | ("=", "initContainers" | "ephemeralContainers") => {
                let [element] = value.items() else {
                    return Err(format!(
                        "`{field}` in its pattern has not exactly one element"
                    ));
                };
                wanted.push((Lists::named(&[field]), container(element)?));
            }
            (_, "initContainers" | "ephemeralContainers") => {
                return Err(format!("its pattern refuses Pods without `{field}`"));
            }
            ("", other) => return Err(format!("its pattern is also about `{other}`")),
            (anchor, other) => {
                return Err(format!(
                    "the anchor `{anchor}` of `{other}` is a condition on more than images"
                ));
            }
        }
    }
    Ok(())
}

fn container(element: &Node) -> Result<Wanted, String> {
    let mut image = None;
    for (key, value) in element.entries() {
        let (anchor, field) = anchored(key.as_str().unwrap_or_default());
        match (anchor, field) {
            // Every container has a name.
            ("" | "=" | "()", "name") if matches!(value.as_str(), Some("*" | "?*")) => {}
            ("" | "=", "image") => image = Some(Wanted::read(value)?),
            (_, "image") => {
                return Err(format!(
                    "the anchor of `{}` makes the image a condition for other fields",
                    key.as_str().unwrap_or_default()
                ));
            }
            (_, other) => return Err(format!("its pattern is also about `{other}`")),
        }
    }
    image.ok_or_else(|| "its pattern says nothing of images".to_owned())
}

/// A key without its anchor, and the anchor: `()`, `=`, `^`, `X`, `<`, `+`.
pub(super) fn anchored(key: &str) -> (&str, &str) {
    for anchor in ["=", "^", "X", "<", "+", ""] {
        let inner = key
            .strip_prefix(anchor)
            .and_then(|it| it.strip_prefix('('))
            .and_then(|it| it.strip_suffix(')'));
        if let Some(inner) = inner {
            return (if anchor.is_empty() { "()" } else { anchor }, inner);
        }
    }
    ("", key)
}

/// Refuses an image for which the conditions are true.
fn deny(node: &Node, variables: &Variables) -> Result<Validation, String> {
    let conditions = denied(node)?;
    let lists = conditions.is_for_each()?;
    let mut vocabulary = Vocabulary::default();
    conditions.texts(&mut vocabulary);
    let variables = variables.clone();
    let holds = move |image: &str| {
        alike(lists, |list| {
            let context = Context::new(list, image).with(&variables);
            Ok(!conditions.hold(&context)?)
        })
    };
    Ok(Validation {
        lists,
        holds: Rc::new(holds),
        vocabulary,
    })
}

fn denied(node: &Node) -> Result<Conditions, String> {
    match node.entries() {
        [(key, value)] if key.as_str() == Some("conditions") => conditions::read(value),
        _ => Err("`deny` is not understood".to_owned()),
    }
}

/// One entry of `foreach`.
struct Each {
    list: String,
    variables: Variables,
    preconditions: Option<Conditions>,
    demand: Demand,
}

enum Demand {
    /// One of the elements' patterns.
    Patterns(Vec<Wanted>),
    Deny(Conditions),
}

fn foreach(node: &Node, variables: &Variables) -> Result<Validation, String> {
    let mut all = Vec::new();
    let mut lists = Lists::default();
    let mut vocabulary = Vocabulary::default();
    for entry in node.items() {
        let each = each(entry, variables)?;
        let of = lists_in(&each.list);
        if lists != Lists::default() && lists != of {
            return Err("its entries of `foreach` go through different lists".to_owned());
        }
        lists = of;
        template_texts(&format!("{{{{{}}}}}", each.list), &mut vocabulary);
        each.variables.texts(&mut vocabulary);
        each.preconditions
            .iter()
            .for_each(|it| it.texts(&mut vocabulary));
        match &each.demand {
            Demand::Deny(conditions) => conditions.texts(&mut vocabulary),
            Demand::Patterns(patterns) => patterns.iter().for_each(|it| it.texts(&mut vocabulary)),
        }
        all.push(each);
    }
    if lists == Lists::default() {
        return Err("its `foreach` goes through no list of containers".to_owned());
    }
    let outer = variables.clone();
    let holds = move |image: &str| {
        alike(lists, |list| {
            for each in &all {
                if !each.holds(list, &outer, image)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    };
    Ok(Validation {
        lists,
        holds: Rc::new(holds),
        vocabulary,
    })
}

fn each(entry: &Node, variables: &Variables) -> Result<Each, String> {
    let mut preconditions = None;
    let mut demand = None;
    for (key, value) in entry.entries() {
        let more = match key.as_str().unwrap_or_default() {
            // The scope of an element is evaluated here anyway.
            "list" | "context" | "order" | "elementScope" => continue,
            "preconditions" => {
                preconditions = Some(conditions::read(value)?);
                continue;
            }
            "pattern" => Demand::Patterns(vec![container(value)?]),
            "anyPattern" => Demand::Patterns(
                value
                    .items()
                    .iter()
                    .map(container)
                    .collect::<Result<_, _>>()?,
            ),
            "deny" => Demand::Deny(denied(value)?),
            other => return Err(format!("`{other}` in `foreach` is not understood")),
        };
        if demand.replace(more).is_some() {
            return Err("an entry of its `foreach` has several demands at once".to_owned());
        }
    }
    Ok(Each {
        list: entry
            .get("list")
            .and_then(Node::as_str)
            .ok_or("its `foreach` has no list")?
            .to_owned(),
        variables: variables.with(entry.get("context")),
        preconditions,
        demand: demand.ok_or("its `foreach` demands nothing")?,
    })
}

impl Each {
    fn holds(&self, lists: Lists, outer: &Variables, image: &str) -> Result<bool, String> {
        let context = Context::new(lists, image).with(outer);
        for element in context.elements(&self.list)? {
            let context = context.with_element(element).with(&self.variables);
            if let Some(conditions) = &self.preconditions
                && !conditions.hold(&context)?
            {
                continue;
            }
            let holds = match &self.demand {
                Demand::Deny(conditions) => !conditions.hold(&context)?,
                Demand::Patterns(patterns) => {
                    let mut any = false;
                    for it in patterns {
                        any |= it.holds(&context, image)?;
                    }
                    any
                }
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
