//! The admission webhook: swaps images, refuses images that are not approved, and checks policies.
//!
//! ```text
//!             server            http             admit
//! API server ---------> TLS ----------> routes ---------> wire: the review, borrowed from the body
//!    ^          drain,           limits,                    |
//!    |          connections      time-outs                  v
//!    |                                                    policy: a decision for each image
//!    |                                                      |   <- labels of namespaces: API server
//!    |                                                      |   <- images that a mirror has: registries
//!    |                                                      v
//!    +--- JSON Patch, warnings <---- patch <------------- mutate
//!    +--- refusal, warnings <------- message <----------- validate
//!    +--- refusal, warnings <---------------------------- policy: does this version load?
//! ```
//!
//! [`server`] accepts connections and decides which of them makes room for another one, [`http`]
//! reads requests within its [`limits`], and [`admit`] answers them. [`wire`] alone knows the JSON of
//! a review. [`certificates`] keeps the certificate and the API server's trust in it up to date, and
//! [`registration`] decides when the API server calls.
#![forbid(unsafe_code)]

pub mod admit;
pub mod caller;
pub mod certificates;
pub mod cli;
mod configurations;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod patch;
mod plain;
pub mod registration;
pub mod serve;
pub mod server;
mod wait;
pub mod wire;
