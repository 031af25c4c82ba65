//! Which image should run instead of this one, and is that approved?
//!
//! The crate is one pure function, [`Selected::decide`], its types, and the file formats that
//! compile to a policy. It does no IO, reads no clock and starts no task; it never panics on any
//! text.
#![forbid(unsafe_code)]

mod day;
mod decision;
mod diagnostic;
mod pattern;
mod policies;
mod policy;
mod reference;
mod rules;

pub mod document;
pub mod manifest;
pub mod maps;
pub mod note;
pub mod yaml;

#[cfg(test)]
mod testing;

pub use day::{DayError, parse_day};
pub use decision::{Decision, Denied, Labels, PodScope, Reason, Scope};
pub use diagnostic::{Check, Diagnostic, Diagnostics, Severity};
pub use pattern::{Pattern, PatternError};
pub use policies::{Policies, Selected};
pub use policy::{EXCLUDED as EXCLUDED_NAMESPACES, Missing, Policy, PullSecret};
pub use reference::{Reference, ReferenceError};

pub use time::Date;
