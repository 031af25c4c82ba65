//! `spec.imagePullSecrets`: the Secrets that a Pod needs for the registries it was moved to.

use super::identity::is_object_name;
use super::{ImagePullSecret, KIND};
use crate::policy::PullSecret;
use crate::reference::{Reference, canonical_registry, is_registry};
use crate::yaml::places::{Messages, Step};

/// More would be a mistake, and each is compared with the Pod's own.
const MAX: usize = 32;

/// Compiles the list; mistakes become messages.
pub(super) fn compile(list: &[ImagePullSecret], messages: &mut Messages<'_>) -> Vec<PullSecret> {
    let field = Step::Key("imagePullSecrets");
    if list.len() > MAX {
        let message = format!("expected at most {MAX} Secrets, found {}", list.len());
        messages
            .error(&[Step::Key("spec"), field], "field", message)
            .help = Some("one Secret can hold the credentials of several registries".to_owned());
    }
    let mut secrets: Vec<PullSecret> = Vec::new();
    for (at, it) in list.iter().enumerate().take(MAX) {
        let path = |key| [Step::Key("spec"), field, Step::Index(at), Step::Key(key)];
        let Some(registry) = registry(&it.registry) else {
            let message = format!(
                "expected a registry's host, with its port where it has one, found `{}`",
                it.registry
            );
            let host = it.registry.rsplit("://").next().unwrap_or_default();
            let host = host.split('/').next().filter(|it| registry(it).is_some());
            messages.error(&path("registry"), "field", message).help = Some(match host {
                Some(host) => format!("write `{host}`"),
                None => "write a host such as `registry.example.com`".to_owned(),
            });
            continue;
        };
        if !is_object_name(&it.name) {
            let message = format!("expected the name of a Secret, found `{}`", it.name);
            let help = "a Secret has lower-case letters, digits, `-` and `.` in its name";
            messages.error(&path("name"), "field", message).help = Some(help.to_owned());
            continue;
        }
        let secret = PullSecret::new(registry, it.name.clone());
        if secrets.contains(&secret) {
            let message = format!("this {KIND} has that Secret for that registry already");
            messages.error(&path("name"), "field", message).help =
                Some("remove this item".to_owned());
            continue;
        }
        secrets.push(secret);
    }
    secrets
}

/// The canonical host, if the text is nothing else.
fn registry(text: &str) -> Option<String> {
    let image = format!("{text}/x");
    let parsed = Reference::parse(&image).ok()?;
    let whole = is_registry(text) && parsed.registry() == canonical_registry(text);
    whole.then(|| parsed.registry().to_owned())
}
