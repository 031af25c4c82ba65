//! Random policies, compared with independent evaluators of their meaning.

mod cel;
mod kyverno;
mod shared;
