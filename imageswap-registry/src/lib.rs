//! Asks registries which images they have.
//!
//! [`Client`] asks one question: it speaks the distribution protocol (`HEAD` of a manifest, and the flow of tokens) and
//! decides what counts as an answer. [`Mirrors`] keeps answers, so that an admission asks about an image once.
//!
//! Registries are not trusted. Everything that they send is bounded, in bytes and in time. Credentials go to their own
//! host only, and only over TLS. An answer that is not clearly one of the protocol is [`Presence::Unknown`].
#![forbid(unsafe_code)]

mod args;
mod auth;
mod client;
mod credentials;
mod manifest;
mod mirrors;
mod platform;
mod problem;
mod target;
mod transport;

pub use args::{RegistryArgs, RegistryArgsError};
pub use client::Client;
pub use credentials::{Credentials, CredentialsError};
pub use mirrors::Mirrors;
pub use platform::{Platform, PlatformError};
pub use problem::Problem;

use std::sync::Arc;

/// What a registry says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It has the manifest.
    Present,
    /// It answered, by the protocol, that it does not have the manifest.
    Missing,
    /// It gave no such answer; the text says why.
    Unknown(Arc<str>),
}

impl Presence {
    /// Stable name: `present`, `missing` or `unknown`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Missing => "missing",
            Self::Unknown(_) => "unknown",
        }
    }
}
