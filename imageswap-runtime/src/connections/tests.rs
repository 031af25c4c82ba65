use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 4,
    per_peer: 4,
    strangers: None,
    answers_prove: true,
    head: Duration::from_secs(1),
    body: Duration::from_secs(2),
    write: Duration::from_secs(3),
    idle: Duration::from_secs(4),
};

fn peer(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A connection whose handshake is done.
fn open(all: &Arc<Connections>, last: u8) -> Place {
    let (place, _) = all.admit(peer(last));
    let place = place.unwrap();
    place.established(false);
    place
}

/// Answers a request, and the client reads the answer.
fn answer(place: &Place) {
    place.answered(true);
    place.flushed();
}

fn closing(place: &Place) -> Closing {
    place.connection.take_closing()
}

fn ticks(all: &Connections, time: Duration) -> Vec<Closed> {
    let mut closed = Vec::new();
    for _ in 0..time.as_millis() / TICK.as_millis() {
        all.tick(|why| closed.push(why));
    }
    closed
}

fn is_answered(all: &Connections, place: &Place) -> bool {
    place.connection.standing(all.micros()).is_proven()
}

/// Polls the connection's work once, which then waits for the client, or for something else if a request is busy.
async fn poll_once(place: &Place) {
    let work = place.until_closed(std::future::pending::<()>(), |_| ());
    assert!(futures::poll!(pin!(work)).is_pending());
}

fn waited(place: &Place, microseconds: u64) {
    place.connection.waited.store(microseconds, Relaxed);
}

#[test]
fn unproven_connections_make_room_first() {
    let all = Connections::new(LIMITS);
    let served = open(&all, 1);
    answer(&served);
    // Not even a connection that was served an hour ago.
    ticks(&all, Duration::from_hours(1));
    let silent = [open(&all, 2), open(&all, 3), open(&all, 4)];
    let (new, closed) = all.admit(peer(5));
    assert!(new.is_some());
    assert_eq!(closed, Some(Closed::Crowded));
    assert_eq!(closing(&silent[0]), Closing::Now);
    assert_eq!(closing(&served), Closing::IfIdle, "it has idled, no more");
    assert_eq!(all.count().0, 4);
}

#[test]
fn heads_and_bodies_prove_nothing() {
    let all = Connections::new(LIMITS);
    let hostile = [open(&all, 1), open(&all, 2), open(&all, 3), open(&all, 4)];
    for place in &hostile {
        place.heard();
        place.begun();
    }
    let silent = all.admit(peer(5)).0.unwrap();
    assert_eq!(closing(&hostile[0]), Closing::Now);
    assert!(all.admit(peer(6)).0.is_some());
    assert_eq!(closing(&hostile[1]), Closing::Now);
    assert_eq!(closing(&silent), Closing::No);
}

#[test]
fn a_bad_answer_proves_nothing() {
    let all = Connections::new(LIMITS);
    let place = open(&all, 1);
    place.answered(false);
    place.flushed();
    assert!(!is_answered(&all, &place));
    // Nor does a good one that is not read.
    place.answered(true);
    place.stuck();
    assert!(!is_answered(&all, &place));
    place.flushed();
    place.answered(false);
    assert!(is_answered(&all, &place));
}

#[test]
fn answered_connections_make_room_by_age_once_they_are_more_than_half() {
    let all = Connections::new(LIMITS);
    let places: Vec<_> = (0..4).map(|last| open(&all, last)).collect();
    for place in &places {
        answer(place);
        ticks(&all, TICK);
    }
    // Somebody who was answered before them is answered again.
    answer(&places[0]);
    let mut new = Vec::new();
    for _ in 0..20 {
        let place = all.admit(peer(9)).0.expect("a new connection has a place");
        place.established(false);
        new.push(place);
    }
    assert_eq!(closing(&places[1]), Closing::Now);
    assert_eq!(closing(&places[2]), Closing::Now);
    assert_eq!(closing(&places[3]), Closing::No);
    assert_eq!(closing(&places[0]), Closing::No);
}

#[test]
fn a_connection_in_use_outlives_those_that_are_answered_now_and_then() {
    let all = Connections::new(LIMITS);
    let used = open(&all, 1);
    for _ in 0..IN_USE {
        answer(&used);
        ticks(&all, TICK);
    }
    let mut seldom = Vec::new();
    for last in 2..50 {
        let place = open(&all, last);
        assert_eq!(closing(&place), Closing::No);
        answer(&place);
        ticks(&all, TICK);
        seldom.push(place);
    }
    assert_eq!(closing(&used), Closing::IfIdle, "it has idled, no more");
    // A pause ends the row.
    answer(&used);
    let now = all.micros();
    assert!(matches!(
        used.connection.standing(now),
        Standing::Answered { .. }
    ));
}

#[test]
fn who_has_let_the_server_wait_the_longest_makes_room_first() {
    let all = Connections::new(LIMITS);
    let places: Vec<_> = (0..4).map(|_| open(&all, 1)).collect();
    for (place, microseconds) in places.iter().zip([10, 40, 30, 20]) {
        waited(place, microseconds);
    }
    // A byte now and then does not help.
    places[1].heard();
    let first = all.admit(peer(1)).0.unwrap();
    assert_eq!(closing(&places[1]), Closing::Now);
    let _second = all.admit(peer(1)).0.unwrap();
    assert_eq!(closing(&places[2]), Closing::Now);
    assert_eq!(closing(&first), Closing::No, "it has let nobody wait yet");
    assert_eq!(closing(&places[0]), Closing::No);
}

#[tokio::test]
async fn waiting_counts_until_the_first_good_answer_and_not_while_a_request_is_answered() {
    let all = Connections::new(LIMITS);
    let place = open(&all, 1);
    let waits = |place: &Place| place.connection.waiting.load(Relaxed) != 0;
    let pause = Duration::from_millis(2);
    assert!(!waits(&place), "nobody has looked at it yet");
    poll_once(&place).await;
    assert!(waits(&place));
    std::thread::sleep(pause);
    let Standing::Unproven {
        waited: Reverse(so_far),
    } = place.connection.standing(all.micros())
    else {
        panic!("it was never answered");
    };
    assert!(so_far >= 2000, "{so_far}");

    place.arrived();
    poll_once(&place).await;
    assert!(!waits(&place));
    let before = place.connection.waited.load(Relaxed);
    assert!(before >= 2000, "{before}");
    std::thread::sleep(pause);
    place.answered(false);
    poll_once(&place).await;
    assert_eq!(place.connection.waited.load(Relaxed), before);
    assert!(waits(&place));

    answer(&place);
    poll_once(&place).await;
    assert!(!waits(&place));
}

#[test]
fn a_crowd_of_one_peer_makes_room_first() {
    let all = Connections::new(LIMITS);
    let alone = open(&all, 1);
    let crowd = [open(&all, 2), open(&all, 2), open(&all, 2)];
    assert!(all.admit(peer(3)).0.is_some());
    assert_eq!(closing(&crowd[0]), Closing::Now);
    assert_eq!(closing(&alone), Closing::No);
}

#[test]
fn a_peer_has_a_share() {
    let all = Connections::new(ConnectionLimits {
        per_peer: 2,
        ..LIMITS
    });
    let other = open(&all, 1);
    let own = [open(&all, 2), open(&all, 2)];
    let (third, closed) = all.admit(peer(2));
    assert!(third.is_some());
    assert_eq!(closed, Some(Closed::Crowded));
    assert_eq!(closing(&own[0]), Closing::Now);
    assert_eq!(closing(&other), Closing::No);
    // One address in two spellings counts as one peer.
    own[1].arrived();
    let third = third.unwrap();
    third.arrived();
    let mapped = "::ffff:10.0.0.2".parse().unwrap();
    assert!(all.admit(mapped).0.is_none());
}

#[test]
fn requests_that_are_being_answered_keep_their_place() {
    let all = Connections::new(LIMITS);
    let busy: Vec<_> = (0..4).map(|last| open(&all, last)).collect();
    for place in &busy {
        place.arrived();
    }
    assert_eq!(all.count(), (4, 4));
    let (place, closed) = all.admit(peer(9));
    assert!(place.is_none());
    assert_eq!(closed, Some(Closed::Crowded));
    busy[2].answered(false);
    assert!(all.admit(peer(9)).0.is_some());
    assert_eq!(closing(&busy[2]), Closing::Now);
}

#[test]
fn half_handshakes_push_each_other_out() {
    let all = Connections::new(LIMITS);
    let served = open(&all, 1);
    answer(&served);
    let half: Vec<_> = (0..3).map(|_| all.admit(peer(2)).0.unwrap()).collect();
    for (place, microseconds) in half.iter().zip([2, 3, 1]) {
        waited(place, microseconds);
    }
    let fourth = all.admit(peer(1)).0.unwrap();
    assert_eq!(closing(&half[1]), Closing::Now);
    assert_eq!(closing(&half[0]), Closing::No);
    assert_eq!(closing(&served), Closing::No);
    drop(fourth);
}

#[test]
fn strangers_have_a_share_and_go_before_clients_that_prove_who_they_are() {
    let all = Connections::new(ConnectionLimits {
        strangers: Some(1),
        ..LIMITS
    });
    let known = all.admit(peer(1)).0.unwrap();
    assert_eq!(known.established(true), None);
    let first = open(&all, 2);
    let second = all.admit(peer(3)).0.unwrap();
    assert_eq!(second.established(false), Some(Closed::Crowded));
    assert_eq!(closing(&first), Closing::Now);
    // Also a stranger that has just been answered, if strangers have taken more than half of their places that way.
    answer(&second);
    let third = all.admit(peer(4)).0.unwrap();
    assert_eq!(third.established(false), Some(Closed::Crowded));
    assert_eq!(closing(&second), Closing::Now);
    assert_eq!(closing(&third), Closing::No);
    ticks(&all, RECENT + TICK);
    for last in 10..20 {
        let place = all.admit(peer(last)).0.unwrap();
        place.established(false);
    }
    assert!(matches!(closing(&known), Closing::No | Closing::IfIdle));
}

#[test]
fn slow_clients_have_their_time() {
    let all = Connections::new(LIMITS);
    let [idle, head, body, busy] = [1, 2, 3, 4].map(|last| open(&all, last));
    head.heard();
    for place in [&body, &busy] {
        place.heard();
        place.begun();
    }
    busy.arrived();
    assert_eq!(ticks(&all, LIMITS.head), []);
    // More bytes of the same head do not extend its time.
    head.heard();
    assert_eq!(ticks(&all, TICK), [Closed::SlowHead]);
    assert_eq!(closing(&head), Closing::Now);
    drop(head);
    assert_eq!(
        ticks(&all, LIMITS.body.saturating_sub(LIMITS.head)),
        [Closed::SlowBody]
    );
    assert_eq!(closing(&body), Closing::Now);
    drop(body);
    assert_eq!(
        ticks(&all, LIMITS.idle.saturating_sub(LIMITS.body)),
        [Closed::Idle]
    );
    assert_eq!(closing(&idle), Closing::IfIdle);
    drop(idle);
    assert_eq!(ticks(&all, LIMITS.idle * 10), []);
    assert_eq!(closing(&busy), Closing::No);
    assert_eq!(all.count(), (1, 1));
    drop(busy);
    assert_eq!(all.count(), (0, 0));
}

#[test]
fn a_client_that_reads_slowly_is_closed_at_last() {
    let all = Connections::new(LIMITS);
    let place = open(&all, 1);
    place.stuck();
    ticks(&all, LIMITS.write);
    // It reads a byte now and then, and stops again at once.
    place.stuck();
    assert_eq!(ticks(&all, TICK), [Closed::SlowRead]);
    assert_eq!(closing(&place), Closing::Now);
    drop(place);
    let other = open(&all, 2);
    other.stuck();
    ticks(&all, LIMITS.write);
    other.flushed();
    assert_eq!(ticks(&all, TICK * 2), []);
}
