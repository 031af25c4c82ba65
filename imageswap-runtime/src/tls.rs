//! TLS of the serving side.
