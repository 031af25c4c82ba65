//! Certificates that are kept in a Secret.
mod args;
mod plan;
mod state;
pub use args::{CertificateArgs, CertificateArgsError, SecretName};
