//! Items of `approved` and `denied`, which a document writes as a text or as a mapping.

use super::{Approval, Denial};
use schemars::{Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// An item that may be a pattern alone.
trait Listed: From<String> {
    /// The fields besides `pattern`, for messages.
    const FIELDS: &'static str;

    fn mapping<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

macro_rules! listed {
    ($type:ty, $fields:literal) => {
        impl Listed for $type {
            const FIELDS: &'static str = $fields;

            fn mapping<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        }

        impl From<String> for $type {
            fn from(pattern: String) -> Self {
                Self {
                    pattern,
                    ..Self::default()
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrMapping(PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if *self == Self::from(self.pattern.clone()) {
                    serializer.serialize_str(&self.pattern)
                } else {
                    Self::serialize(self, serializer)
                }
            }
        }
    };
}

listed!(Approval, "`namespaces` and `containers`");
listed!(Denial, "`message`, `namespaces` and `containers`");

struct TextOrMapping<T>(PhantomData<T>);

impl<'de, T: Listed> Visitor<'de> for TextOrMapping<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pattern, or a mapping of `pattern`, {}", T::FIELDS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok(T::from(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::mapping(MapAccessDeserializer::new(map))
    }
}

/// The schema of an item: a text, or the mapping that `schema` describes.
pub(super) fn or_text(schema: &mut Schema) {
    let mut mapping = std::mem::take(schema);
    let description = mapping.remove("description");
    *schema = json_schema!({
        "description": description,
        "anyOf": [{"type": "string"}, mapping],
    });
}
