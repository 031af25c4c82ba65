//! Which image should run instead of this one, and is that approved?
//!
//! The crate is one pure function, [`Selected::decide`], its types, and the file formats that
//! compile to a policy. It does no IO, reads no clock and starts no task; it never panics on any
//! text.
//!
//! ```
//! use imageswap_policy::{Date, PodScope, Policies, Reason, Scope, document, parse_day};
//!
//! let text = "
//!     apiVersion: imageswap.io/v1alpha1
//!     kind: ImageSwapPolicy
//!     metadata: {name: corp}
//!     spec:
//!       rules:
//!         - {name: hub, from: docker.io/**, to: registry.example.com/hub}
//!       enforcement: deny
//! ";
//! let policies = Policies::new(document::load("corp.yaml", text)?.policies);
//! let today: Date = parse_day("2026-11-29")?;
//! let pod = PodScope {
//!     namespace: Some("shop"),
//!     ..PodScope::default()
//! };
//! let selected = policies.select(Scope::Pod(pod), today);
//!
//! let decision = selected.decide("nginx");
//! assert_eq!(decision.result, "registry.example.com/hub/library/nginx");
//! assert!(decision.approved);
//! // A second time nothing changes.
//! assert_eq!(selected.decide(&decision.result).result, decision.result);
//!
//! let decision = selected.decide("evil.example.net/miner");
//! assert_eq!(decision.reason, Reason::NoRule);
//! assert!(!decision.approved);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod day;
mod decision;
mod diagnostic;
mod enforcement;
mod guard;
mod maps_engine;
mod outline;
mod pattern;
mod policies;
mod policy;
mod reference;
mod revision;
mod rules;
mod scope;
mod selector;

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
pub use outline::{
    ActionOutline, DeniedPattern, ExceptionOutline, GuardOutline, ListedPattern, MatcherOutline,
    Outline, PartOutline, RuleOutline, ScopeOutline,
};
pub use pattern::{Pattern, PatternError};
pub use policies::{Policies, Selected};
pub use policy::{Policy, PullSecret};
pub use reference::{Reference, ReferenceError};
pub use revision::{hex, sha256};
pub use scope::{EXCLUDED as EXCLUDED_NAMESPACES, Missing};

pub use time::Date;
