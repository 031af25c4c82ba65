//! Telling a change from a glimpse of one.

/// Tells each distinct value once, when two looks in a row have agreed on it.
///
/// Files change in steps: a plain write truncates first, a pair of files changes one after the other. A value that is
/// there only for a moment is none that anybody meant.
#[derive(Debug)]
pub(crate) struct Settle<T> {
    told: T,
    pending: Option<T>,
}

impl<T: PartialEq> Settle<T> {
    /// Tells what differs from `known`.
    pub(crate) fn new(known: T) -> Self {
        Self {
            told: known,
            pending: None,
        }
    }

    /// Takes what one look saw; gives it back when it is a change that has settled.
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
