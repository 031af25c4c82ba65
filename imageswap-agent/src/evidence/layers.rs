//! The layers of an image, from its own content.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::list::{self, Texts};

/// A small blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blob {
    /// Digests of the first manifests, one for each platform.
    Index(Vec<String>),
    /// Digest of the configuration.
    Manifest {
        /// The digest.
        config: String,
    },
    /// Digests of the layers' content, the lowest first.
    Configuration {
        /// The digests.
        diff_ids: Vec<String>,
        /// What a container of the image runs by default: entrypoint and arguments. Empty if it is
        /// not understood or long.
        command: Vec<String>,
    },
}

/// A longer command is not kept.
const LONGEST_COMMAND: usize = 4 << 10;

/// An index names a manifest for each platform, and attestations beside them.
const MOST_MANIFESTS: usize = 64;

/// Reads the blob with this digest; `None` if the bytes do not match or are not a part of an image.
pub(super) fn read(digest: &str, bytes: &[u8]) -> Option<Blob> {
    if sha256(bytes) != digest {
        return None;
    }
    let json: Json<'_> = serde_json::from_slice(bytes).ok()?;
    Some(match json {
        Json {
            rootfs: Some(RootFs {
                diff_ids: Some(diff_ids),
            }),
            config,
            ..
        } => Blob::Configuration {
            diff_ids: diff_ids.0?,
            command: config.and_then(command).unwrap_or_default(),
        },
        Json {
            layers: Some(_),
            config: Some(config),
            ..
        } => Blob::Manifest {
            config: config.digest?,
        },
        Json {
            manifests: Some(manifests),
            ..
        } => {
            let mut first = Vec::new();
            let take = |manifest: Descriptor| {
                if first.len() < MOST_MANIFESTS {
                    first.push(manifest.digest);
                }
                Ok(())
            };
            list::each(Path::new(digest), manifests.get().as_bytes(), take).ok()?;
            Blob::Index(first)
        }
        _ => return None,
    })
}

fn command(config: Config) -> Option<Vec<String>> {
    let parts = [config.entrypoint, config.cmd].into_iter().flatten();
    let parts: Option<Vec<_>> = parts.map(|texts| texts.0).collect();
    let command = parts?.concat();
    let length: usize = command.iter().map(String::len).sum();
    (length <= LONGEST_COMMAND && command.len() <= LONGEST_COMMAND).then_some(command)
}

/// The chain id of these layers, by the OCI image specification: the digest of all of them,
/// stacked.
pub(super) fn chain_id(diff_ids: &[String]) -> Option<String> {
    let (first, rest) = diff_ids.split_first()?;
    Some(rest.iter().fold(first.clone(), |chain, layer| {
        sha256(format!("{chain} {layer}").as_bytes())
    }))
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[derive(Deserialize)]
struct Json<'b> {
    #[serde(borrow)]
    manifests: Option<&'b RawValue>,
    layers: Option<IgnoredAny>,
    /// For a manifest a descriptor; for a configuration what the container runs.
    config: Option<Config>,
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Config {
    digest: Option<String>,
    #[serde(rename = "Entrypoint")]
    entrypoint: Option<Texts>,
    #[serde(rename = "Cmd")]
    cmd: Option<Texts>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Texts>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let layers = ["1", "2", "3"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        assert_eq!(chain_id(&[]), None);
        assert_eq!(chain_id(&layers[..1]).as_ref(), Some(&layers[0]));
        let two = sha256(format!("{} {}", layers[0], layers[1]).as_bytes());
        assert_eq!(chain_id(&layers[..2]).as_ref(), Some(&two));
        let three = sha256(format!("{two} {}", layers[2]).as_bytes());
        assert_eq!(chain_id(&layers), Some(three));
    }

    #[test]
    fn each_kind_of_blob_is_read_if_its_digest_fits() {
        let index = r#"{"manifests": [{"digest": "sha256:a"}, {"digest": "sha256:b"}]}"#;
        let manifest = r#"{"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:d"}]}"#;
        let config = r#"{"config": {"Cmd": ["x"], "Entrypoint": ["/e", "-v"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:e"]}}"#;
        let read_it = |text: &str| read(&sha256(text.as_bytes()), text.as_bytes());
        assert_eq!(
            read_it(index),
            Some(Blob::Index(vec!["sha256:a".into(), "sha256:b".into()]))
        );
        let expected = Blob::Manifest {
            config: "sha256:c".into(),
        };
        assert_eq!(read_it(manifest), Some(expected));
        let expected = |command: &[&str]| Blob::Configuration {
            diff_ids: vec!["sha256:e".into()],
            command: command.iter().map(|&arg| arg.to_owned()).collect(),
        };
        assert_eq!(read_it(config), Some(expected(&["/e", "-v", "x"])));
        let none = r#"{"config": {"Cmd": null}, "rootfs": {"diff_ids": ["sha256:e"]}}"#;
        assert_eq!(read_it(none), Some(expected(&[])));
        let odd = r#"{"config": {"Cmd": "x"}, "rootfs": {"diff_ids": ["sha256:e"]}}"#;
        assert_eq!(read_it(odd), Some(expected(&[])));
        assert_eq!(read_it("{}"), None);
        let descriptors = vec![serde_json::json!({"digest": "sha256:a"}); MOST_MANIFESTS + 1];
        let index = serde_json::json!({"manifests": descriptors}).to_string();
        let first = vec!["sha256:a".to_owned(); MOST_MANIFESTS];
        assert_eq!(read_it(&index), Some(Blob::Index(first)));
        let many = |count| vec!["x"; count];
        let long = serde_json::json!({"config": {"Cmd": many(2000)}, "rootfs": {"diff_ids": ["sha256:e"]}});
        assert_eq!(read_it(&long.to_string()), Some(expected(&[])));
        for count in [list::MOST_TEXTS, list::MOST_TEXTS + 1] {
            let layers = serde_json::json!({"rootfs": {"diff_ids": many(count)}});
            let is_read = read_it(&layers.to_string()).is_some();
            assert_eq!(is_read, count == list::MOST_TEXTS, "{count}");
        }
        let forged = read(&sha256(manifest.as_bytes()), config.as_bytes());
        assert_eq!(forged, None, "the digest of another blob");
    }
}
