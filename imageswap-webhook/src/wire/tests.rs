//! Shapes of reviews, and how they are read.

use imageswap_policy::manifest::List;

use super::*;

fn review(request: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request}}}"#
    )
}

fn paths(object: &str) -> Vec<(String, String)> {
    let body = review(&format!(
        r#"{{"uid":"u","kind":{{"kind":"Pod"}},"object":{object}}}"#
    ));
    let review = Review::parse(body.as_bytes()).unwrap();
    assert!(review.unusable.is_none(), "{:?}", review.unusable);
    let object = review.request.object.unwrap();
    let pod = object.pod_images(&List::ALL);
    pod.chain(object.template_images(&List::ALL))
        .map(|field| (field.to_string(), field.image.to_owned()))
        .collect()
}

#[test]
fn strings_borrow_from_the_body() {
    let body = review(
        r#"{"uid":"u","kind":{"group":"","kind":"Pod"},"namespace":"n","operation":"CREATE",
            "object":{"spec":{"containers":[{"name":"c","image":"nginx"},{"image":"a\/b"}]}}}"#,
    );
    let review = Review::parse(body.as_bytes()).unwrap();
    let inside = body.as_bytes().as_ptr_range();
    let object = review.request.object.as_ref().unwrap();
    let fields: Vec<_> = object.pod_images(&List::ALL).collect();
    for text in [
        &*review.request.uid,
        &*review.request.kind.kind,
        fields[0].image,
        fields[0].name,
    ] {
        assert!(inside.contains(&text.as_ptr()), "{text} was copied");
    }
    assert_eq!(fields[1].image, "a/b");
    assert!(!inside.contains(&fields[1].image.as_ptr()));
}

#[test]
fn every_place_that_names_an_image() {
    let pod = r#"{"volumes":[{"name":"e","emptyDir":{}},{"name":"v","image":{"reference":"v:1"}}],
        "containers":[{"name":"a","image":"a:1"}],"initContainers":[{"image":"i:1"}],
        "ephemeralContainers":[{"image":"e:1"}]}"#;
    for (object, base) in [
        (format!(r#"{{"spec":{pod}}}"#), "/spec"),
        (
            format!(r#"{{"spec":{{"template":{{"spec":{pod}}}}}}}"#),
            "/spec/template/spec",
        ),
        (
            format!(r#"{{"spec":{{"jobTemplate":{{"spec":{{"template":{{"spec":{pod}}}}}}}}}}}"#),
            "/spec/jobTemplate/spec/template/spec",
        ),
    ] {
        let expected = [
            ("initContainers/0/image", "i:1"),
            ("containers/0/image", "a:1"),
            ("ephemeralContainers/0/image", "e:1"),
            ("volumes/1/image/reference", "v:1"),
        ]
        .map(|(path, image)| (format!("{base}/{path}"), image.to_owned()));
        assert_eq!(paths(&object), expected);
    }
}

#[test]
fn null_is_nothing() {
    for object in [
        r#"{"metadata":null,"spec":null}"#,
        r#"{"metadata":{"labels":null,"annotations":null,"deletionTimestamp":null},
            "spec":{"containers":null,"initContainers":null,"ephemeralContainers":null,
            "volumes":null,"template":null,"jobTemplate":null}}"#,
        r#"{"spec":{"containers":[{"name":null,"image":null},{}],"volumes":[{"image":null},{"image":{}}],
            "template":{"spec":null},"jobTemplate":{"spec":{"template":{}}}}}"#,
    ] {
        assert_eq!(paths(object), [], "{object}");
    }
    let object = r#"{"metadata":{"generateName":null},"spec":{"containers":[null,{"image":"a"}],
        "volumes":[null],"imagePullSecrets":null,"ephemeralContainers":[null]}}"#;
    let expected = ("/spec/containers/1/image".to_owned(), "a".to_owned());
    assert_eq!(paths(object), [expected]);
}

#[test]
fn an_object_of_another_shape_leaves_a_review_to_answer() {
    for object in [
        "5",
        r#""Pod""#,
        r#"{"spec":[]}"#,
        r#"{"spec":{"containers":{"a":1}}}"#,
        r#"{"spec":{"containers":["a"]}}"#,
        r#"{"spec":{"containers":[{"image":7}]}}"#,
        r#"{"metadata":{"labels":{"a":1}}}"#,
    ] {
        let body = review(&format!(r#"{{"uid":"u-1","object":{object}}}"#));
        let review = Review::parse(body.as_bytes()).unwrap();
        assert!(
            review.unusable.is_some() && review.request.object.is_none(),
            "{object}"
        );
        assert_eq!(review.request.uid, "u-1");
    }
}

#[test]
fn what_is_no_review_is_refused_with_a_reason() {
    let kind = r#"{"kind":"Pod","apiVersion":"v1","request":{"uid":"u"}}"#;
    let version =
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v2","request":{"uid":"u"}}"#;
    let no_request = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#;
    for (body, reason) in [
        ("", "line 1, column 0: the JSON ends too early; send an"),
        ("{}", "found kind \"\" and apiVersion \"\""),
        ("[1", "line 1, column 2: "),
        (
            "{\n\"kind\": 7}",
            "line 2, column 9: a value has the wrong type",
        ),
        ("{\"kind\": 'a'}", "line 1, column 10: not JSON"),
        (
            r#"{"kind":"a","kind":"a"}"#,
            "or its field is missing or given twice",
        ),
        (&"[".repeat(200), "line 1, column "),
        (kind, "found kind \"Pod\" and apiVersion \"v1\""),
        (
            version,
            "found kind \"AdmissionReview\" and apiVersion \"admission.k8s.io/v2\"",
        ),
        (no_request, "the AdmissionReview has no request: add one"),
        (&review("{}"), "no request.uid: set it to a UUID"),
        (&review(r#"{"uid":""}"#), "no request.uid"),
        (&(review(r#"{"uid":"u"}"#) + "x"), "not JSON"),
    ] {
        let error = Review::parse(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{body}: {error}");
        for foreign in [
            "invalid type",
            "missing field",
            "EOF",
            "trailing",
            "duplicate field",
        ] {
            assert!(!error.contains(foreign), "{body}: {error}");
        }
    }
    assert!(Review::parse(b"\xff\xfe").is_err());
}

#[test]
fn the_answer_repeats_version_and_uid() {
    let body = r#"{"request":{"uid":"a\"b"},"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#;
    let review = Review::parse(body.as_bytes()).unwrap();
    let answer = String::from_utf8(review.answer(&Verdict::default())).unwrap();
    assert_eq!(
        answer,
        r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{"uid":"a\"b","allowed":true}}"#
    );
}

#[test]
fn what_is_said_is_bounded() {
    let body = review(r#"{"uid":"u"}"#);
    let review = Review::parse(body.as_bytes()).unwrap();
    let verdict = Verdict {
        denied: Some("\u{e9}".repeat(10_000)),
        warnings: vec!["\"".repeat(1000); 20],
        audit: vec![("policy", "a\nb".to_owned()), ("revision", "r".to_owned())],
        ..Verdict::default()
    };
    let answer: serde_json::Value = serde_json::from_slice(&review.answer(&verdict)).unwrap();
    let response = &answer["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    let message = response["status"]["message"].as_str().unwrap();
    assert_eq!(message.chars().count(), 4096);
    assert!(message.ends_with("\u{e9}..."));
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 10);
    assert!(warnings.iter().all(|it| it.as_str().unwrap().len() == 256));
    assert_eq!(
        response["auditAnnotations"],
        serde_json::json!({"policy": "a\nb", "revision": "r"})
    );
    assert!(response.get("patch").is_none());
}
