//! The bytes of a BTF file, in pieces.
//!
//! In one piece they would be the agent's largest allocation: when glibc frees a large piece, it
//! takes that size as usual and keeps twice as much heap from then on.

use std::io::{self, Read};

/// Bytes in a piece; well under 128 KiB, from which on glibc counts a piece as large.
const PIECE: usize = 64 << 10;

/// Bytes that are written once and read at any position.
#[derive(Debug, Default)]
pub(super) struct Blob {
    /// All full except the last.
    pieces: Vec<Box<[u8]>>,
}

impl Blob {
    /// Reads to the end.
    pub(super) fn read(mut from: impl Read) -> io::Result<Self> {
        let mut blob = Self::default();
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
            let read = from.by_ref().take(limit).read_to_end(&mut piece)?;
            blob.pieces.push(piece.into_boxed_slice());
            if read < PIECE {
                return Ok(blob);
            }
        }
    }

    /// The byte at `at`; `None` past the end.
    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.pieces.get(at / PIECE)?.get(at % PIECE).copied()
    }

    /// `N` bytes from `at` on; `None` if they reach past the end.
    pub(super) fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let piece = self.pieces.get(at / PIECE)?;
        let within = at % PIECE;
        if let Some(bytes) = piece.get(within..within + N) {
            return bytes.try_into().ok();
        }
        let mut bytes = [0; N];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(at + offset)?;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_within_and_across_pieces() {
        let whole: Vec<u8> = (0..=250).cycle().take(2 * PIECE + 3).collect();
        let blob = Blob::read(&*whole).unwrap();
        for at in [0, 5, PIECE - 2, PIECE, 2 * PIECE - 1, 2 * PIECE - 4] {
            assert_eq!(blob.bytes::<4>(at).as_ref(), whole[at..].first_chunk());
            assert_eq!(blob.byte(at), Some(whole[at]));
        }
        assert_eq!(blob.bytes::<4>(2 * PIECE), None);
        assert_eq!(blob.byte(whole.len()), None);
        assert_eq!(Blob::read(&whole[..PIECE]).unwrap().byte(PIECE), None);
    }
}
