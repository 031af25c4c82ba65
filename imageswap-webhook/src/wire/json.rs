//! Reads JSON, and checks values that nobody asks for without building them.
//!
//! A review is mostly such values: environment variables, mounts, managed fields. serde_json reads
//! them byte by byte; here their strings are passed over eight bytes at a time. The caller asks
//! serde_json again about a text that is [`Unread`], which is invalid or only unusual, and
//! serde_json says what is wrong. So this reader must not accept a text that serde_json refuses,
//! and must return the same value.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Brackets within brackets of a value that is passed over; a bit for each.
const DEPTH: u32 = u64::BITS;

/// The text cannot be read here.
#[derive(Debug, thiserror::Error)]
#[error("the text is left to serde_json")]
pub(super) struct Unread;

type Result<T> = std::result::Result<T, Unread>;

/// Reads a text that is one JSON value.
pub(super) fn from_slice<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    let text = std::str::from_utf8(text).map_err(|_not_utf8| Unread)?;
    let mut reader = Reader { text, at: 0 };
    let value = T::deserialize(&mut reader)?;
    match reader.peek() {
        Err(Unread) => Ok(value),
        Ok(_) => Err(Unread),
    }
}

/// A place in a text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not a space; an error at the end.
    #[inline]
    fn peek(&mut self) -> Result<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Unread),
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Result<()> {
        if self.peek()? != byte {
            return Err(Unread);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn take_word(&mut self, word: &str) -> Result<()> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(Unread);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a string; returns where its text is, and whether some of it is escaped.
    #[inline]
    fn pass_string(&mut self) -> Result<(usize, usize, bool)> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(self.rest());
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((start, self.at - 1, escaped));
                }
                Some(b'\\') => self.pass_escape()?,
                _ => return Err(Unread),
            }
            escaped = true;
        }
    }

    /// Passes over an escape. Halves of surrogate pairs are left to serde_json.
    #[cold]
    fn pass_escape(&mut self) -> Result<()> {
        self.at += match self.rest() {
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                ..,
            ] => 2,
            [b'\\', b'u', hex @ ..] => {
                let hex = hex.first_chunk::<4>().ok_or(Unread)?;
                let surrogate = matches!(
                    hex,
                    [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]
                );
                if surrogate || !hex.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Unread);
                }
                6
            }
            _ => return Err(Unread),
        };
        Ok(())
    }

    fn pass_digits(&mut self) -> Result<()> {
        let digits = self.rest().iter().take_while(|it| it.is_ascii_digit());
        match digits.count() {
            0 => Err(Unread),
            count => {
                self.at += count;
                Ok(())
            }
        }
    }

    fn pass_number(&mut self) -> Result<()> {
        if self.rest().first() == Some(&b'-') {
            self.at += 1;
        }
        match self.rest() {
            // What follows a leading zero is not a digit, or the caller finds a digit in place of a
            // comma.
            [b'0', ..] => self.at += 1,
            _ => self.pass_digits()?,
        }
        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest() {
            self.at += 1 + usize::from(matches!(rest, [b'+' | b'-', ..]));
            self.pass_digits()?;
        }
        Ok(())
    }

    #[inline]
    fn pass_key(&mut self) -> Result<()> {
        self.pass_string()?;
        self.take(b':')
    }

    /// Passes over a value, whatever it is.
    fn pass(&mut self) -> Result<()> {
        // Of the brackets that are open: which are braces, the innermost as the lowest bit.
        let (mut braces, mut depth) = (0_u64, 0);
        loop {
            match self.peek()? {
                b'"' => _ = self.pass_string()?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    // The closing byte of both is the opening one and 2.
                    if self.peek()? == open + 2 {
                        self.at += 1;
                    } else if depth == DEPTH {
                        return Err(Unread);
                    } else {
                        depth += 1;
                        braces <<= 1;
                        if open == b'{' {
                            braces |= 1;
                            self.pass_key()?;
                        }
                        continue;
                    }
                }
                b't' => self.take_word("true")?,
                b'f' => self.take_word("false")?,
                b'n' => self.take_word("null")?,
                _ => self.pass_number()?,
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let is_brace = braces & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if is_brace {
                            self.pass_key()?;
                        }
                        break;
                    }
                    close if close == if is_brace { b'}' } else { b']' } => {
                        self.at += 1;
                        braces >>= 1;
                        depth -= 1;
                    }
                    _ => return Err(Unread),
                }
            }
        }
    }
}

/// How many bytes a string begins with that stand for themselves.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(|it| it.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that is less; a borrow spoils only the bytes behind one that is.
        let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
        let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
        let special = (less(word, b' ') | is(b'"') | is(b'\\')) & (ONES << 7);
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|it| !matches!(it, 0..b' ' | b'"' | b'\\'))
        .count()
}

impl<'a> de::Deserializer<'a> for &mut Reader<'a> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'a>>(self, _visitor: V) -> Result<V::Value> {
        Err(Unread)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        let (start, end, escaped) = self.pass_string()?;
        if escaped {
            let quoted = self.text.get(start - 1..=end).ok_or(Unread)?;
            let text = serde_json::from_str(quoted).map_err(|_invalid| Unread)?;
            return visitor.visit_string(text);
        }
        visitor.visit_borrowed_str(self.text.get(start..end).ok_or(Unread)?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? != b'n' {
            return visitor.visit_some(self);
        }
        self.take_word("null")?;
        visitor.visit_none()
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.take(b'[')?;
        let mut items = Items::new(self, b']');
        let value = visitor.visit_seq(&mut items)?;
        items.end(value)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.take(b'{')?;
        let mut items = Items::new(self, b'}');
        let value = visitor.visit_map(&mut items)?;
        items.end(value)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_map(visitor)
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.pass()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct enum
    }
}

/// What is between two brackets.
struct Items<'r, 'a> {
    reader: &'r mut Reader<'a>,
    close: u8,
    first: bool,
    closed: bool,
}

impl<'r, 'a> Items<'r, 'a> {
    fn new(reader: &'r mut Reader<'a>, close: u8) -> Self {
        Self {
            reader,
            close,
            first: true,
            closed: false,
        }
    }

    /// Whether there is another item, which the reader is then before.
    #[inline]
    fn more(&mut self) -> Result<bool> {
        let byte = self.reader.peek()?;
        if byte == self.close {
            self.reader.at += 1;
            self.closed = true;
            return Ok(false);
        }
        if !std::mem::take(&mut self.first) {
            self.reader.take(b',')?;
        }
        Ok(true)
    }

    /// The value, if all items were read.
    fn end<T>(self, value: T) -> Result<T> {
        if self.closed { Ok(value) } else { Err(Unread) }
    }
}

impl<'a> MapAccess<'a> for &mut Items<'_, 'a> {
    type Error = Unread;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.more()? {
            return Ok(None);
        }
        if self.reader.peek()? != b'"' {
            return Err(Unread);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value> {
        self.reader.take(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

impl<'a> SeqAccess<'a> for &mut Items<'_, 'a> {
    type Error = Unread;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.more()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl de::Error for Unread {
    fn custom<T: fmt::Display>(_why: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests;
