//! Where ImageSwap's answers end and sound ones begin: ports, hosts without a dot, images under a target.

use super::*;
use crate::testing::TODAY;

#[test]
fn a_key_with_a_port_goes_before_one_without() {
    let policy = load(
        "maps",
        "default::d.io\nh.io::a.io\nh.io:443::b.io\na.io::\nb.io::\n",
    )
    .unwrap()
    .policy;
    for (image, result) in [
        ("h.io:443/x", "b.io/x"),
        ("h.io:5000/x", "a.io:5000/x"),
        ("h.io/x", "a.io/x"),
    ] {
        assert_eq!(
            policy.select(Scope::Node, TODAY).decide(image).result,
            result
        );
    }
}

/// What ImageSwap would move to a place that is no reference, or not the one that was meant, stays under its target;
/// what it would move soundly moves.
#[test]
fn images_under_a_target_move_only_where_imageswap_moves_them_soundly() {
    let two = "default::d.io\nx.io::m.io\ny.io::localhost:5000/foo\nz.io::m.io:443\n";
    for (maps, image, result) in [
        (two, "m.io/a", "d.io/a"),
        (two, "localhost:5000/foo/a", "localhost:5000/foo/a"),
        (two, "m.io/a/m.io-b", "m.io/a/m.io-b"),
        (two, "m.io/a/m-io", "m.io/a/m-io"),
        (two, "m.io:443/a/b", "d.io/a/b"),
        // Where the next step goes wrong.
        ("default::d.io/\nx.io::m.io\n", "m.io/a", "m.io/a"),
        (
            "default::d.io\nnoswap_wildcards::,\nx.io::m.io\n",
            "m.io/a",
            "m.io/a",
        ),
        (
            "default::d.io\nquay.io/library::q.io\nx.io::quay.io\n",
            "quay.io/a",
            "quay.io/a",
        ),
        (
            "default::r.io/m-\nnoswap_wildcards::r.io\nx.io::m.io\n",
            "m.io/a",
            "m.io/a",
        ),
        (
            "default::\nx.io::m.io\nz.io::m.io:443\nm.io::n.io/p-\n",
            "m.io:443/a",
            "n.io/p-m.io/a",
        ),
        (
            "default::\nx.io::m.io\nz.io::m.io:443\nm.io::n.io/p-\n",
            "m.io:443/a/b",
            "m.io:443/a/b",
        ),
        (
            "default::\nz.io::m.io:443\nm.io::n.io/p\n",
            "m.io:443/a",
            "m.io:443/a",
        ),
        (
            "default::\nz.io::m.io:443\nm.io::n.io\n",
            "m.io:443/a",
            "n.io:443/a",
        ),
        // A host without a dot rests where ImageSwap leaves alone what it takes for a path.
        ("default::localhost/q\nx.io::m.io\n", "m.io/a", "m.io/a"),
        (
            "default::localhost/q\nx.io::m.io\ndocker.io::\n",
            "m.io/a",
            "localhost/q/a",
        ),
        (
            "default::\nx.io::m.io\nm.io::localhost\n",
            "m.io/a",
            "localhost/a",
        ),
    ] {
        let policy = load("maps", maps).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, true),
            "{image} under\n{maps}"
        );
        assert_eq!(
            policy.select(Scope::Node, TODAY).decide(result).result,
            result,
            "{image} under\n{maps}"
        );
    }
}

#[test]
fn keys_without_a_dot_apply_where_imageswap_has_no_sound_answer() {
    for (maps, result, approved) in [
        (
            "default::d.io\nreg:5000::m.io/p\nm.io::\n",
            "m.io/p/a",
            true,
        ),
        (
            "default::\nreg:5000::m.io/p\ndocker.io::h.io\n",
            "m.io/p/a",
            true,
        ),
        ("default::\nreg:5000::m.io/p\n", "reg:5000/a", false),
        ("default::\nreg:5000::\n", "reg:5000/a", true),
    ] {
        let policy = load("maps", maps).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide("reg:5000/a");
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, approved),
            "{maps}"
        );
    }
}

#[test]
fn an_old_port_goes_with_a_host_and_never_with_a_path() {
    for (value, result) in [
        ("n.io", "n.io:443/a"),
        ("n.io/p", "n.io/p/a"),
        ("n.io:5000", "n.io:5000/a"),
        ("n.io/", "n.io:443/a"),
        ("n.io/m-", "n.io/m-h.io/a"),
        ("jms", "jms:443/a"),
    ] {
        let policy = load("maps", &format!("default::\nh.io::{value}\n"))
            .unwrap()
            .policy;
        let decision = policy.select(Scope::Node, TODAY).decide("h.io:443/a");
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, true),
            "{value}"
        );
        assert_eq!(
            policy.select(Scope::Node, TODAY).decide(result).result,
            result
        );
    }
}
