//! Wrong input is told what is wrong with it, by the right status or exit code, and harms nothing.

use std::fs;
use std::process::ExitStatus;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::load::{event, has_all};
use crate::receiver::Receiver;
use crate::world::{Home, Process, Server};

/// What a request with this body is answered: its problem, and that it is one.
async fn refusal(server: &Server, method: Method, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
    let request = server.api.request(method, path).header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = response.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["request_id"]), (&json!(status.as_u16()), &json!(request_id)));
    assert!(["type", "title", "detail"].iter().all(|member| problem[member].is_string()), "{problem}");
    (status, problem)
}

/// The names of the fields that a problem complains of.
fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn wrong_requests_are_refused_by_field_and_the_server_goes_on() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = server.api.register(&receiver, json!({})).await;
    let path = format!("/v1/webhooks/{}", endpoint["id"].as_str().unwrap());

    let (status, _) = refusal(&server, Method::POST, "/v1/events", r#"{"type": "a", "data": "#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let large = json!({ "type": "a", "data": "x".repeat(1 << 20) }).to_string();
    let (status, _) = refusal(&server, Method::POST, "/v1/events", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for (method, path, body, field) in [
        (Method::POST, "/v1/events", json!({ "type": 7, "data": 1 }), "type"),
        (Method::POST, "/v1/events", json!({ "type": "a b", "data": 1 }), "type"),
        (Method::POST, "/v1/events", json!({ "type": "a" }), "data"),
        (Method::POST, "/v1/webhooks", json!({ "url": 7 }), "url"),
        (Method::POST, "/v1/webhooks", json!({ "url": "ftp://example.org/" }), "url"),
        (Method::POST, "/v1/webhooks", json!({ "url": receiver.url(), "rate_limit": "fast" }), "rate_limit"),
        (Method::PATCH, &*path, json!({ "urll": receiver.url() }), "urll"),
    ] {
        let (status, problem) = refusal(&server, method, path, body.to_string()).await;
        assert_eq!((status, fields(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, vec![field]), "{body}: {problem}");
    }
    for key in ["Bearer wrong", "Basic wrong"] {
        let client = reqwest::Client::new();
        let response = client.get(format!("http://{}/v1/webhooks", server.address)).header("authorization", key).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }

    assert_eq!(server.api.get(&path).await["url"], receiver.url());
    server.api.send(event("a", 1)).await;
    has_all(&receiver, &[1].into()).await;
    assert_eq!(receiver.count(), 1);
}

#[track_caller]
fn assert_refused(process: &Process, status: ExitStatus, code: i32, words: &str) {
    let errors = process.errors();
    assert_eq!(status.code(), Some(code), "{errors}");
    assert!(errors.contains(words), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[tokio::test]
async fn an_unknown_setting_is_named_with_the_nearest_known_one() {
    let home = Home::new("[server]\nlissten = \"127.0.0.1:0\"\n");
    let config = home.config();
    for args in [["config", "check"].as_slice(), &["serve", "--config"], &["dev", "--config"]] {
        let mut process = Process::start(&[args, &[config.to_str().unwrap()]].concat());
        let status = process.ended().await;
        assert_refused(&process, status, 2, "unknown key `server.lissten`; the nearest key is `server.listen`");
    }
}

#[tokio::test]
async fn check_finds_what_no_server_is_needed_to_find_and_shows_no_secret() {
    let source = |topic: &str, tenant: &str, kind: &str| {
        format!("[[sources]]\ntopic = \"{topic}\"\ntenant = \"{tenant}\"\nformat = \"json\"\nevent_type = \"{kind}\"\n")
    };
    let twice = [source("a", "one", "/k"), source("a", "two", "/k")].concat();
    for (settings, words) in [
        (twice, "a topic of their own"),
        (source("postrider.events", "t", "/k"), "must not read `postrider.events`"),
        (source("a", "", "/k"), "must name a tenant"),
        (source("a", "t", "no type"), "that of `a`"),
        ("[kafka.properties]\n\"sasl.passwort\" = \"s3cret\"\n".to_owned(), "sasl.passwort"),
        ("[scylla]\npassword = 1234567\n".to_owned(), "scylla.password: must be"),
        ("[scylla]\npassword = \"s3cret\n".to_owned(), ", line 3"),
        ("[blobs]\nurl = \"ftp://bucket/prefix\"\n".to_owned(), "neither a folder such as file:///var/lib/postrider/blobs nor s3://"),
        ("[blobs]\nurl = \"s3://me:s3cret@bucket/\"\n".to_owned(), "has an @"),
        ("[blobs]\nurl = \"s3://bucket\"\naccess_key_id = \"a\"\n".to_owned(), "are either both set or both empty"),
        ("[blobs]\nurl = \"s3://bucket\"\nendpoint = \"s3.example.com\"\n".to_owned(), "blobs.endpoint is a server, such as"),
        ("[blobs]\nurl = \"s3://bucket\"\nendpoint = \"https://:s3cret@s3.example.com\"\n".to_owned(), "without a name or password"),
        ("[blobs]\nurl = \"\"\n".to_owned(), "must name what all processes of the cluster share"),
    ] {
        let blobs = if settings.contains("[blobs]") { "" } else { "[blobs]\nurl = \"file:///tmp/blobs\"\n" };
        let home = Home::new(&format!("backend = \"cluster\"\n{settings}{blobs}"));
        let mut process = Process::start(&["config", "check", home.config().to_str().unwrap()]);
        let status = process.ended().await;
        assert_refused(&process, status, 2, words);
        assert!(!process.errors().contains("s3cret") && !process.errors().contains("1234567"), "{}", process.errors());
    }
}

#[tokio::test]
async fn a_secret_of_digits_in_the_environment_is_text_and_hidden() {
    let environment = [("POSTRIDER__SCYLLA__PASSWORD", "0123"), ("POSTRIDER__KAFKA__INSTANCE_ID", "7")];
    let mut process = Process::start_in(&["config", "show"], &environment);
    let status = process.ended().await;
    let shown = process.output();
    assert!(status.success() && shown.contains("instance_id = \"7\"") && !shown.contains("0123"), "{shown}{}", process.errors());
}

#[tokio::test]
async fn a_port_or_folder_in_use_is_refused_and_its_user_goes_on() {
    let server = Server::start().await;
    let other = Home::new("");
    let mut same_port = other.open(&server.address.to_string());
    let status = same_port.ended().await;
    assert_refused(&same_port, status, 1, "can't be listened on");

    let mut same_folder = server.home.open("127.0.0.1:0");
    let status = same_folder.ended().await;
    assert_refused(&same_folder, status, 1, "is in use by another postrider");

    let receiver = Receiver::answering(200).await;
    server.api.register(&receiver, json!({})).await;
    server.api.send(event("a", 1)).await;
    has_all(&receiver, &[1].into()).await;
}

#[tokio::test]
async fn a_folder_that_is_newer_or_not_ours_is_refused_and_left_alone() {
    for (file, text, words) in [
        ("VERSION", "postrider data folder, format 999\npartitions 8\n", "run a newer postrider"),
        ("thesis.txt", "mine", "holds files that are not postrider's"),
    ] {
        let home = Home::new("");
        fs::create_dir(home.data()).unwrap();
        fs::write(home.data().join(file), text).unwrap();
        let mut process = home.open("127.0.0.1:0");
        let status = process.ended().await;
        assert_refused(&process, status, 1, words);
        let left: Vec<_> = fs::read_dir(home.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [file]);
        assert_eq!(fs::read_to_string(home.data().join(file)).unwrap(), text);
    }
}

#[tokio::test]
async fn a_folder_keeps_its_number_of_partitions() {
    let mut server = Server::start().await;
    server.stop().await;
    fs::write(server.home.config(), "[data]\npartitions = 3\n").unwrap();
    let mut process = server.home.open("127.0.0.1:0");
    let status = process.ended().await;
    assert_refused(&process, status, 1, "was made with 8 partitions, the configuration asks for 3");
}

#[tokio::test]
async fn kinds_of_jobs_that_can_not_be_so_are_refused() {
    let outside = |kind: &str, seconds: u32| format!("[[jobs.outside]]\nkind = \"{kind}\"\ntimeout_seconds = {seconds}\n");
    let cluster = |outside: String| format!("backend = \"cluster\"\n[blobs]\nurl = \"file:///tmp\"\n{outside}");
    for (settings, words) in [
        (outside("x", 9), "jobs.outside needs backend = \"cluster\""),
        (cluster(outside("tts", 9)), "`tts`, which is a kind that postrider does itself"),
        (cluster(outside("a.b", 9)), "`a.b`, which must be 1 to 64 of a-z, 0-9, _ and -"),
        (cluster(outside("x", 0)), "`x`, which needs timeout_seconds between 1 and 86400"),
        (cluster(outside("x", 9) + &outside("x", 9)), "`x`, which is named twice"),
        (cluster(outside("x", 9) + "lease = 1\n"), "lease"),
        ("[jobs.timeouts]\nbatch = 60\n".to_owned(), "jobs.timeouts can't name batch"),
        ("[jobs.timeouts]\ntts = 0\n".to_owned(), "jobs.timeouts must lie between 1 and 86400, and `tts` does not"),
        (
            "[jobs.timeouts]\nspeech = 60\n".to_owned(),
            "jobs.timeouts names `speech`; it can name evaluate, tts, generate, experiment, http",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &settings).unwrap();
        let mut process = Process::start(&["config", "check", file.path().to_str().unwrap()]);
        let status = process.ended().await;
        assert!(!status.success() && process.errors().contains(words), "{settings}: {}", process.errors());
    }
}
