//! The note on a Pod: its original images, so that the agent can recognise that admission saw them.

use std::collections::HashSet;

use crate::metrics::Operation;
use imageswap_policy::Selected;
use imageswap_policy::manifest::List;
use imageswap_policy::note::{ANNOTATION, Entry, MAX_BYTES, Note};

use super::{Asked, Decided};
use crate::patch::Patch;

/// Updates the Pod's note with the decisions. A note that is already right, as on a second pass,
/// stays; a foreign one does not recompute, and is replaced.
pub(super) fn write(
    selected: &Selected<'_>,
    asked: &Asked<'_>,
    decided: &[Decided<'_>],
    patch: &mut Patch,
) {
    let (Some(policy), Some(annotated)) = (selected.policy(), asked.object.has_annotations())
    else {
        return;
    };
    let present = asked.object.note();
    let mut note = present
        .and_then(|text| Note::parse(text).ok())
        .unwrap_or_default();
    if asked.operation == Operation::Create && !note.is_empty() {
        let names: HashSet<_> = decided.iter().map(|it| it.field.name).collect();
        note.retain(|name| names.contains(name));
    }
    for Decided { field, result } in decided {
        // Volumes run nothing, and the subresource of ephemeral containers drops changes of
        // annotations.
        if !matches!(field.list, List::Containers | List::InitContainers) {
            continue;
        }
        let explained = |entry: &Entry<'_>| {
            *result == field.image
                && entry.explains(&selected.in_container(Some(field.name)), result)
        };
        if !note.get(field.name).is_some_and(explained) {
            let entry = Entry {
                image: field.image.into(),
                revision: policy.revision().into(),
            };
            note.set(field.name, entry);
        }
    }
    let text = note.text();
    if note.is_empty() || present == Some(&text) {
        return;
    }
    if text.len() > MAX_BYTES {
        tracing::debug!(uid = &*asked.request.uid, "no note: it would be too large");
        return;
    }
    if annotated {
        // RFC 6901: a `/` in a name is `~1`.
        let pointer = format!("/metadata/annotations/{}", ANNOTATION.replace('/', "~1"));
        patch.add_string(pointer, &text);
    } else {
        patch.add_member("/metadata/annotations", ANNOTATION, &text);
    }
}
