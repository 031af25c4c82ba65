//! A virtual machine with Debian's kernel, systemd and cgroup v2 alone that runs the node's tests
//! from this machine's root file system.
//!
//! The root is shared read-only over 9p under an overlay in memory, so that nothing has to be
//! installed in the machine and nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use imageswap_lab::{BUSYBOX, is_root, missing};

use crate::count::Count;
use crate::image;
use crate::initramfs::{Archive, modules, unpack};
use crate::process::{Workspace, cache, find, output};
use crate::programs;
use crate::toolchain;
use crate::ui;

const QEMU: &str = "qemu-system-x86_64";
/// Disk and root file system; their dependencies are loaded too.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// The tests that run there: one for each way in which a container starts. All of them would take
/// half an hour, because the machine is emulated.
pub(crate) const TESTS: [&str; 10] = [
    "forged::an_image_that_was_only_tagged_anew_drifts",
    "forged::labels_and_the_cgroup_of_a_pod_make_no_pod",
    "missing::a_second_agent_does_no_harm",
    "routes::a_container_that_lives_twenty_milliseconds_is_not_missed",
    "routes::a_pod_is_seen_with_its_name_and_its_sandbox_is_exempt",
    "routes::ctr_is_seen_in_every_namespace_with_any_id",
    "routes::plain_runc_is_unresolved",
    "put::a_container_put_into_another_ones_cgroup_is_a_start_of_its_own",
    "systemd::pods_and_containers_in_cgroups_of_systemds_are_seen",
    "trouble::a_clock_that_steps_hides_nothing",
];
const LIMIT: &str = "15m";
/// The machine's last line, followed by the tests' exit code.
const END: &str = "machine ends with code ";

/// The machine's init: it makes cgroups on request, as on most nodes.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// Everything that systemd starts; services of the host are left out.
const UNITS: [(&str, &str); 2] = [
    (
        "imageswap.target",
        "[Unit]\nDefaultDependencies=no\nRequires=imageswap.service\n",
    ),
    (
        "imageswap.service",
        "[Unit]\nDefaultDependencies=no\n\
         [Service]\nType=oneshot\nTimeoutStartSec=infinity\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
         StandardError=inherit\n\
         ExecStart=/bin/sh -c '/run/tests; echo \"ENDS$?\"; exec /bin/busybox poweroff -f'\n",
    ),
];

/// Mounts the shared root under an overlay and hands over to systemd, which starts the tests. Their
/// files go below `/run`, because `/tmp` may hold the workspace.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /host /memory /root
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module"; done < /modules/order
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host
$b mount -t tmpfs -o size=2g memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/hostLOWER,upperdir=/memory/upper,workdir=/memory/work root /root
for place in proc sys dev; do $b mount --move "/$place" "/root/$place"; done
$b mkdir -p /root/dev/shm /root/dev/pts
$b mount -t devpts pts /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t tmpfs -o size=2g run /root/run
$b mkdir /root/run/tmp
for shared in SHARED; do $b mkdir -p "/root$shared"; $b mount --bind "/host$shared" "/root$shared"; done
$b mount -t cgroup2 cgroup /root/sys/fs/cgroup
$b ln -sf /proc/self/fd /root/dev/fd
$b ip link set lo up
$b cp /tests /root/run/tests
$b mkdir -p /root/run/systemd/system
$b cp /units/* /root/run/systemd/system/
$b chroot /root /bin/busybox rm -f /.dockerenv
exec $b switch_root /root SYSTEMD --unit=imageswap.target --show-status=no --log-level=err
"#;

/// Checks that the machine can be started here, and as root installs what is missing. The error
/// says what to do.
pub(crate) fn ready() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the virtual machine is made for x86-64 alone"
    );
    ensure!(
        is_root(),
        "the virtual machine shares this machine's root file system: needs root"
    );
    ensure!(
        missing().is_empty(),
        "the tests in it need containerd, runc and busybox-static"
    );
    if find(QEMU).is_none() {
        toolchain::install(&["qemu-system-x86"], "a virtual machine")?;
    }
    if !Path::new(SYSTEMD).exists() {
        toolchain::install(&["systemd"], "a virtual machine")?;
    }
    Ok(())
}

/// What to boot.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) kernel: Kernel,
    /// The root file system; `None` means this machine's.
    pub(crate) root: Option<PathBuf>,
    pub(crate) tests: Vec<&'static str>,
    /// Further environment variables of the tests, in shell syntax.
    pub(crate) variables: String,
}

/// Boots this machine's root file system with Debian's kernel, runs the agent's node tests in it, and counts them.
pub(crate) fn run(workspace: &Workspace, count: &mut Count) -> Result<()> {
    let guest = Guest {
        kernel: Kernel::find_or_download()?,
        root: None,
        tests: TESTS.to_vec(),
        variables: String::new(),
    };
    run_guest(workspace, &guest, &node_tests(workspace)?, count)
}

/// Boots `guest`, runs its tests of the program `tests`, and counts them.
pub(crate) fn run_guest(
    workspace: &Workspace,
    guest: &Guest,
    tests: &Path,
    count: &mut Count,
) -> Result<()> {
    let kernel = &guest.kernel;
    let dir = tempfile::tempdir().context("a folder for the machine")?;
    let initramfs = dir.path().join("initramfs");
    let agent = image::quick_programs(workspace)?.join("imageswap-agent");
    let script = script(workspace, guest, tests, &agent);
    let archive = kernel.initramfs(&script, &init(workspace, guest))?;
    fs::write(&initramfs, archive).with_context(|| initramfs.display().to_string())?;
    ui::step(format_args!(
        "booting {} in software emulation",
        kernel.version
    ));
    let code = boot(&kernel.image, &initramfs, count)?;
    // A renamed test must not be left out unnoticed.
    ensure!(
        count.ran() == guest.tests.len(),
        "{} tests ran in the machine, not {}",
        count.ran(),
        guest.tests.len()
    );
    ensure!(
        code == 0 || code == 101,
        "the tests in the machine ended with code {code}"
    );
    Ok(())
}

/// The init of `guest`. A root file system other than this machine's gets the workspace and its
/// build folder mounted.
fn init(workspace: &Workspace, guest: &Guest) -> String {
    let (lower, shared) = match &guest.root {
        Some(root) => (
            root.display().to_string(),
            format!(
                "'{}' '{}'",
                workspace.root.display(),
                workspace.target.display()
            ),
        ),
        None => Default::default(),
    };
    INIT.replace("SYSTEMD", SYSTEMD)
        .replace("LOWER", &lower)
        .replace("SHARED", &shared)
}

/// Debian's kernel, unpacked and not installed.
#[derive(Debug)]
pub(crate) struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    fn find_or_download() -> Result<Self> {
        let cache = cache("vm")?;
        let package = match kernel_package() {
            Ok(package) => package,
            Err(error) => return Self::kept(&cache).ok_or(error),
        };
        let folder = cache.join(&package);
        if !folder.is_dir() {
            ui::step(format_args!(
                "downloading {package} (not installed, kept in {})",
                cache.display()
            ));
            let download = tempfile::tempdir_in(&cache).context("a folder for the download")?;
            output(
                Command::new("apt-get")
                    .args(["download", "-q", &package])
                    .current_dir(download.path()),
            )
            .with_context(|| format!("cannot download {package}; try: apt-get update"))?;
            let file = fs::read_dir(download.path())?
                .flatten()
                .next()
                .context("apt-get download left no file")?;
            let unpacked = download.path().join("unpacked");
            unpack(&file.path(), &unpacked)?;
            fs::rename(&unpacked, &folder).with_context(|| folder.display().to_string())?;
        }
        Self::in_folder(&folder)
    }

    /// A kernel left by an earlier run.
    fn kept(cache: &Path) -> Option<Self> {
        let mut folders = fs::read_dir(cache)
            .ok()?
            .flatten()
            .map(|entry| entry.path());
        folders.find_map(|folder| Self::in_folder(&folder).ok())
    }

    /// The kernel unpacked into `folder`; releases of Debian differ in where they put image and
    /// modules.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        for modules in ["lib/modules", "usr/lib/modules"] {
            for entry in fs::read_dir(folder.join(modules))
                .into_iter()
                .flatten()
                .flatten()
            {
                let version = entry.file_name().to_string_lossy().into_owned();
                let images = [
                    folder.join(format!("boot/vmlinuz-{version}")),
                    entry.path().join("vmlinuz"),
                ];
                if let Some(image) = images.into_iter().find(|image| image.is_file()) {
                    return Ok(Self {
                        version,
                        image,
                        modules: entry.path().join("kernel"),
                    });
                }
            }
        }
        bail!("{}: no kernel with its modules", folder.display())
    }

    /// The file that boots.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// The kernel's release, such as `6.12.43+deb13-amd64`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    fn initramfs(&self, tests: &str, init: &str) -> Result<Vec<u8>> {
        let modules = modules(&self.modules, &MODULES)?;
        let mut archive = Archive::default();
        archive.dir("bin");
        archive.file("bin/busybox", &fs::read(BUSYBOX).context(BUSYBOX)?);
        archive.file("init", init.as_bytes());
        archive.dir("units");
        for (name, unit) in UNITS {
            archive.file(
                &format!("units/{name}"),
                unit.replace("ENDS", END).as_bytes(),
            );
        }
        archive.file("tests", tests.as_bytes());
        archive.dir("modules");
        let order: String = modules
            .iter()
            .flat_map(|(name, _)| [name.as_str(), "\n"])
            .collect();
        archive.file("modules/order", order.as_bytes());
        for (name, content) in &modules {
            archive.file(&format!("modules/{name}"), content);
        }
        Ok(archive.finish())
    }
}

/// The package that `linux-image-amd64` depends on.
fn kernel_package() -> Result<String> {
    const META: &str = "linux-image-amd64";
    let depends = output(Command::new("apt-cache").args(["depends", META]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let version =
        package.with_context(|| format!("apt-cache knows no {META}; try: apt-get update"))?;
    Ok(format!("linux-image-{version}"))
}

/// Builds the tests of the agent that need a node, and returns their program.
pub(crate) fn node_tests(workspace: &Workspace) -> Result<PathBuf> {
    let built = programs::build(workspace, &["--test", "node"])?;
    let mut built = built.into_iter();
    let node = built.find(|it| it.name == programs::NODE);
    Ok(node.context("cargo test --no-run named no program")?.path)
}

/// The shell script that runs in the machine.
///
/// The agent is `agent`, because an unoptimized one takes minutes for what others do in seconds in
/// an emulated machine.
fn script(workspace: &Workspace, guest: &Guest, tests: &Path, agent: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export HOME=/root TMPDIR=/run/tmp IMAGESWAP_NO_SKIP=1 RUST_BACKTRACE=0 {}\n\
         cd '{}' || exit 2\n\
         uname -sr\n\
         mount --bind '{}' '{}' || exit 2\n\
         exec '{}' --exact {} --include-ignored --test-threads=1 --show-output --color=never\n",
        guest.variables,
        workspace.root.join("imageswap-agent").display(),
        agent.display(),
        workspace.target.join("debug/imageswap-agent").display(),
        tests.display(),
        guest.tests.join(" ")
    )
}

/// Boots the machine and reads its console until it ends; returns the tests' exit code.
fn boot(kernel: &Path, initramfs: &Path, count: &mut Count) -> Result<i32> {
    // In the foreground, so that Ctrl-C reaches the machine too.
    let mut qemu = Command::new("timeout")
        .args(["--foreground", "--kill-after=10s", LIMIT, QEMU])
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-m",
            "4096",
            "-smp",
            "2",
        ])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .args([
            "-fsdev",
            "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        ])
        .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {QEMU}"))?;
    let console = qemu.stdout.take().context("qemu has no output")?;
    let mut end = None;
    let read = count.read(console, |line| {
        let code = line.strip_prefix(END).and_then(|code| code.parse().ok());
        end = code.or(end);
        code.is_none()
    });
    let status = qemu.wait().context(QEMU)?;
    read?;
    end.with_context(|| format!("the machine ended without an answer of the tests ({status})"))
}
