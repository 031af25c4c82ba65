//! The mutating admission webhook: AdmissionReview in, JSON Patch out.
//!
//! A review goes through [`server`] (TLS, HTTP/1.1, drain) and [`http`] (routes, limits) to [`admit`], which reads it
//! with [`wire`], asks the policy about every image that it names, and writes the answer with [`patch`].
#![forbid(unsafe_code)]

pub mod admit;
pub mod certificates;
pub mod cli;
pub mod http;
pub mod limits;
pub mod patch;
pub mod serve;
pub mod server;
pub mod wire;
