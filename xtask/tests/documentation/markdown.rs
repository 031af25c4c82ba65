//! The parts of a Markdown page that can be wrong: headings, links, footnotes and code.

use std::collections::BTreeMap;

/// A page, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Anchors of the headings, as GitHub and others make them.
    pub(crate) anchors: Vec<String>,
    /// Targets of links and pictures, with their lines.
    pub(crate) links: Vec<(usize, String)>,
    /// Footnotes that the text refers to, and those that it has.
    pub(crate) notes: (Vec<String>, Vec<String>),
    /// Lines of code blocks.
    pub(crate) code: Vec<Code>,
    /// Code within the text, with its lines.
    pub(crate) spans: Vec<(usize, String)>,
}

/// A line of a code block.
#[derive(Debug)]
pub(crate) struct Code {
    /// Its line number, from 1.
    pub(crate) line: usize,
    /// The language of the block, such as `console`; empty if not given.
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut prose = String::new();
        let mut fence: Option<String> = None;
        let mut indented = true;
        for (number, line) in (1..).zip(text.lines()) {
            let trimmed = line.trim_start();
            let code = |language: &str, text: &str| Code {
                line: number,
                language: language.to_owned(),
                text: text.to_owned(),
            };
            if let Some(language) = trimmed.strip_prefix("```") {
                fence = fence.is_none().then(|| language.trim().to_owned());
            } else if let Some(language) = &fence {
                page.code.push(code(language, line));
            } else if let Some(text) = line.strip_prefix("    ").filter(|_| indented) {
                page.code.push(code("indented", text));
            } else {
                if line.starts_with('#') {
                    let title = trimmed.trim_start_matches('#').trim();
                    page.heading(title);
                }
                prose.push_str(line);
            }
            // An indented block follows an empty line; items of a list may continue on indented
            // lines.
            indented = fence.is_none()
                && (line.is_empty() || indented && line.starts_with("    "))
                && !prose.trim_end().ends_with("[^");
            prose.push('\n');
        }
        let prose = page.take_spans(&prose);
        page.find_links(&prose);
        page.find_notes(&prose);
        page
    }

    fn heading(&mut self, title: &str) {
        let anchor: String = title
            .to_lowercase()
            .chars()
            .filter_map(|it| match it {
                ' ' => Some('-'),
                '-' | '_' => Some(it),
                _ => it.is_alphanumeric().then_some(it),
            })
            .collect();
        let known = |name: &str, anchors: &[String]| anchors.iter().any(|it| it == name);
        let mut name = anchor.clone();
        let mut count = 0;
        while known(&name, &self.anchors) {
            count += 1;
            name = format!("{anchor}-{count}");
        }
        self.anchors.push(name);
    }

    /// Removes code from the text, so that nothing in it looks like a link.
    fn take_spans(&mut self, prose: &str) -> String {
        let mut rest = prose;
        let mut left = String::new();
        while let Some((before, after)) = rest.split_once('`') {
            left.push_str(before);
            let ticks = 1 + after.len() - after.trim_start_matches('`').len();
            let fence = "`".repeat(ticks);
            let after = &after[ticks - 1..];
            // A span has to end in its paragraph.
            let paragraph = &after[..after.find("\n\n").unwrap_or(after.len())];
            let Some((span, _)) = paragraph.split_once(&fence) else {
                left.push_str(&fence);
                rest = after;
                continue;
            };
            self.spans.push((lines(&left), span.replace('\n', " ")));
            left.extend(span.chars().map(|it| if it == '\n' { it } else { 'x' }));
            rest = &after[span.len() + ticks..];
        }
        left + rest
    }

    fn find_links(&mut self, prose: &str) {
        for (at, _) in prose.match_indices("](") {
            let target = &prose[at + 2..];
            let mut depth = 0;
            let end = target.find(|it| {
                depth += i32::from(it == '(') - i32::from(it == ')');
                depth < 0 || it == '\n'
            });
            let target = &target[..end.unwrap_or(target.len())];
            self.links.push((lines(&prose[..at]), target.to_owned()));
        }
    }

    fn find_notes(&mut self, prose: &str) {
        for (at, _) in prose.match_indices("[^") {
            let Some((name, after)) = prose[at + 2..].split_once(']') else {
                continue;
            };
            let begins = at == 0 || prose[..at].ends_with('\n');
            let list = if begins && after.starts_with(':') {
                &mut self.notes.1
            } else {
                &mut self.notes.0
            };
            list.push(name.to_owned());
        }
    }

    /// The commands of code blocks: a line and its continuations, after a prompt if the block has
    /// prompts.
    pub(crate) fn commands(&self) -> Vec<(usize, String)> {
        let mut commands = Vec::new();
        let mut rest = self.code.iter();
        while let Some(code) = rest.next() {
            let text = match &*code.language {
                "console" => match code.text.strip_prefix("$ ") {
                    Some(text) => text,
                    // The prompt of root.
                    None => match code.text.strip_prefix("# ") {
                        Some(text) => text,
                        None => continue,
                    },
                },
                "indented" | "sh" | "bash" => &*code.text,
                _ => continue,
            };
            let mut whole = text.to_owned();
            while let Some(begin) = whole.strip_suffix('\\') {
                whole.truncate(begin.trim_end().len());
                let Some(next) = rest.next() else { break };
                whole.push(' ');
                whole.push_str(next.text.trim_start());
            }
            commands.push((code.line, whole));
        }
        commands
    }
}

fn lines(before: &str) -> usize {
    before.matches('\n').count() + 1
}

/// All pages, by their paths.
pub(crate) type Pages = BTreeMap<String, Page>;

#[test]
fn a_page_is_taken_apart() {
    let page = Page::read(
        "# A `page`: of 2, A\n\nSee [the `x`](a.md#b) and `[no](link)`,\n[two\nlines](c(d).md). A note[^n].\n\n\
         ```console\n# prog run \\\n    --flag\n$ other | third\nan answer\n```\n\n    cargo xtask x\n\n## A\n\n## A\n\n\
         - item\n    goes on\n\n[^n]: It.\n",
    );
    assert_eq!(page.anchors, ["a-page-of-2-a", "a", "a-1"]);
    let link = |line, target: &str| (line, target.to_owned());
    assert_eq!(page.links, [link(3, "a.md#b"), link(5, "c(d).md")]);
    assert_eq!(page.notes, (vec!["n".to_owned()], vec!["n".to_owned()]));
    let spans: Vec<_> = page.spans.iter().map(|it| &*it.1).collect();
    assert_eq!(spans, ["page", "x", "[no](link)"]);
    let commands = page.commands();
    let commands: Vec<_> = commands.iter().map(|(line, it)| (*line, &**it)).collect();
    let expected = [
        (8, "prog run --flag"),
        (10, "other | third"),
        (14, "cargo xtask x"),
    ];
    assert_eq!(commands, expected);
}
