//! Paths of cgroups as text, without loss: names of cgroups are bytes.
//!
//! Each byte that is not part of valid UTF-8 is a character of the private use area, U+EF80 for 0x80
//! to U+EFFF for 0xff. If a name contains such a character, its bytes are treated in the same way.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The character that stands for byte 0, if that needed one.
const BASE: u32 = 0xef00;

/// The text of a path.
pub fn text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let stand_in = |byte: &u8| char::from_u32(BASE + u32::from(*byte));
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if byte_of(char).is_some() {
                let mut bytes = [0; 4];
                text.extend(
                    char.encode_utf8(&mut bytes)
                        .bytes()
                        .filter_map(|it| stand_in(&it)),
                );
            } else {
                text.push(char);
            }
        }
        text.extend(chunk.invalid().iter().filter_map(stand_in));
    }
    text
}

/// The path that a text describes, relative to the root of its hierarchy.
pub fn relative(text: &str) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    for char in text.trim_start_matches('/').chars() {
        match byte_of(char) {
            Some(byte) => path.push(byte),
            None => path.extend(char.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    OsString::from_vec(path).into()
}

/// The text for people and programs: a byte that is not part of valid UTF-8 is shown as `\xff`.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match byte_of(char) {
            // Writing to a string cannot fail.
            Some(byte) => drop(write!(shown, "\\x{byte:02x}")),
            None => shown.push(char),
        }
    }
    shown
}

/// The byte for which a character stands.
fn byte_of(char: char) -> Option<u8> {
    let byte = u32::from(char).checked_sub(BASE)?;
    u8::try_from(byte).ok().filter(|byte| *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn what_is_not_utf_8_is_shown_by_its_bytes() {
        for (path, expected) in [
            (&b"/kubepods/x"[..], "/kubepods/x"),
            (
                br"/system.slice/a\x2db.service",
                r"/system.slice/a\x2db.service",
            ),
            ("/größe".as_bytes(), "/größe"),
            (b"/a\xff/b", r"/a\xff/b"),
            (b"/a\xc3", r"/a\xc3"),
            ("/\u{efff}".as_bytes(), r"/\xee\xbf\xbf"),
        ] {
            assert_eq!(shown(&text(path)), expected);
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(path in proptest::collection::vec(1..=255_u8, 0..40), char in 0xef70..0xf010_u32) {
            let mut path: Vec<u8> = path.into_iter().filter(|byte| *byte != b'/').collect();
            path.extend(char::from_u32(char).unwrap_or('x').to_string().bytes());
            let read = relative(&text(&path));
            prop_assert_eq!(read.as_os_str().as_bytes(), path);
        }
    }
}
