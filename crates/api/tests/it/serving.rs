//! Connections and their end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{KEY, World, soon};

const BODY: &str = r#"{"type":"a.b","data":1}"#;

fn head(length: usize) -> String {
    format!("POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n")
}

/// Reads one response with a body.
async fn response(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if text.contains("\r\n\r\n") && text.ends_with('}') {
            return text;
        }
        assert_ne!(soon(stream.read_buf(&mut got)).await.unwrap(), 0, "{text}");
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished_when_the_server_stops() {
    let mut world = World::new().await;
    let mut idle = TcpStream::connect(&world.address).await.unwrap();
    idle.write_all(format!("{}{BODY}", head(BODY.len())).as_bytes()).await.unwrap();
    assert!(response(&mut idle).await.starts_with("HTTP/1.1 202 "));
    let mut busy = TcpStream::connect(&world.address).await.unwrap();
    busy.write_all(format!("{}{}", head(BODY.len()), &BODY[..5]).as_bytes()).await.unwrap();
    // The server is in the middle of it once it has answered a request that came later.
    idle.write_all(format!("{}{BODY}", head(BODY.len())).as_bytes()).await.unwrap();
    response(&mut idle).await;
    world.stop();
    assert_eq!(soon(idle.read(&mut [0; 8])).await.unwrap(), 0, "an idle connection is closed");
    busy.write_all(&BODY.as_bytes()[5..]).await.unwrap();
    let answer = response(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("connection: close"), "{answer}");
    world.stopped().await;
    assert!(TcpStream::connect(&world.address).await.is_err(), "nothing is accepted any more");
}

#[tokio::test]
async fn what_never_ends_is_cut_at_the_deadline() {
    let mut world = World::new().await;
    let mut busy = TcpStream::connect(&world.address).await.unwrap();
    busy.write_all(head(100).as_bytes()).await.unwrap();
    // As above: wait until the server has taken it.
    assert!(timeout(Duration::from_millis(100), busy.read(&mut [0; 8])).await.is_err());
    world.stop();
    world.stopped().await;
    assert_eq!(busy.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn pipelined_and_chunked_requests_are_served_on_one_connection() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    let plain = format!("{}{BODY}", head(BODY.len()));
    let chunked = head(0).replace("content-length: 0", "transfer-encoding: chunked");
    let pieces = format!("5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &BODY[..5], BODY.len() - 5, &BODY[5..]);
    stream.write_all(format!("{plain}{plain}{chunked}{pieces}").as_bytes()).await.unwrap();
    let mut got = String::new();
    while got.matches("HTTP/1.1 202 ").count() < 3 {
        got.push_str(&response(&mut stream).await);
    }
}
