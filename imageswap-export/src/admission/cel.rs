//! Small pieces of CEL.

use std::fmt::Write;

/// A text in quotes.
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::from("'");
    for char in text.chars() {
        match char {
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(char);
            }
            it if it.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(it)).expect("a String takes all text");
            }
            it => quoted.push(it),
        }
    }
    quoted.push('\'');
    quoted
}

/// A regular expression in quotes; it has neither quotes nor line breaks.
pub(super) fn regex(expression: &str) -> String {
    format!("r'{expression}'")
}

/// A list of texts.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(text).collect();
    format!("[{}]", texts.join(", "))
}

/// Conditions of which all have to hold.
pub(super) fn all(conditions: &[String]) -> String {
    match conditions {
        [] => "true".to_owned(),
        several => several.join(" && "),
    }
}

/// Conditions of which one has to hold; each may consist of several that have to hold together.
pub(super) fn any(conditions: &[String]) -> String {
    match conditions {
        [] => "false".to_owned(),
        several => several.join(" || "),
    }
}

/// A comment for people, in one line.
pub(super) fn comment(text: &str) -> String {
    format!("// {}", text.replace(char::is_control, " "))
}

/// Whether `subject` is one of the names, in which `*` matches any characters.
pub(super) fn named(subject: &str, names: &[&str]) -> String {
    if names.contains(&"*") {
        return "true".to_owned();
    }
    if names.iter().all(|it| !it.contains('*')) {
        return match names {
            [one] => format!("{subject} == {}", text(one)),
            several => format!("{subject} in {}", list(several.iter().copied())),
        };
    }
    let names: Vec<_> = names
        .iter()
        .map(|it| {
            let pieces: Vec<_> = it.split('*').map(regex_syntax::escape).collect();
            pieces.join(".*")
        })
        .collect();
    format!(
        "{subject}.matches({})",
        regex(&format!("^(?:{})$", names.join("|")))
    )
}

/// Indents every line but the first.
pub(super) fn indented(text: &str, indent: usize) -> String {
    text.replace('\n', &format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted() {
        assert_eq!(text(r"it's \ a"), r"'it\'s \\ a'");
        assert_eq!(text("a\nb"), r"'a\u000ab'");
        assert_eq!(list(["a", "b"]), "['a', 'b']");
        assert_eq!(comment("a\nb"), "// a b");
    }

    #[test]
    fn names_with_wildcards() {
        for (names, expected) in [
            (&["shop"][..], "n == 'shop'"),
            (&["shop", "bank"], "n in ['shop', 'bank']"),
            (&["shop", "team-*"], "n.matches(r'^(?:shop|team\\-.*)$')"),
            (&["shop", "*"], "true"),
        ] {
            assert_eq!(named("n", names), expected);
        }
    }
}
