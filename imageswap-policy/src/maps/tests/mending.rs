//! Corrections of ImageSwap's answers: ports, hosts without a dot, images under a target.

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

/// ImageSwap's answers here are not references, or would not stay; their replacements are and do.
#[test]
fn answers_that_cannot_be_are_mended() {
    for (maps, image, result) in [
        // A port, or a second name in its place, where a tag would begin.
        ("default::d.io\n", "localhost:5000/a/b", "d.io/a/b"),
        ("default::d.io\n", "[2001:db8::1]:5000/a", "d.io/a"),
        ("default::d.io\n", "REG/a", "d.io/a"),
        ("default::\nh.io::m.io/p\n", "h.io:443/a", "m.io/p/a"),
        (
            "default::\nh.io::m.io:5\n",
            "h.io/a/h.io/b",
            "m.io:5/a/h.io/b",
        ),
        ("default::d.io/m-\n", "q.io:5/a", "d.io/m-q.io/q.io/a"),
        // A slash too many.
        ("default::d.io/\n", "q.io/a", "d.io/a"),
        ("default::\nq.io::d.io/p//\n", "q.io/a", "d.io/p/a"),
        // A name in the middle of a path, which would leave the image outside of the target.
        (
            "default::\ndocker.io::d.io\n",
            "a/docker.io-b",
            "d.io/a/docker.io-b",
        ),
        // A `/library` key alone, for which ImageSwap fails.
        ("default::d.io\nq.io/library::l.io\n", "q.io/a", "d.io/a"),
        (
            "default::d.io\ndocker.io/library::l.io\n",
            "docker.io/nginx",
            "d.io/nginx",
        ),
    ] {
        let policy = load("maps", maps).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, true),
            "{image} under\n{maps}"
        );
    }
}

/// An answer that is a reference counts, however odd.
#[test]
fn mistakes_of_imageswap_that_give_references_are_kept() {
    for (maps, image, result, approved) in [
        ("default::d.io\n", "localhost/a", "d.io/localhost/a", true),
        (
            "default::\nq.io::d.io\n",
            "q.io/a/q-io",
            "d.io/a/d.io",
            true,
        ),
        (
            "default::d.io/m-\n",
            "q.io/a/b",
            "d.io/m-q.io/q.io/a/b",
            true,
        ),
        (
            "default::\nq.io::d.io/m-\n",
            "q.io:443/a/b",
            "d.io/m-q.io/b",
            true,
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,\n",
            "q.io/a",
            "q.io/a",
            false,
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,\n",
            "a.io/a",
            "a.io/a",
            true,
        ),
        (
            "default::d.io\nnoswap_wildcards::d.io\n",
            "team/docker.io-proxy",
            "team/d.io-proxy",
            false,
        ),
        (
            "default::d.io\nindex.docker.io::h.io\n",
            "nginx",
            "d.io/nginx",
            true,
        ),
    ] {
        let policy = load("maps", maps).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, approved),
            "{image} under\n{maps}"
        );
    }
}

/// The key for bare names is `docker.io/library`, which no bare name contains.
#[test]
fn library_key_replaces_nothing_within_a_name() {
    let policy = load("maps", "default::\ndocker.io/library::m.io\n")
        .unwrap()
        .policy;
    let decision = policy.select(Scope::Node, TODAY).decide("a-docker.io");
    assert_eq!(decision.result, "m.io/a-docker.io");
}

/// A pattern without a value would leave a bare name, which `default` would move: no answer stays.
#[test]
fn answer_that_would_not_stay_is_refused() {
    let policy = load("maps", "default::d.io\n[REPLACE]q.io/*::\n")
        .unwrap()
        .policy;
    let decision = policy.select(Scope::Node, TODAY).decide("q.io/a/b");
    assert_eq!(
        (decision.result.as_ref(), decision.approved, decision.reason),
        ("q.io/a/b", false, Reason::InvalidResult)
    );
}

#[test]
fn images_under_any_target_stay() {
    let text = "default::d.io/m\nx.io::a.io\na.io::b.io\nb.io::localhost:5000/foo\n[EXACT]e::q.io/e:1\n\
                [REPLACE]r*::r.io/r\nnoswap_wildcards::n.io\n";
    let policy = load("maps", text).unwrap().policy;
    for image in [
        "d.io/m/a",
        "a.io/x:1",
        "a.io:443/x",
        "b.io/x",
        "localhost:5000/foo/x",
        "q.io/e:1",
        "r.io/r/a/b",
    ] {
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved, decision.reason),
            (image, true, Reason::AlreadyTarget),
        );
    }
    for (image, result) in [
        // The path of a target is a repository outside of it, not below it.
        ("d.io/m", "d.io/m/m"),
        ("d.io/mx/a", "d.io/m/mx/a"),
        ("q.io/e:2", "d.io/m/e:2"),
    ] {
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (result, true)
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
