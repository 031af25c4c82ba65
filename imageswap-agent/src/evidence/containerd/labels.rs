//! Labels of containerd's records, of which only those are kept that are asked for: a client can write
//! tens of thousands, and each takes ten times its length in memory.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem;

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field, string};
use prost::{DecodeError, Message};

use crate::evidence::sandbox;

/// Bytes of the labels that are kept; more than any claim may have.
const MOST_BYTES: usize = 64 << 10;

/// Which labels are kept.
pub(super) trait Keys: Default + Send + Sync {
    /// Whether the label with this key is.
    fn has(key: &str) -> bool;
}

/// What the CRI plugin says about a container. Whoever creates a Pod can give its sandbox any number of
/// others, also with these prefixes.
const OF_CONTAINER: [&str; 5] = [
    sandbox::KIND,
    "io.kubernetes.container.name",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
];

/// Those of a container, [`OF_CONTAINER`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfContainer;

impl Keys for OfContainer {
    fn has(key: &str) -> bool {
        OF_CONTAINER.contains(&key)
    }
}

/// Where content was pulled from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfContent;

impl Keys for OfContent {
    fn has(key: &str) -> bool {
        key.starts_with(super::SOURCE_LABEL)
    }
}

/// A field `map<string, string>`. Each entry is a message, and all of them are merged into this one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Labels<K> {
    kept: BTreeMap<String, String>,
    bytes: usize,
    /// The key of the present entry.
    key: String,
    keys: PhantomData<K>,
}

impl<K> Labels<K> {
    /// Those that are kept.
    pub(super) fn into_kept(self) -> BTreeMap<String, String> {
        self.kept
    }
}

impl<K: Keys> Message for Labels<K> {
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => string::merge(wire_type, &mut self.key, buf, ctx),
            2 => {
                let key = mem::take(&mut self.key);
                if !K::has(&key) || self.bytes > MOST_BYTES {
                    return skip_field(wire_type, tag, buf, ctx);
                }
                let mut value = String::new();
                string::merge(wire_type, &mut value, buf, ctx)?;
                self.bytes += key.len() + value.len();
                self.kept.insert(key, value);
                Ok(())
            }
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    /// Only answers have labels.
    fn encode_raw(&self, _buf: &mut impl BufMut) {}

    fn encoded_len(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
