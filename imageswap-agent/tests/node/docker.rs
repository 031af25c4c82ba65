//! Docker's containers: the requested name, and the actual image.

use crate::harness::{Agent, EVIL, Node, OURS, PATIENCE};
use imageswap_lab::{Cgroup, Docker, Image, Process, require, unpack_root, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A name that the policy approves.
const ALIAS: &str = "registry.example.com/team/alias:2";

fn docker_of(node: &Node) -> Docker {
    let docker = Docker::start(&node.lab, &node.containerd, &node.mirrors()).unwrap();
    docker.pull(OURS).unwrap();
    docker.pull(EVIL).unwrap();
    docker
}

/// A walk finds a container without a pid namespace by any of its processes.
#[test]
fn a_container_put_beside_one_that_a_walk_found_is_a_start_of_its_own() {
    let node = require!(Node::for_test("beside", false));
    let docker = docker_of(&node);
    let id = docker.run(&["--pid=host"], OURS).unwrap();
    let agent = Agent::start(&node.lab, Agent::command(&node.lab, None));
    // No runtime says which of its processes is the first.
    let first = agent.wait_for(&id, "initial");
    let path = first["cgroup"].as_str().unwrap();
    let cgroup = Cgroup::make(&node.lab, path).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--mount", "--fork", "--kill-child", "--"]);
    unshare.args(["sleep", "1000"]);
    let stranger = Process::start(&node.lab, "beside", cgroup.with_process(&unshare)).unwrap();
    let others = || {
        let said = agent.said().into_iter();
        let said = said.filter(|it| it["cgroup"] == path && it["start_id"] != first["start_id"]);
        said.collect::<Vec<_>>()
    };
    assert!(
        wait_until(PATIENCE, || !others().is_empty()),
        "{}",
        agent.log()
    );
    let other = &others()[0];
    assert_eq!(other["event"], "start", "{other:#}");
    assert_eq!(other["verdict"], "unresolved", "{other:#}");
    assert_eq!(agent.said_of(&id).len(), 1, "{:#?}", agent.said());
    drop(stranger);
    docker.docker(["rm", "--force", &id]).unwrap();
}

/// A parent for cgroups of containers, which systemd makes if Docker leaves cgroups to it.
fn parent_of(node: &Node, docker: &Docker) -> (String, Option<Cgroup>) {
    let name = format!("isw-{}", std::process::id());
    let driver = docker.docker(["info", "--format={{.CgroupDriver}}"]);
    if driver.unwrap() == "systemd" {
        return (format!("{name}.slice"), None);
    }
    let parent = format!("/{name}");
    let cgroup = Cgroup::make(&node.lab, &parent).unwrap();
    (parent, Some(cgroup))
}

#[test]
fn docker_is_known_by_its_records() {
    let node = require!(Node::for_test("docker", false));
    let docker = docker_of(&node);
    let (parent, _parent) = parent_of(&node, &docker);
    let agent = node.agent();
    let id = docker.run(&[], OURS).unwrap();
    let good = agent.expect(&id, "start", ["approved", "docker", "ok"]);
    assert_eq!(good["image"], OURS);
    assert_eq!(good["names"][0], json!({"name": OURS, "source": "docker"}));
    assert_eq!(
        (&good["confidence"], &good["provenance"]),
        (&"high".into(), &"pulled".into())
    );
    assert_eq!(good["digest"], Image::sleeper("ours").unwrap().digest());
    assert_eq!(
        (&good["runtime"], &good["runtime_namespace"]),
        (&"docker".into(), &"moby".into())
    );

    let id = docker.run(&[], EVIL).unwrap();
    let bad = agent.expect(&id, "start", ["drift", "docker", "not-admitted"]);
    assert_eq!(bad["image"], EVIL);
    assert_eq!(bad["expected_image"], "registry.example.com/miner:latest");
    docker.docker(["rm", "--force", &id]).unwrap();
    agent.wait_for(&id, "stopped");

    // Wherever its cgroup is.
    let id = docker.run(&["--cgroup-parent", &parent], EVIL).unwrap();
    agent.expect(&id, "start", ["drift", "docker", "not-admitted"]);

    // By a prefix of its id, which looks like a name on Docker Hub.
    let image = docker
        .docker(["inspect", "--format={{.Id}}", OURS])
        .unwrap();
    let short = &image["sha256:".len()..][..12];
    let id = docker.run(&[], short).unwrap();
    let finding = agent.expect(&id, "start", ["approved", "docker", "ok"]);
    assert_eq!(
        (&finding["image"], &finding["confidence"]),
        (&OURS.into(), &"medium".into())
    );
}

#[test]
fn what_docker_only_tagged_anew_drifts() {
    let node = require!(Node::for_test("docker-tag", false));
    let docker = docker_of(&node);
    docker.docker(["tag", EVIL, ALIAS]).unwrap();
    let renamed = "registry.example.com/other/name:1";
    docker.docker(["tag", OURS, renamed]).unwrap();
    let agent = node.agent();
    let retagged = |id: &str| {
        let finding = agent.expect(id, "start", ["drift", "docker", "retagged"]);
        assert_eq!(finding["image"], ALIAS);
        assert_eq!(finding["expected_image"], "registry.example.com/miner");
        assert_eq!(finding["provenance"], "pulled");
    };
    retagged(&docker.run(&[], ALIAS).unwrap());
    let id = docker.run(&[], renamed).unwrap();
    agent.expect(&id, "start", ["approved", "docker", "ok"]);
    // When its own name and digest are gone, its layers still show the origin.
    docker.docker(["rmi", EVIL]).unwrap();
    retagged(&docker.run(&[], ALIAS).unwrap());
}

#[test]
fn what_docker_was_asked_for_has_to_fit_what_it_runs() {
    let node = require!(Node::for_test("docker-fit", false));
    let docker = docker_of(&node);
    let agent = node.agent();
    docker
        .make("registry.example.com/team/made:1", "made")
        .unwrap();
    let id = docker.run(&[], "registry.example.com/team/made:1").unwrap();
    let finding = agent.expect(&id, "start", ["approved", "docker", "side-loaded"]);
    assert_eq!(finding["provenance"], "imported");

    // A tag that moved: the container still runs its original image.
    let id = docker.create(OURS).unwrap();
    docker
        .docker(["tag", "registry.example.com/team/made:1", OURS])
        .unwrap();
    docker.docker(["start", &id]).unwrap();
    let finding = agent.expect(&id, "start", ["approved", "docker", "ok"]);
    assert_eq!(finding["digest"], Image::sleeper("ours").unwrap().digest());

    // A name that belonged to another image for a moment.
    docker.make("evil.example.net/made:1", "evil").unwrap();
    docker
        .docker(["tag", "evil.example.net/made:1", ALIAS])
        .unwrap();
    let id = docker.create(ALIAS).unwrap();
    docker.docker(["rmi", ALIAS]).unwrap();
    docker.docker(["start", &id]).unwrap();
    let finding = agent.expect(&id, "start", ["drift", "docker", "not-admitted"]);
    assert_eq!(finding["image"], "evil.example.net/made:1");

    // After an image was deleted, its records are gone.
    docker.make(ALIAS, "deleted").unwrap();
    let id = docker.create(ALIAS).unwrap();
    docker.docker(["rmi", "--force", ALIAS]).unwrap();
    docker.docker(["start", &id]).unwrap();
    let finding = agent.expect(&id, "start", ["unresolved", "docker", "not-admitted"]);
    assert_eq!(finding["image"], Value::Null);
}

#[test]
fn the_id_and_the_cgroup_of_dockers_container_approve_nothing() {
    let node = require!(Node::for_test("docker-forged", false));
    let docker = docker_of(&node);
    let id = docker.create(OURS).unwrap();
    let agent = node.agent();
    // In a folder that a container may write to, below Docker's own folder. dockerd sees the
    // container and takes it as its own.
    docker.docker(["volume", "create", "evil"]).unwrap();
    run_on(&node, &docker.data_root().join("volumes/evil/_data"), &id);
    let finding = agent.expect(&id, "start", ["unresolved", "docker", "not-admitted"]);
    assert_eq!(finding["image"], Value::Null);
    let running = || {
        docker
            .docker(["inspect", "--format={{.State.Running}}", &id])
            .unwrap()
    };
    assert!(wait_until(PATIENCE, || running() == "true"));
    let said = agent.said_of(&id);
    assert!(
        said.iter().all(|it| it["verdict"] == "unresolved"),
        "{said:#?}"
    );
}

/// Something else is mounted where Docker has the root file system of a container.
#[test]
fn a_mount_over_dockers_root_approves_nothing() {
    let node = require!(Node::for_test("docker-over", false));
    let docker = docker_of(&node);
    let id = docker.run(&[], OURS).unwrap();
    let format = "--format={{.GraphDriver.Name}} {{.GraphDriver.Data.MergedDir}}";
    let place = docker.docker(["inspect", format, &id]).unwrap();
    let Some(("overlay2", root)) = place.split_once(' ') else {
        panic!("the driver of Debian's Docker is overlay2: {place}");
    };
    let root = Path::new(root);
    docker.stop(&id).unwrap();
    let agent = node.agent();
    let evil = node.lab.path().join("evil");
    for folder in ["lower", "upper", "work"] {
        fs::create_dir_all(evil.join(folder)).unwrap();
    }
    unpack_root(&evil.join("lower")).unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|it| evil.join(it));
    let mount = format!(
        "mount -t overlay overlay {} -o lowerdir={},upperdir={},workdir={}",
        root.display(),
        lower.display(),
        upper.display(),
        work.display()
    );
    fs::create_dir_all(root).unwrap();
    let _mounted = Mounted::by(&mount, root);
    run_on(&node, root, &id);
    let finding = agent.expect(&id, "start", ["unresolved", "docker", "ambiguous"]);
    assert_eq!(finding["image"], OURS);
}

/// A mount that is undone at the end.
struct Mounted(PathBuf);

impl Mounted {
    /// Runs this command, which mounts something at `at`.
    fn by(command: &str, at: &Path) -> Self {
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        drop(umount.arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn without_a_socket_the_bundle_leads_to_dockers_record() {
    let node = require!(Node::for_test("docker-nosock", false));
    let docker = docker_of(&node);
    let nobody = node.containerd.state().join("nobody.sock");
    let agent = Agent::start(&node.lab, Agent::command(&node.lab, Some(nobody)));
    let id = docker.run(&[], OURS).unwrap();
    agent.expect(&id, "start", ["approved", "docker", "ok"]);
    let id = docker.run(&[], EVIL).unwrap();
    agent.expect(&id, "start", ["drift", "docker", "not-admitted"]);
}

/// Starts a container in Docker's namespace of containerd, without Docker.
fn run_on(node: &Node, root: &Path, id: &str) {
    fs::create_dir_all(root).unwrap();
    unpack_root(root).unwrap();
    let cgroup = format!("/docker/{id}");
    let flags = ["--rootfs", "--cgroup", &cgroup];
    let root = root.display().to_string();
    let sleep = ["/bin/sleep", "1000"];
    node.containerd
        .run_as(&flags, "moby", &root, id, &sleep)
        .unwrap();
}

/// Files of a dockerd that lets containerd keep the images, written by hand: Debian 12 has no such
/// dockerd.
struct Files(PathBuf);

impl Files {
    /// A process that looks like a dockerd with this data root; it ends with its input.
    fn daemon(&self) -> std::process::ChildStdin {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("sh");
        let script = "echo dockerd > /proc/$$/comm; read ended";
        command
            .arg0("dockerd")
            .args(["-c", script, "sh", "--data-root"]);
        command.arg(&self.0).stdin(std::process::Stdio::piped());
        command.spawn().unwrap().stdin.take().unwrap()
    }

    /// Makes the container of `docker run typed`, when that name had this digest; its root is a
    /// snapshot on the layers of `image`, with one of Docker's own in between.
    fn run(&self, node: &Node, number: u8, typed: &str, digest: &str, image: &str) -> Running {
        let id = format!("{:x}{number:x}", std::process::id()).repeat(64);
        let id = id[..64].to_owned();
        let ctr = |args: &[&str]| node.containerd.ctr("moby", args).unwrap();
        let layers = format!("layers-{number}");
        ctr(&["container", "create", image, &layers]);
        let below = crate::lost::parent(node, "moby", &layers);
        let (own, made) = (format!("{id}-init"), format!("{id}-making"));
        ctr(&["snapshots", "prepare", &made, &below]);
        ctr(&["snapshots", "commit", &own, &made]);
        ctr(&["snapshots", "prepare", &id, &own]);
        let root = self.0.join("rootfs/overlayfs").join(&id);
        fs::create_dir_all(&root).unwrap();
        let mount = ctr(&["snapshots", "mounts", &root.display().to_string(), &id]).stdout;
        let root = Mounted::by(&String::from_utf8(mount).unwrap(), &root);
        let folder = self.0.join("containers").join(&id);
        fs::create_dir_all(&folder).unwrap();
        let record = json!({
            "ID": id, "Image": digest, "Driver": "overlayfs", "Config": {"Image": typed},
        });
        fs::write(folder.join("config.v2.json"), record.to_string()).unwrap();
        run_on(node, &root.0, &id);
        Running { id, _root: root }
    }
}

/// A container on a root that was mounted for it.
struct Running {
    id: String,
    _root: Mounted,
}

#[test]
fn docker_on_containerds_images_is_known_by_both() {
    let node = require!(Node::for_test("docker-c8d", false));
    node.images("moby");
    node.containerd.tag("moby", EVIL, ALIAS).unwrap();
    let agent = node.agent();
    let files = Files(node.lab.path().join("docker"));
    let _daemon = files.daemon();
    let [ours, evil] = ["ours", "evil"].map(|salt| Image::sleeper(salt).unwrap().digest());
    for (number, typed, digest, image, expected) in [
        (1, OURS, &ours, OURS, ["approved", "docker", "ok"]),
        (2, EVIL, &evil, EVIL, ["drift", "docker", "not-admitted"]),
        (3, ALIAS, &evil, EVIL, ["drift", "docker", "retagged"]),
        // The tag moved. The earlier image has two names, one of them approved, and comes from elsewhere.
        (4, OURS, &evil, EVIL, ["drift", "docker", "retagged"]),
        (5, &ours[7..19], &ours, OURS, ["approved", "docker", "ok"]),
        // On the layers of another image.
        (6, OURS, &ours, EVIL, ["unresolved", "docker", "ambiguous"]),
    ] {
        let Running { id, .. } = &files.run(&node, number, typed, digest, image);
        let finding = agent.expect(id, "start", expected);
        assert_eq!(&finding["digest"], digest, "{finding:#}");
        node.containerd.remove("moby", id).unwrap();
        agent.wait_for(id, "stopped");
    }
}
