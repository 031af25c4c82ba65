//! Builds trees from the parser's events.

use super::{Node, Parsed, Span, Style, Value, scalar, syntax};
use crate::diagnostic::Diagnostic;
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StructureStyle};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Limit on nesting, aliases resolved: deeper than any schema of Kubernetes, and safe for recursive
/// functions on any stack.
const DEPTH_MAX: usize = 128;
/// Limit on values in a text: a dump of a large cluster has a tenth of it.
const NODES_MAX: usize = 4_000_000;
/// Limit on bytes copied by anchors and aliases. A few hundred bytes of text can ask for exabytes.
const COPIED_MAX: usize = 16 << 20;
/// Limit on characters in a key. JSON has no limit, and YAML's 1024 would refuse what Kubernetes
/// accepts.
const KEY_MAX: usize = 1 << 16;

/// Limit on reported errors per text.
const ERRORS_MAX: usize = 20;

/// Reads the documents of a part of a text. After an error it goes on with the next document.
pub(super) fn documents(source: &str, text: &str, part: Range<usize>) -> Parsed {
    let mut options = granit_parser::options! {
        // This module checks depth itself, in the same way for all styles.
        block_nesting_limit: 2 * DEPTH_MAX,
        flow_nesting_limit: 2 * DEPTH_MAX,
        simple_key_max_lookahead: KEY_MAX,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        source,
        text,
        open: Vec::new(),
        anchors: HashMap::new(),
        parsed: Parsed::default(),
        nodes: 0,
        copied: 0,
    };
    let mut origin = Origin::at(text, part.start);
    'stream: loop {
        let rest = &text[origin.byte..part.end];
        for event in Parser::new_from_str_with_options(rest, options.clone()) {
            let (error, at) = match event {
                Ok((event, span)) => {
                    let place = origin.place(rest, &span);
                    match builder.observe(event, place) {
                        Ok(()) => continue,
                        Err(error) => (*error, place.start),
                    }
                }
                Err(error) => {
                    let place = origin.place_of(rest, &error);
                    if builder.is_followed_by_json(&error, place) && place.start > origin.byte {
                        origin = Origin {
                            byte: place.start,
                            line: place.line - 1,
                            column: place.column - 1,
                        };
                        continue 'stream;
                    }
                    let error = match error.kind() {
                        ErrorKind::RecursionLimitExceeded => {
                            *builder.error(place, "yaml-too-deep", too_deep())
                        }
                        kind => syntax::explain(source, text, kind, place),
                    };
                    (error, place.start)
                }
            };
            builder.parsed.errors.push(error);
            let next = text[at..part.end].find("\n---").map(|it| at + it + 1);
            match next {
                Some(next) if builder.parsed.errors.len() < ERRORS_MAX => {
                    builder.open.clear();
                    builder.anchors.clear();
                    origin = Origin::at(text, next);
                    continue 'stream;
                }
                _ => return builder.parsed,
            }
        }
        return builder.parsed;
    }
}

/// Where the parser began: lines, and columns of its first line, are counted from here.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    byte: usize,
    line: usize,
    column: usize,
}

impl Origin {
    /// The start of a line.
    fn at(text: &str, byte: usize) -> Self {
        Self {
            byte,
            line: syntax::breaks(&text[..byte]),
            column: 0,
        }
    }

    fn place(self, rest: &str, span: &granit_parser::Span) -> Span {
        let bytes = span.byte_range().unwrap_or(rest.len()..rest.len());
        self.span(bytes, &span.start)
    }

    /// The character that an error is about.
    fn place_of(self, rest: &str, error: &ScanError) -> Span {
        let at = error.marker();
        let start = at.byte_offset().unwrap_or(rest.len()).min(rest.len());
        let start = rest.floor_char_boundary(start);
        let length = rest[start..].chars().next().map_or(0, char::len_utf8);
        self.span(start..start + length, at)
    }

    fn span(self, bytes: Range<usize>, at: &Marker) -> Span {
        let before = if at.line() == 1 { self.column } else { 0 };
        Span {
            start: self.byte + bytes.start,
            end: self.byte + bytes.end,
            line: self.line + at.line(),
            column: before + at.col() + 1,
        }
    }
}

fn too_deep() -> String {
    format!("values are nested deeper than {DEPTH_MAX}")
}

struct Builder<'t> {
    source: &'t str,
    text: &'t str,
    /// Open sequences and mappings, the outermost first.
    open: Vec<Open>,
    /// Finished anchored values of this document.
    anchors: HashMap<usize, Anchored>,
    parsed: Parsed,
    nodes: usize,
    copied: usize,
}

/// An open sequence or mapping.
struct Open {
    span: Span,
    style: Style,
    anchor: usize,
    contents: Contents,
}

enum Contents {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(Node, Node)>,
        /// The key that waits for its value.
        key: Option<Node>,
        keys: HashSet<String>,
        /// The value of `<<`.
        merged: Option<Node>,
    },
}

struct Anchored {
    node: Node,
    size: Size,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Builder<'_> {
    /// Whether one value in `{}` has ended and another begins: JSON objects without a separator, as
    /// `jq` prints them and `kubectl` reads them, although YAML requires `---` between them.
    fn is_followed_by_json(&self, error: &ScanError, place: Span) -> bool {
        let ended = self
            .parsed
            .documents
            .last()
            .is_some_and(|it| it.style == Style::Flow);
        matches!(error.kind(), ErrorKind::ExpectedDocumentStart)
            && ended
            && self.open.is_empty()
            && place.of(self.text) == "{"
    }

    fn observe(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Diagnostic>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.grow(span)?;
                let style = scalar_style(style);
                let lone = text.is_empty() && style == Style::Plain;
                if lone && tag.as_deref().is_some_and(|it| it.core_suffix().is_none()) {
                    let error = syntax::lone_tag(self.source, self.text, span);
                    return Err(Box::new(error));
                }
                let value = scalar::resolve(&text, style, tag.as_deref());
                let end = span.end;
                let span = match style {
                    Style::Literal | Style::Folded => trimmed(self.text, span),
                    _ => span,
                };
                self.complete(Node { value, span, style }, anchor, end)
            }
            Event::SequenceStart(style, anchor, _) => {
                let contents = Contents::Sequence(Vec::new());
                self.start(contents, span, style, anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let contents = Contents::Mapping {
                    entries: Vec::new(),
                    key: None,
                    keys: HashSet::new(),
                    merged: None,
                };
                self.start(contents, span, style, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => self.alias(id, span),
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        contents: Contents,
        span: Span,
        style: StructureStyle,
        anchor: usize,
    ) -> Result<(), Box<Diagnostic>> {
        self.grow(span)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(self.error(span, "yaml-too-deep", too_deep()));
        }
        self.open.push(Open {
            span,
            style: match style {
                StructureStyle::Block => Style::Block,
                StructureStyle::Flow => Style::Flow,
            },
            anchor,
            contents,
        });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let mut span = open.span;
        if open.style == Style::Flow {
            span.end = end.end;
        }
        let value = match open.contents {
            Contents::Sequence(items) => Value::Sequence(items),
            Contents::Mapping {
                mut entries,
                keys,
                merged,
                ..
            } => {
                if let Some(merged) = merged {
                    self.merge(merged, keys, &mut entries)?;
                }
                Value::Mapping(entries)
            }
        };
        let style = open.style;
        self.complete(Node { value, span, style }, open.anchor, span.end)
    }

    /// Adds the keys that `<<` names. The mapping's own keys win, then the first of several merged
    /// mappings.
    fn merge(
        &self,
        merged: Node,
        mut keys: HashSet<String>,
        entries: &mut Vec<(Node, Node)>,
    ) -> Result<(), Box<Diagnostic>> {
        let wrong = |it: &Node| {
            let message = format!(
                "expected a mapping or a list of mappings to merge, found {}",
                it.kind()
            );
            self.error(it.span, "yaml-merge", message)
        };
        let maps = match merged.value {
            Value::Sequence(items) => items,
            _ => vec![merged],
        };
        for map in maps {
            let Value::Mapping(more) = map.value else {
                return Err(wrong(&map));
            };
            let new = more
                .into_iter()
                .filter(|(key, _)| keys.insert(key.key_text().unwrap_or_default()));
            entries.extend(new);
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        let Some(anchored) = self.anchors.get(&id) else {
            let message = "an alias cannot be inside the value that it names";
            return Err(self.error(span, "yaml-alias", message));
        };
        let size = anchored.size;
        self.copied += size.bytes;
        self.nodes += size.nodes;
        if self.copied > COPIED_MAX || self.nodes > NODES_MAX {
            let message = format!("aliases copy more than {} MiB", COPIED_MAX >> 20);
            return Err(self.error(span, "yaml-too-large", message));
        }
        if self.open.len() + size.depth > DEPTH_MAX {
            return Err(self.error(span, "yaml-too-deep", too_deep()));
        }
        let node = anchored.node.clone();
        self.complete(node, 0, span.end)
    }

    /// Adds a finished value to its parent. `end` is where its text ends, which for an alias
    /// differs from the value's end.
    fn complete(&mut self, node: Node, anchor: usize, end: usize) -> Result<(), Box<Diagnostic>> {
        if anchor != 0 {
            let size = size(&node);
            self.copied += size.bytes;
            if self.copied > COPIED_MAX {
                let message = format!("anchored values have more than {} MiB", COPIED_MAX >> 20);
                return Err(self.error(node.span, "yaml-too-large", message));
            }
            let node = node.clone();
            self.anchors.insert(anchor, Anchored { node, size });
        }
        let Some(mut parent) = self.open.pop() else {
            self.parsed.documents.push(node);
            return Ok(());
        };
        parent.span.end = parent.span.end.max(end);
        match &mut parent.contents {
            Contents::Sequence(items) => items.push(node),
            Contents::Mapping {
                entries,
                key,
                keys,
                merged,
            } => match key.take() {
                None => {
                    let again = self.check_key(&node, keys)?;
                    self.parsed.errors.extend(again);
                    *key = Some(node);
                }
                Some(key) if is_merge(&key) => *merged = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
        self.open.push(parent);
        Ok(())
    }

    /// The error for a repeated key; reading continues after it.
    ///
    /// # Errors
    /// The key is a list or a mapping.
    fn check_key(
        &self,
        key: &Node,
        keys: &mut HashSet<String>,
    ) -> Result<Option<Diagnostic>, Box<Diagnostic>> {
        let Some(text) = key.key_text() else {
            let message = format!("expected the name of a field, found {}", key.kind());
            let mut error = self.error(key.span, "yaml-key", message);
            error.help = Some("put text that begins with `{` or `[` in quotes".to_owned());
            return Err(error);
        };
        if keys.contains(&text) {
            let message = format!("the field `{text}` is given twice");
            let mut error = self.error(key.span, "yaml-duplicate-key", message);
            error.help = Some("keep one of them; if both are meant, make a list".to_owned());
            return Ok(Some(*error).filter(|_| self.parsed.errors.len() < ERRORS_MAX));
        }
        keys.insert(text);
        Ok(None)
    }

    fn grow(&mut self, span: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes += 1;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message = format!("the text has more than {NODES_MAX} values");
        Err(self.error(span, "yaml-too-large", message))
    }

    fn error(&self, span: Span, code: &'static str, message: impl Into<String>) -> Box<Diagnostic> {
        let mut error = span.error(self.source, self.text, code, message);
        error.help = help(code).map(str::to_owned);
        Box::new(error)
    }
}

/// What to do about an error of this module's limits or rules.
fn help(code: &str) -> Option<&'static str> {
    match code {
        "yaml-too-deep" => Some("check brackets and indentation"),
        "yaml-too-large" => Some("split the file"),
        "yaml-alias" => {
            Some("write the value again in place of `*`, or quote text that begins with `*`")
        }
        "yaml-merge" => Some("write `<<: *name`, where `&name` marks a mapping, or quote `<<`"),
        _ => None,
    }
}

fn is_merge(key: &Node) -> bool {
    key.style == Style::Plain && key.as_str() == Some("<<")
}

fn size(node: &Node) -> Size {
    let own = match &node.value {
        Value::String(text) => text.len(),
        _ => 0,
    };
    let entries = node.entries().iter().flat_map(|(key, value)| [key, value]);
    let children = node.items().iter().chain(entries);
    let mut sum = Size {
        nodes: 1,
        bytes: size_of::<Node>() + own,
        depth: 0,
    };
    let nested = matches!(node.value, Value::Sequence(_) | Value::Mapping(_));
    for child in children.map(size) {
        sum.nodes += child.nodes;
        sum.bytes += child.bytes;
        sum.depth = sum.depth.max(child.depth);
    }
    sum.depth += usize::from(nested);
    sum
}

/// The content of a block scalar without surrounding spaces and breaks, including the next line's
/// indentation.
fn trimmed(text: &str, span: Span) -> Span {
    let content = span.of(text).trim_end_matches([' ', '\t', '\n', '\r']);
    Span {
        end: span.start + content.len(),
        ..span
    }
}

fn scalar_style(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}
