//! Runs the command: its output and exit codes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_lab::output_with;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "command/cases.rs"]
mod cases;

const MAPS: &str = "default:registry.example.com\n#gcr.io: # This is a comment\n\
                    gitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n";

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

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }
}

fn imageswap(args: &[&str]) -> Output {
    imageswap_with(args, "")
}

fn imageswap_with(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    output_with(command.args(args), input).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_environment_names_the_policy_of_commands_that_are_given_none() {
    let folder = Folder::new();
    let (maps, policy) = (folder.file("maps", MAPS), folder.file("p.yaml", POLICY));
    let explain = |variable: &str, flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
        command.args(["explain", "nginx"]).args(flags);
        command.env("IMAGESWAP_POLICY", variable).output().unwrap()
    };
    for (variable, flags, result) in [
        (maps.as_str(), &[][..], "registry.example.com/nginx"),
        (&policy, &[], "registry.example.com/hub/library/nginx"),
        (&policy, &["--maps", &maps], "registry.example.com/nginx"),
    ] {
        let output = explain(variable, flags);
        assert!(stdout(&output).contains(result), "{output:?}");
    }
    for (variable, said) in [
        ("", "or set IMAGESWAP_POLICY to a file or folder"),
        ("/nowhere.yaml", "IMAGESWAP_POLICY"),
    ] {
        let output = explain(variable, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{output:?}");
    }
}

#[test]
fn the_version_is_a_command_and_a_flag() {
    let said = stdout(&imageswap(&["version"]));
    assert_eq!(said, stdout(&imageswap(&["--version"])));
    assert!(said.starts_with("imageswap "), "{said}");
}

#[test]
fn an_agent_needs_no_scheme() {
    // Nothing listens on port 1.
    for (agent, said) in [
        ("127.0.0.1:1", "127.0.0.1:1 did not answer"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1 did not answer"),
        ("ftp://127.0.0.1:1", "write http://HOST:PORT"),
    ] {
        let output = imageswap(&["drift", "--agent", agent]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(said), "{output:?}");
    }
}

#[test]
fn a_policy_and_its_set_have_two_revisions() {
    let folder = Folder::new();
    let policy = |name: &str, spec: &str| {
        format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let corp = policy("corp", "{approved: [r.io/**]}");
    let lab = policy(
        "lab",
        "{priority: 10, match: {namespaces: [lab]}, approved: ['**']}",
    );
    let alone = folder.file("corp.yaml", &corp);
    let both = folder.file("both.yaml", format!("{corp}---\n{lab}"));
    let explain = |file: &str, namespace: &str| -> Value {
        let args = ["explain", "--policy", file, "--namespace", namespace];
        let output = imageswap(&[&args[..], &["-o", "json", "r.io/a"]].concat());
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let (one, shop, lab) = (
        explain(&alone, "shop"),
        explain(&both, "shop"),
        explain(&both, "lab"),
    );
    assert_eq!(one["revision"], shop["revision"]);
    assert_ne!(one["set_revision"], shop["set_revision"]);
    assert_ne!(shop["revision"], lab["revision"]);
    assert_eq!(shop["set_revision"], lab["set_revision"]);
    let output = imageswap(&["explain", "--policy", &both, "--namespace", "lab", "r.io/a"]);
    let (revision, set) = (&lab["revision"], &lab["set_revision"]);
    let end = format!(
        "policy lab (deny), revision {}\nset of 2 policies, set revision {}\n",
        revision.as_str().unwrap(),
        set.as_str().unwrap()
    );
    assert!(stdout(&output).ends_with(&end), "{}", stdout(&output));
}

#[test]
fn explain_answers_programs_with_one_object_a_line() {
    let folder = Folder::new();
    let maps = folder.file("maps.conf", MAPS);
    let output = imageswap(&[
        "explain",
        "--maps",
        &maps,
        "-o",
        "json",
        "nginx:1.25",
        "my.example.com/a",
        "Nginx",
    ]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
    let answers: Vec<Value> = stdout(&output)
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let revision = answers[0]["revision"].as_str().unwrap().to_owned();
    assert!(
        revision.len() == 12 && revision.chars().all(|it| it.is_ascii_hexdigit()),
        "{revision}"
    );
    let answer = |image: &str,
                  result: &str,
                  swapped: bool,
                  approved,
                  rule: Option<&str>,
                  reason| {
        let tried = match reason {
            "swapped" => vec!["maps:3 gitlab.com", "maps:4 noswap_wildcards example.com"],
            _ => Vec::new(),
        };
        let steps: Vec<_> = swapped
            .then(|| json!({"rule": rule, "to": result}))
            .into_iter()
            .collect();
        json!({
            "tried": tried, "steps": steps,
            "image": image, "result": result, "swapped": swapped, "approved": approved, "enforcement": "audit",
            "policy": "maps", "rule": rule, "reason": reason, "revision": revision,
            "set_revision": revision,
        })
    };
    let nginx = answer(
        "nginx:1.25",
        "registry.example.com/nginx:1.25",
        true,
        true,
        Some("maps:1 default"),
        "swapped",
    );
    let rule = Some("maps:4 noswap_wildcards example.com");
    let mut kept = answer(
        "my.example.com/a",
        "my.example.com/a",
        false,
        false,
        rule,
        "kept",
    );
    kept["tried"] = json!(["maps:3 gitlab.com"]);
    assert_eq!(
        answers,
        [
            nginx,
            kept,
            answer("Nginx", "Nginx", false, false, None, "unparsable")
        ]
    );
}

#[test]
fn explain_answers_people_in_80_columns() {
    let folder = Folder::new();
    let maps = folder.file("maps.conf", MAPS);
    let output = imageswap(&["explain", "--maps", &maps, "nginx", "gitlab.com/a"]);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("IMAGE") && lines[1].contains("registry.example.com/nginx"),
        "{text}"
    );
    assert!(
        lines[2].ends_with("registry.example.com/gitlab/a  yes       maps:3 gitlab.com"),
        "{text}"
    );
    let text = text
        + &stdout(&imageswap(&[
            "explain",
            "--maps",
            &maps,
            "nginx",
            "my.example.com/a",
        ]));
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
        text.lines()
            .last()
            .unwrap()
            .starts_with("policy maps (audit), revision "),
        "{text}"
    );
}

#[test]
fn labels_take_images_out_of_scope() {
    let folder = Folder::new();
    let maps = folder.file("maps.conf", MAPS);
    for (labels, reason) in [
        (
            ["--namespace-labels", "k8s.twr.io/imageswap=enabled"],
            "swapped",
        ),
        (["--namespace-labels", ""], "out-of-scope"),
        (
            ["--labels", "a=b,k8s.twr.io/imageswap=disabled"],
            "out-of-scope",
        ),
        (["--namespace", "prod"], "swapped"),
    ] {
        let output = imageswap(
            &[
                &["explain", "--maps", &maps, "-o", "json", "nginx"][..],
                &labels,
            ]
            .concat(),
        );
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(answer["reason"], reason, "{labels:?}");
    }
    let output = imageswap(&["explain", "--maps", &maps, "--labels", "oops", "nginx"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("expected `key=value`, found `oops`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_legacy_prefix_is_a_policy() {
    let output = imageswap(&[
        "explain",
        "--image-prefix",
        "r.io",
        "-o",
        "json",
        "quay.io/a/b:1",
    ]);
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&answer["result"], &answer["policy"]),
        (&json!("r.io/b:1"), &json!("image-prefix"))
    );
}

#[test]
fn what_does_not_load_is_said_with_its_place() {
    let folder = Folder::new();
    let maps = folder.file(
        "maps.conf",
        "default::d.io\ngitlab.com registry.example.com\n",
    );
    let output = imageswap(&["explain", "--maps", &maps, "nginx"]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(2), "")
    );
    let text = stderr(&output);
    for part in [
        "error[no-separator]: expected `key::value`",
        &format!("--> {maps}:2:1\n"),
        "^^^^",
        "does not load",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for (args, message) in [
        (vec!["explain", "nginx"], "--maps"),
        (
            vec!["explain", "--maps", &maps, "--image-prefix", "a", "nginx"],
            "cannot be used with",
        ),
        (
            vec!["explain", "--maps", "/does/not/exist", "nginx"],
            "cannot read /does/not/exist",
        ),
        (
            vec!["test", "/does/not/exist"],
            "cannot read /does/not/exist",
        ),
        (
            vec!["explain", "--image-prefix", "https://a.io", "nginx"],
            "error[unusable-value]",
        ),
        (vec!["nonsense"], "unrecognized subcommand"),
    ] {
        let output = imageswap(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(message),
            "{args:?}\n{}",
            stderr(&output)
        );
    }
    let binary = folder.file("binary.conf", [0xff, 0xfe]);
    let output = imageswap(&["explain", "--maps", &binary, "nginx"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("binary.conf:1:1: "));
}

fn last_line(output: &Output) -> String {
    stdout(output).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn it_runs_as_a_plugin_of_kubectl() {
    let folder = Folder::new();
    let plugin = folder.0.path().join("kubectl-imageswap");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imageswap"), &plugin).unwrap();
    let output = Command::new(&plugin)
        .args(["explain", "--help"])
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("Usage: kubectl imageswap explain"),
        "{}",
        stdout(&output)
    );
    let output = imageswap(&["--version"]);
    assert_eq!(
        stdout(&output),
        format!("imageswap {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn explain_says_what_was_tried_and_what_the_author_says() {
    let folder = Folder::new();
    let policy = folder.file("policy.yaml", POLICY);
    let ask = |args: &[&str]| {
        let all = [&["explain", "--policy", &policy][..], args].concat();
        stdout(&imageswap(&all))
    };
    let text = ask(&["quay.io/a"]);
    for part in [
        "approved  no",
        "tried     internal, hub",
        "message   Registry is not allowed",
        "policy corp (deny)",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(ask(&["nginx"]).contains("result    registry.example.com/hub/library/nginx"));
    let debug = "ghcr.io/acme/debug:1";
    assert!(ask(&[debug, "--date", "2027-01-31"]).contains("approved  yes"));
    assert!(ask(&[debug, "--date", "2027-02-01"]).contains("approved  no"));
    assert!(ask(&["nginx", "--namespace", "kube-system"]).contains("no policy applies"));
}

#[test]
fn images_come_from_standard_input() {
    let folder = Folder::new();
    let policy = folder.file("policy.yaml", POLICY);
    let args = ["explain", "--policy", &policy, "-o", "json", "-"];
    let output = imageswap_with(&args, "# images\n\nnginx\n  quay.io/a\n");
    let images: Vec<_> = stdout(&output)
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["image"].clone())
        .collect();
    assert_eq!(images, ["nginx", "quay.io/a"]);
}

#[test]
fn diff_tells_what_a_change_changes() {
    let folder = Folder::new();
    let old = folder.file("old.conf", "default::registry.example.com/hub\n");
    let new = folder.file("new.yaml", POLICY);
    let images = folder.file("images.txt", "registry.example.com/hub/a\nquay.io/a\n");
    let output = imageswap(&["diff", &old, &new, "-f", &images]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (
            Some(1),
            "quay.io/a\n- registry.example.com/hub/a (approved, rule maps:1 default)\n+ quay.io/a (not approved)\n1 of 2 images change\n"
        )
    );
    let output = imageswap(&["diff", &new, &new, "-f", &images, "-o", "json"]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "")
    );
}
