//! Mistakes that people make, their messages, and the corrected texts.

use super::words::assert_is_ours;
use super::{API_VERSION, KIND, text};
use crate::Severity;
use crate::document::load;

/// A whole document around a `spec` of several lines.
fn document(spec: &str) -> String {
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: corp}}\n{spec}")
}

/// A mistake in a text, its message and help, and the text that loads.
struct Mistake {
    written: String,
    says: &'static str,
    help: &'static str,
    mended: String,
}

fn in_spec(written: &str, says: &'static str, help: &'static str, mended: &str) -> Mistake {
    Mistake {
        written: text(written),
        says,
        help,
        mended: text(mended),
    }
}

fn whole(written: &str, says: &'static str, help: &'static str, mended: &str) -> Mistake {
    Mistake {
        written: document(written),
        says,
        help,
        mended: document(mended),
    }
}

fn alone(written: &str, says: &'static str, help: &'static str) -> Mistake {
    Mistake {
        written: written.to_owned(),
        says,
        help,
        mended: text("approved: [r.io/**]"),
    }
}

fn mistakes() -> Vec<Mistake> {
    vec![
        // Shapes that other programs have.
        in_spec(
            "rules: [{from: [docker.io/**, quay.io/**], to: r.io/hub}]",
            "expected a string, found a list",
            "write `from: \"docker.io/**\"` here, and repeat the item for each of the others",
            "rules: [{from: docker.io/**, to: r.io/hub}, {from: quay.io/**, to: r.io/quay}]",
        ),
        in_spec(
            "denied: ['*:latest']",
            "`*` alone would be an official image",
            "write `**:latest` for everything",
            "denied: ['**:latest']",
        ),
        alone(
            "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {name: a}\nspec: {}\n",
            "expected `kind: ImageSwapPolicy`, found `K8sAllowedRepos`",
            "run `imageswap import -f FILE`",
        ),
        // Selectors.
        in_spec(
            "approved: [r.io/**]\nmatch: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [app-*]}]}}",
            "`app-*` matches no label: values are compared literally, without wildcards",
            "write `namespaces: [\"app-*\"]` or `excludeNamespaces: [\"app-*\"]` under `match`",
            "approved: [r.io/**]\nmatch: {namespaces: [\"app-*\"]}",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {team: team-*}}}",
            "`team-*` matches no label",
            "{key: team, operator: In, values: [a, b]}",
            "approved: [r.io/**]\nmatch: {objectSelector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {objectSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a b]}]}}",
            "`a b` cannot be the value of a label",
            "at most 63 letters, digits",
            "approved: [r.io/**]\nmatch: {objectSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a, b]}]}}",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {Team/of/app: a}}}",
            "`Team/of/app` cannot be the key of a label",
            "`prefix/name`",
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {team/of.app: a}}}",
        ),
        // YAML: quotes.
        in_spec(
            "approved: [*.docker.io/**]",
            "text that begins with `*` needs quotes",
            "write `\"*.docker.io/**\"`",
            "approved: [\"*.docker.io/**\"]",
        ),
        whole(
            "spec:\n  rules:\n  - keep: **/nginx\n",
            "text that begins with `*` needs quotes",
            "write `\"**/nginx\"`",
            "spec:\n  rules:\n  - keep: \"**/nginx\"\n",
        ),
        in_spec(
            "approved: [r.io/**]\nmessage: Only ours: please",
            "a second `: ` in one line",
            "write `message: \"Only ours: please\"`",
            "approved: [r.io/**]\nmessage: \"Only ours: please\"",
        ),
        in_spec(
            "approved: [r.io/**]\nmessage: 'it's forbidden'",
            "text follows the quote",
            "write `\"it's forbidden\"`",
            "approved: [r.io/**]\nmessage: \"it's forbidden\"",
        ),
        in_spec(
            "approved: [r.io/**]\nmessage: \"ours",
            "the quote `\"` that opens here is not closed",
            "write `\"ours\"`",
            "approved: [r.io/**]\nmessage: \"ours\"",
        ),
        in_spec(
            "approved: [r.io/**]\nmessage: @team",
            "text that begins with `@` needs quotes",
            "write `\"@team\"`",
            "approved: [r.io/**]\nmessage: \"@team\"",
        ),
        in_spec(
            "rules: [{regex: \"^quay\\.io/(.*)$\", to: r.io/$1}]",
            "`\\` begins an escape in double quotes",
            "write `'^quay\\.io/(.*)$'`",
            "rules: [{regex: '^quay\\.io/(.*)$', to: r.io/$1}]",
        ),
        in_spec(
            "rules: [{regex: ^[a-z]+/(.*)$, to: r.io/$1}]",
            "text within brackets that holds `[` needs quotes",
            "write `\"^[a-z]+/(.*)$\"`",
            "rules: [{regex: \"^[a-z]+/(.*)$\", to: r.io/$1}]",
        ),
        in_spec(
            "approved: [!old.example.com/**, r.io/**]",
            "text that begins with `!` needs quotes",
            "write `\"!old.example.com/**\"`",
            "approved: [r.io/**]",
        ),
        // YAML: structure.
        whole(
            "spec:\n  rules:\n  - name: hub\n     keep: r.io/**\n",
            "this line is indented deeper than `name` in line 6",
            "start `keep` in column 5, below `name`",
            "spec:\n  rules:\n  - name: hub\n    keep: r.io/**\n",
        ),
        whole(
            "spec:\n  rules:\n  - name: hub\n   keep: r.io/**\n",
            "this line is not aligned with any line above it",
            "start `keep` in column 5, as `name` in line 6",
            "spec:\n  rules:\n  - name: hub\n    keep: r.io/**\n",
        ),
        whole(
            "spec:\n\tapproved: [r.io/**]\n",
            "a tab is in a place where YAML allows only spaces",
            "replace the tab with spaces",
            "spec:\n  approved: [r.io/**]\n",
        ),
        whole(
            "spec:\n  rules\n  - keep: r.io/**\n",
            "line 5 has no `:`",
            "write `rules:` in line 5",
            "spec:\n  rules:\n  - keep: r.io/**\n",
        ),
        whole(
            "spec:\n  rules:\n  -keep: r.io/**\n",
            "there is no field `-keep` here",
            "put a space after `-`: `- keep`",
            "spec:\n  rules:\n  - keep: r.io/**\n",
        ),
        in_spec(
            "rules: [{keep:r.io/**}]",
            "there is no field `keep:r.io/**` here",
            "put a space after `:`: `keep: r.io/**`",
            "rules: [{keep: r.io/**}]",
        ),
        in_spec(
            "approved: [r.io/**, s.io/**\nmessage: x",
            "the bracket `[` that opens here is not closed",
            "write `[r.io/**, s.io/**]`",
            "approved: [r.io/**, s.io/**]\nmessage: x",
        ),
        in_spec(
            "approved: [r.io/**}",
            "`[` opens here, and `}` closes it",
            "end it with `]`",
            "approved: [r.io/**]",
        ),
        whole(
            "spec:\n  approved: - r.io/**\n",
            "a list with `-` begins in a line of its own",
            "write `approved: [r.io/**]`",
            "spec:\n  approved: [r.io/**]\n",
        ),
        in_spec(
            "approved: [r.io/**]\napproved: [s.io/**]",
            "the field `approved` is given twice",
            "make a list",
            "approved: [r.io/**, s.io/**]",
        ),
        in_spec(
            "approved: *ours",
            "there is none before it",
            "mark the value with `&ours`",
            "approved: [r.io/**]",
        ),
        // Fields.
        in_spec(
            "rules: [{form: a.io/**, to: r.io}]",
            "there is no field `form` here",
            "write `from`",
            "rules: [{from: a.io/**, to: r.io}]",
        ),
        whole(
            "rules: [{keep: r.io/**}]\nspec: {}\n",
            "there is no field `rules` here",
            "`rules` belongs under `spec`",
            "spec:\n  rules: [{keep: r.io/**}]\n",
        ),
        in_spec(
            "approved: r.io/**",
            "expected a list, found a string",
            "write `approved: [\"r.io/**\"]`",
            "approved: [\"r.io/**\"]",
        ),
        whole(
            "spec:\n  rules:\n    keep: r.io/**\n",
            "expected a list, found a mapping",
            "put `- ` before `keep`",
            "spec:\n  rules:\n    - keep: r.io/**\n",
        ),
        in_spec(
            "rules:\n- keep: [r.io/**]",
            "expected a string, found a list",
            "write `keep: \"r.io/**\"`",
            "rules:\n- keep: \"r.io/**\"",
        ),
        in_spec(
            "approved: [r.io/**]\npriority: high",
            "expected a whole number, found a string",
            "write `priority: 10`, for example",
            "approved: [r.io/**]\npriority: 10",
        ),
        in_spec(
            "approved: [r.io/**]\npriority: \"5\"",
            "expected a whole number, found a string",
            "write `priority: 5`",
            "approved: [r.io/**]\npriority: 5",
        ),
        in_spec(
            "approved: [r.io/**]\nenforcement: Enforce",
            "expected one of `deny`, `warn`, `audit`, found `Enforce`",
            "write `enforcement: deny`",
            "approved: [r.io/**]\nenforcement: deny",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {nodeLevel: no}",
            "expected `true` or `false`, found a string",
            "write `nodeLevel: false`",
            "approved: [r.io/**]\nmatch: {nodeLevel: false}",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {version: 1.0}}}",
            "expected a string, found a number",
            "write `version: \"1.0\"`",
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {version: \"1.0\"}}}",
        ),
        in_spec(
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: [team=a]}}",
            "expected a mapping, found a list",
            "write `matchLabels: {team: a}`",
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {team: a}}}",
        ),
        in_spec(
            "approved:",
            "expected a list, found nothing",
            "write `approved: []` for an empty list, or remove it",
            "approved: []",
        ),
        in_spec(
            "exceptions: [{pattern: a.io/**, until: 2027-01-31}]",
            "the field `reason` is missing",
            "add `reason: INC-1234`",
            "exceptions: [{pattern: a.io/**, until: 2027-01-31, reason: INC-1234}]",
        ),
        // Values.
        in_spec(
            "rules: [{from: 'https://docker.io/**', to: r.io}]",
            "an image reference has no scheme",
            "write `docker.io/**`",
            "rules: [{from: 'docker.io/**', to: r.io}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: 'https://r.io/hub'}]",
            "an image reference has no scheme",
            "write `r.io/hub`",
            "rules: [{from: docker.io/**, to: r.io/hub}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: r.io/hub/}]",
            "expected no `/` at the end",
            "write `r.io/hub`",
            "rules: [{from: docker.io/**, to: r.io/hub}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: r.io/hub/**}]",
            "`to` has no wildcards",
            "write `r.io/hub`",
            "rules: [{from: docker.io/**, to: r.io/hub}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: 'r/hub/**'}]",
            "`to` has no wildcards",
            "write `docker.io/r/hub`, or begin with a registry that has a dot or a port",
            "rules: [{from: docker.io/**, to: docker.io/r/hub}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: 'r.io/hub:latest'}]",
            "a tag or digest here would replace every tag",
            "write `r.io/hub`: the tag of the image is kept",
            "rules: [{from: docker.io/**, to: r.io/hub}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**, to: r.io/hub/$1}]",
            "expected `regex` beside it",
            "write `r.io/hub`",
            "rules: [{from: docker.io/**, to: r.io/hub}]",
        ),
        in_spec(
            "rules: [{regex: '^docker\\.io/(.*)$', to: 'r.io/\\1'}]",
            "no image reference holds `\\1`",
            "write `$1`",
            "rules: [{regex: '^docker\\.io/(.*)$', to: r.io/$1}]",
        ),
        in_spec(
            "rules: [{regex: '^docker\\.io/(.*$', to: r.io/$1}]",
            "the `(` that opens here is not closed",
            "add `)`",
            "rules: [{regex: '^docker\\.io/(.*)$', to: r.io/$1}]",
        ),
        in_spec(
            "rules: [{regex: '^docker\\.io/(?<path>.*)$', to: r.io/$path}]",
            "expected a group after `$`",
            "write `${path}`",
            "rules: [{regex: '^docker\\.io/(?<path>.*)$', to: 'r.io/${path}'}]",
        ),
        in_spec(
            "approved: [gcr.io/**/]",
            "expected something after the last `/`",
            "write `gcr.io/**`",
            "approved: [gcr.io/**]",
        ),
        in_spec(
            "approved: [r.io]",
            "`r.io` without a path is an image of docker.io",
            "write `r.io/**` for all of the registry",
            "approved: [r.io/**]",
        ),
        in_spec(
            "exceptions: [{pattern: a.io/**, until: 31.12.2026, reason: x}]",
            "expected a day as in `2027-01-31`, found `31.12.2026`",
            "write `2026-12-31`",
            "exceptions: [{pattern: a.io/**, until: 2026-12-31, reason: x}]",
        ),
        in_spec(
            "exceptions: [{pattern: a.io/**, until: 20261231, reason: x}]",
            "expected a string, found a number",
            "write `until: 2026-12-31`",
            "exceptions: [{pattern: a.io/**, until: 2026-12-31, reason: x}]",
        ),
        in_spec(
            "rules: [{name: a, keep: r.io/a}, {name: a, keep: r.io/b}]",
            "rules[0] is called `a` already",
            "for example to `a-2`",
            "rules: [{name: a, keep: r.io/a}, {name: a-2, keep: r.io/b}]",
        ),
        in_spec(
            "rules: [{from: docker.io/**}]",
            "expected `to` beside it",
            "add `to: registry.example.com/hub`",
            "rules: [{from: docker.io/**, to: registry.example.com/hub}]",
        ),
        // Documents.
        alone(
            "apiVersion: imageswap.io/v1\nkind: ImageSwapPolicy\nmetadata: {name: a}\nspec: {approved: [r.io/**]}\n",
            "expected `imageswap.io/v1alpha1`, found `imageswap.io/v1`",
            "write `apiVersion: imageswap.io/v1alpha1`",
        ),
        alone(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageswapPolicy\nmetadata: {name: a}\nspec: {approved: [r.io/**]}\n",
            "expected `ImageSwapPolicy`, found `ImageswapPolicy`",
            "write `kind: ImageSwapPolicy`",
        ),
        alone(
            "metadata: {name: a}\nspec: {approved: [r.io/**]}\n",
            "the field `apiVersion` is missing",
            "add `apiVersion: imageswap.io/v1alpha1`",
        ),
        alone(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\nspec: {rules: []}\n",
            "expected `kind: ImageSwapPolicy`, found `ClusterPolicy`",
            "run `imageswap import -f FILE`, which writes an ImageSwapPolicy",
        ),
        alone(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {maps: 'default::r.io'}\n",
            "expected `kind: ImageSwapPolicy`, found `ConfigMap`",
            "write its text to a file of its own",
        ),
        alone(
            "- apiVersion: imageswap.io/v1alpha1\n  kind: ImageSwapPolicy\n",
            "expected an ImageSwapPolicy, found a list",
            "write each policy without `- ` before it",
        ),
        alone(
            "default::r.io\n",
            "expected an ImageSwapPolicy, found a string",
            "this looks like a maps file: name it with `--maps`",
        ),
        alone(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata:\nspec: {approved: [r.io/**]}\n",
            "expected a mapping with `name`, found nothing",
            "write `metadata: {name: corp}`",
        ),
    ]
}

#[test]
fn each_mistake_has_a_message_that_leads_to_a_text_that_loads() {
    for it in mistakes() {
        let found = load("p.yaml", &it.written).expect_err(&it.written);
        let told = found.iter().find(|found| found.message.contains(it.says));
        let told = told.unwrap_or_else(|| panic!("{}\nexpected: {}\n{found}", it.written, it.says));
        let help = told.help.as_deref().unwrap_or_default();
        assert!(help.contains(it.help), "expected: {}\n{told}", it.help);
        for found in &found {
            let error = found.severity == Severity::Error;
            assert!(found.help.is_some() || !error, "{found}");
            assert_is_ours(&it.written, &found.to_string());
        }
        if let Err(errors) = load("p.yaml", &it.mended) {
            panic!("{}\n{errors}", it.mended);
        }
    }
}

#[test]
fn all_mistakes_of_a_text_are_told_at_once() {
    let written = "\
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: a, labls: {a: b}}
spec:
  priority: high
  rules:
  - {form: a.io/**, to: r.io}
  - {from: b.io/**, to: 'r.io/x:1'}
  - {keep: [c.io/**]}
  approved: [r.io/**, 'https://s.io/**', [b]]
  exceptions: [{pattern: a.io/**, until: 1.2.2027, reason: x}]
  enforcement: Enforce
  enforcement: deny
---
apiVersion: imageswap.io/v1alpha1
spec:
  approved: [*.a.io/**]
---
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: b}
spec: {approved: r.io/**}
";
    let found = load("p.yaml", written).unwrap_err();
    let places: Vec<_> = found.iter().map(|it| (it.line, it.column)).collect();
    assert_eq!(
        places,
        [
            (3, 21),
            (5, 13),
            (7, 6),
            (8, 25),
            (9, 12),
            (10, 24),
            (10, 42),
            (11, 42),
            (12, 16),
            (13, 3),
            (17, 14),
            (22, 18)
        ],
        "{found}"
    );
}
