//! The node agent: sees every container start, finds the image that it really runs, and judges it.
//!
//! ```text
//! probes (kernel) ---+
//! containerd's tasks +--> agent --> starts: one row for each start
//! walks of cgroups --+      |          |
//!                           v          v
//!  runtimes <------ resolve: which   judge: the policy's answer, route and reason
//!  (CRI, Docker,    record belongs     |
//!   podman, runc)   to the process     v
//!                                   finding --> export: metrics, Events, JSON lines, OpenTelemetry
//!                                           `-> respond: eviction, if it is asked for
//! ```
//!
//! Data flows one way: the probes, the runtimes and walks of the cgroup tree give
//! [`facts::Evidence`]; [`starts::Starts`] stores it and asks [`judge::judge`]; the result is an
//! exported [`finding::Finding`].

pub mod agent;
pub mod agent_record;
pub mod btf;
pub mod cgroup_path;
pub mod claim;
pub mod cli;
pub mod container;
pub mod doctor;
pub mod evidence;
pub mod export;
pub mod facts;
mod file;
pub mod finding;
pub mod hierarchy;
pub mod judge;
pub mod metrics;
pub mod node;
pub mod offsets;
pub mod places;
pub mod pods;
pub mod probe;
pub mod process;
pub mod resolve;
pub mod respond;
pub mod run;
pub mod starts;
pub mod tasks;
pub mod turns;
pub mod verdict;
