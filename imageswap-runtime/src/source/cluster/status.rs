//! The status of ImageSwapPolicy objects: whether the latest version is in force, and if not, why.

use serde_json::{Value, json};

use super::state::Verdict;

/// The condition's type.
const ACCEPTED: &str = "Accepted";
/// Characters of a message; the API server accepts four times as many.
const MAX_MESSAGE: usize = 8 << 10;

/// The status for `verdict` about `generation`, unless `present`, the object's own, already has it.
/// `now` is RFC 3339.
///
/// It depends only on the object itself, so that replicas write the same and do not overwrite each
/// other.
pub(super) fn patch(
    present: Option<&Value>,
    generation: Option<i64>,
    verdict: &Verdict,
    now: &str,
) -> Option<Value> {
    let (status, reason, message, revision) = match verdict {
        Verdict::Accepted { revision, warnings } if warnings.is_empty() => {
            ("True", "Loaded", "in force".to_owned(), Some(revision))
        }
        Verdict::Accepted { revision, warnings } => (
            "True",
            "LoadedWithWarnings",
            format!("in force; {warnings}"),
            Some(revision),
        ),
        Verdict::Refused { reasons } => (
            "False",
            "Invalid",
            format!("{reasons}\nthe last version that loaded stays in force"),
            None,
        ),
    };
    let message: String = message.chars().take(MAX_MESSAGE).collect();
    let empty = Value::Null;
    let present = present.unwrap_or(&empty);
    let old = present["conditions"]
        .as_array()
        .and_then(|it| it.iter().find(|it| it["type"] == ACCEPTED))
        .unwrap_or(&empty);
    let same_revision = revision.is_none_or(|it| present["revision"] == it.as_str());
    let same = old["status"] == status
        && old["reason"] == reason
        && old["message"] == message.as_str()
        && old["observedGeneration"].as_i64() == generation
        && same_revision;
    if same {
        return None;
    }
    let since = match old["lastTransitionTime"].as_str() {
        Some(since) if old["status"] == status => since,
        _ => now,
    };
    let condition = json!({
        "type": ACCEPTED,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    });
    let mut patch = json!({"status": {"conditions": [condition]}});
    if let Some(revision) = revision {
        patch["status"]["revision"] = json!(revision);
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(revision: &str) -> Verdict {
        Verdict::Accepted {
            revision: revision.to_owned(),
            warnings: String::new(),
        }
    }

    /// The status after a merge patch.
    fn written(present: Option<&Value>, patch: &Value) -> Value {
        let mut status = present.cloned().unwrap_or_else(|| json!({}));
        for (key, value) in patch["status"].as_object().into_iter().flatten() {
            status[key] = value.clone();
        }
        status
    }

    #[test]
    fn what_is_said_already_is_not_written_again() {
        let first = patch(None, Some(1), &accepted("r1"), "t1").unwrap();
        let status = written(None, &first);
        assert_eq!(patch(Some(&status), Some(1), &accepted("r1"), "t2"), None);
        assert!(patch(Some(&status), Some(1), &accepted("r2"), "t2").is_some());
    }

    #[test]
    fn a_transition_has_a_time_and_another_message_has_none() {
        let refused = |why: &str| Verdict::Refused {
            reasons: why.to_owned(),
        };
        let first = patch(None, Some(1), &accepted("r1"), "t1").unwrap();
        let first = written(None, &first);
        let second = patch(Some(&first), Some(2), &refused("x"), "t2").unwrap();
        let second = written(Some(&first), &second);
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "t2");
        assert_eq!(second["revision"], "r1", "which is in force");
        let third = patch(Some(&second), Some(3), &refused("y"), "t3").unwrap();
        let third = written(Some(&second), &third);
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "t2");
        assert_eq!(third["conditions"][0]["observedGeneration"], 3);
    }
}
