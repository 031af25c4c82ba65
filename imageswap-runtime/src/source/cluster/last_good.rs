//! The ConfigMap that keeps the texts in force, for a start while the cluster has a bad version.
//!
//! It is ours, and installed empty: it is never created here. Replicas write the same content; the
//! slower one finds nothing to do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

use super::state::Texts;
use crate::cluster::ObjectName;

/// Key of the documents: a JSON array.
const DOCUMENTS: &str = "policies.json";
/// Key of the maps file.
const MAPS: &str = "maps";
/// The API server accepts objects of up to 1 MiB, including the object's own fields.
const MAX_BYTES: usize = 1_000_000;
/// How often to try again after a conflict with another replica.
const ATTEMPTS: usize = 5;

/// The ConfigMap, by name.
#[derive(Debug, Clone)]
pub(super) struct LastGood {
    name: ObjectName,
}

/// Why the texts are not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum LastGoodError {
    #[error("ConfigMap {0} does not exist; the manifests ship it empty")]
    Missing(ObjectName),
    #[error("the policies have {0} bytes, and a ConfigMap holds {MAX_BYTES}")]
    TooLarge(usize),
    #[error("ConfigMap {0} keeps changing")]
    Contended(ObjectName),
    #[error("ConfigMap {name}: {source}")]
    Kube {
        name: ObjectName,
        source: kube::Error,
    },
}

impl LastGood {
    pub(super) fn new(name: ObjectName) -> Self {
        Self { name }
    }

    /// The kept texts; empty ones if there are none yet.
    pub(super) async fn read(&self, client: &Client) -> Result<Texts, LastGoodError> {
        let map = self.get(client).await?;
        Ok(parse(map.data.unwrap_or_default()))
    }

    /// Keeps the texts, unless they are already kept.
    pub(super) async fn write(&self, client: &Client, texts: &Texts) -> Result<(), LastGoodError> {
        let data = render(texts);
        let size = data.values().map(String::len).sum();
        if size > MAX_BYTES {
            return Err(LastGoodError::TooLarge(size));
        }
        for _ in 0..ATTEMPTS {
            let mut map = self.get(client).await?;
            if map.data.clone().unwrap_or_default() == data {
                return Ok(());
            }
            map.data = Some(data.clone());
            let written = self
                .api(client)
                .replace(&self.name.name, &PostParams::default(), &map)
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Err(LastGoodError::Contended(self.name.clone()))
    }

    async fn get(&self, client: &Client) -> Result<ConfigMap, LastGoodError> {
        match self.api(client).get_opt(&self.name.name).await {
            Ok(Some(map)) => Ok(map),
            Ok(None) => Err(LastGoodError::Missing(self.name.clone())),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn api(&self, client: &Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), &self.name.namespace)
    }

    fn failed(&self, source: kube::Error) -> LastGoodError {
        LastGoodError::Kube {
            name: self.name.clone(),
            source,
        }
    }
}

fn render(texts: &Texts) -> BTreeMap<String, String> {
    let documents: Vec<Value> = texts
        .documents
        .values()
        .filter_map(|it| serde_json::from_str(it).ok())
        .collect();
    let mut data = BTreeMap::new();
    if !documents.is_empty() {
        data.insert(
            DOCUMENTS.to_owned(),
            format!("{:#}", Value::from(documents)),
        );
    }
    if let Some(maps) = &texts.maps {
        data.insert(MAPS.to_owned(), maps.clone());
    }
    data
}

/// Foreign content is ignored, as if the ConfigMap were empty.
fn parse(mut data: BTreeMap<String, String>) -> Texts {
    let documents = data
        .get(DOCUMENTS)
        .map(|it| serde_json::from_str::<Vec<Value>>(it));
    let documents = match documents {
        Some(Ok(documents)) => documents,
        Some(Err(error)) => {
            tracing::warn!("{DOCUMENTS} of the last good policies cannot be read: {error}");
            Vec::new()
        }
        None => Vec::new(),
    };
    let named = |it: Value| {
        Some((
            it["metadata"]["name"].as_str()?.to_owned(),
            format!("{it:#}"),
        ))
    };
    Texts {
        documents: documents.into_iter().filter_map(named).collect(),
        maps: data.remove(MAPS),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::state::document_text;
    use super::*;

    #[test]
    fn texts_come_back_as_they_were() {
        let document = |name: &str| {
            let spec = json!({"spec": {"rules": [{"keep": "r.io/**"}]}});
            (name.to_owned(), document_text(name, &spec))
        };
        for texts in [
            Texts::default(),
            Texts {
                documents: [document("a"), document("b")].into(),
                maps: Some("default::r.io # é\n".to_owned()),
            },
        ] {
            assert_eq!(parse(render(&texts)), texts);
        }
    }

    #[test]
    fn what_is_no_policy_is_left_out() {
        for text in ["", "{}", "[{}]", "[{\"metadata\": {\"name\": 1}}]"] {
            let data = BTreeMap::from([(DOCUMENTS.to_owned(), text.to_owned())]);
            assert_eq!(parse(data), Texts::default(), "{text}");
        }
    }
}
