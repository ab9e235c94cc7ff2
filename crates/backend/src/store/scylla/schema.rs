//! The tables, version by version.
//!
//! | table | partition | rows, in order |
//! |---|---|---|
//! | `events` | tenant, hour, shard of the event | event newest first, chunk |
//! | `event_names` | tenant, the id its sender gave | event newest first |
//! | `tenant_hours` | tenant | hours that hold anything of the tenant, newest first |
//! | `attempts` | virtual shard of the endpoint, hour | endpoint, event newest first, attempt newest first; an end before all |
//! | `dead_letters` | tenant, day | event newest first, endpoint |
//! | `backlog` | partition, endpoint | place |
//! | `lanes` | partition | endpoint, writer; see `marks` |
//! | `claims` | tenant, idempotency key | |
//! | `objects` | kind, tenant, shard of the id | id |
//! | `jobs` | tenant, job | changed by lightweight transactions, which wait for others of their partition |
//! | `job_ids` | tenant, hour, shard of the job | job newest first |
//! | `job_tenants` | job | |
//! | `settings` | name | |
//!
//! Hours and days are those of the event's id, so that an id alone names its partition. Values are what the local
//! store writes, too.

/// The version that this build reads and writes.
pub(super) const VERSION: u32 = 2;

/// The setting that holds the version.
pub(super) const SETTING_VERSION: &str = "schema_version";
/// The setting that holds the number of virtual shards.
pub(super) const SETTING_SHARDS: &str = "virtual_shards";
/// The setting that holds the retention in seconds.
pub(super) const SETTING_RETENTION: &str = "retention_seconds";

/// What has to be there before anything else can be known.
pub(super) fn settings(keyspace: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS {keyspace}.settings (name text PRIMARY KEY, value text)")
}

/// The statements that bring a keyspace from the version before to `version`. Each can be repeated.
pub(super) fn migration(version: u32, keyspace: &str, retention: u64) -> Vec<String> {
    match version {
        1 => first(keyspace, retention),
        2 => jobs(keyspace),
        _ => Vec::new(),
    }
}

/// Tables whose rows live as long as the retention says, with what they have of it beyond that, in seconds.
///
/// An hour of a tenant is noted again at least once an hour while rows are written to it, so it must live a little longer.
pub(super) const BY_TIME: [(&str, u64); 5] =
    [("events", 0), ("event_names", 0), ("tenant_hours", 86_400), ("attempts", 0), ("dead_letters", 0)];

/// What makes a table's rows go in time. Files of one window go as a whole; about 30 windows make up the retention,
/// fewer than the 50 that ScyllaDB allows.
pub(super) fn by_time(retention: u64, beyond: u64) -> String {
    let live = retention.saturating_add(beyond);
    let window = live.div_ceil(30 * 3600).max(1);
    format!(
        "default_time_to_live = {live} AND compaction = {{'class': 'TimeWindowCompactionStrategy', \
         'compaction_window_unit': 'HOURS', 'compaction_window_size': '{window}'}}"
    )
}

/// The backlog is read from its low-water mark, so what was removed need not be kept for readers; but a node that was
/// down for longer than this must be rebuilt or repaired, or rows that were removed meanwhile come back.
const BACKLOG_GRACE: u64 = 3 * 3600;

fn first(keyspace: &str, retention: u64) -> Vec<String> {
    let columns = [
        "events (tenant text, hour int, shard int, id blob, chunk bigint, value blob, body blob, \
         PRIMARY KEY ((tenant, hour, shard), id, chunk)) WITH CLUSTERING ORDER BY (id DESC, chunk ASC)",
        "event_names (tenant text, given_id text, event blob, \
         PRIMARY KEY ((tenant, given_id), event)) WITH CLUSTERING ORDER BY (event DESC)",
        // A partition key of one column can't be empty, a tenant's name can.
        "tenant_hours (tenant text, part int, hour int, \
         PRIMARY KEY ((tenant, part), hour)) WITH CLUSTERING ORDER BY (hour DESC)",
        "attempts (vshard int, hour int, endpoint blob, event blob, n bigint, tenant text, value blob, \
         PRIMARY KEY ((vshard, hour), endpoint, event, n)) WITH CLUSTERING ORDER BY (endpoint ASC, event DESC, n DESC)",
        "dead_letters (tenant text, day int, event blob, endpoint blob, value blob, \
         PRIMARY KEY ((tenant, day), event, endpoint)) WITH CLUSTERING ORDER BY (event DESC, endpoint DESC)",
    ];
    let mut statements: Vec<String> = columns
        .iter()
        .zip(BY_TIME)
        .map(|(columns, (table, beyond))| {
            debug_assert!(columns.starts_with(table), "both lists have one order");
            format!("CREATE TABLE IF NOT EXISTS {keyspace}.{columns} AND {}", by_time(retention, beyond))
        })
        .collect();
    let leveled = "compaction = {'class': 'LeveledCompactionStrategy'}";
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.backlog (partition int, endpoint blob, place_order bigint, event blob, value blob, \
         PRIMARY KEY ((partition, endpoint), place_order, event)) WITH {leveled} AND gc_grace_seconds = {BACKLOG_GRACE}"
    ));
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.lanes (partition int, endpoint blob, writer blob, place_order bigint, event blob, \
         PRIMARY KEY ((partition), endpoint, writer)) WITH {leveled} AND gc_grace_seconds = {BACKLOG_GRACE}"
    ));
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.claims (tenant text, key text, hash blob, event blob, at bigint, \
         PRIMARY KEY ((tenant, key)))"
    ));
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.objects (kind text, tenant text, shard int, id text, value blob, \
         PRIMARY KEY ((kind, tenant, shard), id))"
    ));
    statements
}

fn jobs(keyspace: &str) -> Vec<String> {
    // Rows go by the time to live that each is written with.
    let by_time = "compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': '1'}";
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.jobs (tenant text, id blob, version bigint, value blob, \
             PRIMARY KEY ((tenant, id)))"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.job_ids (tenant text, hour int, shard int, id blob, \
             PRIMARY KEY ((tenant, hour, shard), id)) WITH CLUSTERING ORDER BY (id DESC) AND {by_time}"
        ),
        format!("CREATE TABLE IF NOT EXISTS {keyspace}.job_tenants (id blob PRIMARY KEY, tenant text) WITH {by_time}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_statements_that_can_be_repeated() {
        for version in 1..=VERSION {
            let statements = migration(version, "k", 86_400);
            assert!(!statements.is_empty() && statements.iter().all(|s| s.contains("IF NOT EXISTS k.")), "{version}");
        }
        assert!(migration(VERSION + 1, "k", 86_400).is_empty());
    }

    #[test]
    fn rows_go_in_at_most_fifty_windows() {
        for hours in [1, 24, 71, 720, 8760] {
            let text = by_time(hours * 3600, 86_400);
            let window: u64 = text.rsplit('\'').nth(1).and_then(|size| size.parse().ok()).expect(&text);
            assert!((hours + 24).div_ceil(window) <= 31, "{text}");
        }
    }
}
