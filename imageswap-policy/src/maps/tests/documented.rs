//! The example of ImageSwap's documentation, with the answers of ImageSwap 1.5.3.

use super::*;
use crate::testing::TODAY;

const EXAMPLE: &str = "\
default::default.example.com
docker.io::my.example.com/mirror-
quay.io::quay.example3.com
gitlab.com::registry.example.com/gitlab
#gcr.io:: # a comment
cool.example::
registry.internal.example.org::registry.example.com
harbor.pks.example.org::harbor2.example.com ###### many signs
noswap_wildcards::example.org, walrus.example
# one image
[EXACT]ghcr.io/fantasy/tool:v1.0::local.example.com/patched-tool:latest
# images by a pattern
[REPLACE]ghcr.io/public*::local.example.com
";

const DIGEST: &str = "@sha256:15d3b5c4f521a84896ed1ead1b14e4774d02202d5c65ab68f30eeaf310a3b1a7";

#[test]
fn documented_example_has_imageswaps_answers() {
    let gloo = format!("solo/gloo:v1.2{DIGEST}");
    let (from, to) = (
        format!("quay.io/{gloo}"),
        format!("quay.example3.com/{gloo}"),
    );
    let policy = load("maps.conf", EXAMPLE).unwrap().policy;
    for (image, answer) in [
        ("nginx", "my.example.com/mirror-docker.io/nginx"),
        ("nginx:1.25", "my.example.com/mirror-docker.io/nginx:1.25"),
        (
            "library/nginx",
            "my.example.com/mirror-docker.io/library/nginx",
        ),
        (
            "docker.io/nginx:1.25",
            "my.example.com/mirror-docker.io/nginx:1.25",
        ),
        (
            "docker.io/library/nginx",
            "my.example.com/mirror-docker.io/library/nginx",
        ),
        (
            "bitnami/redis:7.2",
            "my.example.com/mirror-docker.io/bitnami/redis:7.2",
        ),
        (
            "index.docker.io/library/nginx",
            "default.example.com/library/nginx",
        ),
        ("quay.io/solo/gloo", "quay.example3.com/solo/gloo"),
        (&from, &to),
        ("quay.io:443/solo/gloo", "quay.example3.com:443/solo/gloo"),
        (
            "gitlab.com/group/app:3",
            "registry.example.com/gitlab/group/app:3",
        ),
        ("gcr.io/istio/pilot", "default.example.com/istio/pilot"),
        ("cool.example/a/b", "cool.example/a/b"),
        (
            "registry.internal.example.org/team/app",
            "registry.example.com/team/app",
        ),
        (
            "harbor.pks.example.org/team/app:1",
            "harbor2.example.com/team/app:1",
        ),
        ("other.example.org/team/app", "other.example.org/team/app"),
        ("img.walrus.example/a:1", "img.walrus.example/a:1"),
        (
            "ghcr.io/fantasy/tool:v1.0",
            "local.example.com/patched-tool:latest",
        ),
        (
            "ghcr.io/fantasy/tool:v1.1",
            "default.example.com/fantasy/tool:v1.1",
        ),
        ("ghcr.io/public/tools/curl:8", "local.example.com/curl:8"),
        (
            "localhost/app",
            "my.example.com/mirror-docker.io/localhost/app",
        ),
    ] {
        let selected = policy.select(Scope::Node, TODAY);
        let decision = selected.decide(image);
        assert_eq!(decision.result, answer, "{image}");
        // A swapped image is approved and stays.
        if decision.swapped() {
            assert!(decision.approved, "{image}");
            assert_eq!(selected.decide(answer).reason, Reason::AlreadyTarget);
        }
    }
}
