//! A session with the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::time::timeout;

use super::failure::{ConnectError, unreachable};
use super::options::{Options, tls};
use super::stamps::Stamps;

/// Longest that one node may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest that it may take to find a node that answers.
const SESSION_LIMIT: Duration = Duration::from_secs(8);
/// Longest that the nodes may take to know of a change of the schema.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(60);

/// A session, and what it found.
pub(super) struct Connected {
    pub(super) session: Session,
    /// The data centre whose nodes answer.
    pub(super) datacenter: String,
    /// Known nodes by data centre, those that are down included.
    pub(super) nodes: BTreeMap<String, usize>,
}

/// Connects to the nodes of the data centre that this process is in. `limit` is the time-out of each request.
///
/// Runs on the runtime that it is called on, for as long as the session lives.
pub(super) async fn connect(options: &Options, stamps: Arc<Stamps>, limit: Duration) -> Result<Connected, ConnectError> {
    options.check()?;
    let mut policy = DefaultPolicy::builder().token_aware(true).permit_dc_failover(false);
    if let Some(datacenter) = &options.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(limit))
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .speculative_execution_policy(None)
        .load_balancing_policy(policy.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .connection_timeout(CONNECT_LIMIT)
        .schema_agreement_timeout(AGREEMENT_LIMIT)
        .default_execution_profile_handle(profile.into_handle())
        .timestamp_generator(stamps)
        .keyspaces_to_fetch([options.keyspace.as_str()]);
    if let Some(login) = &options.login {
        builder = builder.user(&login.user, login.password.reveal());
    }
    if let Some(ca) = &options.ca {
        builder = builder.tls_context(Some(tls(ca)?));
    }
    let silent = |_| ConnectError::Unreachable {
        nodes: options.nodes.join(", "),
        reason: format!("nothing was heard for {} s", SESSION_LIMIT.as_secs()),
    };
    let built = timeout(SESSION_LIMIT, builder.build()).await.map_err(silent)?;
    let session = built.map_err(|error| unreachable(&options.nodes, &error))?;

    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for node in session.get_cluster_state().get_nodes_info() {
        *nodes.entry(node.datacenter.clone().unwrap_or_default()).or_default() += 1;
    }
    let datacenter = own_datacenter(options.datacenter.as_deref(), nodes.keys().map(String::as_str).collect())?;
    Ok(Connected { session, datacenter, nodes })
}

/// A majority of copies in one data centre and one in another see different rows, so the choice can't be left to chance.
fn own_datacenter(asked: Option<&str>, known: BTreeSet<&str>) -> Result<String, ConnectError> {
    match asked {
        Some(asked) if known.contains(asked) => return Ok(asked.to_owned()),
        Some(_) => {}
        None => {
            if let (1, Some(only)) = (known.len(), known.first()) {
                return Ok((*only).to_owned());
            }
        }
    }
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    Err(ConnectError::Datacenter { asked: asked.map(str::to_owned), known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_centre_must_be_clear() {
        let (one, two) = (BTreeSet::from(["a"]), BTreeSet::from(["a", "b"]));
        assert_eq!(own_datacenter(None, one.clone()), Ok("a".to_owned()));
        assert_eq!(own_datacenter(Some("b"), two.clone()), Ok("b".to_owned()));
        assert!(own_datacenter(None, two).is_err());
        assert!(own_datacenter(Some("c"), one).is_err());
    }
}
