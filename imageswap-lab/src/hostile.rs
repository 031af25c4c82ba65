//! Clients that try to keep a webhook from answering its API server, and what the API server and the kubelet notice.
//!
//! A [`Trial`] runs the webhook under its container's memory limit. A client that behaves as an API server does asks
//! it for reviews, a kubelet probes it, and an [`Attack`] does what it can meanwhile. Everything stays on the loopback
//! interface. By default attackers have the address of the API server, so that no limit by address tells them apart.

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
