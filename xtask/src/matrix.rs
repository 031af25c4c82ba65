//! `cargo xtask matrix`: runs the agent's node tests with the runtimes of other Debian releases, on
//! this kernel and on theirs.

mod arm64;
mod suite;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use time::OffsetDateTime;

use crate::builder;
use crate::count::Count;
use crate::matrix::suite::Suite;
use crate::process::Workspace;
use crate::ui::{self, Took};
use crate::vm::{self, Guest};

/// How long the tests of a cell may take.
const LIMIT: Duration = Duration::from_mins(20);

/// Tests that need what a cell lacks: a control plane, systemd, cgroup v1, a compiler, or programs
/// outside it.
const LEFT_OUT: [&str; 8] = [
    "cluster::",
    "kubelet::",
    "rootless::",
    "systemd::",
    "webhook::",
    "routes::the_command_line",
    "startup::cgroup_v1",
    "startup::the_chart",
];

/// One test for each way in which a container starts, and one whose result depends on the version of
/// containerd; every change runs them.
const QUICK: [&str; 9] = [
    "docker::docker_is_known_by_its_records",
    "forged::an_image_that_was_only_tagged_anew_drifts",
    "forged::labels_and_the_cgroup_of_a_pod_make_no_pod",
    "routes::a_container_that_lives_twenty_milliseconds_is_not_missed",
    "routes::a_pod_is_seen_with_its_name_and_its_sandbox_is_exempt",
    "routes::ctr_is_seen_in_every_namespace_with_any_id",
    "routes::plain_runc_is_unresolved",
    "routes::podman_is_known_by_its_store",
    "sandbox::another_image_in_the_place_of_a_sandbox_is_not_exempt",
];

/// What the virtual machine of a suite runs besides [`vm::TESTS`].
const ON_SUITES: [&str; 2] = [
    "docker::docker_is_known_by_its_records",
    "routes::podman_is_known_by_its_store",
];

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// List the cells and run nothing
    #[arg(long)]
    list: bool,
    /// Run only this cell; may be given more than once
    #[arg(long, value_name = "CELL")]
    only: Vec<String>,
    /// Only the tests that every change runs
    #[arg(long)]
    quick: bool,
}

/// A combination of runtimes and kernel.
#[derive(Debug, Clone, Copy)]
struct Cell {
    name: &'static str,
    suite: &'static str,
    /// The OCI runtime below containerd, Docker and podman.
    oci: &'static str,
    kernel: Kernel,
    /// Tests of actions that these runtimes refuse.
    refused: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// This machine's, in a private mount namespace with cgroup v2 alone.
    Running,
    /// The suite's own, in a virtual machine with systemd.
    Suite,
    /// The suite's own for arm64, of which only the BTF is read.
    Arm64,
}

const fn cell(name: &'static str, suite: &'static str, oci: &'static str, kernel: Kernel) -> Cell {
    Cell {
        name,
        suite,
        oci,
        kernel,
        refused: &[],
    }
}

/// runc starts nothing in a cgroup that has processes, from 1.2 on.
const REFUSED_BY_RUNC: &[&str] = &["put::a_container_put_into"];

const CELLS: [Cell; 9] = [
    Cell {
        refused: REFUSED_BY_RUNC,
        ..cell("sid-runc", "sid", "runc", Kernel::Running)
    },
    cell("sid-crun", "sid", "crun", Kernel::Running),
    cell("trixie-runc", "trixie", "runc", Kernel::Running),
    cell("trixie-crun", "trixie", "crun", Kernel::Running),
    Cell {
        refused: REFUSED_BY_RUNC,
        ..cell("sid-vm", "sid", "runc", Kernel::Suite)
    },
    cell("trixie-vm", "trixie", "runc", Kernel::Suite),
    cell("bookworm-arm64", "bookworm", "no runtime", Kernel::Arm64),
    cell("trixie-arm64", "trixie", "no runtime", Kernel::Arm64),
    cell("sid-arm64", "sid", "no runtime", Kernel::Arm64),
];

/// The cells that `cargo xtask test` runs.
pub(crate) const IN_CI: [&str; 2] = ["sid-runc", "sid-crun"];

/// Runs the cells and prints a row for each.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if options.list {
        let rows = CELLS.map(|cell| {
            let kernel = match cell.kernel {
                Kernel::Running => "this machine's kernel, cgroup v2 alone",
                Kernel::Suite => "the suite's kernel and systemd, in QEMU",
                Kernel::Arm64 => "the BTF of the suite's kernel for arm64",
            };
            [cell.name.to_owned(), format!("{}, {kernel}", cell.oci)]
        });
        ui::table(&rows);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| CELLS.iter().all(|cell| cell.name != **name))
    {
        let names = CELLS.map(|cell| cell.name).join(", ");
        bail!("no cell is called {unknown}; the cells are {names}");
    }
    let chosen = CELLS.iter().filter(|cell| {
        options.only.is_empty() || options.only.iter().any(|name| name == cell.name)
    });
    builder::probes(workspace)?;
    let mut rows = Vec::new();
    let mut good = true;
    for cell in chosen {
        ui::heading(cell.name);
        let start = Instant::now();
        let mut count = Count::default();
        let [runtimes, more] = cell.run(workspace, options.quick, &mut count)?;
        good &= count.is_good();
        rows.push([cell.name.to_owned(), runtimes]);
        rows.push([String::new(), more]);
        rows.push([String::new(), format!("{count}, {}", Took(start.elapsed()))]);
    }
    ui::heading(&format!("Matrix, {}", OffsetDateTime::now_utc().date()));
    ui::table(&rows);
    Ok(ExitCode::from(u8::from(!good)))
}

/// Runs the quick tests of the cells [`IN_CI`].
pub(crate) fn quick(workspace: &Workspace, count: &mut Count) -> Result<()> {
    for cell in CELLS.iter().filter(|cell| IN_CI.contains(&cell.name)) {
        let mut own = Count::default();
        let [runtimes, more] = cell.run(workspace, true, &mut own)?;
        ui::step(format_args!("{}: {runtimes}, {more}", cell.name));
        count.add(own);
    }
    Ok(())
}

impl Cell {
    /// Runs the tests; returns two lines with the tested versions.
    fn run(&self, workspace: &Workspace, quick: bool, count: &mut Count) -> Result<[String; 2]> {
        if self.kernel == Kernel::Arm64 {
            return arm64::run(workspace, self.suite, count);
        }
        let suite = Suite::find_or_make(self.suite)?;
        let tests = vm::node_tests(workspace)?;
        let version = |package| anyhow::Ok(format!("{package} {}", suite.version(package)?));
        let runtimes = format!("{}, {}", version("containerd")?, version(self.oci)?);
        let mut more = format!("{}, {}", version("docker.io")?, version("podman")?);
        let chosen = if quick {
            format!("--exact {}", QUICK.join(" "))
        } else {
            let left_out = LEFT_OUT.iter().chain(self.refused);
            let skips: Vec<_> = left_out.map(|test| format!("--skip {test}")).collect();
            skips.join(" ")
        };
        let variables = format!("IMAGESWAP_OCI_RUNTIME={}", self.oci);
        if self.kernel == Kernel::Running {
            in_namespace(workspace, &suite, &tests, &variables, &chosen, count)?;
        } else {
            let kernel = vm::Kernel::in_folder(&suite.kernel()?)?;
            more = format!("{more}, {}", kernel.version());
            let is_refused = |test: &&str| self.refused.iter().any(|it| test.starts_with(it));
            let chosen = vm::TESTS.into_iter().chain(ON_SUITES);
            let guest = Guest {
                kernel,
                root: Some(suite.root),
                tests: chosen.filter(|test| !is_refused(test)).collect(),
                variables,
            };
            vm::run_guest(workspace, &guest, &tests, count)?;
        }
        if quick && self.kernel == Kernel::Running {
            // A renamed test must not be left out unnoticed.
            ensure!(
                count.ran() == QUICK.len(),
                "{}: {} tests ran, not {}",
                self.name,
                count.ran(),
                QUICK.len()
            );
        }
        Ok([runtimes, more])
    }
}

/// Enters a root file system of `suite` that discards all writes, with cgroup v2 alone, and runs
/// the tests.
const ENTER: &str = r#"set -e
lower=$1 tests=$2; shift 2
place=$(mktemp -d)
mount -t tmpfs -o size=4g memory "$place"
mkdir "$place/upper" "$place/work" "$place/root"
root=$place/root
mount -t overlay -o "lowerdir=$lower,upperdir=$place/upper,workdir=$place/work" root "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount --rbind /dev "$root/dev"
mount -t tmpfs run "$root/run"
mount -t tmpfs -o size=3g tmp "$root/tmp"
for shared in "$@"; do
    mkdir -p "$root$shared"
    mount --bind "$shared" "$root$shared"
done
cd /
exec chroot "$root" /bin/sh -c "$tests"
"#;

fn in_namespace(
    workspace: &Workspace,
    suite: &Suite,
    tests: &Path,
    variables: &str,
    chosen: &str,
    count: &mut Count,
) -> Result<()> {
    let inside = format!(
        "cd '{}' && exec env --ignore-environment PATH=/usr/sbin:/usr/bin HOME=/root RUST_BACKTRACE=0 \
         IMAGESWAP_NO_SKIP=1 {variables} '{}' {chosen} --test-threads=2 --show-output --color=never",
        workspace.root.join("imageswap-agent").display(),
        tests.display(),
    );
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=10s"])
        .arg(LIMIT.as_secs().to_string())
        .args(["unshare", "--mount", "--propagation", "private", "--"])
        .args(["sh", "-c", ENTER, "sh"])
        .arg(&suite.root)
        .arg(inside)
        .args([&workspace.root, &workspace.target]);
    let status = count.run(&mut command, "unshare")?;
    ensure!(
        status.success() || status.code() == Some(101),
        "the tests ended with {status}"
    );
    ensure!(count.ran() > 0, "no test ran");
    Ok(())
}
