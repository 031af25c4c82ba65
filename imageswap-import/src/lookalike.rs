//! Hosts that look like a named one, and that a source lets in although its author can hardly mean
//! them: `registry.corp` without a `/` also begins `registry.corp.evil.example`.

use crate::intent::{Effect, Intent};
use crate::probe::lookalikes;
use crate::vocabulary::Named;

/// A host that no source names.
const STRANGER: &str = "stranger.evil.example";

/// What to say about a rule that lets in images of such a host, if the policy decides about all
/// probes as the rule does.
pub(crate) fn note(intent: &Intent) -> Option<String> {
    let Effect::Check { holds, .. } = &intent.effect else {
        return None;
    };
    let lets_in = |host: &str| {
        let image = |path: &str| holds(&format!("{host}/{path}")) == Ok(true);
        image("app") || image("team/app:1")
    };
    // It only refuses some images.
    if lets_in(STRANGER) {
        return None;
    }
    let named = Named::of(&intent.vocabulary, 0);
    let (host, other) = named
        .hosts
        .iter()
        .filter(|host| lets_in(host))
        .find_map(|host| {
            // Both are among the probes, about which the policy decides as the source does.
            let other = lookalikes(host).into_iter().find(|it| lets_in(it))?;
            (!named.hosts.contains(&other)).then_some((host, other))
        })?;
    Some(format!(
        "images of `{other}` pass, too, as in the source: nothing there ends or begins the host `{host}`"
    ))
}
