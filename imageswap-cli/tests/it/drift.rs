//! `imageswap drift` as a person runs it, with an agent's admin port.

use crate::folder::{Folder, imageswap};
use imageswap_lab::{ControlPlane, ControlPlaneOptions, free_address, require};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

fn finding(id: &str, reason: &str) -> Value {
    json!({"schema": "imageswap.io/finding/v1", "kind": "container", "start_id": format!("b/{id}"), "event": "start",
        "time": "2026-11-28T02:14:08.000000Z", "started": "2026-11-28T02:14:07.000000Z", "node": "n1",
        "verdict": "drift", "route": "pod", "reason": reason, "rule": "hub",
        "policy": {"name": "corp", "revision": "r", "set_revision": "r"}, "image": "docker.io/library/nginx:1",
        "names": [], "expected_image": "registry.example.com/nginx:1", "digest": null, "provenance": null,
        "confidence": "high", "container": {"id": id, "name": "app", "kind": "container"},
        "pod": {"namespace": "shop", "name": format!("web-{id}"), "uid": id, "owner": {"kind": "Deployment", "name": "web"}},
        "runtime": "cri", "runtime_namespace": null, "process": {"pid": 7, "comm": "nginx"}, "cgroup": "/x",
        "detect_us": 1})
}

/// An agent whose page has `findings`, for any number of requests.
pub(crate) fn agent(findings: &[Value]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lines: Vec<_> = findings.iter().map(|it| format!("{it}\n")).collect();
    let body = lines.concat();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = BufReader::new(&connection).lines();
            head.map_while(Result::ok).find(String::is_empty);
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            connection.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn workloads_are_shown_with_their_age_and_process() {
    let agent = agent(&[
        finding("1", "webhook-skipped"),
        finding("2", "webhook-skipped"),
        finding("3", "retagged"),
    ]);
    let folder = Folder::new(&[]);
    let ran = folder.run(&format!("drift --agent {agent}"));
    ran.exits(1);
    let text = ran.out();
    assert_eq!(text.matches("shop/Deployment web").count(), 1, "{text}");
    assert!(text.contains("app of web-1, web-2 on n1"), "{text}");
    assert!(
        text.contains("the first since 2026-11-28 02:14:07 UTC, "),
        "{text}"
    );
    assert!(text.contains("; process nginx"), "{text}");
    assert!(text.ends_with("3 drift; 1 agent answered\n"), "{text}");

    let ran = folder.run(&format!("drift --agent {agent} -o wide"));
    let rows = ran.out().lines().filter(|line| line.starts_with("shop  "));
    assert_eq!(rows.count(), 3, "{ran:?}");

    let answer = folder.run(&format!("drift --agent {agent} -o json")).json();
    assert_eq!(answer["findings"][0], finding("1", "webhook-skipped"));
}

#[test]
fn findings_that_have_no_room_are_counted() {
    let agent = agent(&[finding("1", "webhook-skipped"), json!({"left_out": 7})]);
    let folder = Folder::new(&[]);
    let ran = folder.run(&format!("drift --agent {agent}"));
    ran.exits(2);
    assert!(
        ran.out().ends_with("1 drift; 1 agent answered\n"),
        "{ran:?}"
    );
    let said = "error: the agents' answers leave out 7 findings; see their findings files\n";
    assert_eq!(ran.err(), said);
    let answer = folder.run(&format!("drift --agent {agent} -o json")).json();
    assert_eq!(answer["left_out"], 7);
}

#[test]
fn watch_asks_again_until_it_is_stopped() {
    let agent = agent(&[finding("1", "webhook-skipped")]);
    let folder = Folder::new(&[]);
    let mut command = imageswap(folder.path());
    command.args(["drift", "--agent", &agent, "--watch", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ends = lines
        .map_while(Result::ok)
        .filter(|line| line == "1 drift; 1 agent answered");
    assert!(ends.next().is_some() && ends.next().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_closed_port_is_reported_once_with_what_to_check() {
    let address = free_address(Ipv4Addr::LOCALHOST).unwrap();
    let ran = Folder::new(&[]).run(&format!("drift --agent {address}"));
    ran.exits(2);
    let (error, note) = ran.err().split_once('\n').unwrap();
    assert_eq!(
        error,
        format!("error: {address} did not answer: connection refused: nothing listens there")
    );
    assert!(note.starts_with("note: check host and port: "), "{note}");
}

#[test]
fn an_agent_that_the_api_server_cannot_reach_is_explained() {
    let options = ControlPlaneOptions::default();
    let cluster = require!(ControlPlane::for_test(
        "an_agent_cannot_be_reached",
        options
    ));
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "agent", "labels": {"app.kubernetes.io/name": "imageswap-agent"}},
        "spec": {"containers": [{"name": "agent", "image": "a"}]}});
    cluster.apply(&pod.to_string()).unwrap();
    let kubeconfig = cluster.kubeconfig().display();
    let ran = Folder::new(&[]).run(&format!("drift --kubeconfig {kubeconfig}"));
    ran.exits(2);
    let said = ran.err();
    assert!(said.contains("agent on no node did not answer: "), "{said}");
    assert!(said.contains("networkPolicy.adminFrom"), "{said}");
    // The API server's sentence alone, not the object around it.
    assert!(!said.contains("Status {"), "{said}");
}
