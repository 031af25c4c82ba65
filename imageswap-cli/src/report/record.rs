//! A line of the agents' findings.

use crate::finding::Finding;
use crate::moment::Moment;
use serde::Deserialize;

/// The schema that this program reads.
const SCHEMA: &str = "imageswap.io/finding/v1";

/// The beginning of the schema's name in every version.
const ANY_SCHEMA: &str = "imageswap.io/finding/";

/// Texts that lines of an agent's log do not contain, to recognize parts of findings.
const MARKS: [&str; 4] = [
    ANY_SCHEMA,
    "\"set_revision\":",
    "\"detect_us\":",
    "\"start_id\":",
];

/// A line that was understood.
#[derive(Debug, Clone)]
pub(super) enum Record {
    /// About a container.
    Finding(Box<Finding>),
    /// Of an agent about itself.
    Agent(AgentRecord),
}

/// The meaning of a line.
#[derive(Debug)]
pub(super) enum Text {
    Record(Box<Record>),
    Empty,
    /// Not written by an agent as a finding, such as a line of its log.
    Foreign,
    /// A finding, or a part of one, that cannot be used; says why.
    Damaged(&'static str),
}

/// What a report needs of an agent's record about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct AgentRecord {
    pub(super) event: AgentEvent,
    pub(super) time: Moment,
    pub(super) node: String,
    pub(super) boot_id: String,
    pub(super) policies: PolicySet,
    pub(super) previous_set_revision: Option<String>,
    pub(super) resumed: Option<bool>,
    pub(super) interval: u64,
    pub(super) lost: Option<Lost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AgentEvent {
    AgentStarted,
    AgentWatching,
    PolicyChanged,
    EventsLost,
    AgentStopped,
    /// Of a later version of the agent; shows that it watches.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PolicySet {
    pub(super) set_revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Lost {
    pub(super) cause: String,
    pub(super) events: u64,
}

/// The fields that say what the rest is.
#[derive(Deserialize)]
struct Head {
    schema: String,
    #[serde(default)]
    kind: Option<String>,
}

/// Reads a line. A log collector's prefix before the finding is skipped.
pub(super) fn read(line: &[u8]) -> Text {
    let Ok(line) = str::from_utf8(line) else {
        let line = String::from_utf8_lossy(line);
        return unread(&line, "the finding is not UTF-8");
    };
    let line = line.trim();
    if line.is_empty() {
        return Text::Empty;
    }
    let text = match line.find("{\"schema\"") {
        Some(at) if !line.starts_with('{') => &line[at..],
        _ => line,
    };
    let Ok(head) = serde_json::from_str::<Head>(text) else {
        return unread(line, "a part of a finding is missing");
    };
    if head.schema != SCHEMA {
        return unread(
            line,
            "the finding has a schema that this version does not know",
        );
    }
    match head.kind.as_deref() {
        // Earlier agents wrote no kind.
        None | Some("container") => match serde_json::from_str(text) {
            Ok(finding) => Text::Record(Box::new(Record::Finding(Box::new(finding)))),
            Err(_) => Text::Damaged("the finding lacks a field, or a field has an unknown value"),
        },
        Some("agent") => match serde_json::from_str(text) {
            Ok(record) => Text::Record(Box::new(Record::Agent(record))),
            Err(_) => Text::Damaged("the agent's record lacks a field"),
        },
        Some(_) => Text::Damaged("the record has a kind that this version does not know"),
    }
}

fn unread(line: &str, why: &'static str) -> Text {
    if line.trim().is_empty() {
        Text::Empty
    } else if MARKS.iter().any(|mark| line.contains(mark)) {
        Text::Damaged(why)
    } else {
        Text::Foreign
    }
}

/// A finding for tests.
#[cfg(test)]
pub(super) fn sample(event: &str) -> String {
    r#"{"schema":"imageswap.io/finding/v1","kind":"container","start_id":"b/1","event":"EVENT",
"time":"2026-11-28T10:00:00.000000Z","started":null,"node":"n1","verdict":"drift","route":"pod",
"reason":"webhook-skipped","rule":"maps:1 default","policy":{"name":"maps","revision":"r",
"set_revision":"r"},"image":"evil.example.net/miner:1","names":[],
"expected_image":"registry.corp/miner:1","digest":null,"provenance":null,"confidence":"high",
"container":{"id":"c1","name":"app","kind":"container"},"pod":null,"runtime":"cri",
"runtime_namespace":null,"process":{"pid":7,"comm":"sh"},"cgroup":"/x","detect_us":null}"#
        .replace('\n', "")
        .replace("EVENT", event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let good = sample("start");
        let agent = r#"{"schema":"imageswap.io/finding/v1","kind":"agent","event":"agent-started",
            "time":"2026-11-28T10:00:00Z","node":"n1","boot_id":"b","policies":{"set_revision":"r"},
            "resumed":false,"interval":300}"#
            .replace('\n', "");
        #[rustfmt::skip]
        let table = [
            ("a finding", good.clone(), "Finding"),
            ("of an earlier agent", good.replacen("\"kind\":\"container\",", "", 1), "Finding"),
            ("a prefix", format!("2026-11-28T10:00:00Z stdout F {good}"), "Finding"),
            ("an agent's", agent.clone(), "Agent"),
            ("a later agent's", agent.replace("agent-started", "agent-rested"), "Agent"),
            ("a log line", "2026-11-28 INFO probes attached node=n1".to_owned(), "Foreign"),
            ("other JSON", "{\"level\":\"info\"}".to_owned(), "Foreign"),
            ("cut off at once", good[..20].to_owned(), "Foreign"),
            ("cut off", good[..80].to_owned(), "Damaged"),
            ("cut off later", good[..good.len() - 3].to_owned(), "Damaged"),
            ("without its beginning", good[80..].to_owned(), "Damaged"),
            ("a later schema", good.replace("finding/v1", "finding/v2"), "Damaged"),
            ("another kind", agent.replace("\"agent\"", "\"node\""), "Damaged"),
            ("another verdict", good.replace("drift", "maybe"), "Damaged"),
            ("another time", good.replace("2026-11-28T", "2026-11-28 at "), "Damaged"),
            ("nothing", "  ".to_owned(), "Empty"),
        ];
        for (what, line, expected) in table {
            let read = read(line.as_bytes());
            let found = match &read {
                Text::Record(record) => match **record {
                    Record::Finding(_) => "Finding",
                    Record::Agent(_) => "Agent",
                },
                Text::Empty => "Empty",
                Text::Foreign => "Foreign",
                Text::Damaged(_) => "Damaged",
            };
            assert_eq!(found, expected, "{what}: {read:?}");
        }
    }
}
