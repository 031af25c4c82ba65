//! Reads offsets of fields from the kernel's own description of its structures (BTF).
//!
//! Format: the kernel's `Documentation/bpf/btf.rst`. The only crate that walks members has a
//! licence that does not suit a statically linked binary, and the loader's own BTF keeps them
//! private.

use blob::Blob;
use std::fs::File;
use std::path::{Path, PathBuf};

mod blob;

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
/// Anonymous members nest a few levels in practice; the bound keeps a malformed file from recursing
/// forever.
const MAX_NESTING: u32 = 8;

/// Why an offset could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// No such file, or no permission.
    #[error("cannot read {}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The bytes are not BTF as this code knows it.
    #[error("malformed BTF at byte {at}")]
    Malformed {
        /// Where reading stopped.
        at: usize,
    },
    /// This kernel has no such structure or field.
    #[error("this kernel's BTF has no field `{field}` in `struct {structure}`")]
    Missing {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
    /// This kernel has no such structure.
    #[error("this kernel's BTF has no `struct {structure}`")]
    NoStructure {
        /// The structure.
        structure: &'static str,
    },
}

/// A BTF blob with an index of its types.
#[derive(Debug)]
pub struct Btf {
    blob: Blob,
    /// Byte offset of the type with id `index + 1`.
    types: Vec<u32>,
    strings: usize,
}

impl Btf {
    /// Reads the file at `path`, usually `/sys/kernel/btf/vmlinux` (about 6 MB).
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let blob = File::open(path).and_then(Blob::read);
        let blob = blob.map_err(|source| BtfError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(blob)
    }

    /// Indexes the types of a blob in the machine's byte order.
    fn parse(blob: Blob) -> Result<Self, BtfError> {
        let word = |at: usize| word(&blob, at);
        if blob.bytes(0) != Some(MAGIC.to_ne_bytes()) {
            return Err(BtfError::Malformed { at: 0 });
        }
        let header = word(4)? as usize;
        let start = header + word(8)? as usize;
        let end = start + word(12)? as usize;
        let strings = header + word(16)? as usize;
        let mut types = Vec::new();
        let mut at = start;
        while at < end {
            types.push(u32::try_from(at).map_err(|_overflow| BtfError::Malformed { at })?);
            let info = word(at + 4)?;
            let length = (info & 0xffff) as usize;
            at += 12
                + match info >> 24 & 0x1f {
                    1 | 14 | 17 => 4,
                    3 => 12,
                    STRUCT | UNION | 15 | 19 => 12 * length,
                    ENUM | 13 => 8 * length,
                    2 | 7..=12 | 16 | 18 => 0,
                    _ => return Err(BtfError::Malformed { at }),
                };
        }
        Ok(Self {
            blob,
            types,
            strings,
        })
    }

    /// Offset in bytes of `field` in `struct structure`, even if it lies in an anonymous member.
    pub fn offset(&self, structure: &'static str, field: &'static str) -> Result<u32, BtfError> {
        let missing = BtfError::Missing { structure, field };
        for &at in &self.types {
            let at = at as usize;
            if self.kind(at)? == STRUCT && self.is_named(at, structure.as_bytes())? {
                // A forward-declared twin of the same name has no members.
                if let Some(bits) = self.member(at, field.as_bytes(), 0)? {
                    return if bits % 8 == 0 {
                        Ok(bits / 8)
                    } else {
                        Err(missing)
                    };
                }
            }
        }
        Err(missing)
    }

    /// Size in bytes of `struct structure`.
    pub fn size(&self, structure: &'static str) -> Result<u32, BtfError> {
        for &at in &self.types {
            let at = at as usize;
            if self.kind(at)? == STRUCT && self.is_named(at, structure.as_bytes())? {
                return word(&self.blob, at + 8);
            }
        }
        Err(BtfError::NoStructure { structure })
    }

    /// Whether an enumeration has a value of this name.
    pub fn has_value(&self, name: &str) -> Result<bool, BtfError> {
        for &at in &self.types {
            let at = at as usize;
            if self.kind(at)? != ENUM {
                continue;
            }
            let values = word(&self.blob, at + 4)? & 0xffff;
            for index in 0..values as usize {
                if self.is_named(at + 12 + 8 * index, name.as_bytes())? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Offset in bits of a member of the structure at byte `at`.
    fn member(&self, at: usize, field: &[u8], nesting: u32) -> Result<Option<u32>, BtfError> {
        if nesting > MAX_NESTING {
            return Ok(None);
        }
        let info = word(&self.blob, at + 4)?;
        let bitfields = info >> 31 == 1;
        for index in 0..(info & 0xffff) as usize {
            let member = at + 12 + 12 * index;
            let raw = word(&self.blob, member + 8)?;
            let bits = if bitfields { raw & 0x00ff_ffff } else { raw };
            if self.is_named(member, field)? {
                return Ok(Some(bits));
            }
            if self.is_named(member, b"")?
                && let Some(inner) = self.structure(word(&self.blob, member + 4)?)?
                && let Some(more) = self.member(inner, field, nesting + 1)?
            {
                return Ok(Some(bits + more));
            }
        }
        Ok(None)
    }

    /// Byte offset of the structure or union with this type id; `None` for other types.
    fn structure(&self, id: u32) -> Result<Option<usize>, BtfError> {
        let Some(&at) = (id as usize)
            .checked_sub(1)
            .and_then(|index| self.types.get(index))
        else {
            return Ok(None);
        };
        let at = at as usize;
        Ok(matches!(self.kind(at)?, STRUCT | UNION).then_some(at))
    }

    fn kind(&self, at: usize) -> Result<u32, BtfError> {
        Ok(word(&self.blob, at + 4)? >> 24 & 0x1f)
    }

    /// Whether the name whose string offset is stored at byte `at` is this one.
    fn is_named(&self, at: usize, name: &[u8]) -> Result<bool, BtfError> {
        let from = self.strings + word(&self.blob, at)? as usize;
        for (offset, byte) in name.iter().chain([&0]).enumerate() {
            let found = self.blob.byte(from + offset);
            if found.ok_or(BtfError::Malformed { at })? != *byte {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn word(blob: &Blob, at: usize) -> Result<u32, BtfError> {
    let word = blob.bytes(at).map(u32::from_ne_bytes);
    word.ok_or(BtfError::Malformed { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int first; struct { int hidden; }; }`, with an `int` as type 1, and
    /// `enum { one, two }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0first\0hidden\0one\0two\0";
        let types: [u32; 35] = [
            1,
            1 << 24,
            4,
            0x20, // 1: int, 32 bits
            0,
            STRUCT << 24 | 1,
            4,
            17,
            1,
            0, // 2: anonymous { int hidden }
            5,
            STRUCT << 24 | 2,
            8,
            11,
            1,
            0,
            0,
            2,
            32, // 3: outer { int first; <2>; }
            5,
            7 << 24,
            0, // 4: a forward declaration of the same name
            0,
            2 << 24,
            1, // 5: int *
            0,
            2 << 24,
            3, // 6: struct outer *
            0,
            ENUM << 24 | 2,
            4,
            24,
            1,
            28,
            2, // 7: enum { one = 1, two = 2 }
        ];
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        let [types_size, strings_size] =
            [4 * types.len(), strings.len()].map(|size| u32::try_from(size).unwrap());
        for word in [24, 0, types_size, types_size, strings_size] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        out.extend(strings);
        out
    }

    fn parsed(bytes: &[u8]) -> Result<Btf, BtfError> {
        Btf::parse(Blob::read(bytes).unwrap())
    }

    #[test]
    fn fields_are_found_also_in_anonymous_members() {
        let btf = parsed(&sample()).unwrap();
        assert_eq!(btf.offset("outer", "first").unwrap(), 0);
        assert_eq!(btf.offset("outer", "hidden").unwrap(), 4);
        assert_eq!(btf.size("outer").unwrap(), 8);
    }

    #[test]
    fn values_of_enumerations_are_found() {
        let btf = parsed(&sample()).unwrap();
        let found = ["one", "two", "int", "three"].map(|it| btf.has_value(it).unwrap());
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let btf = parsed(&sample()).unwrap();
        let text = btf.offset("outer", "nowhere").unwrap_err().to_string();
        assert!(
            text.contains("`nowhere`") && text.contains("`struct outer`"),
            "{text}"
        );
        let text = btf.size("inner").unwrap_err().to_string();
        assert!(text.contains("`struct inner`"), "{text}");
        assert!(matches!(parsed(b"ELF"), Err(BtfError::Malformed { at: 0 })));
    }

    #[test]
    fn a_cut_off_blob_is_an_error_and_no_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            if let Ok(btf) = parsed(&whole[..length]) {
                drop(btf.offset("outer", "hidden"));
                drop(btf.has_value("three"));
            }
        }
    }
}
