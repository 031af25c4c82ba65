//! Lines of a text, and their form: fields, items, columns.

/// One line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'t> {
    /// Byte of the text at which it begins.
    pub(super) start: usize,
    /// Byte after its last.
    pub(super) end: usize,
    /// Its text.
    pub(super) text: &'t str,
    /// Spaces before its first character.
    pub(super) indent: usize,
}

impl<'t> Line<'t> {
    /// The line that holds a byte.
    pub(super) fn at(text: &'t str, at: usize) -> Self {
        let at = text.floor_char_boundary(at.min(text.len()));
        let start = text[..at].rfind(['\n', '\r']).map_or(0, |it| it + 1);
        let end = text[at..]
            .find(['\n', '\r'])
            .map_or(text.len(), |it| at + it);
        let line = &text[start..end];
        Self {
            start,
            end,
            text: line,
            indent: line.len() - line.trim_start_matches([' ', '\t', '\u{feff}']).len(),
        }
    }

    /// The nearest line before it that is neither empty nor a comment.
    pub(super) fn above(&self, text: &'t str) -> Option<Self> {
        let mut line = *self;
        loop {
            line = Self::at(text, line.start.checked_sub(1)?);
            let content = line.text.trim();
            if !content.is_empty() && !content.starts_with('#') {
                return Some(line);
            }
        }
    }

    /// Its number, from 1.
    pub(super) fn number(&self, text: &str) -> usize {
        breaks(&text[..self.start]) + 1
    }

    /// Whether it begins an item of a list.
    pub(super) fn is_item(&self) -> bool {
        let content = self.text.trim();
        content == "-" || content.starts_with("- ")
    }

    /// Byte of the text at which its first character is.
    pub(super) fn content_start(&self) -> usize {
        self.start + self.indent
    }

    /// The text after indentation and `- `.
    fn content(&self) -> &'t str {
        let mut content = self.text.trim();
        while let Some(rest) = content.strip_prefix("- ") {
            content = rest.trim_start();
        }
        content
    }

    /// Column of the field, from 1.
    pub(super) fn column(&self) -> usize {
        let before = &self.text[..self.offset(self.content()) - self.start];
        before.chars().count() + 1
    }

    /// The byte of the whole text at which a part of this line begins.
    pub(super) fn offset(&self, part: &str) -> usize {
        self.start + (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    /// The field on this line, and its value.
    pub(super) fn field(&self) -> Option<(&'t str, &'t str)> {
        let content = self.content();
        match content.split_once(": ") {
            Some((key, value)) => Some((key.trim_end(), value.trim())),
            None => Some((content.strip_suffix(':')?, &content[content.len()..])),
        }
    }

    /// Its name in a message: its field, or the whole line.
    pub(super) fn name(&self) -> &'t str {
        self.field().map_or(self.content(), |it| it.0)
    }

    /// The line with the missing space after `:` or `-`.
    pub(super) fn spaced(&self) -> Option<String> {
        let content = self.content();
        if let Some(rest) = content.strip_prefix('-').filter(|it| !it.is_empty()) {
            return Some(format!("- {rest}"));
        }
        if self.field().is_some() {
            return None;
        }
        let (key, value) = content.split_once(':')?;
        let name = !key.is_empty() && key.chars().all(|it| it.is_ascii_alphanumeric());
        name.then(|| format!("{key}: {value}"))
    }

    /// Whether a value begins at this byte: it follows a bracket, a comma or a `: `.
    pub(super) fn begins_value(&self, at: usize) -> bool {
        let before = &self.text[..at.saturating_sub(self.start).min(self.text.len())];
        before.trim_end().ends_with(['[', '{', ',', ':'])
    }
}

/// The number of line ends in a text; `\r\n` counts once.
pub(crate) fn breaks(text: &str) -> usize {
    let all = text.bytes().filter(|it| matches!(it, b'\n' | b'\r'));
    all.count() - text.matches("\r\n").count()
}
