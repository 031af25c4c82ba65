//! Labels and annotations of runtimes' records, of which only those are kept that are asked for: a client can
//! write tens of thousands, and each takes ten times its length in memory.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem;

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field, string};
use prost::{DecodeError, Message};

/// Bytes of the labels that are kept; more than any claim may have.
const MOST_BYTES: usize = 64 << 10;

/// Which labels are kept.
pub(super) trait Keys: Default + Send + Sync {
    /// Whether the label with this key is.
    fn has(key: &str) -> bool;
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
