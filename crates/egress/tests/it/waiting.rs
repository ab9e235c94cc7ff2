//! One deadline for the whole exchange, whatever it is spent on.

use std::time::Duration;

use postrider_core::attempt::Failure;
use postrider_core::time::Millis;

use crate::receiver::{NOW, Receiver, assert_failed, post_within, sender};

const LIMIT: Duration = Duration::from_millis(150);

async fn ends_at_the_deadline(receiver: Receiver) {
    let sender = sender();
    let report = sender.send(&receiver.target(), post_within(LIMIT), NOW).await;
    assert_eq!(assert_failed(&report, Failure::Timeout), "no whole answer within 150ms");
    assert!(report.took >= Millis(150), "{:?}", report.took);
    assert!(report.took < Millis(5000), "{:?}", report.took);
    assert_eq!((receiver.requests(), sender.open_connections()), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_never_answers() {
    ends_at_the_deadline(
        Receiver::start(|mut guest| async move {
            guest.request().await;
            guest.wait_for_close().await;
        })
        .await,
    )
    .await;
}

#[tokio::test]
async fn a_body_that_drips() {
    ends_at_the_deadline(
        Receiver::start(|mut guest| async move {
            guest.request().await;
            guest.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while guest.write(b"x").await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await,
    )
    .await;
}

#[tokio::test]
async fn endless_interim_answers() {
    ends_at_the_deadline(
        Receiver::start(|mut guest| async move {
            guest.request().await;
            while guest.write(b"HTTP/1.1 102 Processing\r\n\r\n").await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await,
    )
    .await;
}
