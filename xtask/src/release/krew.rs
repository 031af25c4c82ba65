//! The plugin's manifest for krew.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// Where the manifest's files will be.
pub(super) struct Published<'a> {
    pub(super) version: &'a str,
    /// Address of the folder that has the archives.
    pub(super) url: &'a str,
    pub(super) homepage: &'a str,
    /// Archive and checksum by architecture.
    pub(super) archives: BTreeMap<&'static str, (String, String)>,
}

/// Fills in the template. krew does not unpack links, so each archive holds the plugin as a file.
pub(super) fn fill_in(template: &str, published: &Published<'_>) -> Result<String> {
    let mut plugin: Value = serde_saphyr::from_str(template)?;
    let platforms = plugin["spec"]["platforms"]
        .as_array_mut()
        .context("no platforms")?;
    let architecture = |it: &Value| {
        let name = it["selector"]["matchLabels"]["arch"].as_str();
        name.unwrap_or_default().to_owned()
    };
    platforms.retain(|it| published.archives.contains_key(architecture(it).as_str()));
    for platform in platforms {
        let (archive, sha256) = &published.archives[architecture(platform).as_str()];
        replace(
            platform,
            &[("{{archive}}", archive), ("{{sha256}}", sha256)],
        );
    }
    let url = published.url.trim_end_matches('/');
    let common = [
        ("{{version}}", published.version),
        ("{{url}}", url),
        ("{{homepage}}", published.homepage),
    ];
    replace(&mut plugin, &common);
    Ok(serde_saphyr::to_string(&plugin)?)
}

/// Replaces words in every string inside a value.
fn replace(value: &mut Value, words: &[(&str, &str)]) {
    match value {
        Value::String(text) => {
            for (word, with) in words {
                *text = text.replace(word, with);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|it| replace(it, words)),
        Value::Object(map) => map.values_mut().for_each(|it| replace(it, words)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Workspace;

    #[test]
    fn the_template_has_a_place_for_everything() {
        let root = Workspace::find().unwrap().root;
        let template = std::fs::read_to_string(root.join(super::super::KREW)).unwrap();
        let archives = [("arm64", ("a.tar.gz".to_owned(), "ab12".to_owned()))];
        let published = Published {
            version: "1.2.3",
            url: "https://example.com/v1.2.3/",
            homepage: "https://example.com",
            archives: archives.into(),
        };
        let text = fill_in(&template, &published).unwrap();
        assert!(!text.contains("{{"), "{text}");
        let plugin: Value = serde_saphyr::from_str(&text).unwrap();
        let spec = &plugin["spec"];
        assert_eq!(spec["version"], "v1.2.3");
        assert_eq!(spec["platforms"].as_array().unwrap().len(), 1);
        assert_eq!(
            spec["platforms"][0]["uri"],
            "https://example.com/v1.2.3/a.tar.gz"
        );
        assert_eq!(spec["platforms"][0]["sha256"], "ab12");
        // krew refuses a longer one.
        assert!(spec["shortDescription"].as_str().unwrap().len() <= 50);
    }
}
