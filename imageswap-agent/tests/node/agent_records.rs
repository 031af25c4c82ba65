//! What the agent reports about itself.

use crate::harness::{Agent, EVIL, MAPS, Node, PATIENCE};
use imageswap_lab::{require, wait_until};
use serde_json::Value;

/// Waits for a record of the agent about itself.
fn record(agent: &Agent, event: &str) -> Value {
    let find = || {
        let mut records = agent.said_of_itself().into_iter();
        records.find(|record| record["event"] == event)
    };
    let found = wait_until(PATIENCE, || find().is_some());
    assert!(
        found,
        "{event}: {:#?}\n{}",
        agent.said_of_itself(),
        agent.log()
    );
    find().unwrap()
}

#[test]
fn start_change_of_policy_and_stop_are_in_the_findings() {
    let node = require!(Node::with_images("agentrecords"));
    let (mut command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    command.args(["--findings-heartbeat", "1", "--findings-level", "drift"]);
    let agent = Agent::start(&node.lab, (command, admin));
    let started = record(&agent, "agent-started");
    assert_eq!(started["resumed"], false, "{started:#}");
    assert_eq!(started["interval"], 1, "{started:#}");
    assert_eq!(started["policies"]["names"][0], "maps", "{started:#}");
    let watching = record(&agent, "agent-watching");
    assert_eq!(watching["policies"], started["policies"]);

    node.run(EVIL, "mine");
    let finding = agent.wait_for("mine", "start");
    let [began, found] = ["started", "time"].map(|field| finding[field].as_str().unwrap());
    assert!(began < found, "{finding:#}");
    assert!(started["time"].as_str().unwrap() < began, "{finding:#}");
    let boot = started["boot_id"].as_str().unwrap();
    assert!(finding["start_id"].as_str().unwrap().starts_with(boot));

    std::fs::write(&agent.maps, format!("{MAPS}evil.example.net::\n")).unwrap();
    let changed = record(&agent, "policy-changed");
    assert_eq!(
        changed["previous_set_revision"],
        started["policies"]["set_revision"]
    );
    node.remove("mine");

    agent.signal("TERM");
    let stopped = record(&agent, "agent-stopped");
    assert_eq!(stopped["reason"], "signal", "{stopped:#}");
    assert_eq!(stopped["policies"], changed["policies"]);
}
