//! Real parts on one machine, for tests and the demo.
//!
//! A [`Lab`] is a folder that lives as long as its parts. [`Registry`] and [`Containerd`] are
//! processes from Debian packages; [`Image`] builds OCI images without any tool; [`Cri`] acts as a
//! kubelet; [`RecordedCrio`] serves CRI-O's answers; [`Bundle`] is a container that only runc knows;
//! [`ControlPlane`] is a Kubernetes without nodes; [`Prometheus`] and [`OtlpReceiver`] receive
//! metrics and traces. Dropping a part ends what it started.
//!
//! A [`Machine`] is a node of a control plane. [`hostile`] attacks a webhook.
//!
//! Everything needs Linux; parts that start containers need root. [`missing`] names the packages
//! that are not installed, and [`Lab::for_test`] skips the test if any is.

mod background;
mod browser;
mod cgroup;
mod containerd;
mod cri;
mod crio;
mod daemon;
mod docker;
mod error;
mod hierarchy;
pub mod hostile;
mod http;
mod image;
mod kube;
mod leftovers;
mod needs;
mod oci;
mod otlp;
mod podman;
mod port;
mod process;
mod prometheus;
mod ran;
mod registry;
mod report_definitions;
mod runc;
mod scripted;
mod shipped;
mod skip;
mod statistics;
mod wait;
mod workspace;

pub use browser::{Browser, ColourScheme};
pub use cgroup::{Cgroup, MemoryCgroup, MemoryUse, in_pure_v2, is_pure_v2};
pub use containerd::{Containerd, ContainerdOptions};
pub use cri::{Cri, CriPod, PodSpec};
pub use crio::{CrioContainer, CrioSandbox, RecordedCrio};
pub use docker::Docker;
pub use error::{Error, Result};
pub use http::{HttpClient, HttpResponse};
pub use image::{BUSYBOX, Image, ImageBuilder, unpack_root};
pub use kube::{Assets, ControlPlane, ControlPlaneOptions, Machine, NodeNetwork};
pub use needs::{Need, is_root, is_static, missing, missing_for_tests};
pub use otlp::{OtlpReceiver, ReceivedLog, ReceivedSpan};
pub use podman::Podman;
pub use port::free_address;
pub use process::{Process, output_with};
pub use prometheus::{Alertmanager, Prometheus, ScrapeJob};
pub use ran::Ran;
pub use registry::{REGISTRY_USER, Registry, SecureRegistry};
pub use report_definitions::{openreports_definitions, policy_report_definitions};
pub use runc::Bundle;
pub use scripted::{Act, ScriptedServer, answer};
pub use shipped::shipped;
pub use skip::skip;
pub use statistics::BpfStatistics;
pub use wait::wait_until;
pub use workspace::Lab;
