//! Imports policies of other programs as ImageSwapPolicies.
//!
//! Each format is a module that reads documents into `Intent`s: which Pods a rule applies to, and
//! functions that evaluate the rule as its program would. Everything after that is shared.
//! `combine` finds the Pods to which the same rules apply, `learn` searches rules and patterns that
//! give the same answers, and `policy` asks source and policy about the same images. A rule is
//! carried over if both agree, or if they differ in a way that the report names.
#![forbid(unsafe_code)]

mod admission;
mod answer;
mod cel;
mod combine;
mod config_file;
mod configuration;
mod containerd;
mod document;
mod fields;
mod gatekeeper;
mod harbor;
mod image;
mod intent;
mod kubewarden;
mod kyverno;
mod learn;
mod lookalike;
mod maps;
mod placed;
mod policy;
mod probe;
mod registries;
mod report;
mod sample;
mod scope;
mod swapper;
mod text;
mod toml;
mod vocabulary;
mod webhooks;
pub mod write;

pub use document::{Import, Verified, import, import_maps};
pub use intent::Source;
pub use report::{Difference, Example, Item, Other, Report, Status};
