//! Runs the command: its output and exit codes.

use crate::folder::{Folder, MAPS, imageswap, policy};
use imageswap_lab::Ran;
use serde_json::json;
use std::process::Command;

mod cases;

const POLICY: &str = r#"
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  message: "Registry is not allowed"
  rules:
  - {name: internal, keep: "*.corp.example.com/**"}
  - {name: hub, from: "docker.io/**", to: registry.example.com/hub}
  approved: ["registry.example.com/**"]
  exceptions: [{pattern: "ghcr.io/acme/debug", until: 2027-01-31, reason: INC-1}]
"#;

/// The two policies of these tests: `maps.conf` and `policy.yaml`.
fn folder() -> Folder {
    Folder::new(&[("maps.conf", MAPS), ("policy.yaml", POLICY)])
}

#[test]
fn the_environment_names_the_policy_of_commands_that_are_given_none() {
    let folder = folder();
    for (variable, flags, code, said) in [
        ("maps.conf", "", 0, "registry.example.com/nginx"),
        (
            "policy.yaml",
            "",
            0,
            "registry.example.com/hub/library/nginx",
        ),
        (
            "policy.yaml",
            "--maps=maps.conf",
            0,
            "registry.example.com/nginx",
        ),
        ("", "", 2, "or set IMAGESWAP_POLICY to a file or folder"),
        ("/nowhere.yaml", "", 2, "IMAGESWAP_POLICY"),
    ] {
        let mut command = imageswap(folder.path());
        command.env("IMAGESWAP_POLICY", variable);
        let args = ["explain", "nginx"]
            .into_iter()
            .chain(flags.split_terminator(' '));
        let ran = Ran::of(command.args(args), "").unwrap();
        ran.exits(code);
        let text = if code == 0 { ran.out() } else { ran.err() };
        assert!(text.contains(said), "{ran:?}");
    }
}

#[test]
fn the_version_is_a_command_and_a_flag() {
    let folder = Folder::new(&[]);
    let version = concat!("imageswap ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(folder.run("version").out(), version);
    assert_eq!(folder.run("--version").out(), version);
}

#[test]
fn an_agent_needs_no_scheme() {
    // Nothing listens on port 1.
    for (agent, said) in [
        ("127.0.0.1:1", "127.0.0.1:1 did not answer"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1 did not answer"),
        ("ftp://127.0.0.1:1", "write http://HOST:PORT"),
    ] {
        let ran = Folder::new(&[]).run(&format!("drift --agent {agent}"));
        ran.exits(2).says(said);
    }
}

#[test]
fn a_policy_and_its_set_have_two_revisions() {
    let corp = policy("corp", "{approved: [r.io/**]}");
    let lab = policy(
        "lab",
        "{priority: 10, match: {namespaces: [lab]}, approved: ['**']}",
    );
    let both = format!("{corp}---\n{lab}");
    let folder = Folder::new(&[("corp.yaml", &corp), ("both.yaml", &both)]);
    let explain = |args: &str| {
        folder
            .run(&format!("explain r.io/a -o json --policy {args}"))
            .json()
    };
    let one = explain("corp.yaml --namespace shop");
    let shop = explain("both.yaml --namespace shop");
    let lab = explain("both.yaml --namespace lab");
    assert_eq!(one["revision"], shop["revision"]);
    assert_ne!(one["set_revision"], shop["set_revision"]);
    assert_ne!(shop["revision"], lab["revision"]);
    assert_eq!(shop["set_revision"], lab["set_revision"]);
    let ran = folder.run("explain --policy both.yaml --namespace lab r.io/a");
    let text = |key: &str| lab[key].as_str().unwrap();
    let end = format!(
        "policy lab (deny), revision {}\nset of 2 policies, set revision {}\n",
        text("revision"),
        text("set_revision")
    );
    assert!(ran.out().ends_with(&end), "{ran:?}");
}

#[test]
fn explain_answers_programs_with_one_object_a_line() {
    let ran = folder().run("explain --maps maps.conf -o json nginx:1.25 my.example.com/a Nginx");
    assert_eq!((ran.code(), ran.err()), (Some(0), ""));
    let answers = ran.json_lines();
    let revision = answers[0]["revision"].as_str().unwrap();
    let is_hex = revision.chars().all(|it| it.is_ascii_hexdigit());
    assert!(revision.len() == 12 && is_hex, "{revision}");
    let (swapped, gitlab) = ("registry.example.com/nginx:1.25", "maps:3 gitlab.com");
    let (default, noswap) = ("maps:1 default", "maps:4 noswap_wildcards example.com");
    let expected = [
        json!({"image": "nginx:1.25", "result": swapped, "swapped": true, "approved": true,
            "rule": default, "reason": "swapped", "tried": [gitlab, noswap],
            "steps": [{"rule": default, "to": swapped}]}),
        json!({"image": "my.example.com/a", "result": "my.example.com/a", "swapped": false,
            "approved": false, "rule": noswap, "reason": "kept", "tried": [gitlab], "steps": []}),
        json!({"image": "Nginx", "result": "Nginx", "swapped": false, "approved": false,
            "rule": null, "reason": "unparsable", "tried": [], "steps": []}),
    ];
    let of_all = json!({"enforcement": "audit", "policy": "maps", "revision": revision, "set_revision": revision});
    let expected = expected.map(|mut it| {
        it.as_object_mut()
            .unwrap()
            .extend(of_all.as_object().unwrap().clone());
        it
    });
    assert_eq!(answers, expected);
}

#[test]
fn explain_answers_people_in_80_columns() {
    let folder = folder();
    let table = folder.run("explain --maps maps.conf nginx gitlab.com/a");
    let lines: Vec<_> = table.out().lines().collect();
    assert!(
        lines[0].starts_with("IMAGE") && lines[1].contains("registry.example.com/nginx"),
        "{table:?}"
    );
    assert!(
        lines[2].ends_with("registry.example.com/gitlab/a  yes       maps:3 gitlab.com"),
        "{table:?}"
    );
    let blocks = folder.run("explain --maps maps.conf nginx my.example.com/a");
    let text = [table.out(), blocks.out()].concat();
    assert!(
        text.contains("my.example.com/a\n  result    my.example.com/a\n  approved  no\n"),
        "{text}"
    );
    assert!(
        text.lines()
            .all(|it| it.chars().count() <= 80 && !it.contains('\u{1b}')),
        "{text}"
    );
    assert!(
        blocks
            .last_line()
            .starts_with("policy maps (audit), revision "),
        "{text}"
    );
}

#[test]
fn labels_take_images_out_of_scope() {
    let folder = folder();
    for (labels, reason) in [
        ("--namespace-labels k8s.twr.io/imageswap=enabled", "swapped"),
        ("--namespace-labels ", "out-of-scope"),
        ("--labels a=b,k8s.twr.io/imageswap=disabled", "out-of-scope"),
        ("--namespace prod", "swapped"),
    ] {
        let ran = folder.run(&format!("explain --maps maps.conf -o json nginx {labels}"));
        assert_eq!(ran.json()["reason"], reason, "{labels}");
    }
    let ran = folder.run("explain --maps maps.conf --labels oops nginx");
    ran.exits(2).says("expected `key=value`, found `oops`");
}

#[test]
fn the_legacy_prefix_is_a_policy() {
    let answer = folder()
        .run("explain --image-prefix r.io -o json quay.io/a/b:1")
        .json();
    assert_eq!(
        [&answer["result"], &answer["policy"]],
        ["r.io/b:1", "image-prefix"]
    );
}

#[test]
fn what_does_not_load_is_said_with_its_place() {
    let folder = folder();
    folder.write(
        "bad.conf",
        "default::d.io\ngitlab.com registry.example.com\n",
    );
    folder.write("binary.conf", [0xff, 0xfe]);
    for (words, messages) in [
        (
            "explain --maps bad.conf nginx",
            &[
                "error[no-separator]: expected `key::value`",
                "--> bad.conf:2:1\n",
                "^^^^",
                "does not load",
            ][..],
        ),
        ("explain nginx", &["--maps"]),
        (
            "explain --maps maps.conf --image-prefix a nginx",
            &["cannot be used with"],
        ),
        (
            "explain --maps /does/not/exist nginx",
            &["cannot read /does/not/exist"],
        ),
        ("test /does/not/exist", &["cannot read /does/not/exist"]),
        (
            "explain --image-prefix https://a.io nginx",
            &["error[unusable-value]"],
        ),
        ("nonsense", &["unrecognized subcommand"]),
        ("explain --maps binary.conf nginx", &["binary.conf:1:1: "]),
    ] {
        let ran = folder.run(words);
        assert_eq!(ran.code(), Some(2), "{words}");
        // `test` counts its cases.
        assert!(
            ran.out().is_empty() || words.starts_with("test "),
            "{ran:?}"
        );
        for message in messages {
            assert!(
                ran.err().contains(message),
                "{words}: {message}\n{}",
                ran.err()
            );
        }
    }
}

#[test]
fn it_runs_as_a_plugin_of_kubectl() {
    let folder = Folder::new(&[]);
    let plugin = folder.at("kubectl-imageswap");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imageswap"), &plugin).unwrap();
    let ran = Ran::of(Command::new(&plugin).args(["explain", "--help"]), "").unwrap();
    ran.prints("Usage: kubectl imageswap explain");
}

#[test]
fn explain_says_what_was_tried_and_what_the_author_says() {
    let folder = folder();
    for (words, parts) in [
        (
            "quay.io/a",
            &[
                "approved  no",
                "tried     internal, hub",
                "message   Registry is not allowed",
                "policy corp (deny)",
            ][..],
        ),
        (
            "nginx",
            &["result    registry.example.com/hub/library/nginx"],
        ),
        ("ghcr.io/acme/debug:1 --date 2027-01-31", &["approved  yes"]),
        ("ghcr.io/acme/debug:1 --date 2027-02-01", &["approved  no"]),
        ("nginx --namespace kube-system", &["no policy applies"]),
    ] {
        let ran = folder.run(&format!("explain --policy policy.yaml {words}"));
        for part in parts {
            assert!(ran.out().contains(part), "{words}: {part}\n{ran:?}");
        }
    }
}

#[test]
fn images_come_from_standard_input() {
    let ran = folder().run_with(
        "explain --policy policy.yaml -o json -",
        "# images\n\nnginx\n  quay.io/a\n",
    );
    let images: Vec<_> = ran
        .json_lines()
        .iter()
        .map(|it| it["image"].clone())
        .collect();
    assert_eq!(images, ["nginx", "quay.io/a"]);
}

#[test]
fn diff_tells_what_a_change_changes() {
    let folder = folder();
    folder.write("old.conf", "default::registry.example.com/hub\n");
    folder.write("images.txt", "registry.example.com/hub/a\nquay.io/a\n");
    let ran = folder.run("diff old.conf policy.yaml -f images.txt");
    let expected = "quay.io/a\n- registry.example.com/hub/a (approved, rule maps:1 default)\n\
                    + quay.io/a (not approved)\n1 of 2 images change\n";
    assert_eq!((ran.code(), ran.out()), (Some(1), expected));
    let ran = folder.run("diff policy.yaml policy.yaml -f images.txt -o json");
    assert_eq!((ran.code(), ran.out()), (Some(0), ""));
}
