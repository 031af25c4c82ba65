//! Clients that try to keep a webhook from answering its API server, and what the API server and the kubelet notice.
//!
//! A [`Trial`] runs the webhook under its container's memory limit. A client that behaves like an
//! API server sends reviews, a kubelet probes, and meanwhile an [`Attack`] runs. Everything stays
//! on the loopback interface. By default attackers have the address of the API server, so that no
//! limit by address can distinguish them.

mod api_server;
mod attack;
mod body;
mod client;
mod container;
mod kubelet;
mod request;
mod review;
mod tls;
mod trial;
mod webhook;

pub use api_server::Reviews;
pub use attack::{ATTACKS, Attack};
pub use client::Target;
pub use container::Container;
pub use kubelet::Probes;
pub use review::review;
pub use trial::{Attackers, Outcome, Trial};
pub use webhook::Webhook;
