//! Helm, run on the chart of `deploy/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::{env, fs};

use serde_json::Value;

/// The name of release and namespace in the documentation.
pub(crate) const RELEASE: &str = "imageswap";
pub(crate) const NAMESPACE: &str = "imageswap-system";

/// The API servers that the chart is rendered for: the oldest, which the tests run, and the one
/// whose types the tests know.
pub(crate) const OLD: &str = "1.20.2";
pub(crate) const NEW: &str = "1.33.0";

pub(crate) fn chart() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/charts/imageswap"
    ))
    .to_owned()
}

/// Helm, with its own folders.
pub(crate) struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
}

/// A rendered object.
#[derive(Debug, Clone)]
pub(crate) struct Object(pub(crate) Value);

impl Helm {
    /// Helm from the path, or the one that `cargo xtask` keeps; `None` after printing that `test`
    /// is skipped.
    pub(crate) fn for_test(test: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        let kept = cache.map(|it| it.join("imageswap/tools/bin"));
        let found = env::split_paths(&path)
            .chain(kept)
            .map(|folder| folder.join("helm"))
            .find(|it| it.is_file());
        let Some(program) = found else {
            imageswap_lab::skip(test, "helm is neither on the path nor among xtask's tools");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        Some(Self { program, home })
    }

    /// Helm without a cluster.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for folder in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{folder}_HOME"), self.home.path().join(folder));
        }
        command.env("KUBECONFIG", self.home.path().join("none"));
        command
    }

    /// Renders the chart; the error is Helm's. Results are cached.
    pub(crate) fn render(&self, kubernetes: &str, args: &[&str]) -> Result<Vec<Object>, String> {
        static RENDERED: Mutex<BTreeMap<String, Vec<Object>>> = Mutex::new(BTreeMap::new());
        let key = format!("{kubernetes} {args:?}");
        if let Some(known) = RENDERED.lock().unwrap().get(&key) {
            return Ok(known.clone());
        }
        let objects = self.render_anew(kubernetes, args)?;
        RENDERED.lock().unwrap().insert(key, objects.clone());
        Ok(objects)
    }

    fn render_anew(&self, kubernetes: &str, args: &[&str]) -> Result<Vec<Object>, String> {
        let mut command = self.command();
        command
            .args(["template", RELEASE])
            .arg(chart())
            .args(["--namespace", NAMESPACE, "--kube-version", kubernetes])
            .args(args);
        let rendered = output(command)?;
        let documents = rendered.split("\n---\n").map(|it| {
            let value: Value = serde_saphyr::from_str(it)
                .unwrap_or_else(|error| panic!("{error} in a document that Helm rendered:\n{it}"));
            value
        });
        Ok(documents.filter(Value::is_object).map(Object).collect())
    }

    /// Renders the chart with one of the files of `ci`.
    pub(crate) fn render_file(&self, kubernetes: &str, file: &Path) -> Vec<Object> {
        self.render(kubernetes, &["--values", file.to_str().unwrap()])
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The notes printed after an installation.
    pub(crate) fn notes(&self, args: &[&str]) -> String {
        let mut command = self.command();
        command
            .args(["install", RELEASE])
            .arg(chart())
            .args(["--namespace", NAMESPACE, "--dry-run=client"])
            .args(args);
        let said = output(command).unwrap();
        let (_, notes) = said.split_once("\nNOTES:\n").unwrap();
        notes.to_owned()
    }
}

impl Object {
    pub(crate) fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    pub(crate) fn api_version(&self) -> &str {
        self.0["apiVersion"].as_str().unwrap()
    }

    /// Whether it is of a custom resource of another project.
    pub(crate) fn is_of_another_project(&self) -> bool {
        ["cert-manager.io/", "monitoring.coreos.com/"]
            .iter()
            .any(|group| self.api_version().starts_with(group))
    }

    /// A line for the tests' messages.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }

    /// The program that it runs.
    pub(crate) fn component(&self) -> &str {
        self.0["metadata"]["labels"]["app.kubernetes.io/component"]
            .as_str()
            .unwrap_or_default()
    }
}

/// The one object of this kind and name.
pub(crate) fn one<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|it| it.kind() == kind && it.name() == name);
    let first = found.next();
    let first = first.unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two of {kind} {name}");
    &first.0
}

/// The files of `ci`, in order.
pub(crate) fn values_files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(chart().join("ci"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.to_str().unwrap().ends_with("-values.yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

pub(crate) fn values_file(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}-values.yaml"))
}

pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    if status.success() {
        Ok(String::from_utf8(stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&stderr).into_owned())
    }
}
