//! `cargo xtask image`: container images, without a container engine.
//!
//! Static programs are built for each architecture and put into OCI archives without a base image:
//! the program, its licences and its bill of materials. The same commit gives the same bytes on any
//! machine.

mod oci;
mod sbom;
mod ship;
mod statics;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use imageswap_lab::is_static;

use crate::process::{Workspace, output};
use crate::ui;
use oci::{Archive, Config, File};
pub(crate) use ship::{STORES, Store, provide, push};

/// Largest allowed image for each architecture, in bytes of its archive.
const LIMIT: usize = 12_000_000;
/// The user of programs without privileges; no distribution assigns this id.
const UNPRIVILEGED: &str = "65532:65532";

/// What to build.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Their names.
    #[command(flatten)]
    pub(crate) what: What,
    /// Folder for the archives; by default `images` under the build folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Push them to the registry, with the credentials that docker or podman keep
    #[arg(long, requires = "registry")]
    push: bool,
    /// Push over plain HTTP, or HTTPS with a certificate that nobody vouches for
    #[arg(long, requires = "push")]
    insecure: bool,
    /// Load them into a [`Store`].
    #[arg(long, value_name = "WHERE", help = format!("Load them: {STORES}"))]
    load: Option<Store>,
    /// Build everything again in another folder, and compare the digests
    #[arg(long)]
    verify: bool,
}

/// Which images, and their names.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(crate) struct What {
    /// Architectures, by the names that images use [default: this machine's or the nodes']
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) arch: Vec<Architecture>,
    /// Registry, with an optional path, that the images are named under [default: localhost]
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    /// Tag; by default the workspace's version
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Optimize little: larger and slower, in a third of the time, and not reproducible
    #[arg(long)]
    pub(crate) quick: bool,
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// x86-64
    Amd64,
    /// 64-bit Arm
    Arm64,
}

/// An image and its contents.
struct Product {
    /// Package; except for the command also the program's name.
    package: &'static str,
    program: &'static str,
    title: &'static str,
    user: &'static str,
    ports: &'static [u16],
}

const PRODUCTS: [Product; 3] = [
    Product {
        package: "imageswap-webhook",
        program: "imageswap-webhook",
        title: "Admission webhook that swaps images and denies what is not approved",
        user: UNPRIVILEGED,
        ports: &[8443, 8080],
    },
    Product {
        package: "imageswap-agent",
        program: "imageswap-agent",
        title: "Node agent that judges the image of every container that starts",
        // Loading probes needs capabilities that only this user keeps when all others are dropped.
        user: "0:0",
        ports: &[9465],
    },
    Product {
        package: "imageswap-cli",
        program: "imageswap",
        title: "Command that asks the policy as webhook and agent do",
        user: UNPRIVILEGED,
        ports: &[],
    },
];

/// Builds the images, prints where they are, and pushes or loads them if asked to.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let folder = options
        .out
        .clone()
        .unwrap_or_else(|| workspace.target.join("images"));
    let commit = Commit::of(workspace)?;
    let images = build_in(workspace, &options.what, &commit)?;
    let mut archives = Vec::new();
    for image in &images {
        let path = image.write(&folder)?;
        ui::good(path.display());
        archives.push(path);
    }
    for (image, archive) in images.iter().zip(&archives) {
        if options.push {
            push(archive, &image.reference, options.insecure)?;
            ui::good(format_args!("{} pushed", image.reference));
        }
        if let Some(store) = &options.load {
            store.load(archive)?;
            ui::good(format_args!("{} loaded into {store}", image.reference));
        }
    }
    if options.verify {
        verify::verify(workspace, &options.what, &commit, &images)?;
    }
    for image in &images {
        println!("\n  {}", image.reference);
        for (architecture, size) in &image.sizes {
            println!("    {architecture}  {}", megabytes(*size));
        }
        println!("    {}", image.digest());
    }
    Ok(ExitCode::SUCCESS)
}

/// A built image.
pub(crate) struct Built {
    /// Its program's name.
    pub(crate) name: &'static str,
    /// The reference under which it is imported.
    pub(crate) reference: String,
    archive: Archive,
    /// Bytes that each architecture's image takes.
    sizes: Vec<(&'static str, usize)>,
    /// Bill of materials, CycloneDX as JSON.
    bill: Vec<u8>,
    /// The program for each architecture.
    pub(crate) programs: Vec<(Architecture, PathBuf)>,
}

impl Built {
    /// The digest under which a registry has it.
    pub(crate) fn digest(&self) -> String {
        self.archive.digest()
    }

    /// Bill of materials, CycloneDX as JSON.
    pub(crate) fn bill(&self) -> &[u8] {
        &self.bill
    }

    /// Writes archive and bill of materials into a folder; returns the archive's path.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        self.write_named(folder, self.name, "tar")
    }

    /// The same with a version in the names, and a suffix that distinguishes the archive from
    /// others.
    pub(crate) fn write_as(&self, folder: &Path, version: &str) -> Result<PathBuf> {
        self.write_named(folder, &format!("{}-{version}", self.name), "oci.tar")
    }

    fn write_named(&self, folder: &Path, name: &str, extension: &str) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let bill = folder.join(format!("{name}.cdx.json"));
        fs::write(&bill, &self.bill).with_context(|| bill.display().to_string())?;
        let path = folder.join(format!("{name}.{extension}"));
        fs::write(&path, self.archive.bytes()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl What {
    /// The architectures, given or not.
    pub(crate) fn architectures(&self) -> Vec<Architecture> {
        if self.arch.is_empty() {
            Architecture::native()
        } else {
            self.arch.clone()
        }
    }

    /// The tag, given or not.
    pub(crate) fn tag(&self) -> String {
        let given = self.tag.clone();
        given.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
    }

    /// The registry and path, given or not.
    pub(crate) fn registry(&self) -> &str {
        self.registry.as_deref().unwrap_or("localhost")
    }
}

/// Builds every image for the architectures asked for.
pub(crate) fn build(workspace: &Workspace, what: &What) -> Result<Vec<Built>> {
    build_in(workspace, what, &Commit::of(workspace)?)
}

/// Builds optimized programs for x86-64 only, without link-time optimization so that the build is
/// quick; returns their folder.
pub(crate) fn quick_programs(workspace: &Workspace) -> Result<PathBuf> {
    ui::step("building static programs");
    statics::build(workspace, Architecture::Amd64, true)
}

fn build_in(workspace: &Workspace, what: &What, commit: &Commit) -> Result<Vec<Built>> {
    let tag = what.tag();
    let mut folders = Vec::new();
    for architecture in what.architectures() {
        let start = Instant::now();
        ui::step(format_args!(
            "building static programs for {}",
            architecture.name()
        ));
        folders.push((
            architecture,
            statics::build(workspace, architecture, what.quick)?,
        ));
        ui::good(format_args!(
            "static programs for {} ({})",
            architecture.name(),
            ui::Took(start.elapsed())
        ));
    }
    let mut images = Vec::new();
    for product in &PRODUCTS {
        let reference = format!("{}/{}:{tag}", what.registry(), product.program);
        let mut archive = Archive::new(&reference);
        let bill = sbom::of(workspace, product.package, commit)?;
        let (mut sizes, mut programs) = (Vec::new(), Vec::new());
        for (architecture, folder) in &folders {
            let program = folder.join(product.program);
            let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
            ensure!(
                is_static(&bytes),
                "{} asks for a loader, which its image does not have",
                program.display()
            );
            let size = archive.add(
                architecture.name(),
                &files(workspace, product, bytes, &bill)?,
                &config(product, &tag, commit),
            )?;
            ensure!(
                size <= LIMIT,
                "{reference} for {} has {}, and is to have at most {}",
                architecture.name(),
                megabytes(size),
                megabytes(LIMIT)
            );
            sizes.push((architecture.name(), size));
            programs.push((*architecture, program));
        }
        archive.finish()?;
        images.push(Built {
            name: product.program,
            reference,
            archive,
            sizes,
            bill,
            programs,
        });
    }
    Ok(images)
}

fn files(
    workspace: &Workspace,
    product: &Product,
    program: Vec<u8>,
    bill: &[u8],
) -> Result<Vec<File>> {
    let mut files = vec![File {
        path: product.program.to_owned(),
        mode: 0o755,
        content: program,
    }];
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let path = workspace.root.join(licence);
        files.push(File {
            path: format!("usr/share/doc/imageswap/{licence}"),
            mode: 0o644,
            content: fs::read(&path).with_context(|| path.display().to_string())?,
        });
    }
    files.push(File {
        path: format!("usr/share/doc/imageswap/{}.cdx.json", product.program),
        mode: 0o644,
        content: bill.to_vec(),
    });
    Ok(files)
}

fn config(product: &Product, tag: &str, commit: &Commit) -> Config {
    let label = |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.into());
    Config {
        entrypoint: format!("/{}", product.program),
        user: product.user.to_owned(),
        ports: product.ports.to_vec(),
        created: commit.time(),
        labels: [
            label("title", product.program),
            label("description", product.title),
            label("version", tag),
            label("revision", &commit.id),
            label("created", &commit.time()),
            label("licenses", "Apache-2.0 OR MIT"),
        ]
        .into(),
    }
}

/// The commit that is built, or a commit with changes on top.
pub(crate) struct Commit {
    /// Its hash, with `-dirty` if files differ from it.
    pub(crate) id: String,
    /// When it was made, in seconds since 1970.
    pub(crate) seconds: u64,
}

impl Commit {
    /// The commit that is checked out.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self> {
        let git = |args: &[&str]| {
            let mut command = std::process::Command::new("git");
            output(command.current_dir(&workspace.root).args(args))
        };
        let id = git(&["rev-parse", "HEAD"])?;
        let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        // https://reproducible-builds.org/docs/source-date-epoch/
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given,
            Err(_unset) => git(&["log", "-1", "--format=%ct"])?,
        };
        let seconds = epoch.trim().parse().context("SOURCE_DATE_EPOCH")?;
        let suffix = if dirty { "-dirty" } else { "" };
        Ok(Self {
            id: format!("{}{suffix}", id.trim()),
            seconds,
        })
    }

    /// When it was made, as RFC 3339 has it.
    pub(crate) fn time(&self) -> String {
        let time: SystemTime = UNIX_EPOCH + Duration::from_secs(self.seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    }
}

impl Architecture {
    /// This machine's architecture.
    pub(crate) fn native() -> Vec<Self> {
        vec![if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::Amd64
        }]
    }

    /// All architectures that images are built for.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// The image specification's (Go's) name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

fn megabytes(bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}
