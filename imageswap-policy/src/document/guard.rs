//! Names of namespaces and containers, as `match` and guards list them.

use crate::guard::{Guard, Names};
use crate::yaml::places::{Messages, Step};

/// The longest name of a namespace or container.
const MAX_LENGTH: usize = 63;
/// The most names in one list; for more, use a selector.
const MAX_NAMES: usize = 1000;

/// Compiles the guard of the item at `path`; mistakes become messages.
pub(super) fn guard(
    path: &[Step<'_>],
    namespaces: Option<&Vec<String>>,
    containers: Option<&Vec<String>>,
    messages: &mut Messages<'_>,
) -> Guard {
    let mut one =
        |key, list: Option<&Vec<String>>| list.map(|list| names(path, key, list, messages));
    Guard {
        namespaces: one("namespaces", namespaces),
        containers: one("containers", containers),
    }
}

/// Compiles the list `key` at `path`; one name in it has to match.
pub(super) fn names(
    path: &[Step<'_>],
    key: &str,
    list: &[String],
    messages: &mut Messages<'_>,
) -> Names {
    let here: Vec<_> = path.iter().copied().chain([Step::Key(key)]).collect();
    if list.is_empty() {
        let message = format!("expected a name, found an empty list: `{key}` would match nothing");
        messages.error(&here, "field", message).help = Some(format!(
            "leave `{key}` out to mean all of them, or name them"
        ));
    }
    if list.len() > MAX_NAMES {
        let message = format!("expected at most {MAX_NAMES} names, found {}", list.len());
        messages.error(&here, "field", message);
    }
    for (at, name) in list.iter().enumerate() {
        let Err(help) = check(name, key) else {
            continue;
        };
        let at: Vec<_> = here.iter().copied().chain([Step::Index(at)]).collect();
        let message =
            format!("expected a name of lower-case letters, digits, `-` and `*`, found `{name}`");
        messages.error(&at, "name", message).help = help;
    }
    Names::new(list.iter().map(String::as_str))
}

/// Whether a name can match the pattern; the error is what to write instead.
fn check(name: &str, key: &str) -> Result<(), Option<String>> {
    if is_possible(name) {
        return Ok(());
    }
    let lower = name.to_lowercase();
    Err(match name.strip_prefix('!') {
        Some(rest) if key == "namespaces" => Some(format!(
            "there is no negation here; `match.excludeNamespaces: [{rest}]` leaves it out"
        )),
        Some(_) => Some("there is no negation: name those that are meant".to_owned()),
        None if name.contains(['?', '[']) => {
            Some("only `*` is a wildcard: write one name for each case".to_owned())
        }
        None if is_possible(&lower) => Some(format!("write `{lower}`")),
        None => None,
    })
}

fn is_possible(name: &str) -> bool {
    let plain =
        |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'*');
    let edge = |it: Option<u8>| it.is_some_and(|it| it != b'-');
    let short = name.contains('*') || name.len() <= MAX_LENGTH;
    short && name.bytes().all(plain) && edge(name.bytes().next()) && edge(name.bytes().next_back())
}
