//! Distinguishes a lasting change from an intermediate state.

/// Reports each distinct value once, after two looks in a row have agreed on it.
///
/// Files change in steps: a plain write truncates first, and a pair of files changes one after the
/// other. A value that exists only for a moment was never intended.
#[derive(Debug)]
pub(crate) struct Settle<T> {
    told: T,
    pending: Option<T>,
}

impl<T: PartialEq> Settle<T> {
    /// Reports values that differ from `known`.
    pub(crate) fn new(known: T) -> Self {
        Self {
            told: known,
            pending: None,
        }
    }

    /// Whether the last look saw something new, which another look has to confirm.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Records what one look saw; returns it if it is a settled change.
    pub(crate) fn look(&mut self, seen: T) -> Option<&T> {
        if seen == self.told {
            self.pending = None;
            return None;
        }
        if self.pending.as_ref() == Some(&seen) {
            self.pending = None;
            self.told = seen;
            return Some(&self.told);
        }
        self.pending = Some(seen);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_only_when_seen_twice() {
        let mut settle = Settle::new('a');
        let looks = "aabaaccccabab";
        let told: String = looks
            .chars()
            .map(|c| settle.look(c).copied().unwrap_or('.'))
            .collect();
        assert_eq!(told, "......c......");
    }
}
