//! CRI-O: real containers in cgroups like CRI-O's, and answers recorded from its sources.

use crate::harness::{Agent, EVIL, Node, OURS, PATIENCE, words};
use imageswap_lab::{
    Bundle, Cgroup, CrioContainer, CrioSandbox, RecordedCrio, require, wait_until,
};
use serde_json::Value;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const SLEEP: [&str; 2] = ["sleep", "1000"];
const UID: &str = "4a163a05-439d-484b-8e53-2968bc15824f";
const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// A node with CRI-O's answers, and a containerd that does not know these containers.
struct Site {
    node: Node,
    crio: RecordedCrio,
    sandbox: String,
    _pod: Cgroup,
    parent: String,
}

impl Site {
    fn for_test(test: &str) -> Option<Self> {
        let node = Node::for_test(test, false)?;
        let crio = RecordedCrio::start(&node.lab).unwrap();
        let uid = UID.replace('-', "_");
        let parent = format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice/{test}.slice"
        );
        let pod = Cgroup::make(&node.lab, &parent).unwrap();
        let sandbox = id_of(test, "sandbox");
        Some(Self {
            node,
            crio,
            sandbox,
            _pod: pod,
            parent,
        })
    }

    fn agent(&self) -> Agent {
        let socket = self.node.containerd.socket();
        let (mut command, admin) = Agent::command(&self.node.lab, Some(socket));
        command.arg("--cri").arg(self.crio.socket());
        Agent::start(&self.node.lab, (command, admin))
    }

    fn sandbox(&self, infra: Option<(String, u32)>) -> CrioSandbox {
        CrioSandbox {
            id: self.sandbox.clone(),
            name: "web".to_owned(),
            namespace: "team-a".to_owned(),
            uid: UID.to_owned(),
            infra,
        }
    }

    fn scope(&self, id: &str) -> String {
        format!("{}/crio-{id}.scope", self.parent)
    }

    /// Creates a container, adds it to CRI-O's answers, and starts it.
    fn run(&self, id: &str, cgroup: &str, known: Option<CrioContainer>) -> Bundle {
        let bundle = Bundle::create_without(&self.node.lab, id, &SLEEP, cgroup, &[]).unwrap();
        if let Some(known) = known {
            self.crio.add_container(CrioContainer {
                id: id.to_owned(),
                sandbox: self.sandbox.clone(),
                name: "app".to_owned(),
                pid: if known.pid == 0 {
                    bundle.pid().unwrap().unwrap()
                } else {
                    known.pid
                },
                ..known
            });
        }
        bundle.begin().unwrap();
        bundle
    }
}

/// An id that is unique on this machine.
fn id_of(test: &str, what: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (test, what).hash(&mut hasher);
    format!("{:032x}{:032x}", std::process::id(), hasher.finish())
}

/// An image's id, its names with tags and its names with digests.
type Names<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

#[test]
fn crio_image_is_judged_by_all_its_names() {
    let site = require!(Site::for_test("crio"));
    site.crio.add_sandbox(site.sandbox(None));
    let agent = site.agent();
    let digest = format!("sha256:{:064x}", 7);
    let ours_by_digest = format!("registry.example.com/team/app@{digest}");
    let evil_by_digest = format!("evil.example.net/miner@{digest}");
    let approved = ["approved", "pod", "ok"];
    let drift = ["drift", "pod", "webhook-skipped"];
    let nameless = ["unresolved", "pod", "not-admitted"];
    #[rustfmt::skip]
    let rows: [(&str, Names<'_>, &str, &str, [&str; 3]); 6] = [
        ("ours", ("a1", &[OURS], &[&ours_by_digest]), OURS, &ours_by_digest, approved),
        ("evil", ("a2", &[EVIL], &[&evil_by_digest]), EVIL, &evil_by_digest, drift),
        // CRI-O pulls an image with tag and digest by its digest, and drops the tag.
        ("both", ("a3", &[], &[&ours_by_digest]), &ours_by_digest, &ours_by_digest, approved),
        ("two names", ("a4", &[OURS, EVIL], &[&ours_by_digest, &evil_by_digest]), OURS, &ours_by_digest,
            ["unresolved", "pod", "ambiguous"]),
        // The name at creation belongs to another image by now.
        ("untagged", ("a5", &[OURS], &[]), EVIL, &evil_by_digest, ["unresolved", "pod", "ambiguous"]),
        ("no name", ("a6", &[], &[]), "", "", nameless),
    ];
    let mut bundles = Vec::new();
    for (what, (image, tags, digests), some_name, repo_digest, expected) in rows {
        let image_id = format!("{image:0>64}");
        site.crio.add_image(&image_id, tags, digests);
        let id = id_of("crio", what);
        let known = CrioContainer {
            image_id,
            some_name: some_name.to_owned(),
            repo_digest: repo_digest.to_owned(),
            ..CrioContainer::default()
        };
        bundles.push(site.run(&id, &site.scope(&id), Some(known)));
        let finding = agent.wait_for(&id, "start");
        assert_eq!(words(&finding), expected, "{what}: {finding:#}");
        let pod = &finding["pod"];
        assert_eq!(
            (&pod["namespace"], &pod["name"], &pod["uid"]),
            (&"team-a".into(), &"web".into(), &UID.into()),
            "{what}"
        );
        assert_eq!(finding["container"]["name"], "app", "{what}");
        assert_eq!(finding["container"]["kind"], "container", "{what}");
        if what == "no name" {
            assert_eq!(finding["image"], Value::Null, "{finding:#}");
        }
    }
    // An agent that starts later reports the same.
    let later = site.agent();
    for (what, _, _, _, expected) in rows {
        let finding = later.wait_for(&id_of("crio", what), "initial");
        assert_eq!(words(&finding), expected, "{what}: {finding:#}");
    }
}

#[test]
fn crio_infra_container_is_a_sandbox_once_it_is_listed() {
    let site = require!(Site::for_test("infra"));
    let agent = site.agent();
    let id = site.sandbox.clone();
    // CRI-O starts it before it lists the sandbox.
    let bundle = site.run(&id, &site.scope(&id), None);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = bundle.pid().unwrap().unwrap();
    site.crio
        .add_sandbox(site.sandbox(Some((PAUSE.to_owned(), pid))));
    let finding = agent.expect(&id, "start", ["exempt", "pod", "sandbox"]);
    assert_eq!(finding["container"]["kind"], "sandbox");
    assert_eq!(agent.said_of(&id).len(), 1, "{:#?}", agent.said_of(&id));
}

#[test]
fn crio_record_of_another_process_approves_nothing() {
    let site = require!(Site::for_test("another"));
    site.crio.add_sandbox(site.sandbox(None));
    let image_id = format!("{:0>64}", "b1");
    site.crio.add_image(&image_id, &[OURS], &[]);
    let ours = CrioContainer {
        image_id,
        some_name: OURS.to_owned(),
        ..CrioContainer::default()
    };
    let agent = site.agent();
    let good = id_of("another", "good");
    let of_good = site.run(&good, &site.scope(&good), Some(ours.clone()));
    assert_eq!(agent.wait_for(&good, "start")["verdict"], "approved");

    // CRI-O's record of this id is about another process.
    let other = id_of("another", "other");
    let known = CrioContainer {
        pid: of_good.pid().unwrap().unwrap(),
        ..ours
    };
    let _other = site.run(&other, &site.scope(&other), Some(known));
    let finding = agent.expect(&other, "start", ["unresolved", "runc", "not-admitted"]);
    assert_eq!(finding["image"], Value::Null);

    // An unknown container in a cgroup with the name of an approved one's.
    let plain = id_of("another", "plain");
    let cgroup = format!("/system.slice/another.slice/crio-{good}.scope");
    let _above = Cgroup::make(&site.node.lab, "/system.slice/another.slice").unwrap();
    let _plain = site.run(&plain, &cgroup, None);
    let finding = agent.wait_for(&plain, "start");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    assert_eq!(finding["pod"], Value::Null, "{finding:#}");
    assert_eq!(agent.said_of(&good).len(), 1, "{:#?}", agent.said_of(&good));
}

#[test]
fn crio_containers_are_known_in_every_kind_of_cgroup() {
    let site = require!(Site::for_test("kinds"));
    site.crio.add_sandbox(site.sandbox(None));
    let image_id = format!("{:0>64}", "c1");
    site.crio.add_image(&image_id, &[EVIL], &[]);
    let agent = site.agent();
    let cgroupfs = format!("/kubepods/besteffort/podkinds-{}", std::process::id());
    let _pod = Cgroup::make(&site.node.lab, &cgroupfs).unwrap();
    let mut bundles = Vec::new();
    for (what, parent, end) in [
        ("cgroupfs", &cgroupfs, ""),
        ("systemd", &site.parent, ".scope"),
        // crun puts the processes one level below the scope.
        ("below", &site.parent, ".scope/container"),
    ] {
        let id = id_of("kinds", what);
        let known = CrioContainer {
            image_id: image_id.clone(),
            some_name: EVIL.to_owned(),
            ..CrioContainer::default()
        };
        let cgroup = format!("{parent}/crio-{id}{end}");
        bundles.push(site.run(&id, &cgroup, Some(known)));
        let finding = agent.wait_for(&id, "start");
        assert_eq!(
            words(&finding),
            ["drift", "pod", "webhook-skipped"],
            "{what}: {finding:#}"
        );
        bundles.pop();
        assert!(
            wait_until(PATIENCE, || agent.said_of(&id).len() == 2),
            "{what}: {:#?}",
            agent.said_of(&id)
        );
    }
}
