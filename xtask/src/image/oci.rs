//! OCI archives: an image layout (OCI image specification 1.1, image-layout.md) in a tar.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use imageswap_policy::sha256;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A file of an image; its folders are created.
pub(super) struct File {
    /// Path without a leading slash.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

/// How the image is run, and its labels.
pub(super) struct Config {
    pub(super) entrypoint: String,
    pub(super) user: String,
    pub(super) ports: Vec<u16>,
    pub(super) created: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// An archive with one image for one or more architectures.
pub(super) struct Archive {
    reference: String,
    /// By digest, so that equal images give equal archives.
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
    digest: String,
    bytes: Vec<u8>,
}

impl Archive {
    /// An empty archive, which is imported as `reference`.
    pub(super) fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            blobs: BTreeMap::new(),
            manifests: Vec::new(),
            digest: String::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds the image for an architecture; returns the bytes that it takes.
    pub(super) fn add(
        &mut self,
        architecture: &str,
        files: &[File],
        config: &Config,
    ) -> Result<usize> {
        let tar = layer(files).context("the image's layer")?;
        let diff_id = digest(&tar);
        let mut packed = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::best());
        packed.write_all(&tar)?;
        let layer = packed.finish()?;
        let ports: BTreeMap<_, _> = config
            .ports
            .iter()
            .map(|it| (format!("{it}/tcp"), json!({})))
            .collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": config.created,
            "config": {
                "User": config.user,
                "Entrypoint": [config.entrypoint],
                "WorkingDir": "/",
                "ExposedPorts": ports,
                "Labels": config.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        self.manifests.push(entry);
        let size = layer.len() + config.len() + manifest.len();
        for blob in [layer, config, manifest] {
            self.blobs.insert(digest(&blob), blob);
        }
        Ok(size)
    }

    /// Writes the archive.
    pub(super) fn finish(&mut self) -> Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests});
        let index = index.to_string().into_bytes();
        self.digest = digest(&index);
        let mut entry = descriptor(INDEX, &index);
        entry["annotations"] = json!({
            // The annotation from which containerd and podman take the name.
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        let layout = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        self.blobs.insert(self.digest.clone(), index);
        let mut tar = tar::Builder::new(Vec::new());
        append(
            &mut tar,
            "oci-layout",
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        append(&mut tar, "index.json", 0o644, layout.to_string().as_bytes())?;
        for (digest, blob) in &self.blobs {
            let path = digest.replacen("sha256:", "blobs/sha256/", 1);
            append(&mut tar, &path, 0o644, blob)?;
        }
        self.bytes = tar.into_inner()?;
        Ok(())
    }

    /// The digest that a registry shows for the image: that of its index.
    pub(super) fn digest(&self) -> String {
        self.digest.clone()
    }

    /// The archive.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn layer(files: &[File]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut folders = Vec::new();
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            let folder = &file.path[..at];
            if !folders.contains(&folder) {
                folders.push(folder);
                let mut header = header(0o755, 0);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, folder, [].as_slice())?;
            }
        }
        append(&mut tar, &file.path, file.mode, &file.content)?;
    }
    tar.into_inner()
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    tar.append_data(&mut header(mode, content.len()), path, content)
}

/// Without time and owner, so that the digest depends on the content alone.
fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// An image like ours of one program, for both architectures.
#[cfg(test)]
pub(super) fn sample(reference: &str, path: &str, content: &[u8]) -> Archive {
    let files = [File {
        path: path.to_owned(),
        mode: 0o755,
        content: content.to_vec(),
    }];
    let config = Config {
        entrypoint: format!("/{path}"),
        user: "65532:65532".to_owned(),
        ports: vec![8443],
        created: "2026-01-01T00:00:00Z".to_owned(),
        labels: BTreeMap::new(),
    };
    let mut archive = Archive::new(reference);
    for architecture in ["amd64", "arm64"] {
        archive
            .add(architecture, &files, &config)
            .expect("an image");
    }
    archive.finish().expect("an archive");
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(content: &[u8]) -> Archive {
        sample("localhost/x:1", "usr/bin/x", content)
    }

    #[test]
    fn equal_contents_make_equal_archives() {
        let (one, same, other) = (archive(b"one"), archive(b"one"), archive(b"other"));
        assert_eq!(one.bytes(), same.bytes());
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn every_blob_is_what_its_name_says() {
        let archive = archive(b"content");
        let mut names = Vec::new();
        for entry in tar::Archive::new(archive.bytes()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            io::copy(&mut entry, &mut content).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{hex}"));
            }
            names.push(path);
        }
        // One layer serves both architectures here: two configurations, two manifests, the index.
        assert_eq!(names.len(), 2 + 1 + 2 + 2 + 1, "{names:?}");
    }
}
