//! ImageSwap's maps file, and its legacy prefix mode.

use crate::{Diagnostics, Policy};

/// A policy that loaded, with the warnings about its text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The compiled policy.
    pub policy: Policy,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Compiles the text of a maps file. `source` names it in diagnostics (a path, usually).
///
/// # Errors
/// All diagnostics of the text, at least one of them an error.
pub fn load(source: &str, text: &str) -> Result<Loaded, Diagnostics> {
    let _ = (source, text);
    Ok(Loaded {
        policy: Policy::none(),
        warnings: Diagnostics::default(),
    })
}

/// Compiles ImageSwap's legacy mode: every image gets `prefix` (`IMAGE_PREFIX`).
///
/// # Errors
/// A diagnostic when the prefix cannot begin a reference.
pub fn load_prefix(source: &str, prefix: &str) -> Result<Loaded, Diagnostics> {
    let _ = (source, prefix);
    Ok(Loaded {
        policy: Policy::none(),
        warnings: Diagnostics::default(),
    })
}
