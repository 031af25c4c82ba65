//! The bytes that stand for themselves in a JSON string, found sixteen at a time.

use wide::u8x16;

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// How many bytes `text` begins with that stand for themselves: neither quotes nor backslashes nor
/// control characters.
#[inline]
pub(crate) fn plain(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = text.get(at..).and_then(|it| it.first_chunk()) {
        let plain = plain_in(block);
        at += plain;
        if plain < BLOCK {
            return at;
        }
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|it| !matches!(it, 0..b' ' | b'"' | b'\\'))
        .count()
}

#[inline]
fn plain_in(block: &[u8; BLOCK]) -> usize {
    let block = u8x16::new(*block);
    let is = |byte: u8| block.simd_eq(u8x16::splat(byte));
    let is_control = block.min(u8x16::splat(b' ' - 1)).simd_eq(block);
    let special = is_control | is(b'"') | is(b'\\');
    // The bit behind the block's stands for its end.
    (special.to_bitmask() | 1 << BLOCK).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_not_plain_is_found_at_every_place() {
        for length in 0..40 {
            let text = vec![b'a'; length];
            assert_eq!(plain(&text), length);
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = text.clone();
                    text[at] = byte;
                    let special = byte < b' ' || byte == b'"' || byte == b'\\';
                    let expected = if special { at } else { length };
                    assert_eq!(plain(&text), expected, "{byte} at {at} of {length}");
                    // A later one does not hide it, nor an earlier one that is plain.
                    text[length - 1] = b'"';
                    assert_eq!(plain(&text), expected.min(length - 1), "{byte} at {at}");
                }
            }
        }
    }
}
