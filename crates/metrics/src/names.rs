//! The metrics themselves.

use crate::buckets::{DELIVERY, EXCHANGE, JOB, OWN, ROWS};
use crate::metric::{Label, Metric, Shape};

macro_rules! list {
    ($($name:ident = $text:literal: $shape:expr, [$($label:literal: $values:literal),*], $says:literal;)*) => {
        $(
            #[doc = $says]
            pub const $name: Metric = Metric {
                name: $text,
                says: $says,
                shape: $shape,
                labels: &[$(Label { name: $label, values: $values }),*],
            };
        )*

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($name),*];
    };
}

list! {
    // Names that other systems' dashboards have, too.
    DELIVERIES = "webhook_delivery_total": Shape::Counter, ["result": "success, failure"],
        "Deliveries that ended: with an answer of 2xx, or as a dead letter.";
    RETRIES = "webhook_retry_total": Shape::Counter, [],
        "Attempts behind the first one of a delivery.";
    JOB_DURATION = "job_processing_duration_seconds": Shape::Histogram(JOB), ["kind": "kinds of jobs", "status": "completed, failed"],
        "From a job's first beginning to its end, in seconds.";
    JOB_STATUS = "job_status_total": Shape::Counter, ["kind": "kinds of jobs", "status": "pending, processing, completed, failed, canceled"],
        "Jobs that came to have a status.";
    JOB_QUEUE = "job_queue_length": Shape::Gauge, ["kind": "kinds of jobs"],
        "Jobs that wait to be begun, of the partitions that this process reads; as of a second ago, for kinds that workers outside do up to ten.";

    EVENTS = "postrider_events_ingested_total": Shape::Counter, ["source": "api, kafka, job, postrider"],
        "Events that were made durable, or read from a topic that others write to.";
    INGEST_DURATION = "postrider_ingest_duration_seconds": Shape::Histogram(OWN), [],
        "How long a request with one event or a batch of them took to become durable, in seconds.";
    DELIVERY_LATENCY = "postrider_delivery_latency_seconds": Shape::Histogram(DELIVERY), [],
        "From an event's acceptance, or the command to replay it, to an answer of 2xx, in seconds.";
    FIRST_ATTEMPT_LATENCY = "postrider_first_attempt_latency_seconds": Shape::Histogram(DELIVERY), [],
        "As the delivery's latency, of deliveries that succeeded at their first attempt: what receivers' troubles have no part in.";
    ATTEMPTS = "postrider_attempts_total": Shape::Counter, ["outcome": "success, refused, timeout, dns, connect, tls, closed, forbidden, protocol"],
        "Attempts by how they ended; refused is any answer but 2xx.";
    ATTEMPT_DURATION = "postrider_attempt_duration_seconds": Shape::Histogram(EXCHANGE), ["outcome": "as of postrider_attempts_total"],
        "From the beginning of an attempt to the end of the exchange, in seconds.";
    IN_FLIGHT = "postrider_in_flight": Shape::Gauge, [],
        "Attempts under way.";
    LANE_BACKLOG = "postrider_lane_backlog": Shape::Gauge, [],
        "Endpoints with deliveries that wait in the store.";
    BREAKERS = "postrider_breaker_state": Shape::Gauge, ["state": "closed, open, half_open"],
        "Breakers of the endpoints that this process knows, by where they stand.";
    BREAKER_TRANSITIONS = "postrider_breaker_transitions_total": Shape::Counter, ["to": "closed, open, half_open"],
        "Times that a breaker came to stand so.";
    DEAD_LETTERS = "postrider_dead_letters_total": Shape::Counter, ["reason": "exhausted, expired, gone, malformed"],
        "Deliveries that were given up: after the last attempt, as their time was over, as the receiver answered 410; and records that can't be read.";

    LOG_LAG = "postrider_log_lag": Shape::Gauge, ["topic": "topics that this process reads", "group": "router, deliver, compute"],
        "Records of this process's partitions behind the oldest that is not finished; embedded, bytes of the log behind it.";
    LOG_SKEW = "postrider_log_commit_skew": Shape::Gauge, [],
        "Records of deliveries that this process has read and not finished.";
    REBALANCES = "postrider_rebalances_total": Shape::Counter, [],
        "Partitions of deliveries that came to this process or left it.";
    STORE_BATCH = "postrider_store_write_batch_size": Shape::Histogram(ROWS), [],
        "Writes of one batch to the store.";
    STORE_DURATION = "postrider_store_duration_seconds": Shape::Histogram(OWN), ["op": "write, load, claim, change, read, list"],
        "How long the store took for a call that succeeded, in seconds.";
    STORE_ERRORS = "postrider_store_errors_total": Shape::Counter, ["op": "as of postrider_store_duration_seconds"],
        "Calls that the store did not do.";
    CACHE_HITS = "postrider_cache_hits_total": Shape::Counter, ["cache": "endpoints, routes, secrets, targets"],
        "Times that what was looked for was in memory.";
    CACHE_MISSES = "postrider_cache_misses_total": Shape::Counter, ["cache": "as of postrider_cache_hits_total"],
        "Times that it was not.";
    SPANS = "postrider_spans_total": Shape::Counter, ["outcome": "sent, refused, dropped"],
        "Spans of recorded traces: taken by the OTLP receiver, not taken by it, or given up for want of room or pace.";
    DEPENDENCIES = "postrider_dependency_up": Shape::Gauge, ["dependency": "log and store, or kafka and scylla"],
        "1 while it answers, else 0; as /readyz has it.";
    DISK_FREE = "postrider_disk_free_bytes": Shape::Gauge, ["folder": "data, blobs"],
        "Bytes that this process may still write where its data folder lies, or in a cluster the jobs' blobs.";
    DISK_SIZE = "postrider_disk_size_bytes": Shape::Gauge, ["folder": "as of postrider_disk_free_bytes"],
        "Bytes that there are in all.";
    ROLES = "postrider_role": Shape::Gauge, ["role": "api, router, deliver, compute"],
        "1 for each role that this process has.";
    BUILD = "postrider_build_info": Shape::Gauge, ["version": "this program's"],
        "Always 1.";

    MEMORY = "process_resident_memory_bytes": Shape::Gauge, [], "Memory of this process that is in RAM.";
    VIRTUAL = "process_virtual_memory_bytes": Shape::Gauge, [], "Memory that it has asked for.";
    MOST_VIRTUAL = "process_virtual_memory_max_bytes": Shape::Gauge, [], "Memory that it may ask for.";
    CPU = "process_cpu_seconds_total": Shape::Counter, [], "Time that processors spent on this process, in seconds.";
    FILES = "process_open_fds": Shape::Gauge, [], "Files and connections that it has open.";
    MOST_FILES = "process_max_fds": Shape::Gauge, [], "How many it may have open.";
    THREADS = "process_threads": Shape::Gauge, [], "Its threads.";
    STARTED = "process_start_time_seconds": Shape::Gauge, [], "When it started, in seconds since 1970.";
}
