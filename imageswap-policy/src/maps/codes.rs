//! Every kind of message about a maps file.

use crate::{Check, Severity};

/// Every kind of message about a maps file or a legacy prefix, the worst first.
pub const CHECKS: &[Check] = &[
    error("no-separator", "the line has neither `::` nor `:`"),
    error(
        "many-separators",
        "the line can be split in more than one way; usually a port with a single `:`",
    ),
    error("empty-key", "nothing comes before the separator"),
    error(
        "unknown-section",
        "a `[WORD]` that is neither `[EXACT]` nor `[REPLACE]`",
    ),
    error(
        "unusable-value",
        "the value begins no image reference: a scheme, a `:::`, a second `#`, upper case",
    ),
    warning(
        "missing-default",
        "there are registry keys or `noswap_wildcards` and no `default`: none of them applies",
    ),
    warning(
        "unused-key",
        "the key can match no image: it holds a path or is a pattern, is not a host, has neither dot nor port, or does not apply beside an empty `default`",
    ),
    warning(
        "key-case",
        "`Default`, or a registry in upper case, which matches only images written that way",
    ),
    warning(
        "duplicate-key",
        "the key is also in an earlier line, which does not count",
    ),
    warning(
        "scheme",
        "a key or an item with `https://`, which no image begins with",
    ),
    warning(
        "tab",
        "a tab, which is part of the key or item; only spaces are left out",
    ),
    warning(
        "second-hash",
        "a `#` that is part of a key or item: only the last run of `#` begins a comment",
    ),
    warning(
        "inner-space",
        "spaces within a key, value or item, which are left out",
    ),
    warning(
        "impossible-pattern",
        "a `[REPLACE]` pattern that no image reference can match",
    ),
    warning(
        "unreachable-rule",
        "an earlier `[REPLACE]` pattern, or an `[EXACT]` key, takes all that the line could match",
    ),
    warning(
        "empty-value",
        "an `[EXACT]` key without a value keeps its image, where the Python ImageSwap sets an empty one; a `[REPLACE]` key without a value leaves only the last path segment",
    ),
    warning(
        "trailing-slash",
        "the `/` at the end of a value is left out; the Python ImageSwap writes `//`",
    ),
    warning(
        "empty-item",
        "a comma too many in `noswap_wildcards`, which keeps every image",
    ),
    warning(
        "pattern-item",
        "a `*` or `?` in `noswap_wildcards`, which knows no patterns",
    ),
    warning(
        "loose-item",
        "an item that is not a registry is searched in the whole text, also in tags",
    ),
    warning(
        "shadowed-item",
        "an item of a registry that also has a key; the key applies first",
    ),
    warning(
        "implicit-registry",
        "an item `docker.io`, which images that leave it out do not hold",
    ),
    warning(
        "unused-noswap",
        "`noswap_wildcards` beside an empty `default` keeps nothing more",
    ),
    warning(
        "merged-registries",
        "two registries go to one place, where their images get the same names",
    ),
    warning(
        "empty-file",
        "the file has no entries, so every image stays and is approved",
    ),
    note(
        "byte-order-mark",
        "a byte order mark, which the Python ImageSwap reads as part of the first key",
    ),
    note(
        "single-colon",
        "a single `:` as the separator, which is deprecated",
    ),
    note(
        "exact-spelling",
        "an `[EXACT]` key matches only this spelling of the image",
    ),
    note(
        "dropped-path",
        "`[REPLACE]` and the legacy prefix keep only the last path segment",
    ),
    note(
        "substring-item",
        "images that contain an item or the legacy prefix elsewhere also stay, and are not approved",
    ),
    note(
        "library-spelling",
        "only names alone take `docker.io/library`",
    ),
    note(
        "library-alone",
        "a `/library` key without one for its registry: the Python ImageSwap fails for the other images",
    ),
    note(
        "registry-alias",
        "`index.docker.io` and `registry-1.docker.io` do not match a `docker.io` key",
    ),
    note(
        "dotless-registry",
        "`localhost` and hosts without a dot are paths on `docker.io`, unless that gives no reference",
    ),
    note(
        "dotless-key",
        "a key without a dot, which the Python ImageSwap never uses and which applies here to some images",
    ),
    note(
        "old-port",
        "the image's port is appended to a value that is only a host; to any other value the Python ImageSwap appends it, and here it is left out",
    ),
    note(
        "mirror-port",
        "under a value that ends with `-`, an image with a port keeps only its last path segment",
    ),
    note(
        "mirror-default",
        "a `default` that ends with `-` writes the registry twice",
    ),
    note(
        "repeated-name",
        "a registry's name is replaced everywhere in the image",
    ),
    note(
        "second-pass",
        "the Python ImageSwap would move the result again on the next update; here it stays",
    ),
];

const fn error(code: &'static str, meaning: &'static str) -> Check {
    check(code, Severity::Error, meaning)
}

const fn warning(code: &'static str, meaning: &'static str) -> Check {
    check(code, Severity::Warning, meaning)
}

const fn note(code: &'static str, meaning: &'static str) -> Check {
    check(code, Severity::Note, meaning)
}

const fn check(code: &'static str, severity: Severity, meaning: &'static str) -> Check {
    Check {
        code,
        severity,
        meaning,
    }
}
