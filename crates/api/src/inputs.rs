//! What requests take, as the description shows it. The reading itself is elsewhere; it also names what is wrong.
#![expect(dead_code, reason = "these types describe; nothing is made of them")]

use utoipa::{IntoParams, ToSchema};

/// The part of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Most items of the page; 50 by default.
    #[param(minimum = 1, maximum = 250)]
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// An event as it is sent.
#[derive(ToSchema)]
pub(crate) struct EventInput {
    /// Dotted words of `A-Z a-z 0-9 _ -`.
    #[schema(max_length = 128, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", example = "order.created")]
    r#type: String,
    /// Any JSON; receivers get it byte for byte.
    #[schema(value_type = Value)]
    data: serde_json::Value,
    /// The sender's own id; a second event with it is the same event.
    #[schema(min_length = 1, max_length = 255)]
    id: Option<String>,
    /// Where it comes from.
    #[schema(min_length = 1, max_length = 255)]
    source: Option<String>,
    /// The version of the shape of `data`.
    #[schema(min_length = 1, max_length = 255)]
    api_version: Option<String>,
    /// Ties it to a request of the sender's; receivers get it as `X-Correlation-Id`.
    #[schema(min_length = 1, max_length = 255)]
    correlation_id: Option<String>,
    /// When it happened; the time of arrival by default.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// Ordering key.
    #[schema(min_length = 1, max_length = 255)]
    key: Option<String>,
    /// A URL to deliver to beside the matching endpoints.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
    /// More such URLs; at most 16 in all.
    #[schema(max_items = 16)]
    webhook_urls: Option<Vec<String>>,
    /// The sender's own data, at most 16 KiB; not delivered.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// Which deliveries of an event are made again.
#[derive(ToSchema)]
pub(crate) struct EventReplayInput {
    /// To this endpoint only.
    webhook: Option<String>,
}

/// When failed deliveries are tried again; one of both.
#[derive(ToSchema)]
pub(crate) struct RetryInput {
    /// Seconds after each failed attempt.
    #[schema(max_items = 30)]
    schedule: Option<Vec<u32>>,
    /// The default schedule, cut to so many attempts.
    #[schema(minimum = 1, maximum = 50)]
    max_attempts: Option<u32>,
}

/// An endpoint as it is registered.
#[derive(ToSchema)]
pub(crate) struct WebhookInput {
    /// Where deliveries are POSTed to; http or https.
    #[schema(format = "uri", max_length = 2048, example = "https://example.com/hook")]
    url: String,
    /// Types, `prefix.*`, or `*`; all events by default.
    #[schema(min_items = 1, max_items = 100)]
    events: Option<Vec<String>>,
    /// What signs deliveries; made where it is left out. Visible ASCII.
    #[schema(min_length = 1, max_length = 256)]
    secret: Option<String>,
    #[schema(min_length = 1, max_length = 1024)]
    description: Option<String>,
    #[schema(min_length = 1, max_length = 64)]
    environment: Option<String>,
    /// At most 32 headers to send beside ours.
    headers: Option<std::collections::BTreeMap<String, String>>,
    /// Time-out of attempts after the first, in seconds; 15 by default.
    #[schema(minimum = 1, maximum = 120)]
    timeout: Option<u32>,
    /// Most attempts a second.
    #[schema(minimum = 1, maximum = 100_000)]
    rate_limit: Option<u32>,
    /// Most attempts at one time; 64 by default.
    #[schema(minimum = 1, maximum = 256)]
    max_in_flight: Option<u32>,
    /// `key`: events of one key wait for each other. `none` by default.
    #[schema(pattern = "^(none|key)$")]
    ordering: Option<String>,
    retry: Option<RetryInput>,
    /// The owner's own data, at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    /// Whether deliveries are sent; true by default.
    enabled: Option<bool>,
}

/// What changes of an endpoint: any field of its registration but `secret`; null clears it.
#[derive(ToSchema)]
pub(crate) struct WebhookPatch {
    #[schema(format = "uri", max_length = 2048)]
    url: Option<String>,
    #[schema(min_items = 1, max_items = 100)]
    events: Option<Vec<String>>,
    #[schema(min_length = 1, max_length = 1024)]
    description: Option<String>,
    #[schema(min_length = 1, max_length = 64)]
    environment: Option<String>,
    /// Merged into those there are; null removes one.
    #[schema(value_type = Option<Object>)]
    headers: Option<serde_json::Value>,
    #[schema(minimum = 1, maximum = 120)]
    timeout: Option<u32>,
    #[schema(minimum = 1, maximum = 100_000)]
    rate_limit: Option<u32>,
    #[schema(minimum = 1, maximum = 256)]
    max_in_flight: Option<u32>,
    #[schema(pattern = "^(none|key)$")]
    ordering: Option<String>,
    retry: Option<RetryInput>,
    /// Merged into what there is; null removes a member.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    enabled: Option<bool>,
}

/// How a secret is rotated.
#[derive(ToSchema)]
pub(crate) struct RotateInput {
    /// The new secret; made where it is left out.
    #[schema(min_length = 1, max_length = 256)]
    secret: Option<String>,
    /// How long the former one is honoured; a day by default.
    #[schema(minimum = 0, maximum = 2_592_000)]
    grace_seconds: Option<u32>,
}

/// How the signing secret is rotated.
#[derive(ToSchema)]
pub(crate) struct GraceInput {
    /// How long the former one is honoured; a day by default.
    #[schema(minimum = 0, maximum = 2_592_000)]
    grace_seconds: Option<u32>,
}

/// The sample that is sent.
#[derive(ToSchema)]
pub(crate) struct SampleInput {
    /// Its type; one that the endpoint wants by default.
    #[schema(max_length = 128)]
    r#type: Option<String>,
    /// Its data.
    #[schema(value_type = Option<Value>)]
    data: Option<serde_json::Value>,
}

/// Which of an endpoint's deliveries are made again.
#[derive(ToSchema)]
pub(crate) struct ReplayInput {
    /// Of events accepted at or after.
    #[schema(format = DateTime)]
    since: String,
    /// Of events accepted before.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// `failed` (by default) or `all`.
    #[schema(pattern = "^(failed|all)$")]
    status: Option<String>,
    /// Deliveries of this page; 250 by default.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// A job as it is submitted.
#[derive(ToSchema)]
pub(crate) struct JobInput {
    /// What sort of work it is: evaluate, tts, generate, experiment, batch, http, or a kind that the server's setting jobs.outside names.
    #[schema(pattern = "^[a-z0-9_-]{1,64}$", example = "evaluate")]
    kind: String,
    /// What it is to be done with; of the kind's own shape. Of `http` it is `{"url","method","headers","body","timeout_seconds"}`, of
    /// kinds that are done outside any object of up to 768 KiB.
    #[schema(value_type = Object)]
    input: serde_json::Value,
    /// A URL that is called when it ends.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
    /// More such URLs; at most 16 in all.
    #[schema(max_items = 16)]
    webhook_urls: Option<Vec<String>>,
    webhook: Option<CallbackInput>,
    /// Who is told of what happens meanwhile, too.
    #[schema(max_items = 16)]
    webhooks: Option<Vec<HookInput>>,
    /// Of the jobs that wait in a worker, higher ones go first; 5 by default.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// The sender's own data, at most 16 KiB; stands in the callback, too.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// How URLs are called.
#[derive(ToSchema)]
pub(crate) struct CallbackInput {
    /// What calls are signed with; the tenant's signing secret where it is left out.
    #[schema(min_length = 1, max_length = 256)]
    secret: Option<String>,
    /// At most 32 headers to send beside ours.
    headers: Option<std::collections::BTreeMap<String, String>>,
    payload: Option<CallbackPayloadInput>,
}

/// A URL that is told of some of a job's events.
#[derive(ToSchema)]
pub(crate) struct HookInput {
    #[schema(format = "uri")]
    url: String,
    /// Types of events, or patterns such as `generation.*`; all where it is left out.
    #[schema(max_items = 32)]
    events: Option<Vec<String>>,
    /// What it is signed with; the tenant's signing secret where it is left out.
    #[schema(min_length = 1, max_length = 256)]
    secret: Option<String>,
    /// Longest time of attempts after the first, in seconds; 15 by default.
    #[schema(minimum = 1, maximum = 120)]
    timeout: Option<u32>,
    /// `event`: as endpoints get it. `experiment`: `{event, timestamp, experiment_id, run_id, data}`, usual for experiments.
    /// `slack`: `{text}`.
    #[schema(pattern = "^(event|experiment|slack)$")]
    template: Option<String>,
}

/// Which members of the body are sent.
#[derive(ToSchema)]
pub(crate) struct CallbackPayloadInput {
    /// These only.
    #[schema(max_items = 32)]
    include: Option<Vec<String>>,
    /// All but these.
    #[schema(max_items = 32)]
    exclude: Option<Vec<String>>,
}

/// An evaluation as it is submitted: with `pairs`, or with `candidates` and `references`.
#[derive(ToSchema)]
pub(crate) struct EvaluateInput {
    #[schema(min_items = 1, max_items = 100_000)]
    pairs: Option<Vec<PairInput>>,
    /// Instead of `pairs`: the texts to be judged.
    #[schema(min_items = 1, max_items = 100_000)]
    candidates: Option<Vec<String>>,
    /// With `candidates`: for each a text, or a list of texts.
    #[schema(value_type = Option<Vec<Value>>)]
    references: Option<Vec<serde_json::Value>>,
    /// Of bleu, chrf, chrf++, ter, rouge (or rouge1, rouge2, rougeL, rougeLsum), exact_match, f1, levenshtein, wer, cer, and
    /// bert_score where a model is configured.
    #[schema(min_items = 1, max_items = 64, example = json!(["bleu", "rouge"]))]
    metrics: Vec<String>,
    /// For rouge: compares the stems of English words. False by default.
    stemming: Option<bool>,
    bert_score: Option<BertScoreInput>,
    /// `corpus` leaves the scores of pairs out; `pairs` by default.
    #[schema(pattern = "^(pairs|corpus)$")]
    detail: Option<String>,
    /// A URL that is called when it ends.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
    /// More such URLs; at most 16 in all.
    #[schema(max_items = 16)]
    webhook_urls: Option<Vec<String>>,
    webhook: Option<CallbackInput>,
    /// Who is told of what happens meanwhile, too.
    #[schema(max_items = 16)]
    webhooks: Option<Vec<HookInput>>,
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// How bert_score is computed.
#[derive(ToSchema)]
pub(crate) struct BertScoreInput {
    /// After which layer of the model embeddings are compared; the last one by default.
    #[schema(minimum = 0)]
    layer: Option<u32>,
    /// Whether tokens that are rare among the references count more; false by default.
    idf: Option<bool>,
}

/// A text to be judged.
#[derive(ToSchema)]
pub(crate) struct PairInput {
    candidate: String,
    /// What it ought to be like: a text, or up to 64.
    #[schema(value_type = Value)]
    references: serde_json::Value,
}

/// A text to be spoken.
#[derive(ToSchema)]
pub(crate) struct TtsInput {
    /// At most 1 MiB.
    #[schema(min_length = 1)]
    text: String,
    /// A code or name that espeak-ng knows.
    #[schema(example = "oromo")]
    language: String,
    /// The variant of the voice, such as `f3`.
    voice: Option<String>,
    /// Words a minute; 175 by default.
    #[schema(minimum = 80, maximum = 450)]
    rate: Option<u32>,
    /// 50 by default.
    #[schema(minimum = 0, maximum = 99)]
    pitch: Option<u32>,
    /// `wav` (by default) or `ogg`; where an upstream speaks, also `mp3`, `flac` or `aac`.
    #[schema(pattern = "^(wav|ogg|mp3|flac|aac)$")]
    format: Option<String>,
    /// A URL that is called when it ends.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
    /// More such URLs; at most 16 in all.
    #[schema(max_items = 16)]
    webhook_urls: Option<Vec<String>>,
    webhook: Option<CallbackInput>,
    /// Who is told of what happens meanwhile, too.
    #[schema(max_items = 16)]
    webhooks: Option<Vec<HookInput>>,
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// A file as it is uploaded.
#[derive(ToSchema)]
pub(crate) struct FileInput {
    /// What it is for.
    #[schema(pattern = "^(batch|assistants|evals|fine-tune|user_data|vision)$", example = "batch")]
    purpose: String,
    /// The file, with a name of at most 512 bytes.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// A batch as it is created.
#[derive(ToSchema)]
pub(crate) struct BatchInput {
    /// A file for the purpose `batch`: JSON lines of `{"custom_id","method":"POST","url","body"}`, at most 50,000.
    input_file_id: String,
    /// Where its requests go; `url` of each line.
    #[schema(pattern = "^/v1/(chat/completions|completions|embeddings|responses)$", example = "/v1/chat/completions")]
    endpoint: String,
    #[schema(pattern = "^24h$", example = "24h")]
    completion_window: String,
    /// The sender's own data, at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    /// A URL that is called when it ends.
    #[schema(format = "uri")]
    webhook_url: Option<String>,
    /// More such URLs; at most 16 in all.
    #[schema(max_items = 16)]
    webhook_urls: Option<Vec<String>>,
    webhook: Option<CallbackInput>,
    /// Who is told of what happens meanwhile, too.
    #[schema(max_items = 16)]
    webhooks: Option<Vec<HookInput>>,
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
}
