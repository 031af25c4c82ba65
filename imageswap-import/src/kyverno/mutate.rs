//! `mutate`: how a rule changes images.

use super::conditions::{self, Conditions};
use super::context::{Context, Variables, in_each, lists_in, template_texts};
use super::jmespath::known;
use super::validate::anchored;
use super::value::Stop;
use crate::intent::{LISTS, Lists, Swap, Vocabulary};
use crate::text::glob;
use imageswap_policy::yaml::{self, Node, Value};
use std::rc::Rc;

/// The changes of a `mutate` to images.
pub(super) struct Mutation {
    pub(super) lists: Lists,
    pub(super) swap: Swap,
    pub(super) vocabulary: Vocabulary,
    pub(super) secrets: Vec<String>,
    /// Other changes that are not carried over.
    pub(super) differences: Vec<String>,
}

/// A patch that sets one image.
#[derive(Debug, Clone, Default)]
struct Patch {
    lists: Lists,
    /// The image that is set, as a template.
    image: String,
    /// Only images that match this wildcard are changed.
    only: Option<String>,
}

/// Patches of the elements of one list, or of all containers.
struct Step {
    list: Option<String>,
    variables: Variables,
    preconditions: Option<Conditions>,
    patch: Patch,
}

/// Reads the changes of a rule.
pub(super) fn read(mutate: &Node, variables: &Variables) -> Result<Mutation, String> {
    let mut reader = Reader::default();
    let mut vocabulary = Vocabulary::default();
    for (key, value) in mutate.entries() {
        match key.as_str().unwrap_or_default() {
            "foreach" => {
                for entry in value.items() {
                    reader.foreach(entry, variables)?;
                }
            }
            "patchStrategicMerge" | "overlay" => reader.direct(value, variables)?,
            "patchesJson6902" => {
                return Err("its patch names containers by their number".to_owned());
            }
            "targets" => return Err("it changes objects that exist already".to_owned()),
            "mutateExistingOnPolicyUpdate" => {}
            other => return Err(format!("`{other}` is not understood")),
        }
    }
    let Some(lists) = reader
        .steps
        .iter()
        .map(|it| it.patch.lists)
        .reduce(Lists::or)
    else {
        return Err("it changes no image".to_owned());
    };
    if reader.steps.iter().any(|it| it.patch.lists != lists) && !all_same(&reader.steps) {
        return Err("it changes the lists of containers differently".to_owned());
    }
    variables.texts(&mut vocabulary);
    for step in &reader.steps {
        step.variables.texts(&mut vocabulary);
        step.preconditions
            .iter()
            .for_each(|it| it.texts(&mut vocabulary));
        vocabulary.wildcards.extend(step.patch.only.clone());
        let list = step.list.iter().map(|it| format!("{{{{{it}}}}}"));
        for text in list.chain([step.patch.image.clone()]) {
            template_texts(&text, &mut vocabulary);
        }
    }
    let first = reader
        .steps
        .iter()
        .map(|it| it.patch.lists)
        .next()
        .unwrap_or_default();
    let steps: Vec<Step> = reader
        .steps
        .into_iter()
        .filter(|it| it.patch.lists == first)
        .collect();
    let outer = variables.clone();
    let swap = move |image: &str| {
        let mut image = image.to_owned();
        for step in &steps {
            image = step.apply(&outer, &image)?;
        }
        Ok(image)
    };
    Ok(Mutation {
        lists,
        swap: Rc::new(swap),
        vocabulary,
        secrets: reader.secrets,
        differences: reader.differences,
    })
}

/// Whether every list gets the same steps.
fn all_same(steps: &[Step]) -> bool {
    let of = |lists: Lists| -> Vec<String> {
        let mine = steps.iter().filter(|it| it.patch.lists == lists);
        let list = |it: &Step| {
            it.list
                .as_deref()
                .unwrap_or_default()
                .replace("initContainers", "containers")
                .replace("ephemeralContainers", "containers")
        };
        let names = |text: String| {
            text.replace("initContainers", "containers")
                .replace("ephemeralContainers", "containers")
        };
        mine.map(|it| {
            names(format!(
                "{} {:?} {:?} {} {:?}",
                list(it),
                it.variables,
                it.preconditions,
                it.patch.image,
                it.patch.only
            ))
        })
        .collect()
    };
    steps
        .iter()
        .all(|it| of(it.patch.lists) == of(steps[0].patch.lists))
}

impl Step {
    fn apply(&self, outer: &Variables, image: &str) -> Result<String, String> {
        in_each(self.patch.lists, image, |it| {
            let context = it.with(outer);
            match &self.list {
                None => self.changed(&context.at_image(image), image),
                Some(list) => match context.elements(list)?.into_iter().next() {
                    Some(element) => {
                        let context = context.with_element(element).with(&self.variables);
                        self.changed(&context, image)
                    }
                    None => Ok(image.to_owned()),
                },
            }
        })
    }

    fn changed(&self, context: &Context, image: &str) -> Result<String, Stop> {
        let conditions = self.preconditions.as_ref();
        let applies = conditions.map_or(Ok(true), |it| it.hold(context))?;
        let changed = known(context.text(self.patch.image.trim()))?;
        if !applies || self.patch.only.as_ref().is_some_and(|it| !glob(it, image)) {
            return Ok(image.to_owned());
        }
        Ok(changed?.trim().to_owned())
    }
}

#[derive(Default)]
struct Reader {
    steps: Vec<Step>,
    secrets: Vec<String>,
    differences: Vec<String>,
}

impl Reader {
    fn foreach(&mut self, entry: &Node, variables: &Variables) -> Result<(), String> {
        let list = entry
            .get("list")
            .and_then(Node::as_str)
            .ok_or("its `foreach` has no list")?;
        let lists = lists_in(list);
        if lists == Lists::default() {
            return Err("its `foreach` goes through no list of containers".to_owned());
        }
        let mut preconditions = None;
        let mut patches = Vec::new();
        for (key, value) in entry.entries() {
            match key.as_str().unwrap_or_default() {
                "list" | "context" | "order" => {}
                "preconditions" => preconditions = Some(conditions::read(value)?),
                "patchStrategicMerge" => self.strategic(value, true, &mut patches)?,
                "patchesJson6902" => patches.push(json_patch(value)?),
                other => return Err(format!("`{other}` in `foreach` is not understood")),
            }
        }
        for patch in patches {
            if !lists.includes(patch.lists) {
                return Err(
                    "its patch changes another list than its `foreach` goes through".to_owned(),
                );
            }
            self.steps.push(Step {
                list: Some(list.to_owned()),
                variables: variables.with(entry.get("context")),
                preconditions: preconditions.clone(),
                patch,
            });
        }
        Ok(())
    }

    fn direct(&mut self, node: &Node, variables: &Variables) -> Result<(), String> {
        let mut patches = Vec::new();
        self.strategic(node, false, &mut patches)?;
        for patch in patches {
            if patch.image.contains("{{@}}") || patch.image.contains("{{ @ }}") {
                let message = "every container keeps its own image, where `{{@}}` is the image of the first one";
                self.differences.push(message.to_owned());
            }
            self.steps.push(Step {
                list: None,
                variables: variables.clone(),
                preconditions: None,
                patch,
            });
        }
        Ok(())
    }

    fn strategic(
        &mut self,
        node: &Node,
        foreach: bool,
        patches: &mut Vec<Patch>,
    ) -> Result<(), String> {
        if !matches!(node.value, Value::Mapping(_)) {
            return Err("its patch is not understood".to_owned());
        }
        for (key, value) in node.entries() {
            let (anchor, field) = anchored(key.as_str().unwrap_or_default());
            match (anchor, field) {
                ("" | "=", "spec" | "template" | "jobTemplate") => {
                    self.strategic(value, foreach, patches)?;
                }
                ("" | "=", "containers" | "initContainers" | "ephemeralContainers") => {
                    for element in value.items() {
                        patches.extend(self.container(Lists::named(&[field]), element, foreach)?);
                    }
                }
                ("" | "+" | "=", "imagePullSecrets") => {
                    for it in value.items() {
                        let name = it
                            .get("name")
                            .or_else(|| it.get("+(name)"))
                            .and_then(Node::as_str);
                        let name = name
                            .filter(|it| !it.contains("{{"))
                            .ok_or("its `imagePullSecrets` are not understood")?;
                        self.secrets.push(name.to_owned());
                    }
                }
                ("" | "+", other) => self.differences.push(format!(
                    "`{other}` is not changed, because it is not an image"
                )),
                (anchor, other) => {
                    return Err(format!(
                        "the anchor `{anchor}` of `{other}` is a condition on more than images"
                    ));
                }
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        lists: Lists,
        element: &Node,
        foreach: bool,
    ) -> Result<Option<Patch>, String> {
        let mut patch = Patch {
            lists,
            ..Patch::default()
        };
        let mut image = false;
        for (key, value) in element.entries() {
            let (anchor, field) = anchored(key.as_str().unwrap_or_default());
            let text = value.as_str();
            match (anchor, field) {
                ("" | "()", "name") => {
                    let compact: String = text
                        .unwrap_or_default()
                        .chars()
                        .filter(|it| !it.is_whitespace())
                        .collect();
                    let fits = if foreach {
                        matches!(compact.as_str(), "{{element.name}}" | "{{element0.name}}")
                    } else {
                        anchor == "()" && matches!(compact.as_str(), "*" | "?*")
                    };
                    if !fits {
                        return Err("it changes containers of certain names".to_owned());
                    }
                }
                ("", "image") => {
                    text.unwrap_or_default().clone_into(&mut patch.image);
                    image = true;
                }
                ("()", "image") => {
                    let only = text
                        .filter(|it| !it.contains(['|', '&', '!', '{']))
                        .ok_or("a condition on the image is not understood")?;
                    patch.only = Some(only.to_owned());
                }
                ("" | "+", other) => self.differences.push(format!(
                    "`{other}` is not changed, because it is not an image"
                )),
                (_, other) => return Err(format!("a condition on `{other}` is not understood")),
            }
        }
        if image && patch.image.trim().is_empty() {
            return Err("the image that it sets is not a text".to_owned());
        }
        Ok(image.then_some(patch))
    }
}

/// A JSON patch, written as a text, that replaces the element's image.
fn json_patch(node: &Node) -> Result<Patch, String> {
    let unread = || "its JSON patch is not understood".to_owned();
    let text = node.as_str().ok_or_else(unread)?;
    let parsed = yaml::parse("patch", text).map_err(|_not| unread())?;
    let operations: Vec<&Node> = parsed.iter().flat_map(Node::items).collect();
    let [operation] = operations.as_slice() else {
        return Err(unread());
    };
    let field = |name| operation.get(name).and_then(Node::as_str);
    let (Some("replace" | "add"), Some(path), Some(image)) =
        (field("op"), field("path"), field("value"))
    else {
        return Err(unread());
    };
    let compact: String = path.chars().filter(|it| !it.is_whitespace()).collect();
    for list in LISTS {
        for index in ["{{elementIndex}}", "{{elementIndex0}}"] {
            if compact == format!("/spec/{list}/{index}/image") {
                return Ok(Patch {
                    lists: Lists::named(&[list]),
                    image: image.to_owned(),
                    only: None,
                });
            }
        }
    }
    Err(unread())
}
