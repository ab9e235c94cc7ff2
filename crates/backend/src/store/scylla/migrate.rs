//! Making the keyspace and its tables, and bringing them up to date.

use std::fmt;
use std::time::Duration;

use getrandom::fill;
use postrider_core::time::Millis;
use scylla::client::session::Session;
use scylla::cluster::metadata::Strategy;
use scylla::errors::ExecutionError;
use tokio::time::{Instant, sleep};

use super::conditional::Answer;
use super::connect::{Connected, connect};
use super::failure::{MigrateError, is_unknown_table};
use super::layout::VIRTUAL_SHARDS;
use super::options::Options;
use super::schema::{self, BY_TIME, SETTING_RETENTION, SETTING_SHARDS, SETTING_VERSION, VERSION};
use super::stamps::Stamps;

/// Longest that one statement may take; a change of the schema waits for all nodes.
const STATEMENT_LIMIT: Duration = Duration::from_secs(90);
/// The setting whose holder may change the schema. Two changes at a time can tear a schema of Cassandra apart.
const TURN: &str = "migration";
/// Longest that a migration that died keeps others away, in seconds.
const TURN_TTL: i32 = 120;
/// How often a migration that has to wait asks again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a migration has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Whether the keyspace is new.
    pub created: bool,
    /// The version before; 0 where there was none.
    pub from: u32,
    /// The version now.
    pub to: u32,
    /// The retention before, where it was another; what was written before stays as long as it said.
    pub retention: Option<Millis>,
    /// Data centres that keep more copies from now on than before. Old rows get theirs by a repair of these nodes
    /// (`nodetool repair`), which is the operator's to run.
    pub repair: Vec<String>,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Migrated { created: true, to, .. } => write!(f, "created the keyspace, with tables of version {to}")?,
            Migrated { from, to, .. } if from == to => write!(f, "the tables are as they should be, of version {to}")?,
            Migrated { from, to, .. } => write!(f, "changed the tables from version {from} to {to}")?,
        }
        if let Some(before) = self.retention {
            write!(f, "\nchanged the retention; what was written before stays for {} days", before.0 / 86_400_000)?;
        }
        if !self.repair.is_empty() {
            write!(f, "\nrun `nodetool repair` on the nodes of {}: they keep more copies from now on", self.repair.join(", "))?;
        }
        Ok(())
    }
}

/// Makes the keyspace if there is none, and brings its tables up to date. Can be repeated, and run twice at a time.
pub async fn migrate(options: &Options) -> Result<Migrated, MigrateError> {
    let connected = connect(options, Stamps::default().into(), STATEMENT_LIMIT).await?;
    let (created, repair) = keyspace(&connected, options).await?;
    let migration = Migration { session: &connected.session, keyspace: &options.keyspace };
    migration.execute("making the table of settings", &schema::settings(&options.keyspace)).await?;
    let turn = migration.take_turn().await?;
    let changed = migration.change(&turn, options.retention_seconds()).await;
    // Where the turn can't be given back it ends by itself.
    let given_back = migration.cas("ending", "DELETE FROM {k}.settings WHERE name = ? IF value = ?", (TURN, &turn)).await;
    let (from, retention) = changed?;
    given_back?;
    Ok(Migrated { created, from, to: VERSION, retention, repair })
}

/// Makes the keyspace, or looks whether it is as it should be.
async fn keyspace(connected: &Connected, options: &Options) -> Result<(bool, Vec<String>), MigrateError> {
    let Connected { session, nodes, .. } = connected;
    let asked = options.replication_factor;
    for (datacenter, nodes) in nodes {
        if *nodes < usize::from(asked) {
            return Err(MigrateError::TooFewNodes { datacenter: datacenter.clone(), replication_factor: asked, nodes: *nodes });
        }
    }
    let keyspace = options.keyspace.clone();
    let migration = Migration { session, keyspace: &keyspace };
    let scylla = migration.scylla_version().await?;
    let copies: Vec<String> = nodes.keys().map(|datacenter| format!("'{}': {asked}", datacenter.replace('\'', "''"))).collect();
    let replication = format!("replication = {{'class': 'NetworkTopologyStrategy', {}}}", copies.join(", "));
    let state = session.get_cluster_state();
    let Some(present) = state.get_keyspace(&keyspace) else {
        let tablets = if scylla.as_deref().is_some_and(knows_tablets) { " AND tablets = {'enabled': false}" } else { "" };
        let statement = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH {replication}{tablets}");
        migration.execute("making the keyspace", &statement).await?;
        return Ok((true, Vec::new()));
    };
    if let Some(version) = scylla.filter(|version| present.tablet_based && !has_transactions_in_tablets(version)) {
        return Err(MigrateError::Tablets { keyspace, version });
    }
    let Strategy::NetworkTopologyStrategy { datacenter_repfactors: found } = &present.strategy else {
        return Err(MigrateError::Strategy { keyspace, found: format!("{:?}", present.strategy) });
    };
    let mut repair = Vec::new();
    for datacenter in nodes.keys() {
        let found = found.get(datacenter).copied().unwrap_or_default();
        if found > usize::from(asked) {
            return Err(MigrateError::FewerCopies { keyspace, datacenter: datacenter.clone(), found, asked });
        }
        if found < usize::from(asked) {
            repair.push(datacenter.clone());
        }
    }
    if !repair.is_empty() {
        migration.execute("raising the replication factor", &format!("ALTER KEYSPACE {keyspace} WITH {replication}")).await?;
    }
    Ok((false, repair))
}

struct Migration<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Migration<'_> {
    fn refused(&self, what: &'static str) -> impl Fn(ExecutionError) -> MigrateError + '_ {
        move |error| self.broken(what, error)
    }

    fn broken(&self, what: &'static str, reason: impl ToString) -> MigrateError {
        MigrateError::Refused { keyspace: self.keyspace.to_owned(), what, reason: reason.to_string() }
    }

    async fn execute(&self, what: &'static str, statement: &str) -> Result<(), MigrateError> {
        self.session.query_unpaged(statement, ()).await.map(drop).map_err(self.refused(what))
    }

    /// A statement with a condition; `{k}` stands for the keyspace.
    async fn cas(&self, what: &'static str, statement: &str, values: (&str, &str)) -> Result<Answer, MigrateError> {
        let statement = statement.replace("{k}", self.keyspace);
        let result = self.session.query_unpaged(statement, values).await.map_err(self.refused(what))?;
        Answer::of(result).map_err(|error| self.broken(what, error))
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, MigrateError> {
        read_setting(self.session, self.keyspace, name).await.map_err(|error| self.broken("reading its settings", error))
    }

    /// The version of ScyllaDB; `None` on Cassandra.
    async fn scylla_version(&self) -> Result<Option<String>, MigrateError> {
        let what = "asking for the server's version";
        let known = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = 'versions'";
        let found = self.session.query_unpaged(known, ()).await.map_err(self.refused(what))?;
        let found = found.into_rows_result().map_err(|error| self.broken(what, error))?;
        if found.rows_num() == 0 {
            return Ok(None);
        }
        let version = "SELECT version FROM system.versions WHERE key = 'local'";
        let rows = self.session.query_unpaged(version, ()).await.map_err(self.refused(what))?;
        let rows = rows.into_rows_result().map_err(|error| self.broken(what, error))?;
        let row = rows.maybe_first_row::<(Option<String>,)>().map_err(|error| self.broken(what, error))?;
        Ok(Some(row.and_then(|(version,)| version).unwrap_or_default()))
    }

    /// Waits for other migrations to end, and returns what this one's turn is known by.
    async fn take_turn(&self) -> Result<String, MigrateError> {
        let mut random = [0; 16];
        fill(&mut random).map_err(|error| self.broken("choosing a random number", error))?;
        let turn = format!("{:032x}", u128::from_be_bytes(random));
        let take = format!("INSERT INTO {{k}}.settings (name, value) VALUES (?, ?) IF NOT EXISTS USING TTL {TURN_TTL}");
        let begun = Instant::now();
        let longest = Duration::from_secs(TURN_TTL.unsigned_abs().into()) + STATEMENT_LIMIT;
        while !self.cas("waiting for its turn", &take, (TURN, &turn)).await?.applied {
            if begun.elapsed() > longest {
                return Err(MigrateError::Busy { keyspace: self.keyspace.to_owned(), seconds: longest.as_secs() });
            }
            sleep(ASK_AGAIN).await;
        }
        Ok(turn)
    }

    /// Makes sure that it is still this migration's turn, for as long again.
    async fn keep_turn(&self, turn: &str) -> Result<(), MigrateError> {
        let keep = format!("UPDATE {{k}}.settings USING TTL {TURN_TTL} SET value = '{turn}' WHERE name = ? IF value = ?");
        if self.cas("keeping its turn", &keep, (TURN, turn)).await?.applied {
            return Ok(());
        }
        Err(self.broken("keeping its turn", "another migration has begun, for this one was too slow; run it again"))
    }

    /// Brings tables and settings up to date; says which version and retention they had.
    async fn change(&self, turn: &str, retention: u64) -> Result<(u32, Option<Millis>), MigrateError> {
        let found = match self.setting(SETTING_VERSION).await? {
            Some(text) => text.parse().map_err(|_| self.broken("reading the version of its schema", format!("`{text}` is none")))?,
            None => 0,
        };
        if found > VERSION {
            return Err(MigrateError::Newer { keyspace: self.keyspace.to_owned(), found, supported: VERSION });
        }
        for version in found + 1..=VERSION {
            for statement in schema::migration(version, self.keyspace, retention) {
                self.keep_turn(turn).await?;
                self.execute("making its tables", &statement).await?;
            }
            if version == 1 {
                self.make_setting(SETTING_SHARDS, &VIRTUAL_SHARDS.to_string()).await?;
                self.make_setting(SETTING_RETENTION, &retention.to_string()).await?;
            }
            self.keep_turn(turn).await?;
            self.set(SETTING_VERSION, &version.to_string()).await?;
        }
        let before = self.setting(SETTING_RETENTION).await?.and_then(|text| text.parse::<u64>().ok());
        if before == Some(retention) {
            return Ok((found, None));
        }
        for (table, beyond) in BY_TIME {
            self.keep_turn(turn).await?;
            let options = schema::by_time(retention, beyond);
            self.execute("changing the retention", &format!("ALTER TABLE {}.{table} WITH {options}", self.keyspace)).await?;
        }
        self.set(SETTING_RETENTION, &retention.to_string()).await?;
        Ok((found, Some(Millis::from_secs(before.unwrap_or_default()))))
    }

    async fn make_setting(&self, name: &'static str, value: &str) -> Result<(), MigrateError> {
        let make = "INSERT INTO {k}.settings (name, value) VALUES (?, ?) IF NOT EXISTS";
        self.cas("writing its settings", make, (name, value)).await.map(drop)
    }

    async fn set(&self, name: &'static str, value: &str) -> Result<(), MigrateError> {
        let change = format!("UPDATE {{k}}.settings SET value = '{value}' WHERE name = ? IF value != ?");
        self.make_setting(name, value).await?;
        self.cas("writing its settings", &change, (name, value)).await.map(drop)
    }
}

/// Reads a setting; `None` where it, or the table, does not exist.
pub(super) async fn read_setting(session: &Session, keyspace: &str, name: &str) -> Result<Option<String>, String> {
    let select = format!("SELECT value FROM {keyspace}.settings WHERE name = ?");
    let result = match session.query_unpaged(select, (name,)).await {
        Ok(result) => result,
        // What the server has no table for, the driver finds out while it prepares the statement.
        Err(error) if is_unknown_table(&error) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let rows = result.into_rows_result().map_err(|error| error.to_string())?;
    let row = rows.maybe_first_row::<(Option<String>,)>().map_err(|error| error.to_string())?;
    Ok(row.and_then(|(value,)| value))
}

/// The first two numbers of a version of ScyllaDB.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-', '~']).map(|part| part.parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Keyspaces have the property since 6.0, in the enterprise's count 2024.2.
fn knows_tablets(version: &str) -> bool {
    let (major, minor) = numbers(version);
    (6..2000).contains(&major) || (major, minor) >= (2024, 2)
}

/// Since 2025.4 lightweight transactions work in tablets.
fn has_transactions_in_tablets(version: &str) -> bool {
    numbers(version) >= (2025, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_scylla_are_told_apart() {
        for (version, knows, has) in [
            ("5.4.9-0.20240703", false, false),
            ("6.0.1", true, false),
            ("6.2.3-0.2025", true, false),
            ("2024.1.5", false, false),
            ("2024.2.0", true, false),
            ("2025.3.9", true, false),
            ("2025.4.0~rc1", true, true),
            ("2026.1.0", true, true),
            ("", false, false),
        ] {
            assert_eq!((knows_tablets(version), has_transactions_in_tablets(version)), (knows, has), "{version}");
        }
    }
}
