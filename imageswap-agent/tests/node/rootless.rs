//! Rootless podman: its user's own records may show drift and never approve.

use crate::harness::{EVIL, Node, OURS};
use imageswap_lab::{Image, Podman, require};

/// A user without a name and without further ids.
const UID: u32 = 20_417;

#[test]
fn rootless_podman_is_believed_only_against_itself() {
    let node = require!(Node::for_test("rootless", false));
    let podman = Podman::rootless(&node.lab, UID).unwrap();
    podman.load(&Image::sleeper("ours").unwrap(), OURS).unwrap();
    podman.load(&Image::sleeper("evil").unwrap(), EVIL).unwrap();
    let agent = node.agent();
    let rows = [
        (OURS, ["unresolved", "podman", "unverified"]),
        (EVIL, ["drift", "podman", "not-admitted"]),
    ];
    for (image, expected) in rows {
        let id = podman.run(image, &["sleep", "1000"]).unwrap();
        let finding = agent.expect(&id, "start", expected);
        assert_eq!(finding["image"], image);
        assert_eq!(finding["confidence"], "low");
        assert_eq!(finding["names"][0]["source"], "user", "{finding:#}");
    }

    // One image with both names: the approved one does not hide the other.
    podman
        .podman(["tag", EVIL, "registry.example.com/team/renamed:1"])
        .unwrap();
    let id = podman
        .run("registry.example.com/team/renamed:1", &["sleep", "1000"])
        .unwrap();
    agent.expect(&id, "start", ["unresolved", "podman", "ambiguous"]);
}
