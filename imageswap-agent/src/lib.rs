//! The node agent: sees every container start, finds the image that it really runs, and judges it.
//!
//! ```text
//! probes (kernel) ---+
//! containerd's tasks |
//! walks of cgroups --+--> agent --> starts: one row for each start
//! the node's Pods ---+      |          |
//! policy changed ----+      v          v
//!  runtimes, and <-- resolve: which   judge: the policy's answer, route and reason
//!  the API server    record belongs     |
//!                    to the process     v
//!                                    finding --> export: metrics, Events, JSON lines, OpenTelemetry
//!                                            `-> respond: eviction, if enabled
//! ```
//!
//! The runtimes are containerd, CRI runtimes, Docker, podman and runc.
//!
//! Data flows one way: the probes, the runtimes, walks of the cgroup tree and the watch of the
//! node's Pods give [`facts::Evidence`]; [`starts::Starts`] stores it and asks [`judge::judge`]; the
//! result is an exported [`finding::Finding`]. If the policy changes, all containers that run are
//! judged again.

pub mod agent;
pub mod agent_record;
pub mod btf;
pub mod cgroup_path;
mod cgroup_tree;
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
mod words;
