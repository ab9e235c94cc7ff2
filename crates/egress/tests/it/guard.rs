//! Addresses that must not be reached are not reached.

use std::io::ErrorKind;
use std::net::TcpListener;

use postrider_core::attempt::Failure;
use postrider_egress::{Options, Sender};

use crate::receiver::{NOW, OK, Receiver, assert_failed, assert_status, post, sender, target};

#[tokio::test]
async fn this_machine_is_refused_by_every_name_and_nothing_is_dialed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sender = Sender::new(Options::default()).unwrap();
    for host in ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "0", "[::ffff:127.0.0.1]", "[::1]"] {
        let report = sender.send(&target(&format!("http://{host}:{port}/")), post(), NOW).await;
        let detail = assert_failed(&report, Failure::Forbidden);
        assert!(detail.contains("[egress] allow") && !detail.contains("127."), "{detail}");
        let dialed = listener.accept();
        assert_eq!(dialed.expect_err(host).kind(), ErrorKind::WouldBlock);
        assert_eq!(sender.open_connections(), 0);
    }
}

#[tokio::test]
async fn a_name_is_reached_where_its_address_is_allowed() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://localhost:{}/", receiver.address.port());
    assert_status(&sender().send(&target(&url), post(), NOW).await, 200);
}
