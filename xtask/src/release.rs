//! `cargo xtask release`: everything that is published, in one folder.
//!
//! Nothing is signed or sent anywhere. The same commit gives the same bytes, so that the signer can
//! build it again.

mod archive;
mod krew;
#[cfg(test)]
mod snippet;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use imageswap_policy::sha256;

use crate::helm;
use crate::image::{self, Architecture, Built, Commit, What};
use crate::manifests;
use crate::process::{self, Workspace};
use crate::ui::{self, Took};
use archive::Archive;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The template of krew's manifest.
const KREW: &str = "deploy/krew/imageswap.yaml";
const LICENSES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const DOCS: &str = "docs";
/// What `imageswap completions` prints for each shell, and the file's name in the place where the
/// shell looks for it.
const COMPLETIONS: [(&str, &str); 6] = [
    ("bash", "imageswap.bash"),
    ("elvish", "imageswap.elv"),
    ("fish", "imageswap.fish"),
    ("powershell", "_imageswap.ps1"),
    ("zsh", "_imageswap"),
    ("kubectl", "kubectl_complete-imageswap"),
];

/// What to release.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Architectures, by the names that images use; must include this machine's
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Architecture::all())]
    arch: Vec<Architecture>,
    /// Registry, and path if any, that the images are named under, in the archives and in install.yaml
    #[arg(long, value_name = "REGISTRY", default_value = "localhost")]
    registry: String,
    /// Folder to write to; it is emptied. By default `dist` under the build folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Address that the files will be published under, for krew's manifest
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The project's page, for krew's manifest; by default the address of --url
    #[arg(long, value_name = "URL", requires = "url")]
    homepage: Option<String>,
}

/// A file of the release that is also put into archives.
struct Part {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

/// Builds everything and writes it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    manifests::versions(workspace)?;
    let native = Architecture::native();
    ensure!(
        native.iter().all(|it| options.arch.contains(it)),
        "manual pages and completions are printed by the programs: --arch has to name this machine's architecture"
    );
    let out = Folder::empty(options.out.as_deref(), workspace)?;
    let commit = Commit::of(workspace)?;
    if commit.id.ends_with("-dirty") {
        ui::left_out("uncommitted changes are in it: this is not a release");
    }
    let what = What {
        arch: options.arch.clone(),
        registry: Some(options.registry.clone()),
        ..What::default()
    };
    let images = image::build(workspace, &what)?;
    for image in &images {
        image.write_as(&out.path, VERSION)?;
        ui::good(format_args!("{} {}", image.reference, image.digest()));
    }

    let parts = parts(workspace, &images)?;
    let mut plugins = BTreeMap::new();
    for &architecture in &options.arch {
        let platform = format!("{VERSION}-linux-{}", architecture.name());
        let name = format!("imageswap-{platform}.tar.gz");
        let all = programs(&images, architecture, &parts, &platform, commit.seconds)?;
        out.write(&name, &all)?;
        let name = format!("kubectl-imageswap-{platform}.tar.gz");
        let plugin = plugin(workspace, &images, architecture, commit.seconds)?;
        out.write(&name, &plugin)?;
        plugins.insert(architecture.name(), (name, sha256(&plugin)));
    }

    let chart = package(workspace, commit.seconds)?;
    out.write(&format!("imageswap-{VERSION}.tgz"), &chart)?;
    let install = manifests::install(workspace, &options.registry)?;
    out.write("install.yaml", install.as_bytes())?;
    match &options.url {
        Some(url) => {
            let template = fs::read_to_string(workspace.root.join(KREW)).context(KREW)?;
            let published = krew::Published {
                version: VERSION,
                url,
                homepage: options.homepage.as_ref().unwrap_or(url),
                archives: plugins,
            };
            let manifest = krew::fill_in(&template, &published).context(KREW)?;
            out.write("krew.yaml", manifest.as_bytes())?;
        }
        None => ui::left_out("krew's manifest: --url says where the files will be"),
    }
    let sums = out.sums()?;
    out.write("SHA256SUMS", sums.as_bytes())?;
    println!(
        "\n  {VERSION} in {} ({})",
        out.path.display(),
        Took(start.elapsed())
    );
    Ok(ExitCode::SUCCESS)
}

/// The folder of a release.
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Empties the folder; refuses one that holds anything but a release.
    fn empty(given: Option<&Path>, workspace: &Workspace) -> Result<Self> {
        let path = given.map_or_else(|| workspace.target.join("dist"), Path::to_owned);
        if path.exists() {
            let is_empty = fs::read_dir(&path)
                .with_context(|| path.display().to_string())?
                .next()
                .is_none();
            ensure!(
                is_empty || path.join("SHA256SUMS").exists(),
                "{} is neither empty nor a release: it is left alone",
                path.display()
            );
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        ui::good(name);
        Ok(())
    }

    /// The input of `sha256sum --check`.
    fn sums(&self) -> Result<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let bytes = fs::read(entry.path())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            lines.push((name, sha256(&bytes)));
        }
        lines.sort();
        let lines = lines.iter().map(|(name, sum)| format!("{sum}  {name}\n"));
        Ok(lines.collect())
    }
}

/// Files that every archive of programs also holds.
fn parts(workspace: &Workspace, images: &[Built]) -> Result<Vec<Part>> {
    let mut parts = documents(workspace)?;
    let pages = tempfile::tempdir().context("a temporary folder")?;
    for image in images {
        let program = program(image, Architecture::native()[0])?;
        process::output(Command::new(&program).arg("man").arg(pages.path()))?;
        if image.name != "imageswap" {
            continue;
        }
        for (whose, name) in COMPLETIONS {
            let text = process::output(Command::new(&program).args(["completions", whose]))?;
            parts.push(Part {
                path: format!("completions/{name}"),
                mode: if whose == "kubectl" { 0o755 } else { 0o644 },
                content: text.into_bytes(),
            });
        }
    }
    for entry in fs::read_dir(pages.path())? {
        let entry = entry?;
        parts.push(Part {
            path: format!("man/man1/{}", entry.file_name().to_string_lossy()),
            mode: 0o644,
            content: fs::read(entry.path())?,
        });
    }
    parts.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(parts)
}

/// Licences, the README and the pages it links to.
fn documents(workspace: &Workspace) -> Result<Vec<Part>> {
    let mut names: Vec<String> = LICENSES.map(str::to_owned).into();
    names.extend(["README.md", "CHANGELOG.md"].map(str::to_owned));
    for entry in fs::read_dir(workspace.root.join(DOCS)).context(DOCS)? {
        names.push(format!("{DOCS}/{}", entry?.file_name().to_string_lossy()));
    }
    let read = |name: String| {
        let path = workspace.root.join(&name);
        Ok(Part {
            content: fs::read(&path).with_context(|| path.display().to_string())?,
            path: name,
            mode: 0o644,
        })
    };
    names.into_iter().map(read).collect()
}

/// The archive of all programs for an architecture.
fn programs(
    images: &[Built],
    architecture: Architecture,
    parts: &[Part],
    platform: &str,
    seconds: u64,
) -> Result<Vec<u8>> {
    let mut archive = Archive::new(&format!("imageswap-{platform}"), seconds);
    for image in images {
        let path = program(image, architecture)?;
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        archive.file(&format!("bin/{}", image.name), 0o755, &bytes)?;
        archive.file(
            &format!("sbom/{}.cdx.json", image.name),
            0o644,
            image.bill(),
        )?;
    }
    // kubectl finds plugins by their file name.
    archive.link("bin/kubectl-imageswap", "imageswap")?;
    for part in parts {
        archive.file(&part.path, part.mode, &part.content)?;
    }
    Ok(archive.finish()?)
}

/// The archive that krew unpacks.
fn plugin(
    workspace: &Workspace,
    images: &[Built],
    architecture: Architecture,
    seconds: u64,
) -> Result<Vec<u8>> {
    let command = images.iter().find(|it| it.name == "imageswap");
    let path = program(command.context("no command was built")?, architecture)?;
    let mut archive = Archive::new("", seconds);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    archive.file("kubectl-imageswap", 0o755, &bytes)?;
    for name in LICENSES {
        archive.file(name, 0o644, &fs::read(workspace.root.join(name))?)?;
    }
    Ok(archive.finish()?)
}

fn program(image: &Built, architecture: Architecture) -> Result<PathBuf> {
    let built = image.programs.iter().find(|(it, _)| *it == architecture);
    let (_, path) = built
        .with_context(|| format!("{} was not built for {}", image.name, architecture.name()))?;
    Ok(path.clone())
}

/// The chart as Helm packs it, with a fixed time.
fn package(workspace: &Workspace, seconds: u64) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let mut command = Command::new(helm::helm()?);
    command
        .arg("package")
        .arg(workspace.root.join("deploy/charts/imageswap"))
        .arg("--destination")
        .arg(folder.path());
    process::output(&mut command)?;
    let packed = folder.path().join(format!("imageswap-{VERSION}.tgz"));
    let packed = fs::read(&packed).with_context(|| packed.display().to_string())?;
    archive::repack(&packed, seconds).context("the chart's package")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_can_be_checked() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: root.path().to_owned(),
            target: root.path().join("target"),
        };
        let out = Folder::empty(None, &workspace).unwrap();
        out.write("b", b"two").unwrap();
        out.write("a b", b"one").unwrap();
        out.write("SHA256SUMS", out.sums().unwrap().as_bytes())
            .unwrap();
        let mut command = Command::new("sha256sum");
        command
            .current_dir(&out.path)
            .args(["--check", "--strict", "SHA256SUMS"]);
        assert_eq!(process::output(&mut command).unwrap(), "a b: OK\nb: OK\n");
        // A release is deleted, anything else stays.
        assert!(Folder::empty(None, &workspace).is_ok());
        fs::write(workspace.target.join("dist/mine"), "").unwrap();
        assert!(Folder::empty(None, &workspace).is_err());
        assert!(workspace.target.join("dist/mine").exists());
    }

    #[test]
    fn the_readme_leads_to_documents_that_are_packed_with_it() {
        let documents = documents(&Workspace::find().unwrap()).unwrap();
        let readme = documents.iter().find(|it| it.path == "README.md").unwrap();
        let readme = str::from_utf8(&readme.content).unwrap();
        let links = readme.split("](docs/").skip(1);
        let links = links.filter_map(|it| it.split([')', '#']).next());
        let missing: Vec<_> = links
            .filter(|link| !documents.iter().any(|it| it.path == format!("docs/{link}")))
            .collect();
        assert!(
            readme.contains("](docs/") && missing.is_empty(),
            "{missing:?}"
        );
    }

    #[test]
    fn the_chart_is_packed_alike_and_rendered_as_from_its_folder() {
        const TEST: &str = "the_chart_is_packed_alike_and_rendered_as_from_its_folder";
        let Ok(helm) = helm::helm() else {
            return imageswap_lab::skip(TEST, "needs helm");
        };
        let workspace = Workspace::find().unwrap();
        let packed = package(&workspace, 1_700_000_000).unwrap();
        assert_eq!(packed, package(&workspace, 1_700_000_000).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imageswap.tgz");
        fs::write(&path, packed).unwrap();
        let render = |chart: &Path| {
            let mut command = Command::new(&helm);
            command.args(["template", "imageswap", "--include-crds"]);
            process::output(command.arg(chart)).unwrap()
        };
        let from_folder = workspace.root.join("deploy/charts/imageswap");
        assert_eq!(render(&path), render(&from_folder));
    }
}
