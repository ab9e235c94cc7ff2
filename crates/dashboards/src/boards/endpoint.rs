//! Where to look when one endpoint has troubles. No label names an endpoint, so its own figures are the API's to give.

use postrider_metrics::names::{ATTEMPT_DURATION, ATTEMPTS, BREAKERS, DEAD_LETTERS, LANE_BACKLOG};

use super::{p99, rate_by};
use crate::dashboard::{Dashboard, Row};
use crate::panel::{Panel, Unit};
use crate::query::{Series, Window};

/// Commands begin with `$`; a test runs each with a real endpoint's id for `ENDPOINT`.
const WHERE: &str = "\
No metric names an endpoint or a tenant: there may be a hundred thousand, and every receiver's troubles are its own. What is below is of
all endpoints together: it tells whether *this* one is in trouble, or all are. The endpoint's own figures are in the API, and the program
asks for them:

```console
$ postrider endpoint show ENDPOINT
$ postrider endpoint test ENDPOINT
$ postrider replay --endpoint ENDPOINT --since 1h
```

`show` prints its settings, its breaker and what became of its deliveries; `test` sends a sample and says what is wrong with the
answer; `replay` sends again what was given up, once it is well. Over HTTP:

| | |
|---|---|
| `GET /v1/webhooks/{id}/stats` | how many deliveries succeed, fail and wait |
| `GET /v1/webhooks/{id}/attempts` | the last attempts, with the receiver's answers |
| `GET /v1/deliveries` | deliveries by `webhook`, `status`, `type`, time |
| `GET /v1/dead-letters` | what was given up |
| `POST /v1/webhooks/{id}/test` | a sample, and a verdict |
";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "endpoint",
        title: "Postrider: one endpoint's troubles",
        says: "Whether one endpoint is in trouble or all are, and where to look further.",
        rows: vec![Row { title: "This endpoint", panels: vec![Panel::text("Its own figures", WHERE)] }, everyone()],
    }
}

fn everyone() -> Row {
    let failing = |label: &[&str]| {
        let failed = Series::chosen(ATTEMPTS).among("outcome", label).rate(Window::Step).sum();
        failed.per(&Series::chosen(ATTEMPTS).rate(Window::Step).sum())
    };
    let standing = Series::chosen(BREAKERS).now().sum_by(&["state"]);
    Row {
        title: "All endpoints together",
        panels: vec![
            Panel::lines(
                "Attempts that fail",
                Unit::Share,
                "Refused alone is a matter of receivers. Unreached from one moment on: look at the network, DNS, egress.",
            )
            .query(failing(&["refused"]), "refused")
            .query(failing(&["timeout"]), "no answer in time")
            .query(failing(&["dns", "connect", "tls", "closed"]), "unreached")
            .query(failing(&["forbidden", "protocol"]), "not allowed, or no HTTP"),
            Panel::lines("p99 of an attempt", Unit::Seconds, "By how it ended. The first attempt of a delivery has 5 s in all.")
                .query(p99(ATTEMPT_DURATION, "outcome"), "{{outcome}}")
                .logarithmic(),
            Panel::stack("Breakers", Unit::Number, "Open: the endpoint is left alone for a while. Few of many: their own troubles.")
                .query(standing, "{{state}}"),
            Panel::lines("Endpoints with a backlog", Unit::Number, "Their deliveries wait in the store.")
                .query(Series::chosen(LANE_BACKLOG).now().sum(), "endpoints")
                .wide(12),
            Panel::lines("Dead letters", Unit::PerSecond, "Gone: the receiver answered 410, which disables the endpoint.")
                .query(rate_by(DEAD_LETTERS, "reason"), "{{reason}}")
                .wide(12),
        ],
    }
}
