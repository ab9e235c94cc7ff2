//! Jobs of the kind `http`: a URL is called, its answer is the result.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::jobs::calls;
use crate::metrics::scrape;
use crate::receiver::Receiver;
use crate::world::{Api, Home, Process, Server, answer, eventually};

pub(crate) const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-two: 1\r\nx-two: 2\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A web server of others: it answers its n-th request with the n-th of its answers, and the last for ever. An empty one
/// closes the connection, `hang` answers never.
pub(crate) struct Web {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Web {
    pub(crate) async fn answering<A: Into<Vec<u8>>>(answers: impl IntoIterator<Item = A>) -> Web {
        let answers: Vec<Vec<u8>> = answers.into_iter().map(Into::into).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let seen = got.clone();
        let serving = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read(&mut stream).await else { continue };
                let n = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request);
                    seen.len() - 1
                };
                match answers[n.min(answers.len() - 1)].as_slice() {
                    b"hang" => held.push(stream),
                    // Who asks may have gone.
                    answer => drop(stream.write_all(answer).await),
                }
            }
        });
        Web { address, got, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/a?b=c", self.address)
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }

    /// A header of the n-th request.
    fn header(&self, n: usize, name: &str) -> Option<String> {
        let request = &self.got()[n];
        let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line[name.len() + 2..].to_owned())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One whole request.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some((head, body)) = std::str::from_utf8(&bytes).ok()?.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            if body.len() == length {
                return Some(format!("{head}\r\n\r\n{body}"));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

pub(crate) async fn submit(api: &Api, input: Value, receiver: &Receiver) -> String {
    let job = json!({ "kind": "http", "input": input, "webhook_url": receiver.url() });
    let (status, answer) = answer(api.request(Method::POST, "/v1/jobs").header("traceparent", TRACE).json(&job)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

async fn call(receiver: &Receiver, job: &str) -> Value {
    eventually("the job's call", async || calls(receiver).remove(job)).await[0].json()
}

#[tokio::test]
async fn a_url_is_called_as_was_asked_and_its_answer_is_told() {
    let server = Server::start().await;
    let (web, receiver) = (Web::answering([OK]).await, Receiver::answering(200).await);
    let input = json!({
        "url": web.url(), "method": "PUT", "headers": { "Authorization": "Bearer geheim" }, "body": { "n": [1, "é"] }, "timeout_seconds": 5,
    });
    let job = submit(&server.api, input, &receiver).await;
    let body = call(&receiver, &job).await;
    assert_eq!((&body["status"], &body["kind"]), (&json!("completed"), &json!("http")), "{body}");
    let result = &body["result"];
    assert_eq!((&result["status_code"], &result["body"]), (&json!(200), &json!("{\"a\": 1}")));
    assert_eq!((&result["headers"]["content-type"], &result["headers"]["x-two"]), (&json!("application/json"), &json!("1, 2")));
    assert!(result["duration_ms"].is_u64());
    let request = &web.got()[0];
    assert!(request.starts_with("PUT /a?b=c HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{\"n\":[1,\"é\"]}"), "{request}");
    let header = |name| web.header(0, name).unwrap_or_default();
    assert_eq!((header("idempotency-key"), header("traceparent")), (job.clone(), TRACE.to_owned()));
    assert_eq!((header("authorization"), header("content-type")), ("Bearer geheim".to_owned(), "application/json".to_owned()));
    assert!(header("user-agent").starts_with("Postrider/"));
    for path in ["/v1/jobs".to_owned(), format!("/v1/jobs/{job}")] {
        assert!(!server.api.get(&path).await.to_string().contains("geheim"), "{path} shows a secret");
    }
    assert!(!server.process.errors().contains("geheim"), "the log shows a secret");

    let (url, input) = (format!("http://{}", server.address), json!({ "url": web.url() }).to_string());
    let mut shell = Process::start(&["job", "submit", "http", "--input", &input, "--wait", "--server", &url]);
    assert!(shell.ended().await.success(), "{}", shell.errors());
    assert!(shell.output().contains("\"status_code\": 200"), "{}", shell.output());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_has_failed() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let passing = Web::answering([BUSY, "", OK]).await;
    let missing = Web::answering(["HTTP/1.1 404 No\r\ncontent-length: 9\r\n\r\nnot here "]).await;
    let moved = Web::answering([format!("HTTP/1.1 302 There\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", passing.url())]).await;
    let busy = Web::answering(["HTTP/1.1 429 Later\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n"]).await;
    let submit = async |web: &Web| submit(&server.api, json!({ "url": web.url() }), &receiver).await;
    let jobs = [submit(&passing).await, submit(&missing).await, submit(&moved).await, submit(&busy).await];
    let body = call(&receiver, &jobs[0]).await;
    assert_eq!((&body["status"], passing.got().len()), (&json!("completed"), 3), "{body}");
    assert!(passing.got()[0].starts_with("GET ") && passing.header(0, "content-length").is_none(), "{:?}", passing.got());
    for (job, message) in
        [(&jobs[1], "the URL answered 404: not here"), (&jobs[2], "the URL answered 302"), (&jobs[3], "the URL answered 429")]
    {
        let body = call(&receiver, job).await;
        assert_eq!((&body["error"]["code"], &body["error"]["message"]), (&json!("http_status"), &json!(message)));
    }
    assert_eq!((missing.got().len(), moved.got().len(), busy.got().len()), (1, 1, 1), "called again in vain");
}

#[tokio::test]
async fn an_answer_that_is_large_or_no_text_is_told_as_a_link_or_in_base64() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let bytes = vec![0xff_u8; 300_000];
    let large = Web::answering([[b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n".as_slice(), &bytes].concat()]).await;
    let job = submit(&server.api, json!({ "url": large.url() }), &receiver).await;
    let body = call(&receiver, &job).await;
    let link = body["result_url"].as_str().unwrap_or_else(|| panic!("{body}"));
    let (status, result) = answer(server.api.without_key(Method::GET, &link[link.find("/v1/download").unwrap()..])).await;
    assert_eq!((status, &result["status_code"]), (StatusCode::OK, &json!(200)));
    assert_eq!(result["body_base64"].as_str().map(|text| (text.len(), &text[..4])), Some((400_000, "////")));
}

#[tokio::test]
async fn a_call_that_a_crash_cut_off_is_made_again_under_the_same_key() {
    let mut server = Server::at(Home::new("[jobs]\nlease_seconds = 3\n")).await;
    let (web, receiver) = (Web::answering(["hang", OK]).await, Receiver::answering(200).await);
    let job = submit(&server.api, json!({ "url": web.url() }), &receiver).await;
    eventually("the first call", async || (web.got().len() == 1).then_some(())).await;
    server.process.kill();
    server.restart().await;
    assert_eq!(call(&receiver, &job).await["status"], "completed");
    assert_eq!(web.header(0, "idempotency-key"), web.header(1, "idempotency-key"));
}

#[tokio::test]
async fn what_can_not_be_called_is_refused_and_what_leads_inside_is_not_reached() {
    let server = Server::start().await;
    for (input, field) in [
        (json!({}), "input.url"),
        (json!({ "url": "file:///etc/passwd" }), "input.url"),
        (json!({ "url": "http://10.0.0.1/" }), "input.url"),
        (json!({ "url": "http://[fd00::1]/" }), "input.url"),
        (json!({ "url": "http://a.example/", "method": "CONNECT" }), "input.method"),
        (json!({ "url": "http://a.example/", "headers": { "Host": "b" } }), "input.headers.Host"),
        (json!({ "url": "http://a.example/", "headers": { "x": "y".repeat(10_000) } }), "input.headers.x"),
        (json!({ "url": "http://a.example/", "timeout_seconds": 3600 }), "input.timeout_seconds"),
    ] {
        let (status, refused) = server.api.ask(Method::POST, "/v1/jobs", json!({ "kind": "http", "input": input })).await;
        assert_eq!((status, &refused["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{refused}");
    }

    // A server that was not told to trust this machine.
    let home = Home::new("");
    let (listen, data) = (TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap(), home.data());
    let settings = format!("[server]\nlisten = \"{listen}\"\nadmin_listen = \"\"\n[data]\ndir = \"{}\"\n", data.display());
    std::fs::write(home.config(), settings).unwrap();
    let process = Process::start(&["serve", "--config", home.config().to_str().unwrap()]);
    eventually("it listens", async || process.output().contains("listening on").then_some(())).await;
    let (api, web) = (Api::at(&format!("http://{listen}")), Web::answering([OK]).await);
    let job = json!({ "kind": "http", "input": { "url": format!("http://localhost:{}/", web.address.port()) } });
    let (status, accepted) = api.ask(Method::POST, "/v1/jobs", job).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{accepted}");
    let path = format!("/v1/jobs/{}", accepted["job_id"].as_str().unwrap());
    let failed = async || Some(api.get(&path).await).filter(|shown| shown["status"] == "failed");
    assert_eq!(eventually("the job has failed", failed).await["error"]["code"], "forbidden_address");
    assert!(web.got().is_empty(), "it was reached");
}

#[tokio::test]
async fn jobs_that_wait_are_counted_and_one_that_is_canceled_makes_room() {
    let settings = "[http]\nconcurrency = 1\n[jobs]\nlease_seconds = 3\n[server]\nadmin_listen = \"127.0.0.1:0\"\n";
    let server = Server::at(Home::new(settings)).await;
    let (admin, receiver) = (server.admin().await, Receiver::answering(200).await);
    let web = Web::answering(["hang", OK]).await;
    let hanging = submit(&server.api, json!({ "url": web.url() }), &receiver).await;
    eventually("the first call is made", async || (!web.got().is_empty()).then_some(())).await;
    for _ in 0..3 {
        submit(&server.api, json!({ "url": web.url() }), &receiver).await;
    }
    let waiting = async |count: f64| {
        let shown = async || (scrape(&admin).await["job_queue_length{kind=\"http\"}"] == count).then_some(());
        eventually(&format!("{count} jobs wait"), shown).await;
    };
    waiting(3.0).await;
    assert_eq!(web.got().len(), 1, "one at a time");
    let (status, body) = server.api.ask(Method::DELETE, &format!("/v1/jobs/{hanging}"), Value::Null).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("canceled")));
    assert_eq!(call(&receiver, &hanging).await["status"], "canceled");
    receiver.wait_for(4).await;
    waiting(0.0).await;
    let told: Vec<Value> = receiver.got().iter().map(|got| got.json()["status"].clone()).collect();
    assert_eq!(told.iter().filter(|status| *status == "completed").count(), 3, "{told:?}");
}
