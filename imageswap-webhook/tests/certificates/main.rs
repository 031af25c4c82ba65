//! Keeps certificates in a Secret of a real API server, with exactly the rights of the manifests.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod calls;
mod cluster;
mod replica;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use imageswap_lab::require;
use imageswap_runtime::tls::Connector;
use tokio::time::Instant;

use cluster::{Cluster, MUTATING, VALIDATING};
use replica::{NAME, SECRET, eventually};

/// Lifetimes with which an authority is replaced every half minute or so.
const QUICK: &str =
    "--tls-leaf-lifetime 9s --tls-ca-lifetime 45s --tls-propagation 3s --tls-san localhost";

#[tokio::test(flavor = "multi_thread")]
async fn replicas_wait_for_the_secret_and_agree_about_it() {
    let cluster = require!(Cluster::start("certificates-agree").await);
    cluster.configurations();
    let replicas = [cluster.replica(QUICK).await, cluster.replica(QUICK).await];
    tokio::time::sleep(Duration::from_secs(1)).await;
    for replica in &replicas {
        assert!(!replica.is_ready());
        assert_eq!(replica.tls.not_after(), None);
    }
    cluster.secret("");
    for replica in &replicas {
        eventually("a certificate", async || replica.is_ready()).await;
    }
    eventually("both caBundles", async || {
        let bundles = cluster.bundles().await;
        bundles.len() == 3
            && bundles
                .iter()
                .all(|held| *held == bundles[0] && !held.is_empty())
    })
    .await;
    let connector = Connector::new(&cluster.bundles().await[0]).unwrap();
    let mut leaves = BTreeSet::new();
    for replica in &replicas {
        let mut connection = replica.connect(&connector, NAME).await.unwrap();
        leaves.insert(connection.leaf());
        connection.ping().await.unwrap();
    }
    assert_eq!(leaves.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_leaves_and_authorities_are_replaced() {
    let cluster = require!(Cluster::start("certificates-rotate").await);
    cluster.secret("");
    cluster.configurations();
    let replicas = [cluster.replica(QUICK).await, cluster.replica(QUICK).await];
    for replica in &replicas {
        eventually("a certificate", async || replica.is_ready()).await;
    }
    eventually("a caBundle", async || {
        !cluster.bundles().await[0].is_empty()
    })
    .await;

    // An API server may use a caBundle that was replaced a second ago.
    let mut bundles = VecDeque::from([(Instant::now(), cluster.bundles().await.remove(0))]);
    let first = Connector::new(&bundles[0].1).unwrap();
    let mut kept = vec![];
    for replica in &replicas {
        kept.push(replica.connect(&first, NAME).await.unwrap());
    }
    let (mut leaves, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    let (mut requests, mut most) = (0, 0);
    let deadline = Instant::now() + Duration::from_mins(3);
    while authorities.len() < 3 && Instant::now() < deadline {
        bundles.push_back((Instant::now(), cluster.bundles().await.remove(0)));
        while bundles[1].0.elapsed() > Duration::from_secs(1) {
            bundles.pop_front();
        }
        for (_, bundle) in [&bundles[0], &bundles[bundles.len() - 1]] {
            let connector = Connector::new(bundle).unwrap();
            let text = String::from_utf8_lossy(bundle);
            most = most.max(text.matches("BEGIN").count());
            authorities.insert(text.split_inclusive("-----END").next().unwrap().to_owned());
            for replica in &replicas {
                let mut connection = replica.connect(&connector, NAME).await.unwrap();
                connection.ping().await.unwrap();
                leaves.insert(connection.leaf());
                requests += 1;
            }
        }
        for connection in &mut kept {
            connection.ping().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!(
        "{requests} requests, {} leaves, {} authorities, at most {most} in a bundle",
        leaves.len(),
        authorities.len()
    );
    assert_eq!(authorities.len(), 3, "rotations of the authority");
    assert!(leaves.len() >= 8, "{} leaves", leaves.len());
    assert_eq!(most, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_put_right() {
    let mut cluster = require!(Cluster::start("certificates-others").await);
    cluster.secret("");
    cluster.configurations();
    let replicas = [cluster.replica("").await, cluster.replica("").await];
    for replica in &replicas {
        eventually("a certificate", async || replica.is_ready()).await;
    }
    let settled = async |cluster: &Cluster| {
        let bundles = cluster.bundles().await;
        bundles
            .iter()
            .all(|held| !held.is_empty())
            .then_some(bundles)
    };
    eventually("a caBundle", async || settled(&cluster).await.is_some()).await;
    let bundles = settled(&cluster).await.unwrap();
    let restored = async || cluster.bundles().await == bundles;

    // Garbage in one webhook, none in the other.
    let path = "/webhooks/0/clientConfig/caBundle";
    for patch in [
        format!(r#"[{{"op":"replace","path":"{path}","value":"Z2FyYmFnZQ=="}}]"#),
        format!(r#"[{{"op":"remove","path":"{path}"}}]"#),
    ] {
        for configuration in [MUTATING, VALIDATING] {
            let args = [
                "patch",
                configuration,
                "imageswap",
                "--type=json",
                "-p",
                &patch,
            ];
            cluster.plane.kubectl(args).unwrap();
        }
        eventually("the caBundle again", restored).await;
    }
    // Applying the shipped manifests removes nothing, and causes no conflict.
    for flags in [&["--server-side"][..], &["--server-side"], &[]] {
        let before = cluster.versions().await;
        cluster.apply_configurations(flags);
        assert_eq!(cluster.bundles().await, bundles, "{flags:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(cluster.bundles().await, bundles, "{flags:?}");
        eprintln!("{flags:?}: {before:?} to {:?}", cluster.versions().await);
    }
    // An emptied Secret gets its content back; so clients continue to trust it.
    let held = cluster.secret_data().await;
    let clear = r#"{"data":null,"metadata":{"annotations":null}}"#;
    cluster.patch_secret(clear);
    eventually("the Secret's data again", async || {
        cluster.secret_data().await == held
    })
    .await;
    assert_eq!(cluster.bundles().await, bundles);
    // A damaged leaf is replaced by a new one of the same authority.
    let damage = r#"{"data":{"tls.crt":"Z2FyYmFnZQ=="}}"#;
    cluster.patch_secret(damage);
    eventually("another leaf", async || {
        let now = cluster.secret_data().await;
        now["tls.crt"] != held["tls.crt"]
            && now["tls.crt"].0.starts_with(b"-----BEGIN")
            && now["ca.key"] == held["ca.key"]
    })
    .await;
    // Without an API server the certificate is still served.
    cluster.plane.stop_apiserver();
    let connector = Connector::new(&bundles[0]).unwrap();
    for replica in &replicas {
        replica
            .connect(&connector, NAME)
            .await
            .unwrap()
            .ping()
            .await
            .unwrap();
        assert!(replica.is_ready());
    }
    cluster.plane.start_apiserver().unwrap();
    // On demand, with the caBundle first.
    let args = [
        "-n",
        "imageswap-system",
        "annotate",
        "secret",
        SECRET,
        "imageswap.io/rotate-ca=now",
    ];
    cluster.plane.kubectl(args).unwrap();
    eventually("the next authority", async || {
        let data = cluster.secret_data().await;
        data.contains_key("next-ca.key") && cluster.bundles().await[0] == data["ca.crt"].0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_certificate_is_served_and_nothing_is_written() {
    let cluster = require!(Cluster::start("certificates-given").await);
    cluster.configurations();
    let dir = tempfile::tempdir().unwrap();
    let ca = replica::self_signed(dir.path());
    cluster.secret(&cluster::data(dir.path(), ["tls.crt", "tls.key", "ca.crt"]));
    let before = (cluster.versions().await, cluster.secret_data().await);
    let replica = cluster.replica(QUICK).await;
    eventually("a certificate", async || replica.is_ready()).await;
    let connector = Connector::new(&ca).unwrap();
    let mut connection = replica.connect(&connector, "localhost").await.unwrap();
    connection.ping().await.unwrap();
    // Longer than the lifetime of a leaf of ours.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        (cluster.versions().await, cluster.secret_data().await),
        before
    );
}
