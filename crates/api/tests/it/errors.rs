//! Requests that are refused, and hostile ones.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{KEY, World, ok, problem, soon};

#[tokio::test]
async fn without_the_key_nothing_is_told() {
    let world = World::new().await;
    for (method, path) in [("GET", "/v1/events"), ("POST", "/v1/events"), ("GET", "/nowhere"), ("PUT", "/v1/webhooks")] {
        for key in [None, Some("wrong"), Some("test-keyx"), Some("")] {
            let request = world.client.request(method.parse().unwrap(), format!("http://{}{path}", world.address));
            let request = match key {
                Some(key) => request.header("authorization", format!("Bearer {key}")),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(problem(response, 401).await.0, "unauthorized");
        }
    }
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_is_refused() {
    let world = World::new().await;
    let other = world.get("/v1/webhooks").header("x-tenant", "acme");
    assert_eq!(problem(other.send().await.unwrap(), 404).await.0, "no-such-tenant");
    ok(world.get("/v1/webhooks").header("x-tenant", "default").send().await.unwrap(), 200).await;
}

#[tokio::test]
async fn a_request_id_is_taken_over_if_it_is_sane() {
    let world = World::new().await;
    let echoed = async |id: &str| {
        let response = world.get("/v1/nowhere").header("x-request-id", id).send().await.unwrap();
        let echoed = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        problem(response, 404).await;
        echoed
    };
    assert_eq!(echoed("abc-1").await, "abc-1");
    let (one, other) = (echoed("a b").await, echoed(&"x".repeat(129)).await);
    assert!(one.starts_with("req_") && other.starts_with("req_") && one != other);
}

#[tokio::test]
async fn other_methods_are_told_which_are_taken() {
    let world = World::new().await;
    let response = world.request("PUT", "/v1/events").send().await.unwrap();
    let mut allowed: Vec<_> = response.headers()["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    assert_eq!(problem(response, 405).await.0, "method-not-allowed");
}

#[tokio::test]
async fn bodies_that_are_no_events_are_refused_with_the_reason() {
    let world = World::new().await;
    let deep = format!("{{\"type\":{}", "[".repeat(100_000));
    for (body, status, slug) in [
        ("", 400, "malformed"),
        ("{\"type\":\"a\"", 400, "malformed"),
        ("\u{0}", 400, "malformed"),
        ("[]", 422, "invalid"),
        ("{}", 422, "invalid"),
        (&deep, 422, "invalid"),
    ] {
        let sent = world.request("POST", "/v1/events").body(body.to_owned());
        assert_eq!(problem(sent.send().await.unwrap(), status).await.0, slug, "{}", &body[..body.len().min(40)]);
    }
    let bytes = world.request("POST", "/v1/events").body(b"{\"type\":\"a\",\"data\":\"\xff\"}".to_vec());
    assert_eq!(problem(bytes.send().await.unwrap(), 400).await.0, "malformed");
    let deep = format!("{{\"url\":{}", "[".repeat(100_000));
    let sent = world.request("POST", "/v1/webhooks").body(deep);
    assert_eq!(problem(sent.send().await.unwrap(), 400).await.0, "malformed");
    let form = world.request("POST", "/v1/events").header("content-type", "application/x-www-form-urlencoded").body("a=b");
    assert_eq!(problem(form.send().await.unwrap(), 415).await.0, "unsupported-media-type");
}

#[tokio::test]
async fn a_body_may_have_a_mebibyte() {
    let world = World::new().await;
    let event = |size: usize| {
        let frame = "{\"type\":\"a\",\"data\":\"\"}".len();
        format!("{{\"type\":\"a\",\"data\":\"{}\"}}", "x".repeat(size - frame))
    };
    ok(world.request("POST", "/v1/events").body(event(1 << 20)).send().await.unwrap(), 202).await;
    for size in [(1 << 20) + 1, 5 << 20] {
        assert_eq!(problem(world.request("POST", "/v1/events").body(event(size)).send().await.unwrap(), 413).await.0, "too-large");
        // Without a declared length the size shows only on the way.
        let pieces = event(size).into_bytes().chunks(50_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        assert_eq!(problem(world.request("POST", "/v1/events").body(body).send().await.unwrap(), 413).await.0, "too-large");
    }
}

#[tokio::test]
async fn parameters_are_checked_by_name() {
    let world = World::new().await;
    for (path, fields) in [
        ("/v1/events?limit=0", vec!["limit"]),
        ("/v1/events?limit=251&type=&since=x", vec!["limit", "type", "since"]),
        ("/v1/deliveries?status=lost&webhook=ep_1&color=red", vec!["webhook", "status", "color"]),
        ("/v1/dead-letters?after=evt_1", vec!["after"]),
        ("/v1/events/stream?limit=1", vec!["limit"]),
    ] {
        assert_eq!(problem(world.get(path).send().await.unwrap(), 422).await.1, fields, "{path}");
    }
}

#[tokio::test]
async fn ids_that_lead_nowhere_are_not_found() {
    let world = World::new().await;
    let (old, none) = (format!("evt_{}", "0".repeat(26)), format!("ep_{}", "0".repeat(26)));
    let delivery = format!("dlv_{}", "0".repeat(52));
    let long = "x".repeat(3000);
    for path in [
        "/v1/events/nothing".to_owned(),
        format!("/v1/events/{old}"),
        format!("/v1/events/{long}"),
        format!("/v1/webhooks/{none}"),
        "/v1/webhooks/evt_1/stats".to_owned(),
        format!("/v1/webhooks/{none}/secret"),
        format!("/v1/webhooks/{none}/attempts"),
        format!("/v1/deliveries/{delivery}"),
        "/v1/deliveries/x".to_owned(),
        "/v2/events".to_owned(),
    ] {
        assert_eq!(problem(world.get(&path).send().await.unwrap(), 404).await.0, "not-found", "{path}");
    }
    for path in [format!("/v1/webhooks/{none}/enable"), format!("/v1/webhooks/{none}/test"), format!("/v1/deliveries/{delivery}/cancel")] {
        assert_eq!(problem(world.request("POST", &path).send().await.unwrap(), 404).await.0, "not-found", "{path}");
    }
    assert_eq!(problem(world.get("/v1/events/%FF").send().await.unwrap(), 400).await.0, "malformed");
}

#[tokio::test]
async fn ten_thousand_errors_are_answered_briefly() {
    let world = World::new().await;
    let many: serde_json::Map<_, _> = (0..10_000).map(|n| (format!("field{n}"), json!(n))).collect();
    let response = world.post("/v1/webhooks", json!(many)).send().await.unwrap();
    let (slug, fields) = problem(response, 422).await;
    assert_eq!((slug.as_str(), fields.len()), ("invalid", 100));
}

/// What the server answers to these bytes until it closes the connection.
async fn answer_to(world: &World, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn garbage_and_huge_heads_end_their_own_connection_only() {
    let world = World::new().await;
    let huge = format!("GET /v1/events HTTP/1.1\r\nhost: a\r\nx-big: {}\r\n\r\n", "x".repeat(200_000));
    assert!(answer_to(&world, huge.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    assert!(answer_to(&world, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let both = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    );
    assert!(answer_to(&world, both.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    ok(world.get("/v1/events").send().await.unwrap(), 200).await;
}
