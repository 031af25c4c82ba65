//! Runs the command as people and programs run it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod command;
mod configurations;
mod documentation;
mod drift;
mod elsewhere;
mod export;
mod folder;
mod import_maps;
mod init;
mod kyverno;
mod lint;
mod manifest;
mod measured;
mod missing;
mod pipeline;
mod report;
mod scan;
mod scope;
mod terminal;
