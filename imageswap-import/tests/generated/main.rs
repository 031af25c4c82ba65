//! Random policies, compared with independent evaluators of their meaning.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cel;
mod kyverno;
mod shared;
