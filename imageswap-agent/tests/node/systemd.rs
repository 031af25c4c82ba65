//! Cgroups made by systemd, as on most nodes: `SystemdCgroup = true`, `cgroupDriver: systemd`.

use crate::harness::{DRIFT, EVIL, Node, OURS, pod_spec};
use imageswap_lab::require;

#[test]
#[ignore = "needs systemd as init, which the virtual machine has"]
fn pods_and_containers_in_cgroups_of_systemds_are_seen() {
    let node = require!(Node::with_systemd("systemd"));
    node.images("default");
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let pods = [
        (
            cri.run(&pod_spec("good", OURS)).unwrap(),
            ["approved", "pod", "ok"],
        ),
        (
            cri.run(&pod_spec("bad", EVIL)).unwrap(),
            ["drift", "pod", "webhook-skipped"],
        ),
    ];
    for (pod, expected) in &pods {
        agent.expect(&pod.sandbox_id, "start", ["exempt", "pod", "sandbox"]);
        let finding = agent.expect(&pod.container_id, "start", *expected);
        let uid = pod.uid.replace('-', "_");
        let scope = format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice/cri-containerd-{}.scope",
            pod.container_id
        );
        assert_eq!(finding["cgroup"], scope, "{finding:#}");
        assert_eq!(finding["pod"]["uid"], pod.uid, "{finding:#}");
    }

    let flags = [
        "--runc-systemd-cgroup",
        "--cgroup",
        "system.slice:ctr:by-hand",
    ];
    let sleep = ["sleep", "1000"];
    node.containerd
        .run_as(&flags, "default", EVIL, "by-hand", &sleep)
        .unwrap();
    let finding = agent.expect("by-hand", "start", DRIFT);
    assert_eq!(finding["cgroup"], "/system.slice/ctr-by-hand.scope");

    for (pod, _) in &pods {
        cri.remove(pod).unwrap();
        agent.wait_for(&pod.container_id, "stopped");
    }
    node.remove("by-hand");
    agent.wait_for("by-hand", "stopped");
}
