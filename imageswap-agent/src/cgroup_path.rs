//! Paths of cgroups as text, without loss: names of cgroups are bytes.
//!
//! Each byte that is not part of valid UTF-8 is a character that UTF-8 writes in two bytes, U+0780 for 0x80
//! to U+07FF for 0xff: a path takes twice its bytes at most. If a name contains such a character (of the
//! scripts Thaana and N'Ko), its bytes are treated in the same way.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The character that stands for byte 0, if that needed one.
const BASE: u32 = 0x700;

/// Bytes of a path that are shown. The longest path seen so far has 325.
const MOST_SHOWN: usize = 1024;

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

/// Levels of a path in which the cgroup of a container above it is looked for. Users can nest hundreds, and
/// containers lie in the outer ones.
const MOST_LEVELS: usize = 64;

/// The paths of the cgroups above one, the outermost first; the root cgroup is left out.
pub fn above(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(end, _)| end);
    ends.skip(1).take(MOST_LEVELS).map(|end| &path[..end])
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

/// The text for people and programs: a byte that is not part of valid UTF-8 is shown as `\xff`, and the
/// middle of a path longer than 1,024 bytes as `[…]`.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match byte_of(char) {
            // Writing to a string cannot fail.
            Some(byte) => drop(write!(shown, "\\x{byte:02x}")),
            None => shown.push(char),
        }
    }
    if shown.len() > MOST_SHOWN {
        let [begin, end] = [MOST_SHOWN / 2, shown.len() - MOST_SHOWN / 2];
        let rest = &shown[shown.ceil_char_boundary(end)..];
        shown = format!("{}[…]{rest}", &shown[..shown.floor_char_boundary(begin)]);
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
    fn of_the_cgroups_above_the_outer_ones_are_given() {
        assert_eq!(above("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(above("/a").count() + above("/").count(), 0);
        let deep = "/x".repeat(1980);
        assert_eq!(above(&deep).count(), MOST_LEVELS);
        assert_eq!(above(&deep).last(), Some(&*"/x".repeat(MOST_LEVELS)));
    }

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
            ("/\u{7ff}".as_bytes(), r"/\xdf\xbf"),
        ] {
            assert_eq!(shown(&text(path)), expected);
        }
    }

    #[test]
    fn the_middle_of_a_long_path_is_left_out() {
        let long = |name: &[u8]| {
            shown(&text(
                &[&b"/begin"[..], &name.repeat(1000), b"/end"].concat(),
            ))
        };
        for shown in [long(b"/\xff"), long("/ö".as_bytes())] {
            assert!(
                shown.starts_with("/begin/") && shown.ends_with("/end"),
                "{shown}"
            );
            assert!(
                shown.contains("[…]") && shown.len() <= MOST_SHOWN + 5,
                "{shown}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(path in proptest::collection::vec(1..=255_u8, 0..40), char in 0x770..0x810_u32) {
            let mut path: Vec<u8> = path.into_iter().filter(|byte| *byte != b'/').collect();
            path.extend(char::from_u32(char).unwrap_or('x').to_string().bytes());
            let read = relative(&text(&path));
            prop_assert_eq!(read.as_os_str().as_bytes(), path);
        }
    }
}
