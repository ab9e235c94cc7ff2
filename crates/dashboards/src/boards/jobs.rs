//! What becomes of jobs.

use postrider_metrics::names::{CPU, JOB_DURATION, JOB_QUEUE, JOB_STATUS, LOG_LAG, MEMORY};

use super::{buckets, p99};
use crate::dashboard::{Dashboard, Row};
use crate::panel::{Panel, Unit};
use crate::query::{Series, Window};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "jobs",
        title: "Postrider: jobs",
        says: "Which jobs come in, wait, run and end.",
        rows: vec![ends(), waits(), runs()],
    }
}

fn ends() -> Row {
    let ended = Series::chosen(JOB_STATUS).among("status", &["completed", "failed", "canceled"]);
    let count = |series: Series| series.increase(Window::Shown).sum();
    let failed = Series::chosen(JOB_STATUS).with("status", "failed");
    Row {
        title: "Ends",
        panels: vec![
            Panel::stat("Came in", Unit::Number, "Jobs in the time that is shown.")
                .query(count(Series::chosen(JOB_STATUS).with("status", "pending")), ""),
            Panel::stat("Ended", Unit::Number, "Completed, failed or canceled in the time that is shown.").query(count(ended.clone()), ""),
            Panel::stat("Failed", Unit::Share, "Of the jobs that ended. A job names its reason in `error.code`.")
                .query(count(failed).per(&count(ended)), "")
                .bad_above(0.05, 0.5),
            Panel::stack(
                "Changes",
                Unit::PerSecond,
                "Jobs that came to have a status. A job that dies with its worker is processing again.",
            )
            .query(Series::chosen(JOB_STATUS).rate(Window::Step).sum_by(&["kind", "status"]), "{{kind}} {{status}}")
            .wide(12),
        ],
    }
}

fn waits() -> Row {
    let lag = Series::chosen(LOG_LAG).with("group", "compute");
    Row {
        title: "Waiting",
        panels: vec![
            Panel::lines("Not begun", Unit::Number, "Jobs that wait for a worker's room.")
                .query(Series::chosen(JOB_QUEUE).now().sum_by(&["kind"]), "{{kind}}")
                .wide(12),
            Panel::lines(
                "Behind the oldest that has not ended",
                Unit::Number,
                "Records of each kind's topic; bytes where the log is a folder. Growing: more compute is needed.",
            )
            .query(lag.now().sum_by(&["topic"]), "{{topic}}")
            .wide(12),
        ],
    }
}

fn runs() -> Row {
    Row {
        title: "Running",
        panels: vec![
            buckets("From its first beginning to its end", Unit::Seconds, "All kinds.", JOB_DURATION),
            Panel::lines("p99 by kind", Unit::Seconds, "From a job's first beginning to its end.")
                .query(p99(JOB_DURATION, "kind"), "{{kind}}")
                .logarithmic()
                .wide(12),
            Panel::lines("Processors", Unit::Number, "That each process keeps busy; jobs use what deliveries leave.")
                .query(Series::chosen(CPU).rate(Window::Step).sum_by(&["instance"]), "{{instance}}")
                .wide(12),
            Panel::lines("Memory", Unit::Bytes, "In RAM.")
                .query(Series::chosen(MEMORY).now().sum_by(&["instance"]), "{{instance}}")
                .wide(12),
        ],
    }
}
