//! The alerts. Each is something to act on, and has a section in docs/operations.md.

use postrider_metrics::names::{
    ATTEMPTS, DEAD_LETTERS, DELIVERIES, DEPENDENCIES, DISK_FREE, DISK_SIZE, FIRST_ATTEMPT_LATENCY, LOG_SKEW, ROLES, STORE_BATCH,
};

use crate::alert::{Alert, Comparison, Severity, When};
use crate::objectives::{AIM, OBJECTIVE, Objective, lag};
use crate::query::{Query, Series, Window};

/// What Prometheus' configuration calls the job that scrapes Postrider.
const JOB: &str = "postrider";
/// Fewer first deliveries in an hour say little: a few slow ones would wake somebody.
const ENOUGH: f64 = 100.0;

/// All alerts, the most urgent first.
pub fn alerts() -> Vec<Alert> {
    [delivery(), processes(), disks(), dead_letters()].concat()
}

fn any<const N: usize>(sets: [Vec<Comparison>; N]) -> When {
    When::Any(sets.into())
}

/// The error budget is spent `times` as fast as it would last for, in a long window and still in a short one (Google's SRE
/// workbook, chapter 5).
fn burning(objective: Objective, times: f64, windows: [&'static str; 2]) -> Vec<Comparison> {
    let bound = (times * objective.budget * 1e6).round() / 1e6;
    windows.map(|window| Comparison::above(objective.missed(window).now(), bound)).into()
}

fn delivery() -> Vec<Alert> {
    let hour = Window::Of("1h");
    let enough = || Comparison::above(Series::of(FIRST_ATTEMPT_LATENCY).count().increase(hour).sum(), ENOUGH);
    let with_enough = |mut comparisons: Vec<Comparison>| {
        comparisons.push(enough());
        comparisons
    };
    let ten = Window::Of("10m");
    let unreached = Series::of(ATTEMPTS).among("outcome", &["timeout", "dns", "connect", "tls", "closed"]).rate(ten).sum();
    let attempts = Series::of(ATTEMPTS).rate(ten).sum();
    vec![
        Alert {
            name: "PostriderLatencyBurn",
            severity: Severity::Page,
            when: any([with_enough(burning(OBJECTIVE, 14.4, ["1h", "5m"])), with_enough(burning(OBJECTIVE, 6.0, ["6h", "30m"]))]),
            lasting: "0s",
            summary: "Deliveries are late: the objective's error budget is being spent fast",
            description: "{{ $value | humanizePercentage }} of first deliveries took longer than 10 s, and it goes on. One percent may.",
        },
        Alert {
            name: "PostriderStuckHead",
            severity: Severity::Page,
            when: any([vec![Comparison::above(Series::of(LOG_SKEW).least(ten).per(&Series::of(STORE_BATCH).total().rate(ten)), 30.0)]]),
            lasting: "5m",
            summary: "{{ $labels.instance }} has read deliveries and does not finish them",
            description: "At the pace of the last ten minutes what it has read takes {{ $value | humanizeDuration }}. Two seconds is what it should.",
        },
        Alert {
            name: "PostriderLagGrowing",
            severity: Severity::Page,
            when: any([vec![
                Comparison::above(recorded_lag("", ""), 10_000.0),
                Comparison::exceeds(recorded_lag("min_over_time", "[5m]"), recorded_lag("max_over_time", "[5m] offset 10m")),
            ]]),
            lasting: "10m",
            summary: "{{ $labels.group }} falls behind in {{ $labels.topic }}",
            description: "It is {{ $value | humanize }} behind (records; bytes where the log is a folder), and that grows.",
        },
        Alert {
            name: "PostriderAttemptsFailing",
            severity: Severity::Page,
            when: any([vec![Comparison::above(unreached.per(&attempts), 0.5), Comparison::above(attempts, 1.0)]]),
            lasting: "10m",
            summary: "Most attempts reach nobody",
            description: "{{ $value | humanizePercentage }} of attempts end without an answer. So many receivers don't fail at once: the way out does.",
        },
        Alert {
            name: "PostriderLatencyBudget",
            severity: Severity::Ticket,
            when: any([with_enough(burning(OBJECTIVE, 1.0, ["3d", "6h"]))]),
            lasting: "1h",
            summary: "Deliveries are late more often than the objective allows",
            description: "{{ $value | humanizePercentage }} of first deliveries of three days took longer than 10 s. One percent may.",
        },
        Alert {
            name: "PostriderAimMissed",
            severity: Severity::Ticket,
            when: any([with_enough(burning(AIM, 3.0, ["1d", "2h"]))]),
            lasting: "1h",
            summary: "Deliveries are slower than they should be",
            description: "{{ $value | humanizePercentage }} of first deliveries of a day took longer than 1 s. We aim at 0.1%.",
        },
    ]
}

/// How far behind those are that events wait for; jobs may wait.
fn recorded_lag(function: &str, window: &str) -> Query {
    let series = format!("{}{{group=~\"deliver|router\"}}{window}", lag().name);
    Query::atom(if function.is_empty() { series } else { format!("{function}({series})") })
}

fn processes() -> Vec<Alert> {
    let up = || Series::of(DEPENDENCIES).now();
    let roles = Series::of(ROLES);
    vec![
        Alert {
            name: "PostriderRoleGone",
            severity: Severity::Page,
            when: When::Gone { were: roles.most(Window::Of("6h")).most_by(&["role"]), are: roles.now().most_by(&["role"]) },
            lasting: "2m",
            summary: "No process has the role {{ $labels.role }} any more",
            description: "What this role does is not done: api takes events, router and deliver bring them on their way, compute does jobs.",
        },
        Alert {
            name: "PostriderDependencyDown",
            severity: Severity::Page,
            when: any([vec![Comparison::below(up().most_by(&["dependency"]), 1.0)]]),
            lasting: "2m",
            summary: "{{ $labels.dependency }} does not answer any process",
            description: "Events are refused with 503, or soon will be; deliveries stop. Nothing that was accepted is lost.",
        },
        Alert {
            name: "PostriderProcessImpaired",
            severity: Severity::Ticket,
            when: any([
                vec![Comparison::below(Query::atom(format!("up{{job=\"{JOB}\"}}")), 1.0)],
                vec![Comparison::below(up().least_by(&["job", "instance"]), 1.0)],
            ]),
            lasting: "10m",
            summary: "{{ $labels.instance }} does not work",
            description: "It does not answer, or lacks something that it needs. Others do its work as long as there are any.",
        },
    ]
}

fn disks() -> Vec<Alert> {
    let free = || Series::of(DISK_FREE).now().per(&Series::of(DISK_SIZE).now());
    vec![
        Alert {
            name: "PostriderDiskNearlyFull",
            severity: Severity::Page,
            when: any([vec![Comparison::below(free(), 0.05)]]),
            lasting: "5m",
            summary: "The disk of {{ $labels.folder }} on {{ $labels.instance }} is nearly full",
            description: "{{ $value | humanizePercentage }} is free. Once less than data.min_free_mib is, events are refused; jobs fail where blobs find no room.",
        },
        Alert {
            name: "PostriderDiskFilling",
            severity: Severity::Ticket,
            when: any([vec![
                Comparison::below(Series::of(DISK_FREE).forecast(Window::Of("6h"), 86_400), 0.0),
                Comparison::below(free(), 0.4),
            ]]),
            lasting: "1h",
            summary: "The disk of {{ $labels.folder }} on {{ $labels.instance }} will be full within a day",
            description: "If it goes on to fill as in the last six hours.",
        },
    ]
}

fn dead_letters() -> Vec<Alert> {
    let hour = Window::Of("1h");
    let given_up = Series::of(DEAD_LETTERS).among("reason", &["exhausted", "expired"]).increase(hour).sum();
    vec![
        Alert {
            name: "PostriderDeadLetters",
            severity: Severity::Ticket,
            when: any([vec![
                Comparison::above(given_up.per(&Series::of(DELIVERIES).increase(hour).sum()), 0.05),
                Comparison::above(given_up, ENOUGH),
            ]]),
            lasting: "15m",
            summary: "Many deliveries are given up",
            description: "{{ $value | humanizePercentage }} of the deliveries that ended in the last hour did so as dead letters.",
        },
        Alert {
            name: "PostriderMalformedRecords",
            severity: Severity::Ticket,
            when: any([vec![Comparison::above(Series::of(DEAD_LETTERS).with("reason", "malformed").increase(hour).sum(), 0.0)]]),
            lasting: "0s",
            summary: "Somebody writes records to Kafka that can't be read",
            description: "About {{ printf \"%.0f\" $value }} in the last hour went to the dead-letter topic instead of becoming events.",
        },
    ]
}
