//! k8s-image-swapper's configuration: every image becomes `TARGET/REGISTRY/PATH`, unless a filter matches.

use crate::config_file::ConfigFile;
use crate::image::Image;
use crate::intent::{Effect, Intent, Lists, Origin, Reading, Vocabulary};
use crate::scope::Formula;
use crate::webhooks::Webhook;
use filter::Filter;
use imageswap_policy::yaml::{Node, Span, Value};
use std::rc::Rc;

mod fields;
mod filter;

use fields::Fields;

/// Its webhook.
pub(crate) const WEBHOOK: Webhook = Webhook {
    path: "/webhook",
    name: "k8s-image-swapper",
};

/// A place, and what is wrong there.
type Wrong = (Span, String);

/// Whether a document has this program's fields.
pub(crate) fn is_swapper(node: &Node) -> bool {
    let top = Fields(node);
    let inner = |key, names: &[&str]| {
        let found = top.find(key).map(Fields);
        found.is_some_and(|it| names.iter().any(|name| it.find(name).is_some()))
    };
    let object = node.get("kind").is_some() || node.get("apiVersion").is_some();
    !object
        && (inner("target", &["aws", "gcp"])
            || inner("source", &["filters"])
            || top.find("imageSwapPolicy").is_some())
}

/// Reads the file.
pub(crate) fn read(file: &ConfigFile, documents: &[(&str, Node)]) -> Vec<Reading> {
    let origin = file.origin(file.node.span, "swap");
    vec![match intent(file, &origin, documents) {
        Ok(it) => Reading::Understood(it),
        Err((span, why)) => Reading::LeftOut(origin.at(span), why),
    }]
}

fn intent(file: &ConfigFile, origin: &Origin, documents: &[(&str, Node)]) -> Result<Intent, Wrong> {
    let top = Fields(&file.node);
    top.only(&[
        "logLevel",
        "logFormat",
        "listenAddress",
        "dryRun",
        "imageSwapPolicy",
        "imageCopyPolicy",
        "imageCopyDeadline",
        "source",
        "target",
        "tlsCertFile",
        "tlsKeyFile",
    ])?;
    let mut differences = Vec::new();
    let mut notes = Vec::new();
    match top.flag("dryRun")? {
        Some((false, _)) => {}
        Some((true, span)) => {
            let why = "`dryRun: true` means by its documentation that no image is swapped; set it to false to import what it would swap";
            return Err((span, why.to_owned()));
        }
        None => differences.push("it does not say `dryRun`, which is true unless it is given and means by its documentation that no image is swapped; here images are".to_owned()),
    }
    match top.text("imageSwapPolicy", &file.text)?.unwrap_or_default() {
        it if it.text == "always" => {}
        it if it.text == "exists" || it.text.is_empty() => differences.push("an image stays there until the target has it (`imageSwapPolicy: exists`); here it moves".to_owned()),
        it => return Err((it.span, format!("the policy `{}` is neither always nor exists", it.text))),
    }
    match top.text("imageCopyPolicy", &file.text)?.unwrap_or_default() {
        it if it.text == "none" => {}
        it if ["", "delayed", "immediate", "force"].contains(&it.text.as_str()) => notes.push(
            "it also copies images into the target (`imageCopyPolicy`), which nothing does here"
                .to_owned(),
        ),
        it => {
            return Err((
                it.span,
                format!(
                    "the policy `{}` is not one of delayed, immediate, force, none",
                    it.text
                ),
            ));
        }
    }
    let target = top
        .find("target")
        .ok_or((file.node.span, "it has no `target`".to_owned()))?;
    let (endpoint, whole_host) = fields::target(target, &file.text)?;
    let mut filters = Vec::new();
    if let Some(source) = top.find("source") {
        let source = Fields(source);
        source.only(&["registries", "filters"])?;
        if let Some(registries) = source.find("registries") {
            for it in registries.items() {
                fields::target(it, &file.text)?;
            }
        }
        if let Some(list) = source.find("filters") {
            if !matches!(list.value, Value::Sequence(_) | Value::Null) {
                return Err((list.span, "`filters` is not a list".to_owned()));
            }
            for it in list.items() {
                filters.extend(Filter::read(it, &file.text)?);
            }
        }
    }
    let pods = WEBHOOK
        .pods(documents, &mut differences)
        .map_err(|why| (file.node.span, why))?;
    let mut parts = vec![pods];
    let mut vocabulary = Vocabulary::default();
    vocabulary.texts.push(format!("{endpoint}/"));
    if !whole_host {
        // A name that only begins like the target is not swapped either.
        vocabulary.texts.push(endpoint.clone());
    }
    let mut images = Vec::new();
    for it in filters {
        match it {
            Filter::Pods(formula) => parts.push(formula.not()),
            Filter::Images(expression) => {
                let mut texts = Vec::new();
                expression.texts(&mut texts);
                if texts.len() > 1 {
                    vocabulary.wildcards.push(format!("*{}*", texts.join("*")));
                }
                vocabulary.texts.extend(texts);
                images.push(expression);
            }
        }
    }
    let scope = Formula::All(parts)
        .blocks()
        .map_err(|why| (file.node.span, why))?;
    let swap = move |text: &str| {
        let Some(image) = Image::parse(text) else {
            return Ok(text.to_owned());
        };
        let full = format!("{}/{}", image.host, image.path.join("/"));
        let origin = if whole_host {
            image.host == endpoint
        } else {
            full.starts_with(&endpoint)
        };
        if origin || filter::any(&images, text)? {
            return Ok(text.to_owned());
        }
        Ok(image.named(&format!("{endpoint}/{full}")))
    };
    let effect = Effect::Swap(Rc::new(swap));
    Ok(Intent {
        lists: Lists::NOT_EPHEMERAL,
        alternative: true,
        differences,
        notes,
        ..Intent::new(origin.clone(), scope, effect, vocabulary)
    })
}
