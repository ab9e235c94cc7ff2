//! One piece of work of a trace that is recorded.

use std::time::{Duration, Instant, SystemTime};

use postrider_core::id::Uid;
use postrider_core::trace::{Sampling, SpanId, Trace, TraceParent};

use crate::tracer::Tracer;

/// Longest text of an attribute, in bytes; what is longer is cut.
const MAX_TEXT: usize = 1024;

/// Names of attributes that several spans have. Others are OpenTelemetry's own.
pub mod attribute {
    /// Whose it is.
    pub const TENANT: &str = "postrider.tenant";
    /// The event (`evt_…`), also where its sender chose another id.
    pub const EVENT: &str = "postrider.event.id";
    /// The event's type.
    pub const EVENT_TYPE: &str = "postrider.event.type";
    /// How many endpoints it goes to, as far as that is known.
    pub const DELIVERIES: &str = "postrider.deliveries";
    /// The delivery, which receivers know as `webhook-id`.
    pub const DELIVERY: &str = "postrider.delivery.id";
    /// The endpoint.
    pub const ENDPOINT: &str = "postrider.endpoint.id";
    /// The attempt's number, from 1.
    pub const ATTEMPT: &str = "postrider.attempt";
    /// The job.
    pub const JOB: &str = "postrider.job.id";
    /// The job's kind.
    pub const JOB_KIND: &str = "postrider.job.kind";
    /// OpenTelemetry: the sort of failure.
    pub const ERROR: &str = "error.type";
    /// OpenTelemetry: what an HTTP request was answered.
    pub const STATUS: &str = "http.response.status_code";
}

/// A piece of work that is under way. Dropped without [`Span::end`] it leaves nothing.
#[derive(Debug)]
pub struct Span(pub(crate) Box<Work>);

/// What is known of a piece of work.
#[derive(Debug)]
pub(crate) struct Work {
    /// Its trace and its own id.
    pub(crate) own: TraceParent,
    pub(crate) state: Option<String>,
    pub(crate) parent: Option<SpanId>,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) error: Option<String>,
    clock: Instant,
}

/// How work is related to what it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers a request.
    Server,
    /// It makes a request and waits for the answer.
    Client,
    /// It takes what was left for it some time ago.
    Consumer,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Some text.
    Text(String),
    /// Some number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text[..text.floor_char_boundary(MAX_TEXT)].to_owned())
    }
}

impl From<String> for Value {
    fn from(mut text: String) -> Value {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Value::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl Span {
    /// Of work that begins now, as part of what `given` says. Without that it is the first of a trace, if such are to be
    /// recorded; `number` is the trace's then. `None`: nothing is to be recorded.
    pub fn begin(name: &'static str, kind: Kind, given: Option<Trace<'_>>, number: Uid) -> Option<Span> {
        match given {
            Some(given) => Span::child(name, kind, given),
            None => {
                let tracer = Tracer::get().filter(|tracer| tracer.samples(number) && tracer.has_room())?;
                Some(Span(Box::new(Work::new(name, kind, TraceParent::root(number, tracer.next_id(), Sampling::Recorded)))))
            }
        }
    }

    /// Of work that begins now, as part of what `given` says. `None`: nothing is to be recorded.
    pub fn child(name: &'static str, kind: Kind, given: Trace<'_>) -> Option<Span> {
        let tracer = Tracer::get().filter(|tracer| given.parent.is_sampled() && tracer.has_room())?;
        let own = given.parent.with_span(tracer.next_id());
        let (state, parent) = (given.state.map(str::to_owned), Some(given.parent.span));
        Some(Span(Box::new(Work { state, parent, ..Work::new(name, kind, own) })))
    }

    /// What it hands on to what it leads to.
    pub fn own(&self) -> TraceParent {
        self.0.own
    }

    /// Says something of the work: never a payload or a secret.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.attributes.push((name, value.into()));
    }

    /// The work failed, and why.
    pub fn fail(&mut self, why: &str) {
        self.0.error = Some(why[..why.floor_char_boundary(MAX_TEXT)].to_owned());
    }

    /// The work has ended.
    pub fn end(mut self) {
        self.0.took = self.0.clock.elapsed();
        if let Some(tracer) = Tracer::get() {
            tracer.take(self);
        }
    }
}

impl Work {
    fn new(name: &'static str, kind: Kind, own: TraceParent) -> Work {
        Work {
            own,
            state: None,
            parent: None,
            name,
            kind,
            began: SystemTime::now(),
            took: Duration::ZERO,
            attributes: Vec::with_capacity(8),
            error: None,
            clock: Instant::now(),
        }
    }
}

/// The trace as work hands it on: as its span where that is recorded, else as it was given.
pub fn handed_on<'a>(span: Option<&Span>, given: Option<Trace<'a>>) -> Option<Trace<'a>> {
    match span {
        Some(span) => Some(Trace { parent: span.own(), state: given.and_then(|given| given.state) }),
        None => given,
    }
}
