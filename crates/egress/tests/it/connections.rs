//! How connections are kept, replaced and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use postrider_core::attempt::Failure;
use postrider_egress::Options;
use tokio::sync::Notify;

use crate::receiver::{NOW, OK, Receiver, assert_failed, assert_status, eventually, post, post_within, sender, sender_with, target};

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    for _ in 0..10 {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
    }
    assert_eq!((receiver.connections(), receiver.requests()), (1, 10));
    assert_eq!(sender.open_connections(), 1);
}

#[tokio::test]
async fn concurrent_requests_use_a_connection_each() {
    let receiver = Receiver::answering(OK).await;
    let (sender, target) = (sender(), receiver.target());
    for _ in 0..3 {
        for report in join_all((0..8).map(|_| sender.send(&target, post(), NOW))).await {
            assert_status(&report, 200);
        }
    }
    assert_eq!((receiver.connections(), receiver.requests()), (8, 24));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let closed = Arc::new(Notify::new());
    let tell = closed.clone();
    let receiver = Receiver::start(move |mut guest| {
        let tell = tell.clone();
        async move {
            guest.request().await;
            guest.write(OK).await;
            drop(guest);
            tell.notify_one();
        }
    })
    .await;
    let sender = sender();
    for _ in 0..3 {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
        closed.notified().await;
    }
    assert_eq!((receiver.connections(), receiver.requests()), (3, 3));
}

#[tokio::test]
async fn any_number_of_connections_closed_while_idle_is_replaced() {
    let (restart, ended) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (restart.clone(), ended.clone());
    let receiver = Receiver::start(move |mut guest| {
        let (told, count) = (told.clone(), count.clone());
        async move {
            let restarted = told.notified();
            guest.request().await;
            guest.write(OK).await;
            restarted.await;
            drop(guest);
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let (sender, target) = (sender(), receiver.target());
    join_all((0..200).map(|_| sender.send(&target, post(), NOW))).await;
    assert_eq!(sender.open_connections(), 200);
    restart.notify_waiters();
    eventually("all connections are closed", || ended.load(Ordering::SeqCst) == 200).await;
    assert_status(&sender.send(&target, post(), NOW).await, 200);
    assert_eq!((receiver.connections(), sender.open_connections()), (201, 1));
}

#[tokio::test]
async fn what_comes_unasked_is_never_taken_for_an_answer() {
    let receiver = Receiver::start(|mut guest| async move {
        while guest.request().await.is_some() {
            guest.write(OK).await;
            guest.write(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let sender = sender();
    for _ in 0..20 {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
        tokio::task::yield_now().await; // the receiver's second write
    }
    assert_eq!(receiver.requests(), 20);
}

#[tokio::test]
async fn a_request_that_may_have_been_seen_is_never_sent_again() {
    // Kept open after the first request, closed upon the second.
    let receiver = Receiver::start(|mut guest| async move {
        guest.request().await;
        guest.write(OK).await;
        guest.request().await;
    })
    .await;
    let sender = sender();
    assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
    assert_failed(&sender.send(&receiver.target(), post(), NOW).await, Failure::Closed);
    assert_eq!((receiver.connections(), receiver.requests()), (1, 2));
    assert_eq!(sender.open_connections(), 0);
}

#[tokio::test]
async fn a_connection_is_not_kept_when_the_receiver_says_so() {
    for response in
        ["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"]
    {
        let receiver = Receiver::answering(response).await;
        let sender = sender();
        for _ in 0..2 {
            assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
            assert_eq!(sender.open_connections(), 0);
        }
        assert_eq!(receiver.connections(), 2);
    }
}

#[tokio::test]
async fn dropping_a_send_closes_its_connection() {
    let (asked, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell_asked, tell_closed) = (asked.clone(), closed.clone());
    let receiver = Receiver::start(move |mut guest| {
        let (tell_asked, tell_closed) = (tell_asked.clone(), tell_closed.clone());
        async move {
            guest.request().await;
            tell_asked.notify_one();
            guest.wait_for_close().await;
            tell_closed.notify_one();
        }
    })
    .await;
    let (sender, target) = (sender(), receiver.target());
    tokio::select! {
        report = sender.send(&target, post(), NOW) => panic!("{report:?}"),
        () = asked.notified() => {}
    }
    tokio::time::timeout(Duration::from_secs(10), closed.notified()).await.expect("the receiver sees the end");
    assert_eq!(sender.open_connections(), 0);
}

#[tokio::test]
async fn no_more_connections_are_open_than_allowed() {
    let now_open = Arc::new(AtomicUsize::new(0));
    let most_open = Arc::new(AtomicUsize::new(0));
    let (now, most) = (now_open.clone(), most_open.clone());
    let receiver = Receiver::start(move |mut guest| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while guest.request().await.is_some() {
                guest.write(OK).await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let (sender, target) = (sender_with(Options { max_connections: 2, ..Options::default() }), receiver.target());
    for report in join_all((0..20).map(|_| sender.send(&target, post(), NOW))).await {
        assert_status(&report, 200);
    }
    assert!(most_open.load(Ordering::SeqCst) <= 2);
    assert_eq!(receiver.requests(), 20);
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_a_needed_one() {
    let (one, other) = (Receiver::answering(OK).await, Receiver::answering(OK).await);
    let sender = sender_with(Options { max_connections: 1, ..Options::default() });
    for receiver in [&one, &other, &one, &one, &other] {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
        assert_eq!(sender.open_connections(), 1);
    }
    assert_eq!((one.connections(), other.connections()), (2, 2));
}

#[tokio::test]
async fn waiting_for_a_free_connection_ends_at_the_deadline() {
    let hanging = Receiver::start(|mut guest| async move { guest.wait_for_close().await }).await;
    let (sender, target) = (sender_with(Options { max_connections: 1, ..Options::default() }), hanging.target());
    let (long, short) = (Duration::from_millis(600), Duration::from_millis(100));
    let (first, second) = tokio::join!(sender.send(&target, post_within(long), NOW), sender.send(&target, post_within(short), NOW));
    assert_failed(&first, Failure::Timeout);
    assert!(assert_failed(&second, Failure::Timeout).contains("none of our connections"));
    assert_eq!(hanging.connections(), 1);
}

#[tokio::test]
async fn idle_connections_are_bounded_in_all_and_per_origin() {
    let mut receivers = Vec::new();
    for _ in 0..6 {
        receivers.push(Receiver::answering(OK).await);
    }
    let sender = sender_with(Options { max_idle: 4, max_idle_per_origin: 2, ..Options::default() });
    let same = receivers[0].target();
    join_all((0..5).map(|_| sender.send(&same, post(), NOW))).await;
    assert_eq!(sender.open_connections(), 2);
    for receiver in &receivers {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
    }
    assert_eq!(sender.open_connections(), 4);
    // The ones used last are those kept.
    for receiver in &receivers[2..] {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
        assert_eq!(receiver.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_is_closed_when_it_was_idle_for_too_long() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender_with(Options { idle_timeout: Duration::from_millis(500), ..Options::default() });
    for round in 1..=2 {
        assert_status(&sender.send(&receiver.target(), post(), NOW).await, 200);
        assert_eq!(sender.open_connections(), 1);
        eventually("the idle connection is closed", || sender.open_connections() == 0).await;
        assert_eq!(receiver.connections(), round);
    }
}

#[test]
fn a_sender_and_its_sends_may_move_between_threads() {
    fn can_move<T: Send>(_: &T) {}
    let sender = sender();
    can_move(&sender);
    can_move(&sender.send(&target("http://127.0.0.1/"), post(), NOW));
}
