//! How the log, the store and the processes themselves do.

use postrider_metrics::names::{
    CACHE_HITS, CACHE_MISSES, CPU, DEPENDENCIES, DISK_FREE, DISK_SIZE, FILES, LOG_LAG, LOG_SKEW, MEMORY, MOST_FILES, REBALANCES, ROLES,
    SPANS, STORE_BATCH, STORE_DURATION, STORE_ERRORS,
};

use super::{p99, quantiles, rate_by};
use crate::dashboard::{Dashboard, Row};
use crate::panel::{Panel, Unit};
use crate::query::{Series, Window};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "servers",
        title: "Postrider: Kafka and store",
        says: "How the log, the store and the processes do: Kafka and ScyllaDB, or the folder that stands for both.",
        rows: vec![presence(), log(), store(), processes()],
    }
}

fn presence() -> Row {
    Row {
        title: "Who is there",
        panels: vec![
            Panel::lines(
                "Dependencies",
                Unit::Number,
                "1 while it answers. In each process for itself: one that alone sees 0 has a network problem.",
            )
            .query(Series::chosen(DEPENDENCIES).now().least_by(&["dependency", "instance"]), "{{dependency}} from {{instance}}")
            .wide(12),
            Panel::stack(
                "Processes by role",
                Unit::Number,
                "A process may have several roles. One that is gone pages (PostriderRoleGone).",
            )
            .query(Series::chosen(ROLES).now().sum_by(&["role"]), "{{role}}")
            .wide(12),
        ],
    }
}

fn log() -> Row {
    Row {
        title: "Log",
        panels: vec![
            Panel::lines(
                "Lag",
                Unit::Number,
                "Records behind the oldest that is not finished; bytes where the log is a folder. Near 0 while all keep up.",
            )
            .query(Series::chosen(LOG_LAG).now().sum_by(&["topic", "group"]), "{{topic}} {{group}}"),
            Panel::lines(
                "Read and not finished",
                Unit::Number,
                "Deliveries between the committed offset and what is read. At most about two seconds' worth.",
            )
            .query(Series::chosen(LOG_SKEW).now().sum_by(&["instance"]), "{{instance}}"),
            Panel::lines(
                "Partitions that moved",
                Unit::Number,
                "Partitions of deliveries that came to a process or left it. Only when processes come and go.",
            )
            .query(Series::chosen(REBALANCES).increase(Window::Step).sum_by(&["instance"]), "{{instance}}"),
        ],
    }
}

fn store() -> Row {
    let calls = Series::chosen(STORE_DURATION).count().rate(Window::Step).sum_by(&["op"]);
    let looks = |result: Series| result.rate(Window::Step).sum_by(&["cache"]);
    let (hits, misses) = (looks(Series::chosen(CACHE_HITS)), looks(Series::chosen(CACHE_MISSES)));
    Row {
        title: "Store",
        panels: vec![
            Panel::lines("p99 by call", Unit::Seconds, "Of calls that succeeded.").query(p99(STORE_DURATION, "op"), "{{op}}").logarithmic(),
            Panel::stack("Calls", Unit::PerSecond, "That succeeded.").query(calls, "{{op}}"),
            Panel::lines("Errors", Unit::PerSecond, "Calls that the store did not do. Writes are tried again; reads answer 503.")
                .query(rate_by(STORE_ERRORS, "op"), "{{op}}"),
            quantiles(Panel::lines("Writes of a batch", Unit::Number, "Larger under load: that is how the store keeps up."), STORE_BATCH)
                .wide(12),
            Panel::lines(
                "Found in memory",
                Unit::Share,
                "Of looks for endpoints, routes and secrets. Low: more of them are used than fit.",
            )
            .query(hits.per(&hits.plus(&misses)), "{{cache}}")
            .wide(12),
        ],
    }
}

fn processes() -> Row {
    let by_instance = ["instance"];
    let open = Series::chosen(FILES).now().sum_by(&by_instance).per(&Series::chosen(MOST_FILES).now().sum_by(&by_instance));
    let free = Series::chosen(DISK_FREE).now().per(&Series::chosen(DISK_SIZE).now());
    Row {
        title: "Processes",
        panels: vec![
            Panel::lines("Processors", Unit::Number, "That each process keeps busy.")
                .query(Series::chosen(CPU).rate(Window::Step).sum_by(&by_instance), "{{instance}}")
                .wide(6),
            Panel::lines("Memory", Unit::Bytes, "In RAM.").query(Series::chosen(MEMORY).now().sum_by(&by_instance), "{{instance}}").wide(6),
            Panel::lines("Files and connections", Unit::Share, "Of those that the system lets it open.")
                .query(open, "{{instance}}")
                .wide(6),
            Panel::lines(
                "Free on disk",
                Unit::Share,
                "Where the data folder lies, or the jobs' blobs. Kafka and the store show their own.",
            )
            .query(free, "{{folder}} on {{instance}}")
            .wide(6),
            Panel::stack(
                "Spans",
                Unit::PerSecond,
                "To the collector of otlp.endpoint. Refused or dropped: traces have holes, deliveries do not notice.",
            )
            .query(rate_by(SPANS, "outcome"), "{{outcome}}"),
        ],
    }
}
