//! Spans as OTLP has them.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status};
use prost::Message as _;

use crate::span::{Kind, Span, Value, Work};

/// What this process says of itself.
pub(crate) fn resource(service: &str, instance: u64) -> Resource {
    let text = |text: &str| Value::Text(text.to_owned());
    let attributes = vec![
        attribute("service.name", text(service)),
        attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
        attribute("service.instance.id", Value::Text(format!("{instance:016x}"))),
    ];
    Resource { attributes, ..Resource::default() }
}

/// A request with these spans, as protobuf.
pub(crate) fn encode(resource: &Resource, spans: impl IntoIterator<Item = Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "postrider".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(message).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn message(span: Span) -> otlp::Span {
    let Work { own, state, parent, name, kind, began, took, attributes, error, .. } = *span.0;
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Consumer => SpanKind::Consumer,
    };
    let status = error.map(|message| Status { message, code: StatusCode::Error.into() });
    otlp::Span {
        trace_id: own.trace.0.to_be_bytes().to_vec(),
        span_id: own.span.0.to_be_bytes().to_vec(),
        trace_state: state.unwrap_or_default(),
        parent_span_id: parent.map(|parent| parent.0.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: own.flags().into(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + took),
        attributes: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        status,
        ..otlp::Span::default()
    }
}

fn attribute(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
