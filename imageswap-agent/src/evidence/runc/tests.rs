use std::fs;
use std::path::Path;

use super::{MOST_CONTAINERS, RuncState, RuncStates};
use crate::evidence::EvidenceError;
use crate::process::Subject;

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const fn process(pid: u32, started: u64) -> Subject {
    Subject {
        pid,
        started: Some(started),
    }
}

#[test]
fn a_process_finds_runcs_state_and_a_later_one_of_its_pid_does_not() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/runc/web/state.json",
        r#"{"id":"web","init_process_pid":42,"init_process_start":1000,
            "config":{"labels":["a=b","bundle=/srv/web"],"cgroups":null}}"#,
    );
    let states = RuncStates::new(host.path());
    let expected = RuncState {
        id: "web".to_owned(),
        root: host.path().join("run/runc"),
        bundle: Some(host.path().join("srv/web")),
        init: Some(process(42, 1000)),
    };
    assert_eq!(
        states.of_process(process(42, 1000), None).unwrap(),
        Some(expected)
    );
    let unknown = Subject {
        pid: 42,
        started: None,
    };
    for other in [process(42, 1001), process(43, 1000), unknown] {
        assert_eq!(states.of_process(other, None).unwrap(), None, "{other:?}");
    }
}

#[test]
fn an_annotation_is_not_taken_for_the_bundle() {
    let host = tempfile::tempdir().unwrap();
    let states = RuncStates::new(host.path());
    let long = format!("/{}", "x".repeat(3 << 20));
    for (pid, labels, expected) in [
        (1, ["bundle=/forged", "bundle=/srv/web"], Some("srv/web")),
        (
            2,
            [&*format!("bundle={long}"), "bundle=/srv/web"],
            Some("srv/web"),
        ),
        (3, ["bundle=/forged", &*format!("bundle={long}")], None),
        (4, ["bundle.x=/forged", "xbundle=/forged"], None),
    ] {
        let labels = serde_json::json!(labels);
        let text = format!(
            r#"{{"init_process_pid":{pid},"init_process_start":1,"config":{{"labels":{labels}}}}}"#
        );
        write(host.path(), &format!("run/runc/{pid}/state.json"), &text);
        let state = states.of_process(process(pid, 1), None).unwrap().unwrap();
        assert_eq!(
            state.bundle,
            expected.map(|path| host.path().join(path)),
            "{pid}"
        );
    }
    let bundle = "x".repeat(1 << 20);
    let text = format!(r#"{{"pid":5,"process-start-time":1,"bundle":"/{bundle}"}}"#);
    write(host.path(), "run/crun/5/status", &text);
    let state = states.of_process(process(5, 1), None).unwrap().unwrap();
    assert_eq!(state.bundle, None);
}

#[test]
fn the_state_of_a_container_is_kept_while_it_is_there() {
    let host = tempfile::tempdir().unwrap();
    let states = RuncStates::new(host.path());
    let file = host.path().join("run/runc/web/state.json");
    let text = r#"{"init_process_pid":3,"init_process_start":4}"#;
    write(host.path(), "run/runc/web/state.json", text);
    let settled = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_modified(settled))
        .unwrap();
    let is_kept = || states.kept(|kept| kept.get(file.parent().unwrap()).is_some());
    assert!(states.of_process(process(3, 4), None).unwrap().is_some() && is_kept());
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert!(states.of_process(process(3, 4), None).unwrap().is_none() && !is_kept());
}

#[test]
fn finds_crun_and_containerds_namespaces() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/crun/job/status",
        r#"{"pid":7,"process-start-time":5,"cgroup-path":"/job","bundle":"/srv/job","scope":""}"#,
    );
    write(
        host.path(),
        "run/containerd/runc/default/web/state.json",
        r#"{"init_process_pid":0,"init_process_start":0,"config":null}"#,
    );
    let states = RuncStates::new(host.path());
    let job = states.of_process(process(7, 5), None).unwrap().unwrap();
    assert_eq!(job.bundle, Some(host.path().join("srv/job")));
    let (listed, unread) = states.list();
    let web = listed.iter().find(|state| state.id == "web").unwrap();
    assert_eq!((web.init, web.bundle.clone()), (None, None));
    assert_eq!(web.root, host.path().join("run/containerd/runc/default"));
    assert_eq!(states.namespace_of(web).as_deref(), Some("default"));
    assert_eq!(states.namespace_of(&job), None);
    assert_eq!(listed.len(), 2);
    assert!(unread.is_none(), "{unread:?}");
}

#[test]
fn a_broken_file_hides_nothing_and_is_not_hidden() {
    let host = tempfile::tempdir().unwrap();
    write(
        host.path(),
        "run/runc/broken/state.json",
        "{\n  \"init_process_pid\": []}",
    );
    write(host.path(), "run/runc/halfway/lock", "");
    write(
        host.path(),
        "run/runc/whole/state.json",
        r#"{"init_process_pid":3,"init_process_start":4}"#,
    );
    let states = RuncStates::new(host.path());
    assert_eq!(
        states.of_process(process(3, 4), None).unwrap().unwrap().id,
        "whole"
    );
    let (listed, unread) = states.list();
    let ids: Vec<_> = listed.iter().map(|state| state.id.as_str()).collect();
    assert_eq!(ids, ["whole"]);
    let Some(EvidenceError::Malformed { path, message }) = unread else {
        panic!("{unread:?}")
    };
    assert!(
        path.ends_with("run/runc/broken/state.json"),
        "{}",
        path.display()
    );
    assert!(message.contains("line 2"), "{message}");
}

#[test]
fn a_list_that_is_cut_is_not_complete() {
    let host = tempfile::tempdir().unwrap();
    let file = "run/runc/web/state.json";
    let text = r#"{"init_process_pid":3,"init_process_start":4}"#;
    write(host.path(), file, text);
    for decoy in 1..MOST_CONTAINERS {
        fs::create_dir(host.path().join(format!("run/runc/{decoy}"))).unwrap();
    }
    let states = RuncStates::new(host.path());
    assert!(states.of_process(process(3, 4), None).unwrap().is_some());
    assert_eq!(states.of_process(process(5, 6), None).unwrap(), None);
    fs::create_dir(host.path().join("run/runc/one-more")).unwrap();
    let error = states.of_process(process(5, 6), None).unwrap_err();
    assert!(matches!(error, EvidenceError::TooMany { .. }), "{error}");
    assert!(states.list().1.is_some());
}

#[test]
fn a_likely_name_saves_reading_the_others_and_proves_nothing() {
    let host = tempfile::tempdir().unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    for (id, pid) in [("job", 3), ("web", 4)] {
        let file = format!("run/runc/{id}/state.json");
        let text = format!(r#"{{"init_process_pid":{pid},"init_process_start":1}}"#);
        write(host.path(), &file, &text);
        let file = fs::File::options().write(true).open(host.path().join(file));
        file.unwrap().set_modified(long_ago).unwrap();
    }
    let found = |pid, likely| {
        let states = RuncStates::new(host.path());
        let found = states.of_process(process(pid, 1), Some(likely)).unwrap();
        let kept = states.kept.lock().unwrap();
        let folder = |id: &str| host.path().join("run/runc").join(id);
        let is_kept = |id: &&str| kept.get(&folder(id)).is_some();
        let files = ["job", "web"].iter().filter(|id| is_kept(id)).count();
        (found.map(|state| state.id), files)
    };
    assert_eq!(found(3, "job"), (Some("job".to_owned()), 1));
    assert_eq!(found(4, "web"), (Some("web".to_owned()), 1));
    for likely in ["job", "none", "../runc/job", "/", ""] {
        assert_eq!(found(4, likely).0.as_deref(), Some("web"), "{likely}");
        assert_eq!(found(5, likely), (None, 2), "{likely}");
    }
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    let host = tempfile::tempdir().unwrap();
    assert_eq!(
        RuncStates::new(host.path())
            .of_process(process(1, 1), None)
            .unwrap(),
        None
    );
}

#[test]
fn a_file_that_has_changed_is_read_again() {
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("run/runc/web/state.json");
    let says = |pid: u32, seconds: u64| {
        let text = format!(r#"{{"init_process_pid":{pid},"init_process_start":1}}"#);
        write(host.path(), "run/runc/web/state.json", &text);
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_modified(time))
            .unwrap();
    };
    let states = RuncStates::new(host.path());
    let found = |pid| states.of_process(process(pid, 1), None).unwrap().is_some();
    // Each time as long as before.
    for (told, seconds) in [(11, 60), (12, 50), (13, 0), (14, 0)] {
        says(told, seconds);
        assert!(found(told) && !found(told - 1));
    }
    fs::remove_file(&file).unwrap();
    assert!(!found(14));
}
