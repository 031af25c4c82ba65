//! Tests the webhook from the outside: over real HTTPS and as a real process.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod client;
mod current;
mod hostile;
mod https;
mod matrix;
mod mirrored;
mod notes;
mod observed;
mod process;
mod refusals;
mod registration;
mod reload;
mod reviews;
mod scope;
mod vectors;
