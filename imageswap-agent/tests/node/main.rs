//! The agent on this node: real probes in the running kernel, real containers by real runtimes.

mod harness;
mod routes;
mod startup;
mod trouble;
