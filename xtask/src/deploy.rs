//! `cargo xtask deploy`: ImageSwap from these sources in a cluster that a kubeconfig names.
//!
//! It does what a user would do by hand, with the same tools: images into a registry or into the nodes' store, `helm
//! upgrade --install`, waiting, and a look at whether it works.

mod cluster;
mod rollout;
mod smoke;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::image::{self, Architecture, Built, Store, What};
use crate::process::Workspace;
use crate::ui::{self, Took};
pub(crate) use cluster::Cluster;

/// Where to, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: String,
    /// Kubeconfig; kubectl's own choice where none is given
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of the Helm release
    #[arg(long, value_name = "NAME", default_value = "imageswap")]
    release: String,
    /// Namespace of the release; made, under the restricted Pod Security standard, where there is none
    #[arg(short, long, value_name = "NAME", default_value = "imageswap-system")]
    namespace: String,
    /// Which images; for the architectures of the nodes where none is given.
    #[command(flatten)]
    what: What,
    /// Load the images into kind[:NAME], k3d[:NAME], minikube[:PROFILE], containerd[:SOCKET] or k3s; without a
    /// registry, where the context's name says
    #[arg(long, value_name = "WHERE", conflicts_with = "registry")]
    load: Option<Store>,
    /// Push over plain HTTP, or HTTPS with a certificate that nobody vouches for
    #[arg(long, requires = "registry")]
    insecure: bool,
    /// Build and push nothing: the images are where the nodes find them
    #[arg(long, conflicts_with_all = ["load", "insecure"])]
    no_build: bool,
    /// File with values of the chart; repeatable, as Helm has it
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Value of the chart, such as webhook.replicas=3; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seconds to wait for each of webhook and agent
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// An installation of the chart.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) values: Vec<PathBuf>,
    /// In the order in which they are given: the last one counts.
    pub(crate) set: Vec<String>,
}

/// How the images get to the nodes.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    Push { insecure: bool },
    Load(Store),
    Nothing,
}

/// Deploys, or says how it would.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    let cluster = Cluster::find(&options.context, options.kubeconfig.as_deref())?;
    let way = options.way()?;
    let mut what = options.what.clone();
    if options.dry_run {
        print!("{}", plan(workspace, options, &what, &way, &cluster));
        return Ok(ExitCode::SUCCESS);
    }

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
        // Values of the user's come last, and may say otherwise.
        release.set = [by_digest(&images, &way), release.set].concat();
    }

    ui::heading("Chart");
    install(&cluster, &release, &chart(workspace))?;
    ui::good(format_args!(
        "helm upgrade --install {} into {}",
        release.name, release.namespace
    ));

    ui::heading("Rollout");
    wait_ready(&cluster, &release, Duration::from_secs(options.timeout))?;

    ui::heading("Smoke test");
    smoke::run(&cluster, &release)?;
    println!("\n  deployed in {}", Took(start.elapsed()));
    next_steps(&cluster, &release);
    Ok(ExitCode::SUCCESS)
}

/// The chart's folder.
pub(crate) fn chart(workspace: &Workspace) -> PathBuf {
    workspace.root.join("deploy/charts/imageswap")
}

/// Installs or upgrades the chart, in a namespace that holds the webhook to the restricted standard.
pub(crate) fn install(cluster: &Cluster, release: &Release, chart: &Path) -> Result<()> {
    cluster.make_namespace(&release.namespace)?;
    cluster.helm(&release.arguments(chart))?;
    Ok(())
}

/// Waits until what the release consists of is rolled out, and shows how it goes; what keeps it from that is in the
/// error.
pub(crate) fn wait_ready(cluster: &Cluster, release: &Release, limit: Duration) -> Result<()> {
    let workloads = rollout::workloads(cluster, &release.name)?;
    ensure!(
        !workloads.is_empty(),
        "the release {} has neither a Deployment nor a DaemonSet",
        release.name
    );
    for workload in &workloads {
        let start = Instant::now();
        rollout::wait(cluster, workload, limit)?;
        let ready = rollout::ready(cluster, workload)?;
        ui::good(format_args!(
            "{workload}: {ready} ({})",
            Took(start.elapsed())
        ));
    }
    Ok(())
}

impl Options {
    fn way(&self) -> Result<Way> {
        Ok(match &self.load {
            _ if self.no_build => Way::Nothing,
            Some(store) => Way::Load(store.clone()),
            None if self.what.registry.is_some() => Way::Push {
                insecure: self.insecure,
            },
            // A cluster on this machine needs no registry; another one does, and the error says so.
            None => Way::Load(Store::of(&self.context)?),
        })
    }

    fn release(&self, what: &What) -> Release {
        let mut set = vec![
            format!("image.registry={}", what.registry()),
            format!("image.tag={}", what.tag()),
        ];
        set.extend(self.set.iter().cloned());
        Release {
            name: self.release.clone(),
            namespace: self.namespace.clone(),
            values: self.values.clone(),
            set,
        }
    }
}

impl Release {
    /// Arguments of helm.
    fn arguments(&self, chart: &Path) -> Vec<String> {
        let mut arguments = vec![
            "upgrade".to_owned(),
            "--install".to_owned(),
            self.name.clone(),
            chart.display().to_string(),
            "--namespace".to_owned(),
            self.namespace.clone(),
        ];
        for file in &self.values {
            arguments.extend(["--values".to_owned(), file.display().to_string()]);
        }
        for value in &self.set {
            arguments.extend(["--set".to_owned(), value.clone()]);
        }
        arguments
    }
}

/// Puts an image where the nodes find it.
fn ship(image: &Built, folder: &Path, way: &Way) -> Result<()> {
    let archive = image.write(folder)?;
    match way {
        // The command runs on people's machines.
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

/// Values by which Pods run exactly what was built. A tag alone would not replace Pods whose image has been built anew:
/// pushed images are named by digest; loaded ones have none on the node, and a Pod's annotation makes the difference.
fn by_digest(images: &[Built], way: &Way) -> Vec<String> {
    let mut set = Vec::new();
    for image in images {
        let Some(component) = image.name.strip_prefix("imageswap-") else {
            continue;
        };
        let digest = image.digest();
        set.push(match way {
            Way::Push { .. } => format!("{component}.image.digest={digest}"),
            _ => format!("{component}.podAnnotations.imageswap\\.io/image={digest}"),
        });
    }
    set
}

/// Those of the nodes' architectures that images are built for.
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

/// What would be done, command by command.
fn plan(
    workspace: &Workspace,
    options: &Options,
    what: &What,
    way: &Way,
    cluster: &Cluster,
) -> String {
    let mut lines = Vec::new();
    let architectures = if what.arch.is_empty() {
        "the architectures of the nodes".to_owned()
    } else {
        let names: Vec<_> = what.arch.iter().map(|it| it.name()).collect();
        names.join(", ")
    };
    if *way != Way::Nothing {
        lines.push(format!("build static images for {architectures}"));
    }
    for program in ["imageswap-webhook", "imageswap-agent"] {
        let reference = format!("{}/{program}:{}", what.registry(), what.tag());
        match way {
            Way::Push { insecure } => {
                let how = if *insecure {
                    ", without verifying it"
                } else {
                    ""
                };
                lines.push(format!("push {reference}{how}"));
            }
            Way::Load(store) => lines.push(format!("load {reference} into {store}")),
            Way::Nothing => {}
        }
    }
    let namespace = &options.namespace;
    lines.push(format!(
        "make the namespace {namespace} unless it is there, with\n     pod-security.kubernetes.io/enforce=restricted"
    ));
    let by_digest = match way {
        Way::Push { .. } => Some("image.digest"),
        Way::Load(_) => Some("podAnnotations.imageswap\\.io/image"),
        Way::Nothing => None,
    };
    let mut release = options.release(what);
    let by_digest = by_digest
        .into_iter()
        .flat_map(|key| ["webhook", "agent"].map(|component| format!("{component}.{key}=DIGEST")));
    release.set.splice(0..0, by_digest);
    let arguments = release.arguments(Path::new("deploy/charts/imageswap"));
    lines.push(cluster.shown_helm(&arguments));
    let timeout = options.timeout;
    lines.push(format!(
        "kubectl rollout status, {timeout} s at most, for each Deployment and DaemonSet\n     of the release"
    ));
    lines.push(
        "smoke test: a policy that does not load is refused; what becomes of a Pod\n     in a server-side dry run"
            .to_owned(),
    );
    let lines: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("  {}. {line}\n", at + 1))
        .collect();
    format!(
        "\nPlan for the context {}, from {}\n{}",
        options.context,
        workspace.root.display(),
        lines.concat()
    )
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

    fn planned(line: &str) -> String {
        let options = options(line);
        let workspace = Workspace {
            root: "sources".into(),
            target: "target".into(),
        };
        let cluster = Cluster::of_programs("kubectl".into(), "helm".into(), &options.context, None);
        let way = options.way().unwrap();
        plan(&workspace, &options, &options.what, &way, &cluster)
    }

    #[test]
    fn the_plan_says_every_step() {
        let text = planned(
            "--context prod --registry r.example.com/team --tag 1 --arch amd64,arm64 -f a.yaml --set webhook.replicas=3",
        );
        for line in [
            "1. build static images for amd64, arm64",
            "2. push r.example.com/team/imageswap-webhook:1",
            "3. push r.example.com/team/imageswap-agent:1",
            "4. make the namespace imageswap-system",
            "helm --kube-context prod upgrade --install imageswap",
            "--values a.yaml",
            "--set image.registry=r.example.com/team",
            "--set webhook.image.digest=DIGEST",
            "7. smoke test",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let long = text.lines().find(|it| it.chars().count() > 80);
        assert_eq!(long, None, "{text}");
    }

    #[test]
    fn images_go_where_the_context_says() {
        let loaded = planned("--context kind-dev");
        assert!(loaded.contains("into kind's cluster dev"), "{loaded}");
        assert!(loaded.contains("podAnnotations"), "{loaded}");
        let given = planned("--context any --load k3d:x");
        assert!(given.contains("into k3d's cluster x"), "{given}");
        let there = planned("--context any --registry r.io --no-build");
        assert!(
            !there.contains("push") && !there.contains("build static") && there.contains("=r.io"),
            "{there}"
        );
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
    fn a_users_value_comes_last() {
        let release = options("--context a --registry r.io --set image.tag=mine");
        let release = release.release(&release.what);
        assert_eq!(release.set.last().unwrap(), "image.tag=mine");
    }

    #[test]
    fn images_are_built_for_the_nodes() {
        let nodes = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let both = known(&nodes(&["amd64", "arm64", "s390x"])).unwrap();
        assert_eq!(both, [Architecture::Amd64, Architecture::Arm64]);
        assert!(known(&nodes(&["riscv64"])).is_err());
    }
}
