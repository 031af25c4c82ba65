use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

#[test]
fn the_bare_grammar_holds_for_every_row() {
    let Some(rows) = crate::testing::rows("image_references.jsonl") else {
        return;
    };
    let rows: Vec<_> = rows
        .iter()
        .filter(|it| text(it, "table").starts_with("TestReferenceParse"))
        .collect();
    assert!(rows.len() > 40, "the table is there");
    for row in rows {
        let input = text(row, "input");
        let parsed = grammar::parse(input).and_then(|parts| {
            let domain = grammar::domain_length(parts.name);
            let path = &parts.name[domain.map_or(0, |it| it + 1)..];
            if path.len() > PATH_MAX {
                Err(ReferenceError::PathTooLong)
            } else {
                Ok((parts, domain))
            }
        });
        match parsed {
            Ok((parts, domain)) => {
                assert_eq!(row.get("err"), None, "{input}");
                assert_eq!(parts.name, text(row, "repository"), "{input}");
                assert_eq!(
                    &parts.name[..domain.unwrap_or(0)],
                    text(row, "domain"),
                    "{input}"
                );
                assert_eq!(parts.tag.unwrap_or_default(), text(row, "tag"), "{input}");
                assert_eq!(
                    parts.digest.unwrap_or_default(),
                    text(row, "digest"),
                    "{input}"
                );
            }
            Err(error) => assert_eq!(error_class(error), text(row, "err"), "{input}"),
        }
    }
}

/// containerd takes such a text for the id of any image on the node, or for the beginning of one.
#[test]
fn the_id_of_an_image_is_not_a_name() {
    let hex = "85fe221e485c733f1f94e3c1d11ba4c8db6bd0e5db44b15fd04709c192028a1e";
    for id in [hex, &format!("sha256:{hex}"), "sha256:85fe221e", "sha256:"] {
        assert_eq!(
            Reference::parse(id).err(),
            Some(ReferenceError::ImageId),
            "{id}"
        );
    }
    for name in [
        "sha256",
        "sha256:v1",
        "sha256:85FE",
        "x/sha256:85fe",
        &format!("sha256@sha256:{hex}"),
    ] {
        assert!(Reference::parse(name).is_ok(), "{name}");
    }
}

fn error_class(error: ReferenceError) -> &'static str {
    match error {
        ReferenceError::Empty => "ErrNameEmpty",
        ReferenceError::InvalidFormat => "ErrReferenceInvalidFormat",
        ReferenceError::Uppercase => "ErrNameContainsUppercase",
        ReferenceError::PathTooLong => "ErrNameTooLong",
        ReferenceError::DigestAlgorithm => "digest.ErrDigestUnsupported",
        ReferenceError::DigestLength => "digest.ErrDigestInvalidLength",
        ReferenceError::DigestFormat => "digest.ErrDigestInvalidFormat",
        ReferenceError::ImageId => "an image id",
    }
}

#[test]
fn names_as_people_write_them_hold_for_every_row() {
    let Some(rows) = crate::testing::rows("image_references.jsonl") else {
        return;
    };
    let mut seen = [0; 2];
    for row in &rows {
        if let Some(valid) = row["valid"].as_bool() {
            seen[0] += 1;
            assert_eq!(Reference::parse(text(row, "input")).is_ok(), valid, "{row}");
        }
        if row.get("FullName").is_some() {
            seen[1] += 1;
            for spelling in ["FamiliarName", "FullName", "AmbiguousName"].map(|it| text(row, it)) {
                if spelling.is_empty() {
                    continue;
                }
                let parsed = Reference::parse(spelling).expect(spelling);
                assert_eq!(parsed.registry(), text(row, "Domain"), "{spelling}");
                assert_eq!(
                    parsed.canonical_path(),
                    text(row, "RemoteName"),
                    "{spelling}"
                );
                assert_eq!(parsed.canonical_name(), text(row, "FullName"), "{spelling}");
                assert_eq!(
                    parsed.familiar_name(),
                    text(row, "FamiliarName"),
                    "{spelling}"
                );
            }
        }
    }
    assert!(
        seen[0] > 40 && seen[1] > 15,
        "the tables are there: {seen:?}"
    );
}

#[test]
fn parts_are_what_is_written() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let image = format!("[2001:db8::1]:5000/Team/app:v1@{digest}").to_lowercase();
    let parsed = Reference::parse(&image).unwrap();
    assert_eq!(parsed.written_registry(), Some("[2001:db8::1]:5000"));
    assert_eq!(
        split_port(parsed.registry()),
        ("[2001:db8::1]", Some("5000"))
    );
    assert_eq!(
        (parsed.path(), parsed.tag(), parsed.digest()),
        ("team/app", Some("v1"), Some(digest.as_str()))
    );
    assert_eq!(parsed.remainder(), format!("team/app:v1@{digest}"));

    let bare = Reference::parse("nginx:1.25").unwrap();
    assert_eq!(
        (bare.written_registry(), bare.registry(), bare.path()),
        (None, "docker.io", "nginx")
    );
    assert_eq!(bare.canonical(), "docker.io/library/nginx:1.25");
    assert_eq!(
        Reference::parse("index.docker.io/library/nginx")
            .unwrap()
            .canonical(),
        "docker.io/library/nginx"
    );
    assert_eq!(
        Reference::parse("docker.io/library/a/b")
            .unwrap()
            .familiar_name(),
        "library/a/b"
    );
}

#[test]
fn a_digest_is_lower_case_hex() {
    let upper = format!("nginx@sha256:{}", "AB".repeat(32));
    assert_eq!(Reference::parse(&upper), Err(ReferenceError::DigestFormat));
}

#[test]
fn the_implied_library_counts_for_the_length() {
    let longest = "a".repeat(PATH_MAX - "library/".len());
    assert!(Reference::parse(&longest).is_ok());
    assert_eq!(
        Reference::parse(&format!("{longest}a")),
        Err(ReferenceError::PathTooLong)
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        if let Ok(parsed) = Reference::parse(&text) {
            prop_assert!(parsed.canonical().ends_with(parsed.remainder()) && !parsed.familiar_name().is_empty());
        }
    }

    #[test]
    fn canonical_and_familiar_names_are_names_of_the_same_image(image in crate::testing::reference()) {
        let parsed = Reference::parse(&image).expect("the strategy makes valid references");
        prop_assert_eq!(parsed.as_str(), &image);
        prop_assert_eq!(Reference::registry_of(&image), parsed.registry());
        let canonical = parsed.canonical();
        let again = Reference::parse(&canonical).expect("canonical names parse");
        prop_assert_eq!(again.canonical(), &*canonical);
        prop_assert_eq!((again.tag(), again.digest()), (parsed.tag(), parsed.digest()));
        let familiar = parsed.familiar_name();
        prop_assert_eq!(Reference::parse(&familiar).unwrap().canonical_name(), parsed.canonical_name());
    }

    #[test]
    fn the_parts_make_up_the_text(image in crate::testing::reference()) {
        let parsed = Reference::parse(&image).unwrap();
        let mut text = parsed.written_registry().map(|it| format!("{it}/")).unwrap_or_default();
        text.push_str(parsed.path());
        for (mark, part) in [(':', parsed.tag()), ('@', parsed.digest())] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        prop_assert_eq!(text, image);
    }
}

#[test]
fn an_address_without_a_colon_is_neither_registry_nor_path() {
    for text in ["[20]/app", "[1]/a/b:1"] {
        let parsed = Reference::parse(text);
        assert_eq!(parsed, Err(ReferenceError::InvalidFormat), "{text}");
    }
    assert!(Reference::parse("[::20]/app").is_ok());
}
