//! What is amiss on this node now, for whoever asks: a page of the admin port.

use crate::finding::Finding;
use bytes::Bytes;
use std::sync::{Arc, PoisonError, RwLock};

/// Where the page is.
pub const PATH: &str = "/drift";

/// A JSON object a line.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// The page; clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<RwLock<Bytes>>);

impl Shown {
    /// Shows these findings in place of those before.
    pub fn set(&self, findings: &[Finding]) {
        let mut text = Vec::new();
        for finding in findings {
            if let Ok(mut line) = serde_json::to_vec(finding) {
                text.append(&mut line);
                text.push(b'\n');
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// The page as it is now.
    pub fn get(&self) -> Bytes {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
