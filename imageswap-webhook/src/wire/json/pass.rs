//! Where a JSON text's parts end. Each function gets the text and the place where its part begins.

use super::{Result, Unread};
use crate::plain::plain;

/// Brackets within brackets of a value that is passed over; a bit for each.
const DEPTH: u32 = u64::BITS;

/// The next byte that is not a space, and its place; an error at the end.
#[inline]
pub(super) fn next(text: &[u8], mut at: usize) -> Result<(u8, usize)> {
    loop {
        match text.get(at) {
            Some(b' ' | b'\t' | b'\n' | b'\r') => at += 1,
            Some(byte) => return Ok((*byte, at)),
            None => return Err(Unread),
        }
    }
}

/// Behind the next byte that is not a space, which has to be `byte`.
#[inline]
pub(super) fn take(text: &[u8], at: usize, byte: u8) -> Result<usize> {
    match next(text, at)? {
        (it, at) if it == byte => Ok(at + 1),
        _ => Err(Unread),
    }
}

/// Behind `word`.
#[inline]
pub(super) fn word(text: &[u8], at: usize, word: &str) -> Result<usize> {
    if rest(text, at).starts_with(word.as_bytes()) {
        Ok(at + word.len())
    } else {
        Err(Unread)
    }
}

/// The closing quote of a string, from behind its opening one. `Err(place)` if something before it
/// has to be looked at.
#[inline]
pub(super) fn plain_string(text: &[u8], at: usize) -> std::result::Result<usize, usize> {
    let end = at + plain(rest(text, at));
    if text.get(end) == Some(&b'"') {
        Ok(end)
    } else {
        Err(end)
    }
}

/// The closing quote of a string, from a place within it.
#[inline]
fn string(text: &[u8], at: usize) -> Result<usize> {
    plain_string(text, at).or_else(|escape| escaped_string(text, escape))
}

/// The closing quote of a string, from a place within it that is not plain.
#[cold]
pub(super) fn escaped_string(text: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match plain_string(text, escape(text, at)?) {
            Ok(end) => return Ok(end),
            Err(next) => at = next,
        }
    }
}

/// Behind an escape. Halves of surrogate pairs are left to serde_json.
fn escape(text: &[u8], at: usize) -> Result<usize> {
    match rest(text, at) {
        [
            b'\\',
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            ..,
        ] => Ok(at + 2),
        [b'\\', b'u', hex @ ..] => {
            let hex = hex.first_chunk::<4>().ok_or(Unread)?;
            let surrogate = matches!(
                hex,
                [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]
            );
            if surrogate || !hex.iter().all(u8::is_ascii_hexdigit) {
                return Err(Unread);
            }
            Ok(at + 6)
        }
        _ => Err(Unread),
    }
}

fn digits(text: &[u8], at: usize) -> Result<usize> {
    let digits = rest(text, at).iter().take_while(|it| it.is_ascii_digit());
    match digits.count() {
        0 => Err(Unread),
        count => Ok(at + count),
    }
}

fn number(text: &[u8], mut at: usize) -> Result<usize> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    // What follows a leading zero is not a digit, or the caller finds a digit in place of a comma.
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if let [b'e' | b'E', rest @ ..] = rest(text, at) {
        let sign = usize::from(matches!(rest, [b'+' | b'-', ..]));
        at = digits(text, at + 1 + sign)?;
    }
    Ok(at)
}

/// Behind a key and its colon.
#[inline]
fn key(text: &[u8], at: usize) -> Result<usize> {
    let at = take(text, at, b'"')?;
    take(text, string(text, at)? + 1, b':')
}

/// Behind a value, whatever it is.
pub(super) fn value(text: &[u8], mut at: usize) -> Result<usize> {
    // Of the brackets that are open: which are braces, the innermost as the lowest bit.
    let (mut braces, mut depth) = (0_u64, 0);
    loop {
        let (first, start) = next(text, at)?;
        at = match first {
            b'"' => string(text, start + 1)? + 1,
            b'{' | b'[' => {
                at = start + 1;
                let (second, end) = next(text, at)?;
                // The closing byte of both is the opening one and 2.
                if second == first + 2 {
                    end + 1
                } else if depth == DEPTH {
                    return Err(Unread);
                } else {
                    depth += 1;
                    braces <<= 1;
                    if first == b'{' {
                        braces |= 1;
                        at = key(text, end)?;
                    }
                    continue;
                }
            }
            b't' => word(text, start, "true")?,
            b'f' => word(text, start, "false")?,
            b'n' => word(text, start, "null")?,
            _ => number(text, start)?,
        };
        loop {
            if depth == 0 {
                return Ok(at);
            }
            let is_brace = braces & 1 == 1;
            let (byte, place) = next(text, at)?;
            at = place + 1;
            match byte {
                b',' => {
                    if is_brace {
                        at = key(text, at)?;
                    }
                    break;
                }
                close if close == if is_brace { b'}' } else { b']' } => {
                    braces >>= 1;
                    depth -= 1;
                }
                _ => return Err(Unread),
            }
        }
    }
}

#[inline]
fn rest(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}
