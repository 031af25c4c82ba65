//! Counts idioms in comments and documents that a reader has to read twice.

use std::fmt;
use std::ops::Range;

/// A phrase, and the neighbours with which it is plain English after all.
struct Idiom {
    /// The words in a row; `|` separates alternatives for one word.
    phrase: &'static str,
    /// Words before the phrase that make it plain.
    after: &'static [&'static str],
    /// Words behind the phrase that make it plain.
    before: &'static [&'static str],
}

const fn idiom(phrase: &'static str) -> Idiom {
    Idiom {
        phrase,
        after: &[],
        before: &[],
    }
}

const COMPARED: &[&str] = &[
    "longer", "more", "less", "later", "larger", "deeper", "wider", "better", "newer", "older",
];
const COUNTED: &[&str] = &[
    "all",
    "one",
    "each",
    "most",
    "part",
    "half",
    "both",
    "many",
    "some",
    "any",
    "none",
    "two",
    "three",
    "several",
    "rest",
    "which",
    "tenth",
    "outside",
    "inside",
    "beginning",
    "because",
    "first",
    "instead",
    "thirds",
    "either",
    "number",
    "list",
    "lists",
];

/// Phrases that need a second look. Say instead: "is not", "has no"; "matches", "reports", "returns";
/// "if", "because", "except"; and name the thing again.
const IDIOMS: &[Idiom] = &[
    Idiom {
        phrase: "is|are|was|were|be|been|being no",
        after: &["there"],
        before: COMPARED,
    },
    Idiom {
        phrase: "is|are|was|were|be none",
        after: &["there"],
        before: &[],
    },
    idiom("and|itself is none"),
    idiom("there is|are|was|were no such"),
    idiom("speak|speaks|spoke|spoken|speaking of"),
    idiom("make|makes of"),
    idiom("comes|came|becomes|became of"),
    idiom("say|says|said of"),
    Idiom {
        phrase: "tell|tells|telling",
        after: &["can", "cannot"],
        before: &[],
    },
    idiom("told"),
    Idiom {
        phrase: "stand|stands|stood",
        after: &[],
        before: &["for"],
    },
    idiom("go|goes by"),
    idiom("lead|leads to"),
    idiom("whoever|whomever"),
    idiom("what of"),
    idiom("of what"),
    idiom("of no use"),
    idiom("trying on"),
    idiom("but for"),
    idiom("likely is"),
    idiom("by turns"),
    idiom("amiss"),
    idiom("asker|askers"),
    idiom("wishes"),
    idiom("way on which"),
    idiom("is|are to be"),
    idiom("as it is"),
    idiom("as they are"),
    idiom("where there is|are|was|were"),
    idiom("where none|no|nothing|nobody"),
    idiom("where it is|was not|none"),
    idiom("nothing but"),
    idiom("nobody's"),
    idiom("for want of"),
    idiom("in vain"),
    idiom("so often|long"),
    Idiom {
        phrase: ", for it|they|no|nothing|there|that|this|these|such|only|what|nobody|both|most|many|another",
        after: &[],
        before: &["example", "instance"],
    },
    Idiom {
        phrase: "of it|them .|,|;|:|)",
        after: COUNTED,
        before: &[],
    },
];

/// An idiom in a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The line on which its paragraph begins, from 1.
    pub(crate) line: usize,
    /// The idiom with the words around it.
    context: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ...{}...", self.line, self.context)
    }
}

/// Lines of prose, and the idioms in them.
#[derive(Debug, Default)]
pub(crate) struct Prose {
    pub(crate) lines: usize,
    pub(crate) found: Vec<Found>,
}

impl Prose {
    /// The comments and docs of a Rust file, except those behind code.
    pub(crate) fn of_rust(text: &str) -> Self {
        let mut prose = Self::default();
        let comments = text.lines().map(|line| {
            let comment = line.trim_start().strip_prefix("//")?;
            Some(comment.trim_start_matches(['/', '!']))
        });
        prose.read(comments);
        prose
    }

    /// The text of a Markdown page without its code. Rows of tables and items of lists are paragraphs.
    pub(crate) fn of_markdown(text: &str) -> Self {
        let mut prose = Self::default();
        let mut is_code = false;
        let lines = text.lines().map(|line| {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
                return None;
            }
            let is_text = !is_code && !line.starts_with("    ") && !line.trim().is_empty();
            is_text.then_some(line)
        });
        prose.read(lines);
        prose
    }

    fn read<'t>(&mut self, lines: impl Iterator<Item = Option<&'t str>>) {
        let mut paragraph = String::new();
        let mut start = 0;
        for (at, line) in lines.chain([None]).enumerate() {
            let begins = line.is_none_or(|it| it.starts_with(['|', '#']) || it.trim().is_empty());
            if begins && !paragraph.is_empty() {
                self.search(start, &paragraph);
                paragraph.clear();
            }
            let Some(line) = line else { continue };
            self.lines += 1;
            if paragraph.is_empty() {
                start = at + 1;
            }
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }

    fn search(&mut self, line: usize, paragraph: &str) {
        let words = words(paragraph);
        for idiom in IDIOMS {
            for at in 0..words.len() {
                if let Some(place) = idiom.at(&words, at) {
                    let from = place.start.saturating_sub(4);
                    let to = (place.end + 4).min(words.len());
                    let context = words[from..to].join(" ");
                    self.found.push(Found { line, context });
                }
            }
        }
    }
}

impl Idiom {
    /// The place of the idiom, if it begins at the word `at`.
    fn at(&self, words: &[String], at: usize) -> Option<Range<usize>> {
        let parts: Vec<_> = self.phrase.split(' ').collect();
        let end = at + parts.len();
        let candidate = words.get(at..end)?;
        let matches = parts
            .iter()
            .zip(candidate)
            .all(|(part, word)| part.split('|').any(|it| it == word));
        let is_after = at.checked_sub(1).and_then(|it| words.get(it));
        let is_plain = is_after.is_some_and(|it| self.after.contains(&it.as_str()))
            || (words.get(end)).is_some_and(|it| self.before.contains(&it.as_str()));
        (matches && !is_plain).then_some(at..end)
    }
}

/// The words and punctuation of a text in lower case; code in backticks is one word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            words.push("`code`".to_owned());
            continue;
        }
        let mut word = String::new();
        for char in part.chars().chain([' ']) {
            if char.is_alphanumeric() || matches!(char, '\'' | '_' | '-' | '/') {
                word.extend(char.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            if !char.is_whitespace() {
                words.push(char.to_string());
            }
        }
    }
    words
}

#[test]
fn idioms_are_found() {
    for planted in [
        "/// The body is no review.",
        "// What the policy makes\n// of an image.",
        "//! Says what stands there.",
        "/// Waits, for nobody answers.",
        "/// Whoever asks.",
        "/// The image, and what is said of it.",
    ] {
        assert!(!Prose::of_rust(planted).found.is_empty(), "{planted}");
    }
    assert_eq!(
        Prose::of_markdown("# A\n\nNo rule\nspeaks of it here.\n").found[0].line,
        3
    );
}

#[test]
fn plain_english_is_not_an_idiom() {
    for plain in [
        "/// There is no policy, and it is no longer needed.",
        "let told = \"is no\"; // code and strings are not read",
        "/// Keeps `told` and `is none`, for example.",
        "/// A digest stands for one of them. Nobody can tell.",
        "fn lead() {}",
    ] {
        let found = Prose::of_rust(plain).found;
        assert!(found.is_empty(), "{found:?}");
    }
    let page = "```\nis no\n```\n\n    told\n\n| a | `told` |\n";
    assert!(Prose::of_markdown(page).found.is_empty());
}
