//! Leaves long messages of a gRPC stream out, and never holds one in memory: any client of a runtime
//! can make it send some, and a stream that ended at the first one would lose others.

use bytes::{Buf as _, Bytes, BytesMut};

/// Whether it is compressed, and the length as a big-endian number (gRPC over HTTP/2,
/// `Length-Prefixed-Message`).
const HEADER: usize = 5;

/// The messages of one stream. A message longer than `longest` bytes is empty instead.
#[derive(Debug)]
pub(super) struct Short {
    longest: usize,
    header: BytesMut,
    /// The rest of the present message.
    left: usize,
    passes: bool,
}

impl Short {
    pub(super) fn new(longest: usize) -> Self {
        Self {
            longest,
            header: BytesMut::new(),
            left: 0,
            passes: true,
        }
    }

    /// The bytes that take the place of the next ones, which end anywhere.
    pub(super) fn pass(&mut self, mut bytes: impl bytes::Buf) -> Bytes {
        let mut passed = BytesMut::new();
        while bytes.has_remaining() {
            if self.left == 0 {
                let missing = HEADER - self.header.len();
                let part = bytes.copy_to_bytes(missing.min(bytes.remaining()));
                self.header.extend_from_slice(&part);
                if self.header.len() == HEADER {
                    self.begin(&mut passed);
                }
            } else {
                let part = bytes.copy_to_bytes(self.left.min(bytes.remaining()));
                self.left -= part.len();
                if self.passes {
                    passed.extend_from_slice(&part);
                }
            }
        }
        passed.freeze()
    }

    fn begin(&mut self, passed: &mut BytesMut) {
        let header = self.header.split();
        let length = (&header[1..]).get_u32();
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        self.passes = self.left <= self.longest;
        if self.passes {
            passed.extend_from_slice(&header);
        } else {
            passed.extend_from_slice(&[0; HEADER]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: &[Vec<u8>]) -> Vec<u8> {
        let frame = |message: &Vec<u8>| {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0], &length[..], message].concat()
        };
        messages.iter().flat_map(frame).collect()
    }

    #[test]
    fn long_messages_are_empty_wherever_the_pieces_end() {
        let messages = [0, 1, 8, 9, 700, 3, 9, 8].map(|length| vec![7; length]);
        let short = |message: &Vec<u8>| {
            if message.len() > 8 {
                Vec::new()
            } else {
                message.clone()
            }
        };
        let expected = stream(&messages.each_ref().map(short));
        let bytes = stream(&messages);
        for size in 1..bytes.len() {
            let mut short = Short::new(8);
            let pieces = bytes.chunks(size).map(|piece| short.pass(piece));
            let passed = pieces.flatten().collect::<Vec<u8>>();
            assert_eq!(passed, expected, "pieces of {size}");
        }
    }
}
