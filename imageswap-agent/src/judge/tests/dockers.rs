//! Judgements about Docker's containers.

use super::*;
use crate::claim::ContentSource;

const CGROUP: &str = "/docker/5aaf9eb7648eeb1459d86eaa0ace8bcfa93089642e5c3113a14250dae3238aaf";

fn docker(typed: &str, names: &[&str], repositories: &[&str]) -> Claim {
    let source = |name: &&str| {
        let (host, repository) = name.split_once('/').unwrap();
        ContentSource {
            host: host.to_owned(),
            repository: repository.to_owned(),
            has_port: true,
        }
    };
    Claim {
        image: Some(typed.to_owned()),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        kind: Some(Kind::Container),
        pulled_from: Some(repositories.iter().map(source).collect()),
        ..Claim::new(Source::Docker, "x", "docker")
    }
}

fn of_layers(claim: Claim) -> Claim {
    Claim {
        only_layers: true,
        ..claim
    }
}

#[test]
fn what_was_typed_counts_where_it_can_be_the_image() {
    let ours = "registry.example.com/app";
    let miner = "evil.example.net/miner";
    let other = "registry.example.com/other:1";
    #[rustfmt::skip]
    let table = [
        ("as it was pulled",        docker(OURS, &[OURS], &[ours]),                      ["approved", "ok"]),
        ("of nowhere",              docker(OURS, &[OURS], &[]),                          ["approved", "side-loaded"]),
        ("tagged anew",             docker(OURS, &[OURS, EVIL], &[miner]),               ["drift", "retagged"]),
        ("the tag moved on",        docker(OURS, &[], &[ours]),                          ["approved", "ok"]),
        ("tagged for a moment",     docker(OURS, &[EVIL], &[]),                          ["drift", "not-admitted"]),
        ("the same, two names",     docker(OURS, &[EVIL, other], &[]),                   ["unresolved", "ambiguous"]),
        ("layers from elsewhere",   of_layers(docker(OURS, &[OURS], &[miner])),          ["drift", "retagged"]),
        ("built on approved",       of_layers(docker(OURS, &[OURS], &[ours])),           ["approved", "side-loaded"]),
        ("layers name no image",    of_layers(docker(OURS, &[EVIL], &[ours])),           ["drift", "not-admitted"]),
    ];
    for (what, claim, expected) in table {
        let judgement = judged(CGROUP, [claim]);
        let [verdict, route, reason] = words(&judgement);
        assert_eq!([verdict, reason], expected, "{what}");
        assert_eq!(route, "docker", "{what}");
        assert!(
            is_legal(judgement.verdict, judgement.route, judgement.reason),
            "{what}"
        );
    }
}

#[test]
fn the_route_is_dockers_unless_a_cri_goes_through_it() {
    let record = Claim::new(Source::Containerd, "x", "docker");
    let claim = docker(OURS, &[OURS], &["registry.example.com/app"]);
    let id = CGROUP.rsplit('/').next().unwrap();
    for cgroup in [CGROUP, POD, &format!("/builds/{id}")] {
        let alone = judged(cgroup, [claim.clone()]);
        assert_eq!(alone.route.as_str(), "docker", "{cgroup}");
        let both = judged(cgroup, [record.clone(), claim.clone()]);
        assert_eq!(both.route.as_str(), "docker", "{cgroup}");
    }
    let by_cri = judged(POD, [cri(&[OURS]), record, claim]);
    assert_eq!(words(&by_cri), ["approved", "pod", "ok"]);
    // runc's state, in Docker's folder, is the only remaining evidence.
    let state = Claim::new(Source::Runc, id, "docker");
    let left = judged(&format!("/builds/{id}"), [state]);
    assert_eq!(words(&left), ["unresolved", "docker", "not-admitted"]);
}
