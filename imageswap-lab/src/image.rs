//! OCI images made by hand: one layer with a static busybox.
//!
//! The layout follows the OCI image specification 1.0 (image-layout.md,
//! manifest.md, config.md); the layer is an uncompressed tar.

use std::fs;
use std::path::Path;

use imageswap_policy::sha256;
use serde_json::json;

use crate::error::{Error, Result};

/// Where Debian's `busybox-static` installs it.
pub const BUSYBOX: &str = "/bin/busybox";

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const APPLETS: [&str; 6] = ["sh", "sleep", "true", "echo", "cat", "ls"];

/// An image: its manifest and the blobs that the manifest names.
#[derive(Debug, Clone)]
pub struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

/// What an image contains and runs; see [`Image::builder`].
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    salt: String,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
}

impl Image {
    /// An image with busybox and links for its commonest applets in `/bin`.
    pub fn builder() -> ImageBuilder {
        ImageBuilder::default()
    }

    /// An image that starts and stays; `salt` makes it differ from others.
    pub fn sleeper(salt: &str) -> Result<Self> {
        Self::builder()
            .salt(salt)
            .cmd(["/bin/sleep", "2147483647"])
            .build()
    }

    /// A pod's pause image. It runs one process that reaps nothing. Runtimes end a sandbox by
    /// SIGKILL, so it needs no signal handlers.
    pub fn pause() -> Result<Self> {
        Self::builder()
            .salt("pause")
            .entrypoint(["/bin/sleep", "2147483647"])
            .build()
    }

    /// The manifest's digest, `sha256:<hex>`: the image's own.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// The digest of the image's configuration: CRI's image id.
    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// The manifest for a push.
    pub(crate) fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Configuration and layer, each with its digest.
    pub(crate) fn blobs(&self) -> [(String, &[u8]); 2] {
        [
            (digest(&self.config), &self.config),
            (digest(&self.layer), &self.layer),
        ]
    }

    /// Writes an OCI layout tar that is imported as `reference`.
    pub fn write_tar(&self, path: &Path, reference: &str) -> Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST_TYPE,
                "digest": self.digest(),
                "size": self.manifest.len(),
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {"io.containerd.image.name": reference},
            }],
        });
        let index = index.to_string().into_bytes();
        let write = || {
            let mut tar = tar::Builder::new(fs::File::create(path)?);
            file(
                &mut tar,
                "oci-layout",
                0o644,
                br#"{"imageLayoutVersion":"1.0.0"}"#,
            )?;
            file(&mut tar, "index.json", 0o644, &index)?;
            for blob in [&self.manifest, &self.config, &self.layer] {
                let name = digest(blob).replacen("sha256:", "blobs/sha256/", 1);
                file(&mut tar, &name, 0o644, blob)?;
            }
            tar.finish()
        };
        write().map_err(Error::io(path.display().to_string()))
    }
}

impl ImageBuilder {
    /// A word that is put into the layer, so that images with different words
    /// have different digests.
    #[must_use]
    pub fn salt(mut self, salt: &str) -> Self {
        salt.clone_into(&mut self.salt);
        self
    }

    /// The entrypoint; none by default.
    #[must_use]
    pub fn entrypoint<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.entrypoint = words.into_iter().map(str::to_owned).collect();
        self
    }

    /// The command, or the entrypoint's arguments; none by default.
    #[must_use]
    pub fn cmd<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.cmd = words.into_iter().map(str::to_owned).collect();
        self
    }

    /// Builds the image; needs a static busybox at [`BUSYBOX`].
    pub fn build(self) -> Result<Image> {
        let layer = layer(&self.salt).map_err(Error::io(format!("a layer with {BUSYBOX}")))?;
        let mut run = json!({"Env": ["PATH=/bin"], "WorkingDir": "/"});
        if !self.entrypoint.is_empty() {
            run["Entrypoint"] = json!(self.entrypoint);
        }
        if !self.cmd.is_empty() {
            run["Cmd"] = json!(self.cmd);
        }
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER_TYPE, "digest": digest(&layer), "size": layer.len()}],
        })
        .to_string()
        .into_bytes();
        Ok(Image {
            manifest,
            config,
            layer,
        })
    }
}

/// Writes a root file system as the images have it into `dir`.
pub fn unpack_root(dir: &Path) -> Result<()> {
    let layer = layer("").map_err(Error::io(format!("a layer with {BUSYBOX}")))?;
    tar::Archive::new(layer.as_slice())
        .unpack(dir)
        .map_err(Error::io(dir.display().to_string()))
}

/// The layer as a tar, with `salt` in it.
pub(crate) fn layer(salt: &str) -> std::io::Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX)?;
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        let mut header = header(if name == "tmp" { 0o1777 } else { 0o755 }, 0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name, [].as_slice())?;
    }
    file(
        &mut tar,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n",
    )?;
    file(&mut tar, "etc/salt", 0o644, salt.as_bytes())?;
    file(&mut tar, "bin/busybox", 0o755, &busybox)?;
    for applet in APPLETS {
        let mut header = header(0o777, 0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn file<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    tar.append_data(&mut header(mode, content.len()), name, content)
}

/// A header without a time and an owner, so that an image's digest depends on
/// its content alone.
fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// The machine's architecture by the image specification's (Go's) names.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_salt_alone_makes_the_digest() {
        if !fs::exists(BUSYBOX).unwrap() {
            crate::skip(
                "the_salt_alone_makes_the_digest",
                "needs the package busybox-static",
            );
            return;
        }
        let one = Image::sleeper("one").unwrap();
        assert_eq!(one.digest(), Image::sleeper("one").unwrap().digest());
        assert_ne!(one.digest(), Image::sleeper("two").unwrap().digest());
        let lab = crate::Lab::new("image").unwrap();
        unpack_root(lab.path()).unwrap();
        assert_eq!(
            fs::read_link(lab.path().join("bin/sh")).unwrap(),
            Path::new("busybox")
        );
    }
}
