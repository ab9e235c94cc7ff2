//! What can go wrong with a cluster, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, NewSessionError,
    PrepareError, RequestAttemptError,
};

use crate::store::StoreError;

/// The cluster can't be reached or must not be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConnectError {
    /// The name is none that needs no quotes.
    #[error("`{keyspace}` can't be a keyspace; use lower-case letters, digits and `_`, a letter first, at most {limit}")]
    KeyspaceName {
        /// The name that was asked for.
        keyspace: String,
        /// Most bytes of a name.
        limit: usize,
    },
    /// The authority's certificate can't be used.
    #[error("{} is no certificate authority in PEM: {reason}", file.display())]
    Ca {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No node answers.
    #[error("no node of the store answers at {nodes}: {reason}; check the addresses, that the nodes are up, and TLS")]
    Unreachable {
        /// The nodes that were tried.
        nodes: String,
        /// What the driver says.
        reason: String,
    },
    /// The nodes don't take the user and password.
    #[error("the store at {nodes} refuses the login: {reason}; check the user and the password")]
    Login {
        /// The nodes that were tried.
        nodes: String,
        /// What the node says.
        reason: String,
    },
    /// There are several data centres, or not the one that was asked for.
    #[error("the store has the data centres {known}; set the one that this process is in{}", asked_for(asked.as_deref()))]
    Datacenter {
        /// The data centre that was asked for.
        asked: Option<String>,
        /// Those that exist.
        known: String,
    },
}

fn asked_for(asked: Option<&str>) -> String {
    asked.map(|asked| format!(", `{asked}` is none of them")).unwrap_or_default()
}

/// A store in a cluster can't be opened.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// There is no way to the cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nothing was ever made there.
    #[error("the store has no keyspace `{keyspace}`; run the migration first, or correct its name")]
    NoKeyspace {
        /// The keyspace.
        keyspace: String,
    },
    /// An older build has made the tables, or nobody finished making them.
    #[error("the schema of keyspace `{keyspace}` has version {found}, this build needs {needed}; run the migration")]
    Older {
        /// The keyspace.
        keyspace: String,
        /// The version there; 0 where no migration was finished.
        found: u32,
        /// The version that is needed.
        needed: u32,
    },
    /// A newer build has changed the tables.
    #[error("the schema of keyspace `{keyspace}` has version {found}, this build knows {supported}; run a newer postrider")]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// The version there.
        found: u32,
        /// The newest that this build knows.
        supported: u32,
    },
    /// Too few nodes for a majority of the copies: nothing could ever be written.
    #[error(
        "keyspace `{keyspace}` keeps {replication_factor} copies of a row in data centre {datacenter}, which has {nodes} nodes, too few \
         for a majority; add nodes, or use a keyspace with fewer copies"
    )]
    TooFewNodes {
        /// The keyspace.
        keyspace: String,
        /// The data centre.
        datacenter: String,
        /// Copies of a row.
        replication_factor: usize,
        /// Nodes of the data centre.
        nodes: usize,
    },
    /// A setting that the migration has written can't be read.
    #[error("the setting `{name}` of keyspace `{keyspace}` is damaged ({value}); restore the table `settings`")]
    Setting {
        /// The keyspace.
        keyspace: String,
        /// The setting.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// The cluster answers with an error.
    #[error("the store can't be opened: {0}")]
    Refused(String),
    /// The cluster takes too long.
    #[error("the store did not open within {seconds} s; check that its nodes are up and not overloaded")]
    Timeout {
        /// The limit that was reached.
        seconds: u64,
    },
}

/// The keyspace could not be made or changed. What was done stays; running the migration again goes on from there.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MigrateError {
    /// There is no way to the cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The cluster could not keep as many copies.
    #[error(
        "{replication_factor} copies of each row were asked for, but data centre {datacenter} has {nodes} nodes; add nodes, or set the \
         replication factor to {nodes}"
    )]
    TooFewNodes {
        /// The data centre.
        datacenter: String,
        /// Copies that were asked for.
        replication_factor: u16,
        /// Nodes of the data centre.
        nodes: usize,
    },
    /// Rows would lose copies.
    #[error(
        "keyspace `{keyspace}` keeps {found} copies of a row in data centre {datacenter}, {asked} were asked for; set the replication \
         factor to {found}, or lower it by hand if that is really meant"
    )]
    FewerCopies {
        /// The keyspace.
        keyspace: String,
        /// The data centre.
        datacenter: String,
        /// Copies that it keeps.
        found: usize,
        /// Copies that were asked for.
        asked: u16,
    },
    /// Somebody has made the keyspace with another strategy.
    #[error("keyspace `{keyspace}` is replicated by {found}; make it anew with NetworkTopologyStrategy, or choose another name")]
    Strategy {
        /// The keyspace.
        keyspace: String,
        /// Its strategy.
        found: String,
    },
    /// Lightweight transactions don't work there.
    #[error(
        "keyspace `{keyspace}` uses tablets, in which ScyllaDB {version} has no lightweight transactions; upgrade to 2025.4 or newer, or \
         make the keyspace anew with tablets disabled"
    )]
    Tablets {
        /// The keyspace.
        keyspace: String,
        /// The version of ScyllaDB.
        version: String,
    },
    /// A newer build has changed the tables.
    #[error("the schema of keyspace `{keyspace}` has version {found}, this build knows {supported}; run a newer postrider")]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// The version there.
        found: u32,
        /// The newest that this build knows.
        supported: u32,
    },
    /// Another migration runs, or one died less than two minutes ago.
    #[error("another migration of keyspace `{keyspace}` has run for {seconds} s; wait until it is over and try again")]
    Busy {
        /// The keyspace.
        keyspace: String,
        /// How long was waited for it.
        seconds: u64,
    },
    /// The cluster answers with an error.
    #[error("keyspace `{keyspace}` can't be migrated, {what} failed: {reason}")]
    Refused {
        /// The keyspace.
        keyspace: String,
        /// What was done.
        what: &'static str,
        /// What the driver says.
        reason: String,
    },
}

/// Why a session can't be had, in words for the operator.
pub(super) fn unreachable(nodes: &[String], error: &NewSessionError) -> ConnectError {
    let nodes = nodes.join(", ");
    match login_refused(error) {
        Some(reason) => ConnectError::Login { nodes, reason },
        None => ConnectError::Unreachable { nodes, reason: error.to_string() },
    }
}

fn login_refused(error: &NewSessionError) -> Option<String> {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) = error else { return None };
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectionSetupRequestError(request) } = pool else {
        return None;
    };
    match &request.error {
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, words) => Some(words.clone()),
        ConnectionSetupRequestErrorKind::MissingAuthentication => Some("a user and a password are required".to_owned()),
        // The driver's list of reasons may grow.
        _ => None,
    }
}

/// Whether the statement speaks of a table or keyspace that does not exist; found out where it runs or is prepared.
pub(super) fn is_unknown_table(error: &ExecutionError) -> bool {
    let attempt = match error {
        ExecutionError::LastAttemptError(attempt) => attempt,
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => first_attempt,
        // The driver's list of errors may grow.
        _ => return false,
    };
    matches!(attempt, RequestAttemptError::DbError(DbError::Invalid, _))
}

/// For `map_err`: what a failed request means for who asked.
pub(super) fn failed(what: &'static str, limit: Duration) -> impl Fn(ExecutionError) -> StoreError {
    move |error| match error {
        ExecutionError::RequestTimeout(_) => StoreError::Timeout { what, seconds: limit.as_secs() },
        error => StoreError::Unavailable(format!("it can't {what}: {error}")),
    }
}

/// For `map_err`: a column that is not what the schema says.
pub(super) fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_answer_is_a_time_out_and_a_refused_one_is_not() {
        let failed = failed("write", Duration::from_secs(5));
        let late = failed(ExecutionError::RequestTimeout(Duration::from_secs(5)));
        assert_eq!(late, StoreError::Timeout { what: "write", seconds: 5 });
        let refused = RequestAttemptError::DbError(DbError::Overloaded, "busy".to_owned());
        assert!(matches!(failed(ExecutionError::LastAttemptError(refused)), StoreError::Unavailable(words) if words.contains("busy")));
    }

    #[test]
    fn an_error_says_what_to_do() {
        let one = ConnectError::Datacenter { asked: None, known: "a, b".to_owned() };
        assert_eq!(one.to_string(), "the store has the data centres a, b; set the one that this process is in");
        let other = ConnectError::Datacenter { asked: Some("c".to_owned()), known: "a, b".to_owned() };
        assert!(other.to_string().ends_with(", `c` is none of them"));
    }
}
