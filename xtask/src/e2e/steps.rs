//! The steps of a user.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Kubectl, Story};
use crate::site::NAMESPACE;
use crate::ui;

const NAMESPACES: [&str; 3] = ["test1", "test2", "test3"];
const ARTICLE: &str = "docker.io/devopstales/testimage:unsigned";
const SWAPPED: &str = "registry.example.com/devopstales/testimage:unsigned";

/// Runs every step; the error names the one that failed.
pub(super) fn tell(story: &Story<'_>) -> Result<()> {
    ui::heading("A maps file, as ImageSwap has it");
    story.step(
        "ConfigMap imageswap-maps: everything from registry.example.com",
        |it| it.apply("examples/maps"),
    )?;
    story.step(
        "kubectl create ns test1; label it k8s.twr.io/imageswap=enabled",
        |it| {
            it.namespace("test1")?;
            it.kubectl
                .run("label ns test1 k8s.twr.io/imageswap=enabled")?;
            Ok(())
        },
    )?;
    story.step(
        "a Deployment's Pod is swapped; the Deployment is as it was written",
        |it| {
            it.kubectl.run(&format!(
                "-n test1 create deployment unsigned-my --image={ARTICLE}"
            ))?;
            it.pods("test1", "app=unsigned-my", SWAPPED)?;
            let path = "jsonpath={.spec.template.spec.containers[0].image}";
            let image = it
                .kubectl
                .run(&format!("-n test1 get deployment unsigned-my -o {path}"))?;
            ensure!(image == ARTICLE, "the Deployment has {image}");
            Ok(())
        },
    )?;
    story.step("with the label disabled on its Pod template it is left alone", |it| {
        let patch = r#"{"spec":{"template":{"metadata":{"labels":{"k8s.twr.io/imageswap":"disabled"}}}}}"#;
        it.kubectl.run(&format!("-n test1 patch deployment unsigned-my -p {patch}"))?;
        it.pods("test1", "k8s.twr.io/imageswap=disabled", ARTICLE)
    })?;
    story.step("so are the Pods of a namespace without the label", |it| {
        it.namespace("test2")?;
        it.kubectl.run("-n test2 run plain --image=nginx")?;
        it.pods("test2", "run=plain", "nginx")
    })?;

    ui::heading("An ImageSwapPolicy, which refuses");
    story.step(
        "kubectl apply -f deploy/examples/policy.yaml; it is accepted",
        |it| {
            it.apply("examples/policy")?;
            it.until("the policy is accepted", |it| {
                let path = r#"jsonpath={.status.conditions[?(@.type=="Accepted")].status}"#;
                Ok(it.kubectl.run(&format!("get isp corp -o {path}"))? == "True")
            })
        },
    )?;
    story.step(
        "a Pod is swapped in any namespace, and its note has the original image",
        |it| {
            it.namespace("test3")?;
            it.kubectl.run("-n test3 run good --image=nginx")?;
            it.pods("test3", "run=good", "registry.example.com/library/nginx")?;
            let path = r"jsonpath={.metadata.annotations.imageswap\.io/note}";
            let note = it
                .kubectl
                .run(&format!("-n test3 get pod good -o {path}"))?;
            ensure!(
                note.contains(r#""good":{"image":"nginx""#),
                "the note is {note:?}"
            );
            Ok(())
        },
    )?;
    story.refused(
        "a Pod from elsewhere is refused",
        "-n test3 run evil --image=evil.io/x",
        "",
        &[
            "Registry is not allowed",
            "container evil",
            "evil.io/x",
            "registry.example.com/**",
        ],
    )?;
    story.refused(
        "so is a Deployment of such, where it is written",
        "-n test3 create deployment evil --image=evil.io/x",
        "",
        &["Registry is not allowed", "evil.io/x"],
    )?;
    story.step("a new image of the Pod is swapped", |it| {
        it.kubectl.run("-n test3 set image pod/good good=redis:7")?;
        it.pods("test3", "run=good", "registry.example.com/library/redis:7")
    })?;
    story.refused(
        "or refused",
        "-n test3 set image pod/good good=evil.io/x",
        "",
        &["evil.io/x"],
    )?;
    story.step("an ephemeral container is swapped", ephemeral)?;
    let bad = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: bad}\n\
               spec: {rules: [{from: 'docker.io/**', to: hub}]}\n";
    story.refused(
        "a policy that leads nowhere is refused, by field",
        "apply -f -",
        bad,
        &["ImageSwapPolicy bad does not load", "spec.rules[0].to: "],
    )?;
    story.refused(
        "and one with a field that there is not",
        "apply -f -",
        &bad.replace("rules", "rulez"),
        &["spec.rulez: ", "write `rules`"],
    )?;
    let garbage = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: imageswap-maps, namespace: {NAMESPACE}}}\ndata: {{maps: x}}"
    );
    story.refused(
        "so is an invalid maps file",
        "apply -f -",
        &garbage,
        &["imageswap-maps does not load"],
    )
}

/// Removes what the steps created, if it exists.
pub(super) fn tidy(kubectl: &Kubectl) {
    for what in [
        "isp corp".to_owned(),
        format!("-n {NAMESPACE} configmap imageswap-maps"),
        format!("namespace {}", NAMESPACES.join(" ")),
    ] {
        drop(kubectl.run(&format!("delete {what} --ignore-not-found --wait=false")));
    }
}

fn ephemeral(story: &Story<'_>) -> Result<()> {
    let path = "/api/v1/namespaces/test3/pods/good/ephemeralcontainers";
    if story.kubectl.minor_version()? < 22 {
        // In that version a kind of its own, which only an experimental kubectl command supports.
        let containers = r#"{"apiVersion":"v1","kind":"EphemeralContainers","metadata":{"name":"good"},"ephemeralContainers":[
            {"name":"debug","image":"busybox","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}]}"#;
        story
            .kubectl
            .with(&format!("replace --raw {path} -f -"), containers)?;
    } else {
        story
            .kubectl
            .run("-n test3 debug good --image=busybox -c debug")?;
    }
    let pod = story.kubectl.run("-n test3 get pod good -o json")?;
    let pod: Value = serde_json::from_str(&pod).context("the Pod")?;
    let image = &pod["spec"]["ephemeralContainers"][0]["image"];
    ensure!(
        image == "registry.example.com/library/busybox",
        "it has {image}"
    );
    Ok(())
}
