//! A page of the admin port with the drifting and unresolved containers of this node.

use crate::finding::Finding;
use bytes::Bytes;
use std::sync::{Arc, PoisonError, RwLock};

/// The page's path.
pub const PATH: &str = "/drift";

/// One JSON object per line.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// The page; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<RwLock<Bytes>>);

impl Shown {
    /// Replaces the findings on the page.
    pub fn set(&self, findings: &[Finding]) {
        let text: Vec<_> = findings.iter().map(super::json_line).collect();
        let text = text.concat();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// The current page.
    pub fn get(&self) -> Bytes {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
