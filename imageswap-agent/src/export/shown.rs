//! A page of the admin port with the drifting and unresolved containers of this node.

use crate::finding::Finding;
use bytes::Bytes;
use serde_json::json;
use std::sync::{Arc, PoisonError, RwLock};

/// The page's path.
pub const PATH: &str = "/drift";

/// One JSON object per line.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Bytes of the page: about 8,000 findings. Clients of a runtime can cause any number.
const LARGEST: usize = 8 << 20;

/// The page; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<RwLock<Bytes>>);

impl Shown {
    /// Replaces the findings on the page. If not all have room, its last line is
    /// `{"left_out": NUMBER}`.
    pub fn set(&self, findings: &[Finding]) {
        let text = page(findings, LARGEST);
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

/// The findings in at most `largest` bytes.
pub(super) fn page(findings: &[Finding], largest: usize) -> String {
    let mut text = String::new();
    for (at, finding) in findings.iter().enumerate() {
        let line = super::json_line(finding);
        if text.len() + line.len() > largest {
            text += &super::json_line(&json!({"left_out": findings.len() - at}));
            break;
        }
        text += &line;
    }
    text
}
