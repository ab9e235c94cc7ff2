//! What is said when there is no usable answer.

use postrider_core::attempt::Failure;
use tokio::net::TcpListener;

use crate::receiver::{NOW, Receiver, assert_failed, post, sender, target};

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    for response in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\u{0}\u{1}\u{2}garbage\r\n\r\n",
        "HTTP/1.1 two hundred\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
        &many_headers,
    ] {
        let receiver = Receiver::start({
            let response = response.to_owned();
            move |mut guest| {
                let response = response.clone();
                async move {
                    guest.request().await;
                    guest.write(response.as_bytes()).await;
                    guest.wait_for_close().await;
                }
            }
        })
        .await;
        let sender = sender();
        assert_failed(&sender.send(&receiver.target(), post(), NOW).await, Failure::Protocol);
        assert_eq!((receiver.requests(), sender.open_connections()), (1, 0));
    }
}

#[tokio::test]
async fn an_endless_head_is_a_protocol_failure() {
    for line in [format!("x: {}\r\n", "y".repeat(8000)), "z".repeat(8000)] {
        let receiver = Receiver::start(move |mut guest| {
            let line = line.clone();
            async move {
                guest.request().await;
                guest.write(b"HTTP/1.1 200 OK\r\n").await;
                while guest.write(line.as_bytes()).await {}
            }
        })
        .await;
        let detail = assert_failed(&sender().send(&receiver.target(), post(), NOW).await, Failure::Protocol).to_owned();
        assert!(detail.contains("too large"), "{detail}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_is_closed_and_the_request_was_sent_once() {
    for response in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
    ] {
        let receiver = Receiver::answering_once(response).await;
        let sender = sender();
        let report = sender.send(&receiver.target(), post(), NOW).await;
        assert_failed(&report, Failure::Closed);
        assert_eq!((receiver.connections(), receiver.requests(), sender.open_connections()), (1, 1, 0), "{response:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let report = sender().send(&target(&url), post(), NOW).await;
    assert_eq!(assert_failed(&report, Failure::Connect), "connection refused by the receiver");
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_failure() {
    let report = sender().send(&target("http://nowhere.invalid/"), post(), NOW).await;
    assert_eq!(assert_failed(&report, Failure::Dns), "the host name has no address");
}
