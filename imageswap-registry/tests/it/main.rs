//! Asks Debian's registry, and a server that does what no registry should.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod hostile;
mod kept;
mod real;
mod server;
