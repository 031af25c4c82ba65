//! The bare grammar, before Docker's rule for registries: which texts parse, and their parts.

use super::ReferenceError;

/// The parts of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// Domain and path, as written.
    pub(super) name: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

/// Splits `text` into its parts and checks each.
pub(super) fn parse(text: &str) -> Result<Parts<'_>, ReferenceError> {
    let Some(parts) = split(text, Case::Sensitive) else {
        return Err(if text.is_empty() {
            ReferenceError::Empty
        } else if split(text, Case::Folded).is_some() {
            ReferenceError::Uppercase
        } else {
            ReferenceError::InvalidFormat
        });
    };
    if let Some(digest) = parts.digest {
        check_digest(digest)?;
    }
    Ok(parts)
}

/// Whether `text` is 64 lower-case hex digits and nothing else, or a digest or the beginning of one.
/// containerd takes both for the id of any image on the node.
pub(super) fn is_image_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    (digits.is_some() || text.len() == 64) && digits.unwrap_or(text).bytes().all(is_lower_hex)
}

/// Length of the domain in `name` by the grammar alone (without Docker's rule), if it has one.
pub(super) fn domain_length(name: &str) -> Option<usize> {
    let (first, _) = super::cut(name, b'/')?;
    is_domain(first).then_some(first.len())
}

/// Whether upper-case letters count as lower-case ones, to distinguish that mistake from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Sensitive,
    Folded,
}

fn split(text: &str, case: Case) -> Option<Parts<'_>> {
    let (mut path, mut colon, mut at) = (0, None, None);
    // The first `@`, and before it the first colon behind the last `/`.
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => colon = None,
            b':' if colon.is_none() => colon = Some(place),
            b'@' => {
                at = Some(place);
                break;
            }
            _ => {}
        }
    }
    let rest = &text[..at.unwrap_or(text.len())];
    let name = &rest[..colon.unwrap_or(rest.len())];
    let tag = colon.map(|it| &rest[it + 1..]);
    let digest = at.map(|it| &text[it + 1..]);
    if let Some(domain) = domain_length(name) {
        path = domain + 1;
    }
    let sound =
        is_path(&name[path..], case) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    sound.then_some(Parts { name, tag, digest })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = super::split_port(text);
    if port.is_some_and(|it| it.is_empty() || !it.bytes().all(|it| it.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return !address.is_empty()
            && address
                .bytes()
                .all(|it| it.is_ascii_hexdigit() || it == b':');
    }
    // Labels begin and end with a letter or digit.
    let mut previous = b'.';
    for byte in host.bytes() {
        let sound = match byte {
            b'-' => previous != b'.',
            b'.' => previous.is_ascii_alphanumeric(),
            _ => byte.is_ascii_alphanumeric(),
        };
        if !sound {
            return false;
        }
        previous = byte;
    }
    previous.is_ascii_alphanumeric()
}

/// Runs of letters and digits, with one `/` or `.`, one or two `_`, or any number of `-` between them.
fn is_path(text: &str, case: Case) -> bool {
    let plain = |it: u8| {
        it.is_ascii_lowercase()
            || it.is_ascii_digit()
            || (case == Case::Folded && it.is_ascii_uppercase())
    };
    let mut rest = text.as_bytes();
    loop {
        let run = rest.iter().take_while(|&&it| plain(it)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        let Some(&separator) = rest.first() else {
            return true;
        };
        let length = rest.iter().take_while(|&&it| it == separator).count();
        let sound = match separator {
            b'/' | b'.' => length == 1,
            b'_' => length <= 2,
            b'-' => true,
            _ => false,
        };
        if !sound {
            return false;
        }
        rest = &rest[length..];
    }
}

fn is_tag(text: &str) -> bool {
    let word = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|it| word(it) || it == b'.' || it == b'-')
}

/// The shape of a digest of any algorithm: `name[+-_.name]:hex`, 32 digits or more.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let names = algorithm.split(['-', '_', '+', '.']);
    hex.len() >= 32
        && hex.bytes().all(|it| it.is_ascii_hexdigit())
        && names.into_iter().all(|name| {
            name.bytes()
                .next()
                .is_some_and(|it| it.is_ascii_alphabetic())
                && name.bytes().all(|it| it.is_ascii_alphanumeric())
        })
}

fn check_digest(text: &str) -> Result<(), ReferenceError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ReferenceError::InvalidFormat)?;
    if algorithm != "sha256" {
        return Err(ReferenceError::DigestAlgorithm);
    }
    if hex.len() != 64 {
        return Err(ReferenceError::DigestLength);
    }
    if !hex.bytes().all(is_lower_hex) {
        return Err(ReferenceError::DigestFormat);
    }
    Ok(())
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}
