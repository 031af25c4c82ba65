//! Every kind of message about a maps file.

use crate::Check;

/// Every kind of message about a maps file or a legacy prefix, the worst first.
pub const CHECKS: &[Check] = &[
    Check::error("no-separator", "the line has neither `::` nor `:`"),
    Check::error(
        "many-separators",
        "the line can be split in more than one way; usually a port with a single `:`",
    ),
    Check::error("empty-key", "nothing comes before the separator"),
    Check::error(
        "unknown-section",
        "a `[WORD]` that is neither `[EXACT]` nor `[REPLACE]`",
    ),
    Check::error(
        "unusable-value",
        "the value begins no image reference: a scheme, a `:::`, a second `#`, upper case",
    ),
    Check::warning(
        "missing-default",
        "there are registry keys or `noswap_wildcards` and no `default`: none of them applies",
    ),
    Check::warning(
        "unused-key",
        "the key can match no image: it holds a path or is a pattern, is not a host, has neither dot nor port, or does not apply beside an empty `default`",
    ),
    Check::warning(
        "key-case",
        "`Default`, or a registry in upper case, which matches only images written that way",
    ),
    Check::warning(
        "duplicate-key",
        "the key is also in an earlier line, which does not count",
    ),
    Check::warning(
        "scheme",
        "a key or an item with `https://`, which no image begins with",
    ),
    Check::warning(
        "tab",
        "a tab, which is part of the key or item; only spaces are left out",
    ),
    Check::warning(
        "second-hash",
        "a `#` that is part of a key or item: only the last run of `#` begins a comment",
    ),
    Check::warning(
        "inner-space",
        "spaces within a key, value or item, which are left out",
    ),
    Check::warning(
        "impossible-pattern",
        "a `[REPLACE]` pattern that no image reference can match",
    ),
    Check::warning(
        "unreachable-rule",
        "an earlier `[REPLACE]` pattern, or an `[EXACT]` key, takes all that the line could match",
    ),
    Check::warning(
        "empty-value",
        "an `[EXACT]` key without a value keeps its image, where the Python ImageSwap sets an empty one; a `[REPLACE]` key without a value leaves only the last path segment",
    ),
    Check::warning(
        "trailing-slash",
        "the `/` at the end of a value is left out; the Python ImageSwap writes `//`",
    ),
    Check::warning(
        "empty-item",
        "a comma too many in `noswap_wildcards`, which keeps every image",
    ),
    Check::warning(
        "pattern-item",
        "a `*` or `?` in `noswap_wildcards`, which knows no patterns",
    ),
    Check::warning(
        "loose-item",
        "an item that is not a registry is searched in the whole text, also in tags",
    ),
    Check::warning(
        "shadowed-item",
        "an item of a registry that also has a key; the key applies first",
    ),
    Check::warning(
        "implicit-registry",
        "an item `docker.io`, which images that leave it out do not hold",
    ),
    Check::warning(
        "unused-noswap",
        "`noswap_wildcards` beside an empty `default` keeps nothing more",
    ),
    Check::warning(
        "merged-registries",
        "two registries go to one place, where their images get the same names",
    ),
    Check::warning(
        "empty-file",
        "the file has no entries, so every image stays and is approved",
    ),
    Check::note(
        "byte-order-mark",
        "a byte order mark, which the Python ImageSwap reads as part of the first key",
    ),
    Check::note(
        "single-colon",
        "a single `:` as the separator, which is deprecated",
    ),
    Check::note(
        "exact-spelling",
        "an `[EXACT]` key matches only this spelling of the image",
    ),
    Check::note(
        "dropped-path",
        "`[REPLACE]` and the legacy prefix keep only the last path segment",
    ),
    Check::note(
        "substring-item",
        "images that contain an item or the legacy prefix elsewhere also stay, and are not approved",
    ),
    Check::note(
        "library-spelling",
        "only names alone take `docker.io/library`",
    ),
    Check::note(
        "library-alone",
        "a `/library` key without one for its registry: the Python ImageSwap fails for the other images",
    ),
    Check::note(
        "registry-alias",
        "`index.docker.io` and `registry-1.docker.io` do not match a `docker.io` key",
    ),
    Check::note(
        "dotless-registry",
        "`localhost` and hosts without a dot are paths on `docker.io`, unless that gives no reference",
    ),
    Check::note(
        "dotless-key",
        "a key without a dot, which the Python ImageSwap never uses and which applies here to some images",
    ),
    Check::note(
        "old-port",
        "the image's port is appended to a value that is only a host; to any other value the Python ImageSwap appends it, and here it is left out",
    ),
    Check::note(
        "mirror-port",
        "under a value that ends with `-`, an image with a port keeps only its last path segment",
    ),
    Check::note(
        "mirror-default",
        "a `default` that ends with `-` writes the registry twice",
    ),
    Check::note(
        "repeated-name",
        "a registry's name is replaced everywhere in the image",
    ),
    Check::note(
        "second-pass",
        "the Python ImageSwap would move the result again on the next update; here it stays",
    ),
];
