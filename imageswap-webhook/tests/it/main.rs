//! The webhook from the outside: reviews in, answers out, over real HTTPS and as a real process.

mod client;
mod https;
mod process;
mod reload;
mod reviews;
mod vectors;
