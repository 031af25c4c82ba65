//! The regular expressions of a policy as one automaton, and the templates that they fill.
//!
//! Each expression has to match the whole canonical reference. All are searched in one pass, in
//! time linear in the text, and the first by order wins; `regex-automata` calls this leftmost-first
//! semantics of many patterns. The captures of the winner come from its own automaton, because
//! memory for one that captures for all grows with the square of their number.

use crate::reference::Reference;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::{Compiler, Config as NfaConfig, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, PatternID};
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, Look};
use std::borrow::Cow;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

mod words;

/// Longest text of one expression.
const MAX_LENGTH: usize = 4096;
/// Bytes of the automaton of one expression; `(a{100}){100}` takes more.
const MAX_SIZE: usize = 1 << 20;
/// Bytes of the automata of all expressions of a policy; the combined search takes as much again.
pub(crate) const MAX_SIZE_OF_ALL: usize = 4 << 20;
/// Bytes of a thread's table of states.
const CACHE: usize = 2 << 20;
/// A table that was cleared this often, and still covers fewer bytes of text than this per state,
/// is abandoned.
const CLEARED: (usize, usize) = (3, 10);
/// Bytes on the stack for a canonical reference; longer ones are allocated.
const BUFFER: usize = 512;

/// One expression, checked.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    source: String,
    /// Including the end of the text.
    hir: Hir,
    /// Returns the captures.
    regex: Regex,
}

/// Expressions by the positions of their rules. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Regexes {
    all: Arc<All>,
}

#[derive(Debug)]
struct All {
    /// Finds which of them matches, without captures. It is built lazily.
    which: DFA,
    tables: Pool<Cache, MakeTable>,
    each: Vec<Regex>,
    /// Ascending.
    positions: Vec<usize>,
}

type MakeTable = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// Why an expression or template is invalid, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RegexError {
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

/// The expressions of one policy take more memory than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all regular expressions together are too large when compiled")]
pub(crate) struct TooLarge;

/// A text with placeholders for captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Group(usize),
}

impl Expression {
    /// Parses and measures one expression.
    ///
    /// # Errors
    /// A syntax error, or that it is too large.
    pub(crate) fn parse(source: &str) -> Result<Self, RegexError> {
        let whole = |message: String| RegexError {
            span: 0..source.len(),
            message,
            help: Some("write several rules, or repeat less".to_owned()),
        };
        if source.len() > MAX_LENGTH {
            return Err(whole(format!("expected at most {MAX_LENGTH} characters")));
        }
        // References are ASCII, so bytes suffice and Unicode tables are not needed.
        let config = syntax::Config::new().unicode(false).utf8(false);
        let hir =
            syntax::parse_with(source, &config).map_err(|why| words::explain(source, &why))?;
        let hir = Hir::concat(vec![hir, Hir::look(Look::End)]);
        // Captures are only read for a text that is known to match, so the tables of a DFA are not
        // needed. Each kind is named, because another crate of the program may switch on the
        // feature that builds it, and `size` would differ.
        let config = Config::new()
            .utf8_empty(false)
            .hybrid(false)
            .dfa(false)
            .onepass(false)
            .nfa_size_limit(Some(MAX_SIZE));
        let regex = Regex::builder()
            .configure(config)
            .build_from_hir(&hir)
            .map_err(|why| {
                whole(match why.size_limit() {
                    Some(limit) => format!(
                        "the regex is too large when compiled: it may take {} KiB",
                        limit >> 10
                    ),
                    None => "the regex cannot be compiled".to_owned(),
                })
            })?;
        Ok(Self {
            source: source.to_owned(),
            hir,
            regex,
        })
    }

    /// Bytes of its automaton.
    pub(crate) fn size(&self) -> usize {
        self.regex.memory_usage()
    }

    /// As written.
    pub(crate) fn as_str(&self) -> &str {
        &self.source
    }

    /// Its syntax tree, including the end of the text.
    pub(crate) fn hir(&self) -> &Hir {
        &self.hir
    }

    /// Prefixes, one of which every match has; empty if unknown.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        let prefixes = Extractor::new()
            .kind(ExtractKind::Prefix)
            .extract(&self.hir);
        let literals = prefixes.literals().unwrap_or_default();
        let texts: Option<Vec<_>> = literals
            .iter()
            .map(|it| String::from_utf8(it.as_bytes().to_vec()).ok())
            .collect();
        texts.unwrap_or_default()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

impl Regexes {
    /// Compiles expressions, with the positions of their rules in ascending order. `None` if there
    /// are none at all.
    ///
    /// # Errors
    /// Together they are too large.
    pub(crate) fn new(expressions: &[(usize, &Expression)]) -> Result<Option<Self>, TooLarge> {
        if expressions.is_empty() {
            return Ok(None);
        }
        let hirs: Vec<_> = expressions.iter().map(|it| &it.1.hir).collect();
        let config = NfaConfig::new()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(MAX_SIZE_OF_ALL));
        let nfa = Compiler::new().configure(config).build_many_from_hir(&hirs);
        let config = DFA::config()
            .match_kind(MatchKind::LeftmostFirst)
            .cache_capacity(CACHE)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(CLEARED.0))
            .minimum_bytes_per_state(Some(CLEARED.1));
        let which = DFA::builder()
            .configure(config)
            .build_from_nfa(nfa.map_err(|_size| TooLarge)?)
            .map_err(|_size| TooLarge)?;
        let table = which.clone();
        let tables: MakeTable = Box::new(move || table.create_cache());
        let all = All {
            which,
            tables: Pool::new(tables),
            each: expressions.iter().map(|it| it.1.regex.clone()).collect(),
            positions: expressions.iter().map(|it| it.0).collect(),
        };
        Ok(Some(Self { all: Arc::new(all) }))
    }

    /// Position of the first rule before `limit` whose expression matches and for which `holds`
    /// returns true.
    pub(super) fn first(
        &self,
        reference: &Reference<'_>,
        limit: usize,
        holds: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if *self.all.positions.first()? >= limit {
            return None;
        }
        let mut buffer = [0; BUFFER];
        let text = canonical_text(reference, &mut buffer);
        let input = Input::new(text.as_ref()).anchored(Anchored::Yes);
        let found = {
            let mut table = self.all.tables.get();
            self.all.which.try_search_fwd(&mut table, &input)
        };
        let first = match found {
            Ok(found) => found?.pattern().as_usize(),
            // The automaton meets more states than its table holds. Trying them one after another
            // needs no table.
            Err(_given_up) => self.one_by_one(&input)?,
        };
        // Only if the first does not hold, the others have to be tried.
        let matches =
            |slot: &usize| *slot == first || self.all.each[*slot].search_half(&input).is_some();
        (first..self.all.positions.len())
            .take_while(|slot| self.all.positions[*slot] < limit)
            .filter(matches)
            .map(|slot| self.all.positions[slot])
            .find(|at| holds(*at))
    }

    fn one_by_one(&self, input: &Input<'_>) -> Option<usize> {
        self.all
            .each
            .iter()
            .position(|regex| regex.search_half(input).is_some())
    }

    /// Fills `template` for a reference that the expression at `position` matches.
    pub(super) fn expand(
        &self,
        position: usize,
        template: &Template,
        reference: &Reference<'_>,
    ) -> String {
        let mut buffer = [0; BUFFER];
        let text = canonical_text(reference, &mut buffer);
        let Ok(slot) = self.all.positions.binary_search(&position) else {
            return String::new();
        };
        let regex = &self.all.each[slot];
        let mut captures = regex.create_captures();
        let input = Input::new(text.as_ref()).anchored(Anchored::Yes);
        regex.search_captures(&input, &mut captures);
        let group = |at: usize| captures.get_group(at).map_or("", |it| &text[it.range()]);
        template
            .parts
            .iter()
            .map(|it| match it {
                Part::Literal(text) => text.as_str(),
                Part::Group(at) => group(*at),
            })
            .collect()
    }
}

impl Template {
    /// Reads `text` with the groups of `expression`: `$1`, `${1}`, `${name}`, and `$$` for `$`.
    ///
    /// # Errors
    /// A `$` without a group that the expression has.
    pub(crate) fn parse(text: &str, expression: &Expression) -> Result<Self, RegexError> {
        let groups = expression.regex.group_info();
        let error = |span: Range<usize>, message: String, help: String| RegexError {
            span,
            message,
            help: Some(help),
        };
        let odd = |it: char| !(it.is_ascii_alphanumeric() || "-._/:@${}".contains(it));
        if let Some((at, char)) = text.char_indices().find(|it| odd(it.1)) {
            let after = &text[at + char.len_utf8()..];
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let span = at..at + char.len_utf8() + digits;
            let message = format!("no image reference holds `{}`", &text[span.clone()]);
            let help = if digits > 0 {
                format!("write `${}` for what group {0} matched", &after[..digits])
            } else {
                "write `$1` for what the first group of `regex` matched".to_owned()
            };
            return Err(error(span, message, help));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let at = text.len() - rest.len() + dollar;
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, length) =
                if let Some((name, _)) = rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
                    (name, name.len() + 2)
                } else {
                    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                    (&rest[..digits], digits)
                };
            let span = at..at + 1 + length;
            if name.is_empty() {
                let message = "expected a group after `$`, as in `$1` or `${name}`".to_owned();
                let word = rest
                    .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
                    .next();
                let help = match word.unwrap_or_default() {
                    "" => "write `$1` for what the first group matched".to_owned(),
                    word => format!("write `${{{word}}}`"),
                };
                return Err(error(span, message, help));
            }
            let index = name
                .parse()
                .ok()
                .or_else(|| groups.to_index(PatternID::ZERO, name))
                .filter(|it| *it < groups.group_len(PatternID::ZERO));
            let Some(index) = index else {
                let count = groups.group_len(PatternID::ZERO) - 1;
                let message = format!("the regex has no group `{name}`: it has {count}");
                let help = match count {
                    0 => "put the part to keep in `(` and `)`, as in `^quay\\.io/(.*)$`".to_owned(),
                    _ => "write `$1` for what the first group matched".to_owned(),
                };
                return Err(error(span, message, help));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Group(index));
            rest = &rest[length..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// As written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The fixed beginning of every result, and whether that is all of it.
    pub(crate) fn prefix(&self) -> (&str, bool) {
        match self.parts.as_slice() {
            [Part::Literal(text)] => (text, true),
            [Part::Literal(text), ..] => (text, false),
            _ => ("", false),
        }
    }
}

/// The reference in canonical form, with tag and digest as written; usually the text itself.
fn canonical_text<'a>(reference: &Reference<'a>, buffer: &'a mut [u8; BUFFER]) -> Cow<'a, str> {
    let registry = reference.registry();
    let official = reference.is_official_by_omission();
    if reference.written_registry() == Some(registry) && !official {
        return Cow::Borrowed(reference.as_str());
    }
    let middle = if official { "/library/" } else { "/" };
    let mut length = 0;
    for part in [registry, middle, reference.remainder()] {
        let Some(room) = buffer.get_mut(length..length + part.len()) else {
            return Cow::Owned(reference.canonical());
        };
        room.copy_from_slice(part.as_bytes());
        length += part.len();
    }
    std::str::from_utf8(&buffer[..length])
        .map_or_else(|_| Cow::Owned(reference.canonical()), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reference;
    use proptest::prelude::*;

    fn expand(regex: &str, template: &str, image: &str) -> Option<String> {
        let expression = Expression::parse(regex).unwrap();
        let regexes = Regexes::new(&[(3, &expression)]).unwrap().unwrap();
        let reference = Reference::parse(image).unwrap();
        let template = Template::parse(template, &expression).unwrap();
        let position = regexes.first(&reference, 9, |_| true)?;
        Some(regexes.expand(position, &template, &reference))
    }

    #[test]
    fn expressions_match_the_whole_canonical_reference() {
        for (regex, template, image, expected) in [
            (
                r"^quay\.io/(.*)$",
                "r.io/q/$1",
                "quay.io/a/b:1",
                Some("r.io/q/a/b:1"),
            ),
            (r"quay\.io/(.*)", "r.io/q/$1", "quay.io/a", Some("r.io/q/a")),
            (r"quay\.io/(.*)", "r.io/q/$1", "evil.net/quay.io/a", None),
            (r"quay\.io/a", "r.io/a", "quay.io/ab", None),
            (
                r"docker\.io/library/(.*)",
                "r.io/$1",
                "nginx:1",
                Some("r.io/nginx:1"),
            ),
            (
                r"docker\.io/(.*)",
                "r.io/${1}x",
                "index.docker.io/a/b",
                Some("r.io/a/bx"),
            ),
            (
                r"(?<host>[^/]+)/(?<path>.*)",
                "r.io/${host}/${path}",
                "nginx",
                Some("r.io/docker.io/library/nginx"),
            ),
            (r"q.io/(a)?(b)?", "r.io/x$1$2$$", "q.io/b", Some("r.io/xb$")),
            (r"a|b", "r.io/x", "q.io/b", None),
            (r"q.io/a|q.io/b", "r.io/x", "q.io/b", Some("r.io/x")),
        ] {
            assert_eq!(
                expand(regex, template, image).as_deref(),
                expected,
                "{regex} {image}"
            );
        }
    }

    proptest! {
        #[test]
        fn one_by_one_finds_what_all_at_once_find(image in reference()) {
            let expressions: Vec<_> = [
                r"quay\.io/a/.*", r"[a-m].*", r".*:[0-9]+", r"docker\.io/library/(.*)", r".*/(a|b).*", r".*",
            ]
            .into_iter()
            .map(|it| Expression::parse(it).unwrap())
            .collect();
            let numbered: Vec<_> = expressions.iter().enumerate().collect();
            let regexes = Regexes::new(&numbered).unwrap().unwrap();
            let reference = Reference::parse(&image).unwrap();
            let text = reference.canonical();
            let input = Input::new(&text).anchored(Anchored::Yes);
            prop_assert_eq!(regexes.first(&reference, 9, |_| true), regexes.one_by_one(&input));
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        for (regex, place, part) in [
            ("a(b", "(", "not closed"),
            ("a[b", "[", "not closed"),
            ("a**(", "(", "not closed"),
            (r"\pL", r"\pL", "Unicode"),
            (
                "(a{100}){200}x{1000}(b{100}){300}",
                "(a{100}){200}x{1000}(b{100}){300}",
                "too large",
            ),
        ] {
            let error = Expression::parse(regex).expect_err(regex);
            assert!(
                regex[error.span.clone()].starts_with(place) && error.message.contains(part),
                "{regex} {error:?}"
            );
        }
        for (template, place) in [
            ("r.io/$2", "$2"),
            ("r.io/$x", "$"),
            ("r.io/${x}", "${x}"),
            ("r.io/$", "$"),
        ] {
            let expression = Expression::parse("(a)").unwrap();
            let error = Template::parse(template, &expression).expect_err(template);
            assert_eq!(&template[error.span.clone()], place, "{error:?}");
        }
    }

    #[test]
    fn what_every_match_begins_with() {
        for (regex, expected) in [
            (r"^quay\.io/(.*)$", &["quay.io/"][..]),
            (r"(?:a|b)\.io/x.*", &["a.io/x", "b.io/x"]),
            (r"(.*)/nginx", &[]),
        ] {
            assert_eq!(
                Expression::parse(regex).unwrap().prefixes(),
                expected,
                "{regex}"
            );
        }
    }

    #[test]
    fn an_expression_cannot_close_the_group_around_it() {
        let error = Expression::parse("a)|(b").unwrap_err();
        assert!(error.message.contains("closes nothing"), "{error:?}");
    }

    proptest! {
        #[test]
        fn the_buffer_holds_the_canonical_text(image in reference()) {
            let reference = Reference::parse(&image).unwrap();
            let mut buffer = [0; BUFFER];
            prop_assert_eq!(canonical_text(&reference, &mut buffer), reference.canonical());
        }

        #[test]
        fn no_text_panics(regex in "([a-z.$^()|*+?{}0-9\\[\\]\\\\]|\\PC){0,20}", template in "[a$0-9{}]{0,10}") {
            match Expression::parse(&regex) {
                Err(error) => prop_assert!(regex.get(error.span).is_some()),
                Ok(expression) => {
                    let _ = expression.prefixes();
                    if let Err(error) = Template::parse(&template, &expression) {
                        prop_assert!(template.get(error.span).is_some());
                    }
                }
            }
        }
    }
}
