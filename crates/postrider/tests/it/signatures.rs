//! Receivers written with the published Standard Webhooks library, and with plain HMAC, accept what is sent.

use std::io::Write;
use std::process::{Command, Stdio};

use hmac::{Hmac, KeyInit, Mac};
use postrider_core::secret::Secret;
use postrider_core::sign::Signer;
use serde_json::{Value, json};
use sha2::Sha256;
use standardwebhooks::Webhook;

use crate::load::event;
use crate::receiver::{Got, Receiver};
use crate::world::{Server, eventually};

/// What the library makes of a secret: decoded, or its bytes where it is no base64.
fn library(secret: &str) -> Webhook {
    Webhook::new(secret).or_else(|_| Webhook::from_bytes(secret.as_bytes().to_vec())).unwrap()
}

/// As receivers in Python check the body, with nothing but what Python brings along.
const PYTHON: &str = "
import hashlib, hmac, sys
signature = 'sha256=' + hmac.new(sys.argv[1].encode(), sys.stdin.buffer.read(), hashlib.sha256).hexdigest()
sys.exit(0 if hmac.compare_digest(signature, sys.argv[2]) else 1)
";

fn python_accepts(body: &[u8], secret: &str, signature: &str) -> bool {
    let mut python = Command::new("python3").args(["-c", PYTHON, secret, signature]).stdin(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(body).unwrap();
    python.wait().unwrap().success()
}

#[track_caller]
pub(crate) fn assert_accepted(got: &Got, secret: &str) {
    assert!(python_accepts(&got.body, secret, got.header("x-webhook-signature")));
    assert!(!python_accepts(&got.body, "another secret", got.header("x-webhook-signature")));
    library(secret).verify(&got.body, &got.headers).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(&got.body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got.header("x-webhook-signature"), format!("sha256={hex}"));
    assert_eq!(got.header("x-webhook-timestamp"), got.header("webhook-timestamp"));
    assert!(library("another secret").verify(&got.body, &got.headers).is_err());
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn the_published_vector_holds_for_us_and_for_the_library() {
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const AT: u64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    let ours = Signer::new(&Secret::new(SECRET), []).sign(ID, AT, BODY).standard;
    assert_eq!(ours, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    assert_eq!(ours, library(SECRET).sign(ID, AT as i64, BODY).unwrap());
}

#[tokio::test]
async fn every_form_of_secret_is_accepted() {
    let server = Server::start().await;
    let forms = [None, Some("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), Some("whsec_my_secret_key"), Some("a-plain-secret,not-base64")];
    for given in forms {
        let receiver = Receiver::answering(200).await;
        let endpoint = server.api.register(&receiver, given.map_or(json!({}), |secret| json!({ "secret": secret }))).await;
        let path = format!("/v1/webhooks/{}", text(&endpoint["id"]));
        let secret = server.api.get(&format!("{path}/secret")).await["secret"].clone();
        assert_eq!(endpoint["secret"], secret);
        assert!(given.is_none_or(|given| secret == given));
        assert_eq!(server.api.get(&path).await["secret"], Value::Null, "shown where it must not be");
        server.api.send(event("order.created", 1)).await;
        assert_accepted(&receiver.wait_for(1).await[0], text(&secret));
        server.api.delete(&path).await;
    }
}

#[tokio::test]
async fn a_url_given_with_an_event_is_signed_with_the_tenants_secret() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let mut with_url = event("order.created", 1);
    with_url["webhook_url"] = receiver.url().into();
    server.api.send(with_url).await;
    let secret = server.api.get("/v1/signing-secret").await["secret"].clone();
    assert_accepted(&receiver.wait_for(1).await[0], text(&secret));
}

#[tokio::test]
async fn while_a_secret_rotates_receivers_with_either_accept() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = server.api.register(&receiver, json!({})).await;
    let old = text(&endpoint["secret"]);
    let path = format!("/v1/webhooks/{}/rotate-secret", text(&endpoint["id"]));
    let rotated = server.api.post(&path, json!({})).await;
    let new = text(&rotated["secret"]);
    assert!(old != new && rotated["previous_expires_at"].is_string());
    let signed_with_new = async || {
        server.api.send(event("order.created", 1)).await;
        receiver.got().into_iter().find(|got| library(new).verify(&got.body, &got.headers).is_ok())
    };
    let got = eventually("a delivery is signed with the new secret", signed_with_new).await;
    assert_accepted(&got, new);
    library(old).verify(&got.body, &got.headers).unwrap();
}
