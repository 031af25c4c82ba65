use std::fs;
use std::path::Path;

use super::{RuncState, RuncStates};
use crate::evidence::EvidenceError;

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn finds_runc_by_any_of_its_hierarchies() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/runc/web/state.json",
        r#"{"id":"web","init_process_pid":42,"config":{"labels":["a=b","bundle=/srv/web"],"cgroups":null},
            "cgroup_paths":{"":"/sys/fs/cgroup/unified/made/by/hand","memory":"/sys/fs/cgroup/memory/outer/made/by/hand"}}"#,
    );
    let states = RuncStates::new(host.path());
    let expected = RuncState {
        id: "web".to_owned(),
        root: host.path().join("run/runc"),
        bundle: Some(host.path().join("srv/web")),
        init_pid: Some(42),
        cgroup_paths: vec!["/made/by/hand".to_owned(), "/outer/made/by/hand".to_owned()],
    };
    for path in [
        "/made/by/hand",
        "4:memory:/outer/made/by/hand",
        "0::/made/by/hand (deleted)",
    ] {
        assert_eq!(
            states.of_cgroup(path).unwrap().as_ref(),
            Some(&expected),
            "{path}"
        );
    }
    for path in ["/", "/made/by", "/made/by/hand/below", "/hand"] {
        assert_eq!(states.of_cgroup(path).unwrap(), None, "{path}");
    }
}

#[test]
fn finds_crun_and_containerds_namespaces() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/crun/job/status",
        r#"{"pid":7,"cgroup-path":"/job","bundle":"/srv/job","scope":""}"#,
    );
    write(
        host.path(),
        "run/containerd/runc/default/web/state.json",
        r#"{"init_process_pid":0,"cgroup_paths":{"":"/sys/fs/cgroup/default/web"},"config":null}"#,
    );
    let states = RuncStates::new(host.path());
    let job = states.of_cgroup("/job").unwrap().unwrap();
    assert_eq!(
        (job.init_pid, job.bundle.clone()),
        (Some(7), Some(host.path().join("srv/job")))
    );
    let web = states.of_cgroup("/default/web").unwrap().unwrap();
    assert_eq!((web.init_pid, web.bundle.clone()), (None, None));
    assert_eq!(web.root, host.path().join("run/containerd/runc/default"));
    let (listed, unread) = states.list();
    assert_eq!(listed, [job, web]);
    assert!(unread.is_none(), "{unread:?}");
}

#[test]
fn a_broken_file_hides_nothing_and_is_not_hidden() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/runc/broken/state.json",
        "{\n  \"cgroup_paths\": 1}",
    );
    write(host.path(), "run/runc/halfway/lock", "");
    write(
        host.path(),
        "run/runc/whole/state.json",
        r#"{"cgroup_paths":{"":"/sys/fs/cgroup/elsewhere"}}"#,
    );
    let states = RuncStates::new(host.path());
    assert_eq!(states.of_cgroup("/elsewhere").unwrap().unwrap().id, "whole");
    let (listed, unread) = states.list();
    assert_eq!(
        listed
            .iter()
            .map(|state| state.id.as_str())
            .collect::<Vec<_>>(),
        ["whole"]
    );
    assert!(
        matches!(unread, Some(EvidenceError::Malformed { .. })),
        "{unread:?}"
    );
    let error = states.of_cgroup("/nobody").unwrap_err();
    let EvidenceError::Malformed { path, message } = error else {
        panic!("{error}")
    };
    assert!(
        path.ends_with("run/runc/broken/state.json"),
        "{}",
        path.display()
    );
    assert!(message.contains("line 2"), "{message}");
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    let host = tempfile::tempdir().unwrap();
    assert_eq!(RuncStates::new(host.path()).of_cgroup("/x").unwrap(), None);
}

#[test]
fn a_file_that_has_changed_is_read_again() {
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("run/runc/web/state.json");
    let says = |pid: u32, seconds: u64| {
        let text =
            format!(r#"{{"init_process_pid":{pid},"cgroup_paths":{{"":"/sys/fs/cgroup/web"}}}}"#);
        write(host.path(), "run/runc/web/state.json", &text);
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_modified(time))
            .unwrap();
    };
    let states = RuncStates::new(host.path());
    let pid = || states.of_cgroup("/web").unwrap().and_then(|it| it.init_pid);
    // Each time as long as before.
    for (told, seconds) in [(11, 60), (12, 50), (13, 0), (14, 0)] {
        says(told, seconds);
        assert_eq!(pid(), Some(told));
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(pid(), None);
}
