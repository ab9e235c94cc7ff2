//! The prepared statements.

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;

/// Rows of one answer; a reader that wants more asks again.
const PAGE: i32 = 500;
/// How long an idempotency key stays taken, in seconds.
pub(super) const CLAIM_TTL: u64 = 86_400;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $retry:ident $text:literal),* $(,)?) => {
        /// All statements, each prepared once.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: PreparedStatement,)*
        }

        impl Statements {
            pub(super) async fn prepare(session: &Session, keyspace: &str) -> Result<Statements, PrepareError> {
                let prepare = async |text: &str, retry: Retry| {
                    let statement = Statement::new(text.replace("{k}", keyspace).replace("{ttl}", &CLAIM_TTL.to_string())).with_page_size(PAGE);
                    let mut prepared = session.prepare(statement).await?;
                    prepared.set_is_idempotent(match retry {
                        Retry::Repeat => true,
                        Retry::Once => false,
                    });
                    Ok::<_, PrepareError>(prepared)
                };
                $(let $name = prepare($text, Retry::$retry);)*
                let ($($name,)*) = futures_util::try_join!($($name),*)?;
                Ok(Statements { $($name),* })
            }
        }
    };
}

/// Whether the driver may send a statement again when it does not know what became of it.
enum Retry {
    Repeat,
    Once,
}

statements! {
    event: Repeat "INSERT INTO {k}.events (tenant, hour, shard, id, chunk, value, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
    name: Repeat "INSERT INTO {k}.event_names (tenant, given_id, event) VALUES (?, ?, ?)",
    hour: Repeat "INSERT INTO {k}.tenant_hours (tenant, part, hour) VALUES (?, 0, ?)",
    attempt: Repeat "INSERT INTO {k}.attempts (vshard, hour, endpoint, event, n, tenant, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
    dead: Repeat "INSERT INTO {k}.dead_letters (tenant, day, event, endpoint, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
    undead: Repeat "DELETE FROM {k}.dead_letters USING TIMESTAMP ? WHERE tenant = ? AND day = ? AND event = ? AND endpoint = ?",
    put: Repeat "INSERT INTO {k}.backlog (partition, endpoint, place_order, event, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
    remove: Repeat "DELETE FROM {k}.backlog USING TIMESTAMP ? \
                    WHERE partition = ? AND endpoint = ? AND place_order = ? AND event = ?",
    mark: Repeat "INSERT INTO {k}.lanes (partition, endpoint, writer, place_order, event) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
    unmark: Repeat "DELETE FROM {k}.lanes USING TIMESTAMP ? WHERE partition = ? AND endpoint = ? AND writer = ?",

    lanes: Repeat "SELECT endpoint, writer, place_order, event, WRITETIME(event) FROM {k}.lanes WHERE partition = ?",
    load: Repeat "SELECT value, WRITETIME(value) FROM {k}.backlog WHERE partition = ? AND endpoint = ? \
                  AND (place_order, event) >= (?, ?) AND (place_order, event) <= (?, ?)",
    search: Repeat "SELECT place_order, event FROM {k}.backlog WHERE partition = ? AND endpoint = ? \
                    AND (place_order, event) >= (?, ?)",

    chunks: Repeat "SELECT id, chunk, value, body FROM {k}.events WHERE tenant = ? AND hour = ? AND shard = ? AND id = ?",
    events: Repeat "SELECT id, chunk, value FROM {k}.events WHERE tenant = ? AND hour = ? AND shard = ? AND id >= ? AND id < ?",
    named: Repeat "SELECT event FROM {k}.event_names WHERE tenant = ? AND given_id = ? LIMIT 1",
    hours: Repeat "SELECT hour FROM {k}.tenant_hours WHERE tenant = ? AND part = 0 AND hour >= ? AND hour <= ? LIMIT ?",
    attempts: Repeat "SELECT tenant, event, n, value FROM {k}.attempts WHERE vshard = ? AND hour = ? AND endpoint = ? \
                      AND event >= ? AND event < ?",
    history: Repeat "SELECT tenant, event, n, value FROM {k}.attempts WHERE vshard = ? AND hour = ? AND endpoint = ? AND event = ?",
    newest: Repeat "SELECT tenant, event, n, value FROM {k}.attempts WHERE vshard = ? AND hour = ? AND endpoint = ? AND event = ? \
                    LIMIT 2",
    dead_letters: Repeat "SELECT event, endpoint, value FROM {k}.dead_letters WHERE tenant = ? AND day = ? \
                          AND event >= ? AND event < ?",

    /// Its timestamp lies before that of any transaction, so it changes nothing where the job was changed already.
    make_job: Repeat "INSERT INTO {k}.jobs (tenant, id, version, value) VALUES (?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?",
    note_job: Repeat "INSERT INTO {k}.job_ids (tenant, hour, shard, id) VALUES (?, ?, ?, ?) USING TTL ?",
    note_tenant: Repeat "INSERT INTO {k}.job_tenants (id, tenant) VALUES (?, ?) USING TTL ?",
    swap_job: Once "UPDATE {k}.jobs USING TTL ? SET version = ?, value = ? WHERE tenant = ? AND id = ? IF version = ?",
    job: Repeat "SELECT value FROM {k}.jobs WHERE tenant = ? AND id = ?",
    job_tenant: Repeat "SELECT tenant FROM {k}.job_tenants WHERE id = ?",
    job_ids: Repeat "SELECT id FROM {k}.job_ids WHERE tenant = ? AND hour = ? AND shard = ? AND id >= ? AND id < ?",

    claim: Repeat "INSERT INTO {k}.claims (tenant, key, hash, event, at) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS USING TTL {ttl}",
    /// Takes a key whose day is over by the callers' clocks, though not yet by the nodes'.
    reclaim: Once "UPDATE {k}.claims USING TTL {ttl} SET hash = ?, event = ?, at = ? WHERE tenant = ? AND key = ? IF event = ?",
    make_object: Once "INSERT INTO {k}.objects (kind, tenant, shard, id, value) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS",
    change_object: Repeat "UPDATE {k}.objects SET value = ? WHERE kind = ? AND tenant = ? AND shard = ? AND id = ? IF EXISTS",
    swap_object: Once "UPDATE {k}.objects SET value = ? WHERE kind = ? AND tenant = ? AND shard = ? AND id = ? IF value = ?",
    delete_object: Repeat "DELETE FROM {k}.objects WHERE kind = ? AND tenant = ? AND shard = ? AND id = ? IF EXISTS",
    drop_object: Once "DELETE FROM {k}.objects WHERE kind = ? AND tenant = ? AND shard = ? AND id = ? IF value = ?",
    object: Repeat "SELECT value FROM {k}.objects WHERE kind = ? AND tenant = ? AND shard = ? AND id = ?",
    objects: Repeat "SELECT id, value FROM {k}.objects WHERE kind = ? AND tenant = ? AND shard = ? AND id >= ?",
    objects_behind: Repeat "SELECT id, value FROM {k}.objects WHERE kind = ? AND tenant = ? AND shard = ? AND id > ?",
}
