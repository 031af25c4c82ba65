//! `cargo xtask deploy`: installs ImageSwap from these sources into a cluster that a kubeconfig
//! names.
//!
//! It does what a user would do by hand, with the same tools: it brings images to a registry or to
//! the nodes, runs `helm upgrade --install`, waits, and runs a smoke test.

mod cluster;
mod rollout;
mod smoke;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::image::{self, Architecture, Built, STORES, Store, What};
use crate::process::Workspace;
use crate::ui::{self, Took};
pub(crate) use cluster::Cluster;

/// Where to, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: String,
    /// Kubeconfig; by default the one that kubectl would use
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of the Helm release
    #[arg(long, value_name = "NAME", default_value = "imageswap")]
    release: String,
    /// Namespace of the release; created, with the restricted Pod Security standard, if missing
    #[arg(short, long, value_name = "NAME", default_value = "imageswap-system")]
    namespace: String,
    /// Which images; by default for the architectures of the nodes.
    #[command(flatten)]
    what: What,
    /// Load the images into a [`Store`].
    #[arg(long, value_name = "WHERE", conflicts_with = "registry", help = format!(
        "Load the images: {STORES}; without a registry, where the context's name says"
    ))]
    load: Option<Store>,
    /// Push over plain HTTP, or HTTPS with a certificate that nobody vouches for
    #[arg(long, requires = "registry")]
    insecure: bool,
    /// Build and push nothing; the images are already where the nodes pull from
    #[arg(long, conflicts_with_all = ["load", "insecure"])]
    no_build: bool,
    /// File with values of the chart; repeatable, as in Helm
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Value of the chart, such as webhook.replicas=3; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seconds to wait for each of webhook and agent
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

/// An installation of the chart.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Values that name the images; values from files and `set` take precedence over them.
    pub(crate) images: Value,
    pub(crate) values: Vec<PathBuf>,
    /// As for `--set`; the last one wins.
    pub(crate) set: Vec<String>,
}

/// How the images get to the nodes.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    Push { insecure: bool },
    Load(Store),
    Nothing,
}

/// Deploys, and prints what to do next.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    let cluster = Cluster::find(&options.context, options.kubeconfig.as_deref())?;
    deploy(workspace, options, &cluster)?;
    println!("\n  deployed in {}", Took(start.elapsed()));
    next_steps(&cluster, &options.release(&options.what));
    Ok(ExitCode::SUCCESS)
}

/// Installs the release, waits and runs the smoke test. Returns the time from Helm's call until
/// everything was ready.
pub(crate) fn deploy(
    workspace: &Workspace,
    options: &Options,
    cluster: &Cluster,
) -> Result<Duration> {
    let way = options.way()?;
    let mut what = options.what.clone();
    ui::heading("Cluster");
    let version = cluster.version()?;
    let nodes = cluster.architectures()?;
    ui::good(format_args!("{}: Kubernetes {version}", options.context));
    if what.arch.is_empty() {
        what.arch = known(&nodes)?;
    }

    let mut release = options.release(&what);
    if way != Way::Nothing {
        ui::heading("Images");
        let images = image::build(workspace, &what)?;
        let folder = workspace.target.join("images");
        for image in &images {
            ship(image, &folder, &way)?;
        }
        let digests = images
            .iter()
            .filter_map(|it| Some((it.name.strip_prefix("imageswap-")?, it.digest())));
        digests.for_each(|(component, digest)| release.pin(component, &way, &digest));
    }

    ui::heading("Chart");
    let installing = Instant::now();
    install(cluster, &release, &chart(workspace))?;
    ui::good(format_args!(
        "helm upgrade --install {} into {}",
        release.name, release.namespace
    ));

    ui::heading("Rollout");
    wait_ready(cluster, &release, Duration::from_secs(options.timeout))?;
    let ready = installing.elapsed();

    ui::heading("Smoke test");
    smoke::run(cluster, &release)?;
    Ok(ready)
}

/// The chart's folder.
pub(crate) fn chart(workspace: &Workspace) -> PathBuf {
    workspace.root.join("deploy/charts/imageswap")
}

/// Installs or upgrades the chart in a namespace that enforces the restricted standard.
pub(crate) fn install(cluster: &Cluster, release: &Release, chart: &Path) -> Result<()> {
    cluster.make_namespace(&release.namespace)?;
    // A values file, because `--set` would turn a tag that looks like a number into one.
    let mut images = tempfile::Builder::new()
        .prefix("images-")
        .suffix(".json")
        .tempfile()
        .context("a temporary file")?;
    images.write_all(release.images.to_string().as_bytes())?;
    cluster.helm(&release.arguments(chart, images.path()))?;
    Ok(())
}

/// Waits until the release is rolled out, and shows the progress; the error shows its Pods.
pub(crate) fn wait_ready(cluster: &Cluster, release: &Release, limit: Duration) -> Result<()> {
    let workloads = rollout::workloads(cluster, &release.name)?;
    ensure!(
        !workloads.is_empty(),
        "the release {} has neither a Deployment nor a DaemonSet",
        release.name
    );
    for workload in &workloads {
        let start = Instant::now();
        rollout::wait(cluster, &release.name, workload, limit)?;
        ui::good(format_args!(
            "{}: ready ({})",
            workload.name,
            Took(start.elapsed())
        ));
    }
    Ok(())
}

impl Options {
    /// Options for a cluster on this machine, with images from a plain HTTP registry. They are
    /// built as `build` says and pushed there, or exist already.
    pub(crate) fn local(
        context: &str,
        registry: &str,
        values: Vec<PathBuf>,
        set: &[&str],
        build: Option<What>,
    ) -> Self {
        Self {
            context: context.to_owned(),
            kubeconfig: None,
            release: "imageswap".to_owned(),
            namespace: "imageswap-system".to_owned(),
            no_build: build.is_none(),
            what: What {
                registry: Some(registry.to_owned()),
                ..build.unwrap_or_default()
            },
            load: None,
            insecure: true,
            values,
            set: set.iter().map(|it| (*it).to_owned()).collect(),
            timeout: 180,
        }
    }

    fn way(&self) -> Result<Way> {
        Ok(match &self.load {
            _ if self.no_build => Way::Nothing,
            Some(store) => Way::Load(store.clone()),
            None if self.what.registry.is_some() => Way::Push {
                insecure: self.insecure,
            },
            // A cluster on this machine needs no registry; for any other the error asks for one.
            None => Way::Load(Store::of(&self.context)?),
        })
    }

    fn release(&self, what: &What) -> Release {
        Release {
            name: self.release.clone(),
            namespace: self.namespace.clone(),
            images: json!({"image": {"registry": what.registry(), "tag": what.tag()}}),
            values: self.values.clone(),
            set: self.set.clone(),
        }
    }
}

impl Release {
    /// Makes Pods run exactly what was built. A tag alone would not replace Pods after a rebuild: a
    /// pushed image is named by digest; a loaded one has no digest on the node, so an annotation
    /// changes the Pods.
    fn pin(&mut self, component: &str, way: &Way, digest: &str) {
        match way {
            Way::Push { .. } => self.images[component]["image"]["digest"] = json!(digest),
            Way::Load(_) => {
                self.images[component]["podAnnotations"]["imageswap.io/image"] = json!(digest);
            }
            Way::Nothing => {}
        }
    }

    /// Arguments of helm; `images` is a values file.
    fn arguments(&self, chart: &Path, images: &Path) -> Vec<String> {
        let mut arguments = vec![
            "upgrade".to_owned(),
            "--install".to_owned(),
            self.name.clone(),
            chart.display().to_string(),
            "--namespace".to_owned(),
            self.namespace.clone(),
        ];
        for file in std::iter::once(images).chain(self.values.iter().map(PathBuf::as_path)) {
            arguments.extend(["--values".to_owned(), file.display().to_string()]);
        }
        for value in &self.set {
            arguments.extend(["--set".to_owned(), value.clone()]);
        }
        arguments
    }
}

/// Puts an image where the nodes can find it.
fn ship(image: &Built, folder: &Path, way: &Way) -> Result<()> {
    let archive = image.write(folder)?;
    match way {
        // The command runs on people's machines, not in the cluster.
        _ if image.name == "imageswap" => {}
        Way::Push { insecure } => {
            image::push(&archive, &image.reference, *insecure)?;
            ui::good(format_args!("{} pushed", image.reference));
        }
        Way::Load(store) => {
            store.load(&archive)?;
            ui::good(format_args!("{} loaded into {store}", image.reference));
        }
        Way::Nothing => {}
    }
    Ok(())
}

/// The nodes' architectures that images are built for.
fn known(nodes: &BTreeSet<String>) -> Result<Vec<Architecture>> {
    let known: Vec<_> = Architecture::all()
        .filter(|it| nodes.contains(it.name()))
        .collect();
    ensure!(
        !known.is_empty(),
        "no node's architecture is one that images are built for: {nodes:?}"
    );
    Ok(known)
}

fn next_steps(cluster: &Cluster, release: &Release) {
    let context = cluster.context();
    println!(
        "\nNext\n  \
         what a policy would do to what is there:\n    \
         imageswap scan --context {context} --policy FILE\n  \
         bring it into force; audit first, then warn, then deny:\n    \
         kubectl --context {context} apply -f FILE\n  \
         what runs and should not:\n    \
         imageswap drift --context {context}\n  \
         take all of it away:\n    \
         helm --kube-context {context} -n {} uninstall {}",
        release.namespace, release.name
    );
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use imageswap_lab::{ControlPlane, ControlPlaneOptions, require, skip};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        let words = ["deploy"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().options
    }

    #[test]
    fn images_go_where_the_context_says() {
        let way = |line: &str| options(line).way().unwrap();
        let kind = Way::Load(Store::Kind("dev".to_owned()));
        assert_eq!(way("--context kind-dev"), kind);
        let k3d = Way::Load(Store::K3d("x".to_owned()));
        assert_eq!(way("--context any --load k3d:x"), k3d);
        let push = |insecure| Way::Push { insecure };
        assert_eq!(way("--context any --registry r.io"), push(false));
        assert_eq!(way("--context any --registry r.io --insecure"), push(true));
        let there = "--context any --registry r.io --no-build";
        assert_eq!(way(there), Way::Nothing);
        assert!(options("--context any").way().is_err());
        for wrong in [
            "--registry r.io",
            "--context a --registry r.io --load k3s",
            "--context a --insecure",
        ] {
            let words = ["deploy"].into_iter().chain(wrong.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pods_run_what_was_built() {
        let options = options("--context a --registry r.io --tag 1");
        let mut release = options.release(&options.what);
        release.pin("webhook", &Way::Push { insecure: false }, "DIGEST");
        release.pin("agent", &Way::Load(Store::K3s), "DIGEST");
        let expected = json!({
            "image": {"registry": "r.io", "tag": "1"},
            "webhook": {"image": {"digest": "DIGEST"}},
            "agent": {"podAnnotations": {"imageswap.io/image": "DIGEST"}},
        });
        assert_eq!(release.images, expected);
    }

    #[test]
    fn a_users_values_come_last() {
        let options = options("--context a --registry r.io -f mine.yaml --set image.tag=mine");
        let release = options.release(&options.what);
        let arguments = release.arguments(Path::new("chart"), Path::new("images.json"));
        assert_eq!(
            arguments[6..],
            [
                "--values",
                "images.json",
                "--values",
                "mine.yaml",
                "--set",
                "image.tag=mine"
            ]
        );
    }

    /// Runs Helm and kubectl against an API server without nodes: the chart installs, installs
    /// again, and what is not rolled out is reported.
    #[test]
    fn a_release_is_installed_upgraded_and_waited_for() {
        let test = "a_release_is_installed_upgraded_and_waited_for";
        let plane = require!(ControlPlane::for_test(test, ControlPlaneOptions::default()));
        let cluster = match Cluster::find("lab", Some(plane.kubeconfig())) {
            Ok(cluster) => cluster,
            Err(error) => return skip(test, &format!("{error:#}")),
        };
        assert!(cluster.version().unwrap().starts_with("v1."));
        assert!(cluster.architectures().unwrap().is_empty());
        let chart = chart(&Workspace::find().unwrap());
        let mut release = options("--context lab --registry r.io").release(&What {
            registry: Some("r.io".to_owned()),
            tag: Some("1".to_owned()),
            ..What::default()
        });
        install(&cluster, &release, &chart).unwrap();
        release.set.push("webhook.replicas=3".to_owned());
        install(&cluster, &release, &chart).unwrap();

        let get = |what: &[&str]| cluster.json(&[&["get"], what].concat()).unwrap();
        let namespace = get(&["namespace", "imageswap-system"]);
        assert_eq!(
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
            "restricted"
        );
        let webhook = ["-n", "imageswap-system", "deployment", "imageswap-webhook"];
        let webhook = get(&webhook);
        assert_eq!(webhook["spec"]["replicas"], 3);
        let image = &webhook["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, "r.io/imageswap-webhook:1");

        let workloads = rollout::workloads(&cluster, &release.name).unwrap();
        let names: Vec<_> = workloads.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            ["deployment/imageswap-webhook", "daemonset/imageswap-agent"]
        );
        let error = wait_ready(&cluster, &release, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("is not rolled out"), "{error}");
        let missing = Release {
            name: "other".to_owned(),
            ..release
        };
        let error = wait_ready(&cluster, &missing, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("neither"), "{error}");
    }

    #[test]
    fn images_are_built_for_the_nodes() {
        let nodes = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let both = known(&nodes(&["amd64", "arm64", "s390x"])).unwrap();
        assert_eq!(both, [Architecture::Amd64, Architecture::Arm64]);
        assert!(known(&nodes(&["riscv64"])).is_err());
    }
}
