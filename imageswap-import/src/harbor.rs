//! harbor-container-webhook's configuration: the first rule whose expressions match replaces the registry.

use crate::config_file::{ConfigFile, flag, list, text, unknown};
use crate::image::Image;
use crate::intent::{Effect, Intent, Lists, Reading, Vocabulary};
use crate::scope::Block;
use crate::text::{regex, unescaped};
use crate::webhooks::Webhook;
use imageswap_policy::yaml::{Node, Span, Value};
use regex_automata::meta;
use std::rc::Rc;

/// Its webhook.
pub(crate) const WEBHOOK: Webhook = Webhook {
    path: "/webhook-v1-pod",
    name: "",
};
const FIELDS: [&str; 6] = [
    "port",
    "certDir",
    "metricsAddr",
    "healthAddr",
    "verbose",
    "rules",
];
const RULE: [&str; 7] = [
    "name",
    "matches",
    "excludes",
    "replace",
    "checkUpstream",
    "platforms",
    "authSecretName",
];

/// Whether a document has rules as this program reads them.
pub(crate) fn is_harbor(node: &Node) -> bool {
    let rules = node.get("rules").map_or(&[][..], Node::items).iter();
    let ours = |it: &Node| it.get("matches").is_some() && it.get("replace").is_some();
    node.get("kind").is_none() && node.get("apiVersion").is_none() && rules.into_iter().any(ours)
}

/// A rule of the file.
struct Rule {
    matches: Vec<meta::Regex>,
    excludes: Vec<meta::Regex>,
    replace: String,
    /// Whether it asks the registry before it replaces.
    asks: bool,
    vocabulary: Vocabulary,
}

/// Reads the rules.
pub(crate) fn read(file: &ConfigFile, documents: &[(&str, Node)]) -> Vec<Reading> {
    let rules = file.node.get("rules").map_or(&[][..], Node::items);
    let name = |at: usize| match rules[at].get("name").and_then(Node::as_str) {
        Some(name) => name.to_owned(),
        None => (at + 1).to_string(),
    };
    if let Some((span, why)) = unknown(&file.node, &FIELDS) {
        let all = (0..rules.len()).map(|at| {
            let place = format!("{why} (line {}, column {})", span.line, span.column);
            Reading::LeftOut(file.origin(rules[at].span, &name(at)), place)
        });
        return all.collect();
    }
    let mut differences = Vec::new();
    let scope = WEBHOOK
        .pods(documents, &mut differences)
        .and_then(|it| it.blocks());
    let mut known: Vec<Rc<Rule>> = Vec::new();
    // A rule that is not understood could take the images of those after it.
    let mut broken: Option<usize> = None;
    let mut readings = Vec::new();
    for (at, node) in rules.iter().enumerate() {
        let origin = file.origin(node.span, &name(at));
        let made = match (Rule::read(node), &scope, broken) {
            (Err((span, why)), _, _) => {
                broken = broken.or(Some(at));
                Reading::LeftOut(origin.at(span), why)
            }
            (_, Err(why), _) => Reading::LeftOut(origin, why.clone()),
            (Ok(_), _, Some(before)) => {
                let why = format!(
                    "the rule `{}` before it is not understood, and could take its images",
                    name(before)
                );
                Reading::LeftOut(origin, why)
            }
            (Ok(rule), Ok(scope), None) => {
                let rule = Rc::new(rule);
                let before: Vec<Rc<Rule>> = known.iter().map(Rc::clone).collect();
                known.push(Rc::clone(&rule));
                let mut intent = intent(file, node.span, &name(at), scope, rule, before);
                intent.differences.extend(differences.iter().cloned());
                Reading::Understood(intent)
            }
        };
        readings.push(made);
    }
    readings
}

fn intent(
    file: &ConfigFile,
    span: Span,
    name: &str,
    scope: &[Block],
    rule: Rc<Rule>,
    before: Vec<Rc<Rule>>,
) -> Intent {
    let mut differences = Vec::new();
    if rule.asks {
        differences.push(format!(
            "with `checkUpstream` an image stays there if `{}` lacks it; here it moves",
            rule.replace
        ));
    }
    let mut vocabulary = rule.vocabulary.clone();
    for it in &before {
        vocabulary.add(&it.vocabulary);
    }
    let swap = move |image: &str| {
        let first = before.iter().find_map(|it| it.replaced(image));
        Ok(match first {
            Some(_) => image.to_owned(),
            None => rule.replaced(image).unwrap_or_else(|| image.to_owned()),
        })
    };
    let (origin, effect) = (file.origin(span, name), Effect::Swap(Rc::new(swap)));
    Intent {
        lists: Lists::NOT_EPHEMERAL,
        alternative: true,
        differences,
        ..Intent::new(origin, scope.to_vec(), effect, vocabulary)
    }
}

impl Rule {
    fn read(node: &Node) -> Result<Self, (Span, String)> {
        if let Some(wrong) = unknown(node, &RULE) {
            return Err(wrong);
        }
        let mut vocabulary = Vocabulary::default();
        let mut expressions = |key: &str| -> Result<Vec<meta::Regex>, (Span, String)> {
            let span = node.get(key).map_or(node.span, |it| it.span);
            let texts = match node.get(key) {
                Some(it) if it.value == Value::Null => Vec::new(),
                _ => list(node, key)?,
            };
            let mut all = Vec::new();
            for it in texts {
                let Some(compiled) = regex(&it) else {
                    return Err((span, format!("the expression `{it}` is not understood")));
                };
                all.push(compiled);
                if it.contains(':') {
                    // Images with a digest have no tag for the expression.
                    vocabulary.wildcards.push("*@*".to_owned());
                }
                let words = unescaped(&it);
                let words = words
                    .split_whitespace()
                    .map(|it| it.trim_end_matches(['.', '*']));
                let words = words.filter(|it| !it.is_empty());
                vocabulary
                    .wildcards
                    .extend(words.map(|it| format!("{it}*")));
                vocabulary.texts.push(it);
            }
            Ok(all)
        };
        let (matches, excludes) = (expressions("matches")?, expressions("excludes")?);
        let replace = text(node, "replace")?.unwrap_or_default().to_owned();
        let span = node.get("replace").map_or(node.span, |it| it.span);
        let first = replace.split('/').next().unwrap_or_default();
        let host = first == "localhost" || first.contains(['.', ':']);
        if !host || Image::parse(&format!("{replace}/x/y")).is_none() {
            let why =
                format!("`replace` is `{replace}`: expected a registry, with or without a path");
            return Err((span, why));
        }
        let asks = flag(node, "checkUpstream")?.unwrap_or(false);
        // Used by the check alone.
        list(node, "platforms")?;
        text(node, "authSecretName")?;
        vocabulary.texts.push(format!("{replace}/"));
        Ok(Self {
            matches,
            excludes,
            replace,
            asks,
            vocabulary,
        })
    }

    /// The image with the other registry; `None` if the rule does not change it.
    fn replaced(&self, text: &str) -> Option<String> {
        let image = Image::parse(text)?;
        // Expressions see the image in full, without a tag beside a digest.
        let end = match (&image.digest, &image.tag) {
            (Some(digest), _) => format!("@{digest}"),
            (None, Some(tag)) => format!(":{tag}"),
            (None, None) => String::new(),
        };
        let path = image.path.join("/");
        let full = format!("{}/{path}{end}", image.host);
        let any = |all: &[meta::Regex]| all.iter().any(|it| it.is_match(&full));
        if !any(&self.matches) || any(&self.excludes) {
            return None;
        }
        let made = image.named(&format!("{}/{path}", self.replace));
        (Image::parse(&made).as_ref() != Some(&image)).then_some(made)
    }
}
