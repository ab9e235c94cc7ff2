//! The demo's job: real texts are evaluated, and the result comes as a signed call.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hyper::StatusCode;
use postrider_core::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::{Client, JobReceipt};
use crate::failure::Failure;
use crate::receiver::{Behaviour, Failing, Receiver, Signature};

const PAIRS: &str = include_str!("../../../../../docs/samples/evaluate.json");
/// Longest the job may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Serialize)]
pub(crate) struct Evaluation {
    job_id: String,
    /// Texts that were scored.
    pairs: usize,
    /// From the submission to the call.
    seconds: f64,
    /// The scores of all of them together.
    corpus: Map<String, Value>,
}

#[derive(Deserialize)]
struct Signing {
    secret: Secret,
}

/// The call at the end of the job.
#[derive(Deserialize)]
struct Call {
    job_id: String,
    status: String,
    results: Results,
}

#[derive(Deserialize)]
struct Results {
    corpus: Map<String, Value>,
    pairs: Vec<Value>,
}

impl Evaluation {
    /// Submits the job and waits for its call. Errors: it did not come in time, or its signature is wrong.
    pub(crate) async fn run(client: &Client) -> Result<Evaluation, Failure> {
        let Signing { secret } = client.get(&["v1", "signing-secret"], &[]).await?;
        let behaviour = Behaviour { secret: Some(secret), delay: Duration::ZERO, status: StatusCode::OK, failing: Failing::Never };
        let (sender, mut arrivals) = mpsc::channel(1);
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let receiver = Receiver::start(anywhere, behaviour, sender).await.context("a receiver can't listen")?;
        let mut job: Map<String, Value> = serde_json::from_str(PAIRS).context("docs/samples/evaluate.json can't be read")?;
        job.insert("webhook_url".to_owned(), format!("http://{}/evaluated", receiver.address()).into());
        let started = Instant::now();
        let submitted: JobReceipt = client.post(&["api", "v1", "async", "evaluate"], &job).await?;
        let arrival = timeout(DEADLINE, arrivals.recv()).await;
        let arrival = arrival.map_err(|_| anyhow!("{} was not called back within {} s", submitted.job_id, DEADLINE.as_secs()))?;
        let arrival = arrival.context("the receiver has stopped")?;
        if let Signature::Invalid(reason) = &arrival.signature {
            return Err(anyhow!("the call of {} has a wrong signature: {reason}", submitted.job_id).into());
        }
        let call: Call = serde_json::from_slice(&arrival.body).context("the call is not what was expected")?;
        if (call.job_id.as_str(), call.status.as_str()) != (submitted.job_id.as_str(), "completed") {
            return Err(anyhow!("{} is {}", call.job_id, call.status).into());
        }
        let seconds = arrival.at.saturating_duration_since(started).as_secs_f64();
        receiver.stop().await;
        let Results { corpus, pairs } = call.results;
        Ok(Evaluation { job_id: call.job_id, pairs: pairs.len(), seconds, corpus })
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let score = |(name, value): (&String, &Value)| value.as_f64().map(|value| format!("{name} {value:.1}"));
        let scores: Vec<String> = self.corpus.iter().filter_map(score).collect();
        format!("1 job evaluated {} texts and called back, signed, after {:.2} s: {}", self.pairs, self.seconds, scores.join(", "))
    }
}
