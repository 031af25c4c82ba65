//! The answer to a review.

use imageswap_runtime::text::shorten;

use super::Review;
use crate::patch::{Patch, write_string};

/// The most warnings of one answer.
pub const MAX_WARNINGS: usize = 10;
/// Characters of one warning that the API server shows.
const MAX_WARNING: usize = 256;
/// Characters of a denial; more would not be read.
const MAX_DENIAL: usize = 4096;

/// The answer: whether the object is allowed, its changes, and messages.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Why it is refused, for its sender; `None` if it is allowed.
    pub denied: Option<String>,
    /// The changes.
    pub patch: Patch,
    /// Warnings for the sender.
    pub warnings: Vec<String>,
    /// Audit annotations, by keys that the API server prefixes with the webhook's name.
    pub audit: Vec<(&'static str, String)>,
}

impl<O> Review<'_, O> {
    /// The answer, as JSON.
    pub fn answer(&self, verdict: &Verdict) -> Vec<u8> {
        let mut answer = Vec::with_capacity(512 + verdict.patch.base64_len());
        answer.extend_from_slice(br#"{"apiVersion":""#);
        answer.extend_from_slice(self.version.as_str().as_bytes());
        answer.extend_from_slice(br#"","kind":"AdmissionReview","response":{"uid":"#);
        write_string(&mut answer, &self.request.uid);
        match &verdict.denied {
            None => answer.extend_from_slice(br#","allowed":true"#),
            Some(message) => {
                answer.extend_from_slice(
                    br#","allowed":false,"status":{"code":403,"reason":"Forbidden","message":"#,
                );
                write_string(&mut answer, &shorten(message, MAX_DENIAL));
                answer.push(b'}');
            }
        }
        if !verdict.patch.is_empty() {
            answer.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            verdict.patch.write_base64(&mut answer);
            answer.push(b'"');
        }
        // The API server has shown warnings since 1.19, and v1beta1 has the field, too.
        for (at, warning) in verdict.warnings.iter().take(MAX_WARNINGS).enumerate() {
            let before: &[u8] = if at == 0 { br#","warnings":["# } else { b"," };
            answer.extend_from_slice(before);
            write_string(&mut answer, &shorten(warning, MAX_WARNING));
        }
        if !verdict.warnings.is_empty() {
            answer.push(b']');
        }
        for (at, (key, value)) in verdict.audit.iter().enumerate() {
            let before: &[u8] = if at == 0 {
                br#","auditAnnotations":{""#
            } else {
                br#",""#
            };
            answer.extend_from_slice(before);
            answer.extend_from_slice(key.as_bytes());
            answer.extend_from_slice(br#"":"#);
            write_string(&mut answer, value);
        }
        if !verdict.audit.is_empty() {
            answer.push(b'}');
        }
        answer.extend_from_slice(b"}}");
        answer
    }
}
