//! The parts of an OCI runtime configuration that matter for what its container runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A `config.json` of the OCI runtime specification, or containerd's record of one; all other
/// fields are skipped.
///
/// Go writes `null` for absent fields, hence the options.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    root: Option<Root>,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    path: Option<PathBuf>,
}

impl Spec {
    /// `root.path` as written.
    pub(super) fn root_path(&self) -> Option<PathBuf> {
        self.root.as_ref()?.path.clone()
    }

    /// The annotations.
    pub(super) fn into_annotations(self) -> BTreeMap<String, String> {
        self.annotations.unwrap_or_default()
    }
}

/// The characters that Go's writer of JSON escapes by their number.
const ESCAPED_BY_GO: [&str; 5] = ["0026", "003c", "003e", "2028", "2029"];

/// Whether the JSON of an OCI configuration may name a hook that runs in the container right before
/// its program (`startContainer`). Spellings that Go reads as this name count: in any case, escaped,
/// or with a letter beyond ASCII.
pub(crate) fn may_hook_start(json: &[u8]) -> bool {
    let Ok(json) = str::from_utf8(json) else {
        return true;
    };
    let json = json.to_ascii_lowercase();
    let by_go = |digits: &str| ESCAPED_BY_GO.iter().any(|known| digits.starts_with(known));
    !json.is_ascii()
        || json.contains("startcontainer")
        || json.split("\\u").skip(1).any(|digits| !by_go(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_before_the_program_is_found_in_every_spelling() {
        for json in [
            r#"{"hooks":{"startContainer":[{"path":"/x"}]}}"#,
            r#"{"hooks":{"STARTCONTAINER":[{"path":"/x"}]}}"#,
            r#"{"hooks":{"start\u0043ontainer":[{"path":"/x"}]}}"#,
            "{\"hooks\":{\"\u{17f}tartContainer\":[{\"path\":\"/x\"}]}}",
        ] {
            assert!(may_hook_start(json.as_bytes()), "{json}");
        }
        assert!(may_hook_start(b"{\"a\":\"\xff\"}"));
        for json in [
            r#"{"hooks":{"createContainer":[{"path":"/x"}],"prestart":[]}}"#,
            r#"{"process":{"args":["sh","-c","a \u0026\u0026 b \u003E c"]}}"#,
        ] {
            assert!(!may_hook_start(json.as_bytes()), "{json}");
        }
    }
}
