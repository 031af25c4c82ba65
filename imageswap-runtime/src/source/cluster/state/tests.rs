use super::*;

const GOOD: &str = "default::\nquay.io::registry.example.com/quay";
const GARBAGE: &str = "::\nno separator here";

fn text(name: &str, to: &str) -> String {
    let rules = json!({"rules": [{"from": "**", "to": to}]});
    document_text(name, &json!({"spec": rules}))
}

fn in_force(state: &State) -> Vec<(String, String)> {
    let policies = state.policies();
    let policies = policies.iter();
    policies
        .map(|it| (it.name().to_owned(), it.revision().to_owned()))
        .collect()
}

fn revision(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted { revision, .. } => revision,
        Verdict::Refused { reasons } => panic!("{reasons}"),
    }
}

#[test]
fn a_bad_version_leaves_the_last_good_one() {
    let mut state = State::default();
    let a1 = revision(state.document("a", text("a", "r.io")));
    let verdict = state.document("a", text("a", "nowhere"));
    let Verdict::Refused { reasons } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(reasons.starts_with("spec.rules[0].to: error["), "{reasons}");
    assert_eq!(state.refused(), 1);
    let b1 = revision(state.document("b", text("b", "b.io")));
    assert_eq!(
        in_force(&state),
        [("a".into(), a1), ("b".into(), b1.clone())]
    );
    let a2 = revision(state.document("a", text("a", "s.io")));
    assert_eq!(in_force(&state), [("a".into(), a2), ("b".into(), b1)]);
    assert_eq!(state.refused(), 0);
}

#[test]
fn what_is_refused_is_counted_until_it_is_mended_or_gone() {
    let mut state = State::default();
    state.document("a", text("a", "nowhere"));
    state.document("b", text("b", "nowhere"));
    state.maps(GARBAGE);
    assert_eq!(state.refused(), 3);
    state.maps(GOOD);
    state.refuse_maps();
    assert_eq!(state.refused(), 3);
    state.maps(GOOD);
    state.no_document("a");
    assert_eq!(state.refused(), 1);
    state.document("b", text("b", "r.io"));
    assert_eq!(state.refused(), 0);
}

#[test]
fn what_is_deleted_goes_out_of_force() {
    let mut state = State::default();
    for name in ["a", "b", "c"] {
        state.document(name, text(name, "r.io"));
    }
    state.maps(GOOD);
    state.no_document("a");
    let names = |state: &State| {
        in_force(state)
            .into_iter()
            .map(|it| it.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&state), ["b", "c", "maps"]);
    state.only_documents(&BTreeSet::from(["c".to_owned()]));
    state.no_maps();
    assert_eq!(names(&state), ["c"]);
}

#[test]
fn a_restart_during_garbage_has_the_last_good_version() {
    let mut before = State::default();
    before.document("a", text("a", "r.io"));
    before.maps(GOOD);
    let expected = in_force(&before);
    before.document("a", text("a", "nowhere"));
    before.maps(GARBAGE);
    assert_eq!(in_force(&before), expected);

    let mut after = State::default();
    assert_eq!(after.restore(&before.texts()), Vec::<String>::new());
    after.document("a", text("a", "nowhere"));
    after.only_documents(&BTreeSet::from(["a".to_owned()]));
    assert!(matches!(after.maps(GARBAGE), Verdict::Refused { .. }));
    assert_eq!(in_force(&after), expected);
    assert_eq!(after.texts(), before.texts());
}

#[test]
fn unknown_fields_are_named() {
    let mut state = State::default();
    let text = document_text(
        "a",
        &json!({"spec": {"enforcment": "deny"}, "status": {"x": 1}}),
    );
    let Verdict::Refused { reasons } = state.document("a", text) else {
        panic!("it loaded")
    };
    assert_eq!(
        reasons,
        "spec.enforcment: error[unknown-field]: there is no field `enforcment` here; write `enforcement`"
    );
}

#[test]
fn every_order_of_edits_ends_at_the_last_good_versions() {
    // Each object's edits keep their order, the objects' are interleaved in every way.
    let edits = [
        ("a", vec!["r.io", "nowhere", "s.io", "nowhere"]),
        ("b", vec!["nowhere", "t.io", "nowhere"]),
    ];
    let total = edits[0].1.len() + edits[1].1.len();
    let mut seen = BTreeSet::new();
    for order in 0..1_u32 << total {
        if order.count_ones() as usize != edits[1].1.len() {
            continue;
        }
        let mut state = State::default();
        let mut next = [0, 0];
        for at in 0..total {
            let which = usize::from(order >> at & 1 == 1);
            let (name, versions) = &edits[which];
            state.document(name, text(name, versions[next[which]]));
            next[which] += 1;
        }
        seen.insert(in_force(&state));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen.first().map(Vec::len), Some(2));
}
