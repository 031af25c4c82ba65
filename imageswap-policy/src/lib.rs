//! Which image should run instead of this one, and is that approved?
//!
//! The crate is one pure function, [`Policy::decide`], the types that it speaks in, and the file formats that
//! compile into it. It does no IO, knows no clock and starts no task; it never panics on any text.
#![forbid(unsafe_code)]

mod decision;
mod diagnostic;
mod pattern;
mod reference;
mod rules;

pub mod document;
pub mod maps;
pub mod yaml;

#[cfg(test)]
mod testing;

pub use decision::{Decision, PodScope, Reason, Scope};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use reference::{Reference, ReferenceError};
pub use rules::Policy;
pub use time::Date;
