//! What is sent, and how all forms of answers are read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postrider_core::attempt::{Answer, KEPT_BODY};
use postrider_core::time::Millis;
use postrider_egress::{CallError, Headers, Method};

use crate::receiver::{NOW, OK, Receiver, assert_status, post, sender, target};

#[tokio::test]
async fn the_request_is_what_was_given_and_its_framing() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let receiver = Receiver::start(move |mut guest| {
        let keep = keep.clone();
        async move {
            while let Some(request) = guest.request().await {
                keep.lock().unwrap().push(request);
                guest.write(OK).await;
            }
        }
    })
    .await;
    let mut post = post();
    post.headers = Headers::of_owner([("x-mine", "1"), ("transfer-encoding", "chunked")]);
    let url = format!("http://{}/a/b?c=d#e", receiver.address);
    assert_status(&sender().send(&target(&url), post, NOW).await, 200);
    let expected = format!("POST /a/b?c=d HTTP/1.1\r\nhost: {}\r\nx-mine: 1\r\ncontent-length: 8\r\n\r\n{{\"id\":1}}", receiver.address);
    assert_eq!(*seen.lock().unwrap(), [expected]);
}

/// A body in which every place looks different.
pub(crate) fn large_body() -> Bytes {
    (0..4 << 20).step_by(8).flat_map(|at: u32| format!("{at:07} ").into_bytes()).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn a_large_body_is_sent_whole() {
    let (tell, mut seen) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::start(move |mut guest| {
        let tell = tell.clone();
        async move {
            let request = guest.request().await.unwrap();
            tell.send(request).await.unwrap();
            guest.write(OK).await;
        }
    })
    .await;
    let mut post = post();
    post.body = large_body();
    let (sender, target) = (sender(), receiver.target());
    let (report, request) = tokio::join!(sender.send(&target, post.clone(), NOW), seen.recv());
    assert_status(&report, 200);
    assert!(request.unwrap().as_bytes().ends_with(&post.body), "the body was altered on its way");
}

#[tokio::test]
async fn a_receiver_may_answer_before_it_has_the_whole_request() {
    const ANSWER: &[u8] = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    for holds in [true, false] {
        let receiver = Receiver::start(move |mut guest| async move {
            guest.stream.readable().await.unwrap();
            guest.write(ANSWER).await;
            if holds {
                std::future::pending::<()>().await; // and reads nothing
            }
        })
        .await;
        let (sender, mut post) = (sender(), post());
        post.body = large_body();
        assert_status(&sender.send(&receiver.target(), post, NOW).await, 413);
        assert_eq!((receiver.connections(), sender.open_connections()), (1, 0));
    }
}

#[tokio::test]
async fn every_form_of_body_is_read_and_the_connection_kept_where_it_can_be() {
    for (response, code, body, connections) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", 1),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", 1),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, "", 1),
        ("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nx-trailer: 1\r\n\r\n", 202, "ok", 1),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
            201,
            "",
            1,
        ),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\noops", 500, "oops", 1),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 101, "", 2),
    ] {
        let receiver = Receiver::answering(response).await;
        let sender = sender();
        for _ in 0..2 {
            let report = sender.send(&receiver.target(), post(), NOW).await;
            assert_status(&report, code);
            assert_eq!(report.body, body, "{response:?}");
            assert_eq!(report.started, NOW);
        }
        assert_eq!(receiver.connections(), connections, "{response:?}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let receiver = Receiver::answering_once("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    let report = sender().send(&receiver.target(), post(), NOW).await;
    assert_status(&report, 200);
    assert_eq!(report.body, "all of it");
}

#[tokio::test]
async fn the_beginning_of_a_long_body_is_kept() {
    let body = "0123456789".repeat(2000);
    let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    let sender = sender();
    for _ in 0..2 {
        let report = sender.send(&receiver.target(), post(), NOW).await;
        assert_status(&report, 200);
        assert_eq!(report.body, body[..KEPT_BODY]);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn an_endless_body_is_cut_off_and_judged_by_its_status() {
    let (tell, refused) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::start(move |mut guest| {
        let tell = tell.clone();
        async move {
            guest.request().await;
            guest.write(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\n\r\n").await;
            while guest.write(&[b'x'; 16 * 1024]).await {}
            tell.send(()).await.unwrap();
        }
    })
    .await;
    let sender = sender();
    let report = sender.send(&receiver.target(), post(), NOW).await;
    assert_eq!(report.answer, Answer::Status { code: 503, retry_after: Some(Millis(7000)) });
    assert_eq!(report.body.len(), KEPT_BODY);
    assert_eq!(sender.open_connections(), 0);
    let mut refused = refused;
    tokio::time::timeout(Duration::from_secs(10), refused.recv()).await.expect("the receiver sees the end");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Receiver::answering(OK).await;
    for code in [301, 302, 303, 307, 308] {
        let response = format!("HTTP/1.1 {code} Over there\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", elsewhere.address);
        let receiver = Receiver::answering(response).await;
        assert_status(&sender().send(&receiver.target(), post(), NOW).await, code);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_relative_to_the_attempt() {
    for (value, wait) in [
        ("120", Some(Millis(120_000))),
        ("Sun, 22 Nov 2026 12:01:00 GMT", Some(Millis(60_000))),
        ("Sun, 22 Nov 2026 11:00:00 GMT", Some(Millis(0))),
        ("later", None),
    ] {
        let receiver = Receiver::answering(format!("HTTP/1.1 429 Slow down\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n")).await;
        let report = sender().send(&receiver.target(), post(), NOW).await;
        assert_eq!(report.answer, Answer::Status { code: 429, retry_after: wait }, "{value}");
    }
}

#[tokio::test]
async fn a_call_gets_the_whole_answer_or_none() {
    let body = large_body();
    let head = format!("HTTP/1.1 404 No\r\nX-One: 1\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: {}\r\n\r\n", body.len());
    let receiver = Receiver::answering([head.as_bytes(), &body[..]].concat()).await;
    let sender = sender();
    let reply = sender.call(&receiver.target(), Method::Put, post(), body.len(), NOW).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (404, body.len()));
    assert!(reply.body == body, "the body was changed");
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers[..3], [("x-one", "1"), ("set-cookie", "a"), ("set-cookie", "b")]);
    let most = body.len() - 1;
    assert_eq!(sender.call(&receiver.target(), Method::Put, post(), most, NOW).await, Err(CallError::TooLarge { most }));
    assert_eq!(receiver.connections(), 1, "one that is cut off is not used again");
}
