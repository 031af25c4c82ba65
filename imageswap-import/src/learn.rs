//! Finds rules and patterns that give the expected answers for every probe.
//!
//! Both searches are greedy: of the candidates that are right about everything they still decide,
//! the one that decides most is taken. If some list of the candidates gives the expected answers,
//! this finds one.

pub(crate) mod check;
pub(crate) mod swap;

/// An image for which no candidate gives the expected answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsayable {
    pub(crate) image: String,
}
