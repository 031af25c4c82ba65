//! Images of the cluster that the registries of the policy's results do not have.

use super::census::Census;
use crate::missing::{Lack, MissingArgs, is_mirrored};
use crate::report;
use anyhow::Result;
use imageswap_runtime::text::shown;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// What registries lack, sorted by result.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Missing(Vec<Entry>);

/// A result that is missing, or about which the registry gave no answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    result: String,
    /// The images that become it.
    images: BTreeSet<String>,
    /// Containers of workloads that have one of these images.
    containers: usize,
    /// `image`, `platforms` or `unknown`.
    missing: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Missing {
    /// Asks about all results, if `args` say so.
    pub(super) async fn ask(args: &MissingArgs, census: &Census<'_>) -> Result<Option<Self>> {
        if !args.asks() {
            return Ok(None);
        }
        let mut uses: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
        for (key, _) in census.rows().filter(|it| is_mirrored(it.0.reason)) {
            let (images, containers) = uses.entry(key.result.clone()).or_default();
            images.insert(key.image.clone());
            *containers += 1;
        }
        let lacks = args.ask(uses.keys().cloned().collect()).await?;
        let found = uses
            .into_iter()
            .filter_map(|(result, (images, containers))| {
                let lack = lacks.get(&result)?;
                (*lack != Lack::Nothing).then(|| Entry {
                    images,
                    containers,
                    missing: lack.as_str(),
                    platforms: lack.platforms().to_vec(),
                    why: match lack {
                        Lack::Unknown(why) => Some(why.clone()),
                        _ => None,
                    },
                    result,
                })
            });
        Ok(Some(Self(found.collect())))
    }

    /// How many results are missing, as a whole or for a platform.
    pub(super) fn count(&self) -> usize {
        self.0.iter().filter(|it| it.why.is_none()).count()
    }

    pub(super) fn has_unknown(&self) -> bool {
        self.0.iter().any(|it| it.why.is_some())
    }

    /// Writes which results are not known to be there to standard error; returns whether there are any.
    pub(super) fn report_unknown(&self) -> bool {
        for it in &self.0 {
            if let Some(why) = &it.why {
                report(&format!(
                    "error: cannot tell whether {} is there: {why}",
                    it.result
                ));
            }
        }
        self.has_unknown()
    }

    /// The list for people.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<()> {
        if self.count() == 0 {
            let what = if self.has_unknown() {
                "No result is known to be missing in its registry"
            } else {
                "The registries have all results"
            };
            writeln!(out, "{what}\n")?;
            return Ok(());
        }
        writeln!(out, "Missing in the registries:")?;
        for it in self.0.iter().filter(|it| it.why.is_none()) {
            writeln!(out, "  {}", shown(&it.result))?;
            let images = it.images.iter().filter(|image| **image != it.result);
            for image in images {
                writeln!(out, "    from {}", shown(image))?;
            }
            if !it.platforms.is_empty() {
                writeln!(out, "    for {}", it.platforms.join(", "))?;
            }
        }
        writeln!(out)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(result: &str, lack: &Lack) -> Entry {
        Entry {
            result: result.to_owned(),
            images: BTreeSet::from(["nginx:1".to_owned(), result.to_owned()]),
            containers: 3,
            missing: lack.as_str(),
            platforms: lack.platforms().to_vec(),
            why: match lack {
                Lack::Unknown(why) => Some(why.clone()),
                _ => None,
            },
        }
    }

    #[test]
    fn the_lists_are_as_documented() {
        let missing = Missing(vec![
            entry("r.io/hub/a:1", &Lack::Image),
            entry(
                "r.io/hub/b:1",
                &Lack::Platforms(vec!["linux/arm64".to_owned()]),
            ),
            entry(
                "r.io/hub/c:1",
                &Lack::Unknown("r.io answered 500".to_owned()),
            ),
        ]);
        let mut text = Vec::new();
        missing.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "Missing in the registries:\n  r.io/hub/a:1\n    from nginx:1\n  r.io/hub/b:1\n    from nginx:1\n    \
             for linux/arm64\n\n"
        );
        assert_eq!((missing.count(), missing.has_unknown()), (2, true));
        let json = serde_json::to_string(&missing.0[1..]).unwrap();
        assert_eq!(
            json,
            r#"[{"result":"r.io/hub/b:1","images":["nginx:1","r.io/hub/b:1"],"containers":3,"missing":"platforms","platforms":["linux/arm64"]},{"result":"r.io/hub/c:1","images":["nginx:1","r.io/hub/c:1"],"containers":3,"missing":"unknown","why":"r.io answered 500"}]"#
        );
        let mut text = Vec::new();
        Missing::default().write(&mut text).unwrap();
        assert_eq!(text, b"The registries have all results\n\n");
    }
}
