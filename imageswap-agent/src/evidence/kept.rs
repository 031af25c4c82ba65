//! A map for what sources were read for, of bounded size: others decide how long that is.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What an entry takes beside its value: the key, and its place in the map.
const ENTRY: usize = 256;

/// A value may take this part of the whole, so that a few values never push out the others.
const PART: usize = 64;

/// Values of at most `most` bytes together. When they are more, all are dropped: what is needed is
/// read again.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    values: HashMap<K, (V, usize)>,
    bytes: usize,
    most: usize,
}

impl<K: Hash + Eq, V> Kept<K, V> {
    /// An empty one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            values: HashMap::new(),
            bytes: 0,
            most,
        }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(key).map(|(value, _)| value)
    }

    /// Keeps a value that takes `bytes`, unless it is too large.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        let bytes = bytes.saturating_add(ENTRY);
        if bytes > self.most / PART {
            return;
        }
        if self.bytes + bytes > self.most {
            self.values.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.values.insert(key, (value, bytes));
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, bytes)) = self.values.remove(key) {
            self.bytes -= bytes;
        }
    }

    /// Drops the values whose keys are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&K) -> bool) {
        self.values.retain(|key, _| is_wanted(key));
        self.bytes = self.values.values().map(|(_, bytes)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_beyond_the_bound() {
        let most = 100 * PART;
        let mut kept = Kept::<u32, &str>::new(most + PART * ENTRY);
        kept.insert(0, "too large", 101);
        assert_eq!(kept.get(&0), None);
        for key in 0..1000 {
            kept.insert(key, "x", 100);
            assert!(kept.bytes <= kept.most && kept.values.len() <= PART);
            assert_eq!(kept.get(&key), Some(&"x"));
        }
        kept.insert(999, "too large now", 101);
        assert_eq!(
            kept.get(&999),
            None,
            "the value before is not valid any more"
        );
        kept.retain(|key| *key == 998);
        assert_eq!((kept.values.len(), kept.bytes), (1, 100 + ENTRY));
        kept.remove(&998);
        assert_eq!(kept.bytes, 0);
    }
}
