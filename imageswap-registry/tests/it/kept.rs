//! Answers are kept, and shared by those who ask at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imageswap_lab::Act;
use imageswap_registry::{Credentials, Mirrors, Presence};
use tokio::time::Instant;

use crate::server::{client, manifest, missing, start};

/// Longer than a question takes.
fn patience() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_once() {
    let server = start(|head, _| match head {
        head if head.contains("/manifests/gone") => missing(head),
        _ => manifest(),
    })
    .await;
    let mirrors = Mirrors::new(client(&server));
    let image = format!("{}/x/y:1", server.name());
    let gone = format!("{}/x/y:gone", server.name());
    assert_eq!(mirrors.known(&image), None);
    let all = (0..50).map(|_| mirrors.ask([image.clone(), gone.clone()], patience()));
    futures::future::join_all(all).await;
    assert_eq!(mirrors.known(&image), Some(Presence::Present));
    assert_eq!(mirrors.known(&gone), Some(Presence::Missing));
    // HEAD, and for the missing one GET.
    assert_eq!(server.asked().len(), 3, "{:?}", server.asked());
    // Other credentials can see other images.
    mirrors.set_credentials(Credentials::none());
    assert_eq!(mirrors.known(&image), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_leaves_the_question_to_the_next() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let server = start(move |_, _| {
        // A thread that waits in the middle of a task must not be one that drives timers.
        tokio::task::block_in_place(|| {
            while !released.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        manifest()
    })
    .await;
    let mirrors = Mirrors::new(client(&server));
    let image = format!("{}/x/y:1", server.name());
    mirrors
        .ask([image.clone()], Instant::now() + Duration::from_millis(50))
        .await;
    assert_eq!(mirrors.known(&image), None);
    release.store(true, Ordering::Relaxed);
    mirrors.ask([image.clone()], patience()).await;
    assert_eq!(mirrors.known(&image), Some(Presence::Present));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_left_alone_for_a_while() {
    let server = start(|_, _| Act::Close).await;
    let mirrors = Mirrors::new(client(&server));
    let image = |tag: usize| format!("{}/x/y:{tag}", server.name());
    mirrors.ask([image(0)], patience()).await;
    let before = server.asked().len();
    mirrors.ask((1..200).map(image), patience()).await;
    for tag in 0..200 {
        let answer = mirrors.known(&image(tag));
        assert!(
            matches!(answer, Some(Presence::Unknown(_))),
            "{tag}: {answer:?}"
        );
    }
    assert_eq!(
        server.asked().len(),
        before,
        "the breaker lets nothing through"
    );
}
