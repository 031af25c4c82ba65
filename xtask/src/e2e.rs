//! `cargo xtask e2e`: from nothing to the first swapped Pod, and on to what is refused.
//!
//! Without a context it brings up a control plane on this machine, with the manifests as they are shipped and the
//! webhook's Pods as processes; with one it installs into that cluster. What follows is the same, by kubectl, as a
//! user would do it.

mod steps;

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use imageswap_lab::Assets;

use crate::builder::{self, Profile};
use crate::process::{Workspace, find};
use crate::stage::{self, NAMESPACE, Stage};
use crate::ui::{self, Took};

/// Where to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Context of the kubeconfig; without one, a control plane on this machine
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Image of the webhook that the context's nodes can pull; `cargo xtask image` builds one
    #[arg(long, value_name = "REF", requires = "context")]
    image_webhook: Option<String>,
}

/// kubectl, with what it needs to reach the cluster.
pub(crate) struct Kubectl {
    make: Box<dyn Fn() -> Command>,
}

/// Runs the story; exit code 1 where a step does not come out as told.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    match &options.context {
        Some(context) => elsewhere(workspace, context, options.image_webhook.as_deref()),
        None => here(workspace),
    }
}

/// Tells the story on this machine.
pub(crate) fn here(workspace: &Workspace) -> Result<ExitCode> {
    if let Some(code) = stage::isolate()? {
        return Ok(code);
    }
    let start = Instant::now();
    let folder = builder::webhook(workspace, Profile::Dev)?;
    ui::heading("A cluster, and the webhook in it");
    let program = folder.join("imageswap-webhook");
    let stage = Stage::start(workspace, &program, &[], |what| ui::good(what))?;
    let kubectl = Kubectl {
        make: Box::new({
            let (kubectl, config) = (
                stage.cluster.assets().program("kubectl"),
                stage.cluster.kubeconfig().to_owned(),
            );
            move || {
                let mut command = Command::new(&kubectl);
                command.arg("--kubeconfig").arg(&config);
                command
            }
        }),
    };
    let told = steps::tell(&kubectl, workspace);
    if told.is_err() {
        for pod in stage.kubelet.pods() {
            let log = fs::read_to_string(&pod.log).unwrap_or_default();
            eprintln!("{}:\n{log}", pod.name);
        }
    }
    told?;
    println!("\n  told in {}", Took(start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

fn elsewhere(workspace: &Workspace, context: &str, image: Option<&str>) -> Result<ExitCode> {
    let Some(image) = image else {
        bail!(
            "the cluster needs an image of the webhook that its nodes can pull: --image-webhook REF \
             (cargo xtask image builds one, skopeo pushes it)"
        );
    };
    let program = find("kubectl")
        .or_else(|| Some(Assets::find().ok()?.program("kubectl")))
        .context("there is no kubectl in PATH")?;
    let context = context.to_owned();
    let kubectl = Kubectl {
        make: Box::new(move || {
            let mut command = Command::new(&program);
            command.args(["--context", &context]);
            command
        }),
    };
    ui::heading("The webhook in your cluster");
    let minor = kubectl.minor_version()?;
    for manifest in stage::manifests(minor) {
        let path = workspace
            .root
            .join("deploy")
            .join(format!("{manifest}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        kubectl.with(&["apply", "--server-side", "-f", "-"], &text)?;
    }
    let set = format!("webhook={image}");
    kubectl.run(&[
        "-n",
        NAMESPACE,
        "set",
        "image",
        "deployment/imageswap-webhook",
        &set,
    ])?;
    ui::good(format_args!("deploy/ applied, Kubernetes 1.{minor}"));
    kubectl.run(&[
        "-n",
        NAMESPACE,
        "rollout",
        "status",
        "deployment/imageswap-webhook",
        "--timeout=180s",
    ])?;
    ui::good("two replicas of the webhook ready, behind their Service");
    let told = steps::tell(&kubectl, workspace);
    steps::tidy(&kubectl);
    told?;
    println!("\n  the webhook stays installed in {NAMESPACE}; what was tried with it is gone");
    Ok(ExitCode::SUCCESS)
}

impl Kubectl {
    /// Its standard output; an error carries its standard error.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        self.with(args, "")
    }

    /// The same with `input` on its standard input.
    pub(crate) fn with(&self, args: &[&str], input: &str) -> Result<String> {
        use std::io::Write as _;
        let mut child = (self.make)()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        stdin
            .write_all(input.as_bytes())
            .context("kubectl's input")?;
        drop(stdin);
        let output = child.wait_with_output().context("kubectl")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )
    }

    /// Why the cluster refuses; an error where it does not.
    pub(crate) fn refused(&self, args: &[&str], input: &str) -> Result<String> {
        match self.with(args, input) {
            Ok(_) => bail!("kubectl {} was not refused", args.join(" ")),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// The minor version of the cluster's Kubernetes.
    pub(crate) fn minor_version(&self) -> Result<u32> {
        let text = self.run(&["get", "--raw", "/version"])?;
        let version: serde_json::Value =
            serde_json::from_str(&text).context("the cluster's version")?;
        let minor = version["minor"].as_str().unwrap_or_default();
        minor
            .trim_end_matches('+')
            .parse()
            .with_context(|| format!("the cluster's minor version {minor:?}"))
    }
}
