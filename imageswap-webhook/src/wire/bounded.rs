//! Lists and maps that are read up to a number of entries, so that a small text cannot become a
//! large structure.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Text;

/// The most entries of one list or map that are read. A Pod has a few; the API server's size limit
/// allows a few thousand at most.
pub(super) const MAX_ENTRIES: usize = 1000;

/// A list whose further items are only counted.
#[derive(Debug)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

/// Labels in the order of the text; the last one of a name counts. Labels beyond the limit are
/// ignored.
#[derive(Debug)]
pub struct Labels<'a> {
    labels: Vec<(Text<'a>, Text<'a>)>,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

impl Labels<'_> {
    pub(super) const NONE: Self = Self {
        labels: Vec::new(),
        is_cut: false,
    };
}

impl imageswap_policy::Labels for Labels<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter().rev();
        let (_, value) = labels.find(|(it, _)| it.as_str() == name)?;
        Some(value.as_str())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX_ENTRIES {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => {
                    return Ok(Items {
                        items,
                        is_cut: false,
                    });
                }
            }
        }
        let mut is_cut = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(Items { items, is_cut })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
        let mut labels = Vec::new();
        let mut is_cut = false;
        while labels.len() < MAX_ENTRIES {
            match map.next_entry()? {
                Some(label) => labels.push(label),
                None => return Ok(Labels { labels, is_cut }),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(Labels { labels, is_cut })
    }
}
