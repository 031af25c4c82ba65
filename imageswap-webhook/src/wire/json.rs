//! Reads JSON, and checks values that nobody asks for without building them.
//!
//! A review is mostly such values: environment variables, mounts, managed fields. serde_json reads
//! them byte by byte; here their strings are passed over sixteen bytes at a time. The caller asks
//! serde_json again about a text that is [`Unread`], which is invalid or only unusual, and
//! serde_json says what is wrong. So this reader must not accept a text that serde_json refuses,
//! and must return the same value.

mod pass;

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

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

impl Reader<'_> {
    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The next byte that is not a space; an error at the end.
    #[inline]
    fn peek(&mut self) -> Result<u8> {
        let (byte, at) = pass::next(self.bytes(), self.at)?;
        self.at = at;
        Ok(byte)
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Result<()> {
        self.at = pass::take(self.bytes(), self.at, byte)?;
        Ok(())
    }
}

impl<'a> de::Deserializer<'a> for &mut Reader<'a> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'a>>(self, _visitor: V) -> Result<V::Value> {
        Err(Unread)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.take(b'"')?;
        let start = self.at;
        match pass::plain_string(self.bytes(), start) {
            Ok(end) => {
                self.at = end + 1;
                visitor.visit_borrowed_str(self.text.get(start..end).ok_or(Unread)?)
            }
            Err(escape) => {
                self.at = pass::escaped_string(self.bytes(), escape)? + 1;
                let quoted = self.text.get(start - 1..self.at).ok_or(Unread)?;
                let text = serde_json::from_str(quoted).map_err(|_invalid| Unread)?;
                visitor.visit_string(text)
            }
        }
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
        self.at = pass::word(self.bytes(), self.at, "null")?;
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
        self.at = pass::value(self.bytes(), self.at)?;
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
