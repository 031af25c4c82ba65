//! Exports ImageSwapPolicies to the languages of other programs.
//!
//! [`admission`] writes admission policies in CEL, which Kubernetes' API server evaluates itself, and
//! [`mirrors`] the mirrors of container runtimes. Both report the outcome of every part of the
//! policy ([`Report`]), and neither guesses: a part that the other language cannot say takes a
//! stricter form or is left out, and the report says so.
#![forbid(unsafe_code)]

pub mod admission;
pub mod mirrors;
mod report;

pub use report::{Item, Report, Status};
