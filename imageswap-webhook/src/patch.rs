//! JSON Patches (RFC 6902), written as bytes.

use std::fmt::Display;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::plain::plain;

/// Initial size for an ordinary Pod, to avoid reallocations.
const ROOM: usize = 1024;

/// Operations in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Patch {
    /// The patch's JSON; empty if there is nothing to replace.
    json: Vec<u8>,
}

impl Patch {
    /// Adds the replacement of the string at `pointer`, a JSON Pointer that needs no escapes.
    pub fn replace(&mut self, pointer: impl Display, value: &str) {
        self.operation("replace", pointer, |json| write_string(json, value));
    }

    /// Adds a value at `pointer`, a JSON Pointer with its escapes: sets a member or, if the pointer
    /// ends with `-`, appends to a list.
    pub fn add(&mut self, pointer: impl Display, value: &(impl Serialize + ?Sized)) {
        self.operation("add", pointer, |json| write_json(json, value));
    }

    /// Adds an object with one member, a string, at `pointer`.
    pub fn add_member(&mut self, pointer: impl Display, name: &str, value: &str) {
        self.operation("add", pointer, |json| {
            json.push(b'{');
            write_string(json, name);
            json.push(b':');
            write_string(json, value);
            json.push(b'}');
        });
    }

    /// Adds a string at `pointer`.
    pub fn add_string(&mut self, pointer: impl Display, value: &str) {
        self.operation("add", pointer, |json| write_string(json, value));
    }

    fn operation(&mut self, op: &str, pointer: impl Display, value: impl FnOnce(&mut Vec<u8>)) {
        if let Some(end) = self.json.last_mut() {
            *end = b',';
        } else {
            self.json.reserve(ROOM);
            self.json.push(b'[');
        }
        let _infallible = write!(self.json, r#"{{"op":"{op}","path":"{pointer}","value":"#);
        value(&mut self.json);
        self.json.extend_from_slice(b"}]");
    }

    /// Whether the patch is empty.
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Length of the patch in base64.
    pub fn base64_len(&self) -> usize {
        self.json.len().div_ceil(3) * 4
    }

    /// Appends the patch in base64, as an admission response carries it.
    pub fn write_base64(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.base64_len(), 0);
        let written = STANDARD.encode_slice(&self.json, &mut out[start..]);
        debug_assert_eq!(
            written,
            Ok(self.base64_len()),
            "padding fills the last group of four"
        );
    }
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, value: &str) {
    out.reserve(value.len() + 2);
    out.push(b'"');
    let mut rest = value;
    loop {
        let (copied, special) = rest.split_at(plain(rest.as_bytes()));
        out.extend_from_slice(copied.as_bytes());
        let Some(&byte) = special.as_bytes().first() else {
            break;
        };
        rest = &special[1..];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            control => {
                let _infallible = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.push(b'"');
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value)
        .expect("writing strings and maps of them to memory does not fail");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(patch: &Patch) -> Vec<u8> {
        let mut out = b"before".to_vec();
        patch.write_base64(&mut out);
        STANDARD
            .decode(out.strip_prefix(b"before").unwrap())
            .unwrap()
    }

    #[test]
    fn replacements_apply() {
        let mut object = json!({"spec": {"containers": [{"image": "a"}, {"image": "b"}]}});
        let mut patch = Patch::default();
        assert!(patch.is_empty());
        patch.replace("/spec/containers/1/image", "r.example.com/b");
        patch.replace("/spec/containers/0/image", "quote\" back\\slash \n ü");
        let operations: json_patch::Patch = serde_json::from_slice(&decoded(&patch)).unwrap();
        json_patch::patch(&mut object, &operations).unwrap();
        let expected = [
            json!({"image": "quote\" back\\slash \n ü"}),
            json!({"image": "r.example.com/b"}),
        ];
        assert_eq!(object, json!({"spec": {"containers": expected}}));
    }

    #[test]
    fn every_length_of_padding_is_valid() {
        for value in ["", "a", "ab", "abc", "abcd"] {
            let mut patch = Patch::default();
            patch.replace("/a", value);
            let json: serde_json::Value = serde_json::from_slice(&decoded(&patch)).unwrap();
            assert_eq!(
                json,
                json!([{"op": "replace", "path": "/a", "value": value}])
            );
        }
    }
}
