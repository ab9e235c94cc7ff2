//! Jobs over HTTP, without a worker: what is taken, refused, shown and withdrawn. What workers do is tested with the program.

use bytes::Bytes;
use postrider_backend::log::Topic;
use postrider_backend::store::{JobWrite, Write};
use postrider_core::id::{JobId, Uid};
use postrider_core::job::{Artifact, Begin, Counts, Job, JobKind, Output, Said, State, Stored, Unheard};
use postrider_core::record::{Envelope, JobEnvelope};
use postrider_core::time::{Millis, Time};
use postrider_ingest::clock;
use postrider_ingest::jobs::{Heard, Jobs, OutsideKind};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{World, ok, problem};

const EVALUATE: &str = "/api/v1/async/evaluate";

fn pairs(count: usize) -> Value {
    json!({
        "pairs": vec![json!({"candidate": "the cat", "references": ["a cat"]}); count],
        "metrics": ["bleu", "rouge"],
        "webhook_url": "https://sarah.example/hook",
    })
}

/// The job that was submitted, by its number.
async fn submitted(world: &World) -> (JobId, Job) {
    let response = world.post(EVALUATE, pairs(1)).send().await.unwrap();
    let id: JobId = ok(response, 202).await["job_id"].as_str().unwrap().parse().unwrap();
    (id, world.store.job("default", id).await.unwrap().unwrap())
}

/// Brings a job to an end as a worker would.
async fn complete(world: &World, id: JobId, job: &Job, output: Output) -> Job {
    let now = clock::now();
    let Begin::Run(running, claim) = job.begin(7, now, Millis(1000)) else { panic!("{job:?}") };
    assert!(world.store.swap_job("default", id, &running).await.unwrap());
    let done = running.complete(claim, Counts::of(1, 1), output, now).unwrap();
    assert!(world.store.swap_job("default", id, &done).await.unwrap());
    done
}

#[tokio::test]
async fn a_job_is_answered_at_once_and_is_a_record_and_a_row_then() {
    let world = World::new().await;
    let response = world.post(EVALUATE, pairs(500)).send().await.unwrap();
    let answer = ok(response, 202).await;
    let id = answer["job_id"].as_str().unwrap().to_owned();
    assert_eq!(answer, json!({"job_id": id, "status": "pending", "message": "Job queued", "webhook_configured": true}));
    let shown = ok(world.get(&format!("/v1/jobs/{id}")).send().await.unwrap(), 200).await;
    assert_eq!((&shown["status"], &shown["kind"], &shown["progress"]), (&json!("pending"), &json!("evaluate"), &json!(0.0)));
    assert_eq!(shown["webhook_delivery"], Value::Null);
    let records = world.records(Topic::Jobs(JobKind::Evaluate)).await;
    let envelope = JobEnvelope::decode(&records[0].meta).unwrap();
    assert_eq!((records.len(), envelope.job.to_string(), envelope.input), (1, id, None));
    let input: Value = serde_json::from_slice(&records[0].payload).unwrap();
    assert_eq!((input["pairs"].as_array().unwrap().len(), input.get("webhook_url")), (500, None));
    // That it waits is an event, which nobody wants.
    assert_eq!(world.records(Topic::Events).await.len(), 1);
}

#[tokio::test]
async fn a_large_input_lies_among_the_blobs() {
    let world = World::new().await;
    let mut job = pairs(20_000);
    job["webhook_url"] = Value::Null;
    let response =
        world.post("/v1/jobs", json!({"kind": "evaluate", "input": {"pairs": job["pairs"], "metrics": ["f1"]}})).send().await.unwrap();
    assert_eq!(ok(response, 202).await["webhook_configured"], false);
    let records = world.records(Topic::Jobs(JobKind::Evaluate)).await;
    let envelope = JobEnvelope::decode(&records[0].meta).unwrap();
    let blob = world.blobs.get(envelope.input.unwrap()).await.unwrap();
    assert!(records[0].payload.is_empty() && blob.len() > 512 << 10);
    assert_eq!(serde_json::from_slice::<Value>(&blob).unwrap()["pairs"].as_array().unwrap().len(), 20_000);
}

#[tokio::test]
async fn bad_jobs_are_refused_with_what_would_be_right() {
    let world = World::new().await;
    let fields = async |path: &str, body: Value| {
        let refused = ok(world.post(path, body).send().await.unwrap(), 422).await;
        refused["errors"].as_array().unwrap().iter().map(|e| format!("{} {}", e["field"], e["message"])).collect::<Vec<_>>()
    };
    let unknown = fields(EVALUATE, json!({"pairs": [{"candidate": "a", "references": ["b"]}], "metrics": ["blue"]})).await;
    assert!(unknown[0].contains("metrics.0") && unknown[0].contains("rougeLsum"), "{unknown:?}");
    let kind = fields("/v1/jobs", json!({"kind": "dance", "input": {}})).await;
    assert!(kind[0].contains("`dance`") && kind[0].contains("evaluate"), "{kind:?}");
    assert!(fields(EVALUATE, json!({"pairs": [], "metrics": ["bleu"]})).await[0].contains("1 to 100000"));
    let mut scheme = pairs(1);
    scheme["webhook_url"] = json!("ftp://a.example/");
    assert!(fields(EVALUATE, scheme).await[0].contains("webhook_url"));
    let mut inside = pairs(1);
    inside["webhook_url"] = json!("http://10.0.0.1/hook");
    inside["webhooks"] = json!([{ "url": "http://[fd00::1]/", "events": ["job.completed"] }]);
    let inside = fields(EVALUATE, inside).await;
    assert!(inside.len() == 2 && inside.iter().all(|words| words.contains("private, local or reserved")), "{inside:?}");
    assert!(inside[0].contains("webhook_url") && inside[1].contains("webhooks.0.url"), "{inside:?}");
    let many = format!(r#"{{"candidates":[{0}""],"references":[{0}""],"metrics":["bleu"]}}"#, r#""","#.repeat(999_999));
    let refused = world.request("POST", EVALUATE).header("content-type", "application/json").body(many).send().await.unwrap();
    let refused = ok(refused, 422).await;
    assert!(refused["detail"].as_str().unwrap().contains("must be at most 100000"), "{refused}");
    let invalid = world.request("POST", EVALUATE).header("content-type", "application/json");
    problem(invalid.body(&b"{\"pairs\":[{\"candidate\":\"\xff\"}]}"[..]).send().await.unwrap(), 400).await;
    assert!(world.records(Topic::Jobs(JobKind::Evaluate)).await.is_empty(), "nothing of all this was taken");
}

#[tokio::test]
async fn an_idempotency_key_gives_one_job() {
    let world = World::new().await;
    let send = async |body: Value| world.post(EVALUATE, body).header("idempotency-key", "k").send().await.unwrap();
    let (one, two) = (ok(send(pairs(1)).await, 202).await, ok(send(pairs(1)).await, 202).await);
    assert_eq!(one["job_id"], two["job_id"]);
    problem(send(pairs(2)).await, 422).await;
    // A repeat of a job that nobody has begun wakes workers again; it is the same job.
    let records = world.records(Topic::Jobs(JobKind::Evaluate)).await;
    assert!(records.iter().all(|record| JobEnvelope::decode(&record.meta).unwrap().job.to_string() == one["job_id"]));
    let list = ok(world.get("/v1/jobs").send().await.unwrap(), 200).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_canceled_job_is_told_of_once_and_stays_canceled() {
    let world = World::new().await;
    let (id, _) = submitted(&world).await;
    let path = format!("/v1/jobs/{id}");
    let canceled = world.request("DELETE", &path).send().await.unwrap();
    assert_eq!(ok(canceled, 200).await, json!({"job_id": id.to_string(), "status": "canceled"}));
    problem(world.request("DELETE", &path).send().await.unwrap(), 409).await;
    let callbacks = world.records(Topic::Deliveries).await;
    let envelope = Envelope::decode(&callbacks[0].meta).unwrap();
    assert_eq!((callbacks.len(), envelope.kind, envelope.url), (1, "job.canceled", Some("https://sarah.example/hook")));
    let body: Value = serde_json::from_slice(&callbacks[0].payload).unwrap();
    assert_eq!((&body["job_id"], &body["status"]), (&json!(id.to_string()), &json!("canceled")));
    let shown = ok(world.get(&path).send().await.unwrap(), 200).await;
    assert_eq!((&shown["status"], &shown["webhook_delivery"]["status"]), (&json!("canceled"), &json!("pending")));
    assert_eq!(shown["webhook_delivery"]["delivery_id"], envelope.id().to_string());
    problem(world.request("DELETE", "/v1/jobs/job_00000000000000000000000001").send().await.unwrap(), 404).await;
}

/// A job of a kind that workers outside do.
async fn outside(world: &World, n: u64) -> (JobId, Job) {
    let (_, job) = submitted(world).await;
    let (id, job) = (JobId(Uid::new(clock::now(), 0, n << 2)), Job { kind: "wordcount".to_owned(), ..job });
    world.store.write(vec![Write::Job(JobWrite { tenant: "default".into(), id, job: job.clone() })]).await.unwrap();
    (id, job)
}

/// The calls of URLs that there are to be.
async fn callbacks(world: &World) -> Vec<String> {
    world.records(Topic::Deliveries).await.iter().map(|record| Envelope::decode(&record.meta).unwrap().id().to_string()).collect()
}

#[tokio::test]
async fn what_is_said_outside_is_told_once_also_by_who_did_not_die_in_between() {
    let world = World::new().await;
    let (id, job) = outside(&world, 1).await;
    let patience = Millis::from_secs(60);
    let said = Said::Completed(Output { result: Some(Stored::Inline("7".to_owned())), artifact: None });
    let heard = async |said| world.jobs.hear("default", id, said, patience).await.unwrap();
    assert!(matches!(heard(&Said::Processing(300)).await, Heard::Changed));
    assert!(matches!(heard(&Said::Processing(400)).await, Heard::Nothing(Unheard::Soon, job) if job.told));
    // Whoever heard of its end dies before it tells.
    let job = world.store.job("default", id).await.unwrap().unwrap_or(job);
    let done = job.hear(&said, clock::now(), patience).unwrap();
    assert!(world.store.swap_job("default", id, &done).await.unwrap());
    for said in [&said, &said, &Said::Failed(postrider_core::job::Error::new("late", "")), &Said::Processing(900)] {
        assert!(matches!(heard(said).await, Heard::Nothing(Unheard::Late(_), job) if job.told && job.state == done.state));
    }
    assert_eq!(callbacks(&world).await, [Jobs::callback("default", id, &done).unwrap().to_string()]);
    let shown = ok(world.get(&format!("/v1/jobs/{id}")).send().await.unwrap(), 200).await;
    assert_eq!((&shown["status"], &shown["result"]), (&json!("completed"), &json!(7)));
    assert!(matches!(world.jobs.hear("default", JobId(Uid(5)), &said, patience).await.unwrap(), Heard::Missing));
}

#[tokio::test]
async fn a_job_of_which_nothing_is_heard_has_failed_when_its_time_is_over() {
    let world = World::new().await;
    let (id, _) = outside(&world, 2).await;
    let kind = |patience| OutsideKind { name: "wordcount".to_owned(), patience };
    let watch = async |patience| world.jobs.watch("default", id, &kind(patience)).await.unwrap();
    assert_eq!(watch(Millis::from_secs(60)).await, Some(id.0.time() + Millis::from_secs(60)));
    assert_eq!(watch(Millis(0)).await, None);
    let failed = world.store.job("default", id).await.unwrap().unwrap();
    assert!(matches!(&failed.state, State::Failed { error, .. } if error.code == "timeout" && failed.told), "{failed:?}");
    assert_eq!(watch(Millis(0)).await, None);
    assert_eq!(callbacks(&world).await, [Jobs::callback("default", id, &failed).unwrap().to_string()]);
}

#[tokio::test]
async fn jobs_are_listed_by_kind_and_status() {
    let world = World::new().await;
    let (first, job) = submitted(&world).await;
    let (second, _) = submitted(&world).await;
    complete(&world, first, &job, Output { result: Some(Stored::Inline("{\"corpus\":{}}".to_owned())), artifact: None }).await;
    let ids = async |query: &str| {
        let list = ok(world.get(&format!("/v1/jobs{query}")).send().await.unwrap(), 200).await;
        list["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [second.to_string(), first.to_string()]);
    assert_eq!(ids("?status=completed&kind=evaluate").await, [first.to_string()]);
    assert_eq!(ids("?kind=tts").await, [""; 0]);
    problem(world.get("/v1/jobs?status=done").send().await.unwrap(), 422).await;
    let page = ok(world.get("/v1/jobs?limit=1").send().await.unwrap(), 200).await;
    assert_eq!(ids(&format!("?limit=1&after={}", page["next"].as_str().unwrap())).await, [first.to_string()]);
}

#[tokio::test]
async fn what_a_job_made_is_downloaded_whole_or_in_part_with_a_key_or_a_link() {
    let world = World::new().await;
    let (id, job) = submitted(&world).await;
    let path = format!("/v1/download/{id}");
    problem(world.get(&path).send().await.unwrap(), 409).await;
    let file: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    world.blobs.put("jobs/1/a.wav", Bytes::from(file.clone())).await.unwrap();
    let artifact = Artifact { name: "jobs/1/a.wav".to_owned(), bytes: file.len() as u64, media_type: "audio/wav".to_owned() };
    complete(&world, id, &job, Output { result: None, artifact: Some(artifact) }).await;

    let whole = world.get(&path).send().await.unwrap();
    assert_eq!((whole.status(), whole.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "audio/wav"));
    let etag = whole.headers()["etag"].clone();
    assert_eq!(whole.bytes().await.unwrap(), file);
    let part = world.get(&path).header("range", "bytes=1000000-2500000").send().await.unwrap();
    assert_eq!(
        (part.status(), part.headers()["content-range"].to_str().unwrap()),
        (StatusCode::PARTIAL_CONTENT, "bytes 1000000-2500000/3000000")
    );
    assert_eq!(part.bytes().await.unwrap(), file[1_000_000..=2_500_000]);
    let none = world.get(&path).header("range", "bytes=3000000-").send().await.unwrap();
    assert_eq!(none.headers()["content-range"], "bytes */3000000");
    problem(none, 416).await;
    let same = world.get(&path).header("if-none-match", etag.clone()).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let changed = world.get(&path).header("range", "bytes=0-9").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    let head = world.request("HEAD", &path).send().await.unwrap();
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "3000000"));

    let shown = ok(world.get(&format!("/v1/jobs/{id}")).send().await.unwrap(), 200).await;
    let link = shown["audio_url"].as_str().unwrap().strip_prefix("http://here").unwrap().to_owned();
    let url = |link: &str| format!("http://{}{link}", world.address);
    let linked = world.client.get(url(&link)).header("range", "bytes=0-3").send().await.unwrap();
    assert_eq!((linked.status(), linked.bytes().await.unwrap()), (StatusCode::PARTIAL_CONTENT, Bytes::from(file[..4].to_vec())));
    let (other, _) = submitted(&world).await;
    for forged in [
        link.replace("signature=", "signature=00"),
        link.replace("expires=1", "expires=2"),
        link.replace(&id.to_string(), &other.to_string()),
        link.replace("tenant=default", "tenant=other"),
        format!("{path}?signature=00"),
    ] {
        problem(world.client.get(url(&forged)).send().await.unwrap(), 401).await;
    }
    problem(world.client.get(url(&path)).send().await.unwrap(), 401).await;

    world.blobs.delete("jobs/1/a.wav").await.unwrap();
    problem(world.get(&path).send().await.unwrap(), 410).await;
}

#[tokio::test]
async fn a_job_older_than_what_is_kept_is_gone_and_one_that_never_was_is_not() {
    let world = World::new().await;
    let old = JobId(Uid::new(Time(clock::now().0 - 8 * 86_400_000), 0, 4));
    problem(world.get(&format!("/v1/jobs/{old}")).send().await.unwrap(), 410).await;
    problem(world.get(&format!("/v1/download/{old}")).send().await.unwrap(), 410).await;
    let recent = JobId(Uid::new(Time(clock::now().0 - 86_400_000), 0, 4));
    problem(world.get(&format!("/v1/jobs/{recent}")).send().await.unwrap(), 404).await;
    let (_, job) = submitted(&world).await;
    world.store.write(vec![Write::Job(JobWrite { tenant: "other".into(), id: recent, job })]).await.unwrap();
    problem(world.get(&format!("/v1/jobs/{recent}")).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn who_submits_too_many_jobs_is_told_to_wait() {
    let limits = postrider_api::ApiLimits { jobs_per_second: 5, ..Default::default() };
    let world = World::with_limits(limits).await;
    let mut refused = 0;
    for _ in 0..30 {
        let response = world.post(EVALUATE, pairs(1)).send().await.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(response.headers()["retry-after"], "1");
            refused += 1;
        }
    }
    assert!(refused > 0, "30 jobs in less than 5 seconds are too many");
}
