//! The parts of an OCI runtime configuration that matter for what its container runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The annotations that `bundle` reads.
const ANNOTATIONS: [&str; 13] = [
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri.podsandbox.image-name",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri.sandbox-uid",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.container.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.uid",
];

/// A `config.json` of the OCI runtime specification, or containerd's record of one; all other
/// fields are skipped.
///
/// Go writes `null` for absent fields, hence the options.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    annotations: Option<Annotations>,
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
        self.annotations.unwrap_or_default().0
    }
}

/// Those that are used: a client can write any number of others.
#[derive(Debug, Default)]
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Annotations, A::Error> {
        let mut used = BTreeMap::new();
        while let Some(key) = all.next_key::<String>()? {
            if ANNOTATIONS.contains(&&*key) {
                used.insert(key, all.next_value()?);
            } else {
                all.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Annotations(used))
    }
}

/// A letter beyond ASCII that Go reads as an `s` in a key.
const LONG_S: char = '\u{17f}';

/// Whether the JSON of an OCI configuration may name a hook that runs in the container right before
/// its program (`startContainer`). Spellings that Go reads as this name count: in any case, with
/// escaped letters, or with a long s. Bytes that are not text count as well: Go reads them.
pub(crate) fn may_hook_start(json: &[u8]) -> bool {
    let Ok(json) = std::str::from_utf8(json) else {
        return true;
    };
    let json = json.to_ascii_lowercase();
    let is_letter = |digits: &str| {
        let code = digits
            .get(..4)
            .and_then(|it| u32::from_str_radix(it, 16).ok());
        let letter = code.and_then(char::from_u32);
        letter.is_some_and(|it| it.is_ascii_alphabetic() || it == LONG_S)
    };
    json.contains("startcontainer")
        || json.contains(LONG_S)
        || json.split("\\u").skip(1).any(is_letter)
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
        for json in [
            r#"{"hooks":{"createContainer":[{"path":"/x"}],"prestart":[]}}"#,
            r#"{"process":{"args":["sh","-c","a \u0026\u0026 b \u003E c \u001b[0m \u00e9 é"]}}"#,
        ] {
            assert!(!may_hook_start(json.as_bytes()), "{json}");
        }
        assert!(may_hook_start(b"{\"process\":{\"args\":[\"\xff\"]}}"));
    }
}
