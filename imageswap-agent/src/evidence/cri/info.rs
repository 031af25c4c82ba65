//! The JSON under `info["info"]` of a verbose CRI answer, and under `info["config"]` of its status.
//!
//! Not part of the interface's contract: containerd and CRI-O write the keys used here; other
//! runtimes may write nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Info {
    #[serde(rename = "sandboxID")]
    pub(super) sandbox_id: Option<String>,
    pid: Option<i64>,
    /// Whether CRI-O restored a container from a checkpoint.
    #[serde(default)]
    pub(super) restored: bool,
    /// For a sandbox: its own image.
    pub(super) image: Option<String>,
    /// For a container: what the kubelet asked for.
    pub(super) config: Option<Config>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    pub(super) image: Option<Image>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Image {
    pub(super) user_specified_image: Option<String>,
}

impl Info {
    /// The process; 0 means that there is no process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0)
    }
}

pub(super) fn parse(info: &BTreeMap<String, String>) -> Info {
    info.get("info")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The configuration of containerd's CRI plugin.
#[derive(Deserialize)]
struct Configuration {
    /// Up to containerd 1.7.
    #[serde(rename = "sandboxImage")]
    sandbox_image: Option<String>,
}

/// The image of sandboxes, by the runtime's configuration.
pub(super) fn sandbox_image(info: &BTreeMap<String, String>) -> Option<String> {
    let configuration: Configuration = serde_json::from_str(info.get("config")?).ok()?;
    let image = configuration.sandbox_image;
    image.filter(|image| !image.is_empty())
}
