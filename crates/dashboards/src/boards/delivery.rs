//! Whether events reach their receivers, and how soon.

use postrider_metrics::names::{
    ATTEMPTS, BREAKER_TRANSITIONS, BREAKERS, DEAD_LETTERS, DELIVERIES, DELIVERY_LATENCY, EVENTS, FIRST_ATTEMPT_LATENCY, IN_FLIGHT,
    INGEST_DURATION, LANE_BACKLOG, RETRIES,
};

use super::{buckets, quantiles, rate_by};
use crate::dashboard::{Dashboard, Row};
use crate::objectives::OBJECTIVE;
use crate::panel::{Panel, Unit};
use crate::query::{Query, Series, Window};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "delivery",
        title: "Postrider: delivery",
        says: "Whether events reach their receivers, and how soon.",
        rows: vec![objective(), latency(), deliveries(), receivers(), ingest()],
    }
}

/// The share of first deliveries within `seconds` over the time that is shown.
fn kept(seconds: u32) -> Query {
    let latency = Series::chosen(FIRST_ATTEMPT_LATENCY);
    latency.clone().at_most(seconds).increase(Window::Shown).sum().per(&latency.count().increase(Window::Shown).sum())
}

/// How many times as fast as it lasts for the objective's error budget is spent.
fn burn(window: &'static str) -> Query {
    OBJECTIVE.missed(window).now().per(&Query::number(OBJECTIVE.budget))
}

fn objective() -> Row {
    let succeeded = Series::chosen(DELIVERIES);
    let share = succeeded.clone().with("result", "success").increase(Window::Shown).sum().per(&succeeded.increase(Window::Shown).sum());
    Row {
        title: "Objective: 99% of first deliveries to healthy endpoints within 10 s (our aim: 99.9% within 1 s)",
        panels: vec![
            Panel::stat("Within 10 s", Unit::Share, "Of deliveries that succeeded at their first attempt. The objective is 99%.")
                .query(kept(10), "")
                .bad_below(0.99, 0.999),
            Panel::stat("Within 1 s", Unit::Share, "Of deliveries that succeeded at their first attempt. Our aim is 99.9%.")
                .query(kept(1), "")
                .bad_below(0.99, 0.999),
            Panel::stat("Delivered in the end", Unit::Share, "Of deliveries that ended; the others are dead letters. Receivers decide it.")
                .query(share, ""),
            Panel::lines(
                "Error budget burned, times its pace",
                Unit::Number,
                "1 spends the objective's budget exactly. 14.4 over an hour or 6 over six hours page (PostriderLatencyBurn). All processes.",
            )
            .query(burn("1h"), "1 hour")
            .query(burn("6h"), "6 hours")
            .query(burn("3d"), "3 days")
            .bad_above(1.0, 6.0)
            .wide(12),
        ],
    }
}

fn latency() -> Row {
    Row {
        title: "Latency",
        panels: vec![
            buckets(
                "Accepted to delivered",
                Unit::Seconds,
                "All deliveries, retries included: what is slow here may be the receivers.",
                DELIVERY_LATENCY,
            ),
            quantiles(
                Panel::lines(
                    "Accepted to delivered at the first attempt",
                    Unit::Seconds,
                    "What receivers' troubles have no part in. Milliseconds embedded, some tens of them on Kafka; the objective is 10 s.",
                ),
                FIRST_ATTEMPT_LATENCY,
            )
            .bad_above(1.0, 10.0)
            .logarithmic()
            .wide(12),
        ],
    }
}

fn deliveries() -> Row {
    Row {
        title: "Deliveries",
        panels: vec![
            Panel::stack("Events that came in", Unit::PerSecond, "By where they came from; job and postrider are events of its own.")
                .query(rate_by(EVENTS, "source"), "{{source}}"),
            Panel::stack("Deliveries that ended", Unit::PerSecond, "Success is an answer of 2xx, failure a dead letter.")
                .query(rate_by(DELIVERIES, "result"), "{{result}}"),
            Panel::stack("Attempts", Unit::PerSecond, "By how they ended; refused is any answer but 2xx.")
                .query(rate_by(ATTEMPTS, "outcome"), "{{outcome}}"),
            Panel::lines("Retries", Unit::PerSecond, "Attempts behind the first one of a delivery. They follow receivers that fail.")
                .query(Series::chosen(RETRIES).rate(Window::Step).sum(), "retries"),
            Panel::stack("Dead letters", Unit::PerSecond, "By why they were given up; malformed are records of Kafka that can't be read.")
                .query(rate_by(DEAD_LETTERS, "reason"), "{{reason}}")
                .wide(16),
        ],
    }
}

fn receivers() -> Row {
    let standing = |state: &str| Series::chosen(BREAKERS).with("state", state).now().sum();
    Row {
        title: "Endpoints",
        panels: vec![
            Panel::lines("In flight", Unit::Number, "Attempts under way. Many with few deliveries: receivers are slow.")
                .query(Series::chosen(IN_FLIGHT).now().sum_by(&["instance"]), "{{instance}}"),
            Panel::lines("Endpoints with a backlog", Unit::Number, "Their deliveries wait in the store: for a retry, a breaker, a limit.")
                .query(Series::chosen(LANE_BACKLOG).now().sum(), "endpoints"),
            Panel::lines("Open breakers", Unit::Number, "Endpoints that are left alone for a while, and those that are being tried again.")
                .query(standing("open"), "open")
                .query(standing("half_open"), "half open"),
            Panel::lines("Breakers that turned", Unit::PerSecond, "Many at once: a network or a provider that many receivers share.")
                .query(rate_by(BREAKER_TRANSITIONS, "to"), "to {{to}}")
                .wide(24),
        ],
    }
}

fn ingest() -> Row {
    Row {
        title: "Taking events",
        panels: vec![
            buckets("Until durable", Unit::Seconds, "How long a request with one event or a batch of them took.", INGEST_DURATION),
            quantiles(
                Panel::lines("Until durable", Unit::Seconds, "How long a request with one event or a batch of them took."),
                INGEST_DURATION,
            )
            .wide(12),
        ],
    }
}
